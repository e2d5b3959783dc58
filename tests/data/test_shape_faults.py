"""What is said of each row that has a format's keys and cannot be read as one, in full."""

from __future__ import annotations

from typing import Any

import pytest

from twofold.data.shapes import SHAPES
from twofold.data.shapes.fields import Fields
from twofold.records import Source

SUMMARIES = "info + summaries + choice (OpenAI summaries)"
HELPSTEER2 = "prompt + response_1 + response_2 (HelpSteer2)"
ARENA_TEXTS = "prompt + response_a + response_b (LMArena)"
BEST_FIRST = "prompt + completions (best first)"
SCORED = "prompt + completions (scored)"
IFEVAL = "prompt + instruction_id_list (IFEval)"
HH = "Anthropic HH (raw turns)"
SHARED = "chosen + rejected (shared beginning)"
OPENAI = "input + preferred_output + non_preferred_output (OpenAI)"
GSM8K = "GSM8K model solutions"
CAPYBARA = "conversation of input + output (Capybara)"
ARENA = "conversation_a + conversation_b + winner (LMArena)"
TWO = [{"text": "a"}, {"text": "b"}]
TEXTS = {"prompt": '["p"]', "response_a": '["a"]', "response_b": '["b"]', "winner_model_a": 1, "winner_model_b": 0,
       "winner_tie": 0}  # fmt: skip
FAULTS: list[tuple[str, dict[str, Any], list[str]]] = [
    (SUMMARIES, {"info": {"post": "x"}, "summaries": TWO, "choice": 2},
     ["choice: is 2, not 0 or 1 → write 0 or 1 [error: mistyped field]"]),
    (SUMMARIES, {"info": {"post": "x"}, "summaries": TWO, "choice": True},
     ["choice: is True, not 0 or 1 → write 0 or 1 [error: mistyped field]"]),
    (SUMMARIES, {"info": {"post": "x"}, "summaries": TWO, "choice": [0]},
     ["choice: is a list, not 0 or 1 → write 0 or 1 [error: mistyped field]"]),
    (SUMMARIES, {"info": {"post": "x"}, "summaries": TWO, "choice": "0123456789" * 9},
     ["choice: is '0123456789012345678901234567890123456789012345678901234567890123456789012345678, not 0 or 1 → "
      "write 0 or 1 [error: mistyped field]"]),
    (SUMMARIES, {"info": {"title": "x"}, "summaries": TWO, "choice": 0},
     ['info: has no `post` and no `article` → write {"post": "…"}, or remove the row [error: mistyped field]']),
    (SUMMARIES, {"info": "x", "summaries": TWO, "choice": 0},
     ['info: has no `post` and no `article` → write {"post": "…"}, or remove the row [error: mistyped field]']),
    (SUMMARIES, {"info": {"article": "x"}, "summaries": [{"text": "a"}], "choice": 0},
     ["summaries: are not two of {text, policy} → write two, or remove the row [error: mistyped field]"]),
    (SUMMARIES, {"info": {"article": "x"}, "summaries": [{"text": "a"}, {"text": "b"}, {"text": "a"}], "choice": 0},
     ["summaries: are not two of {text, policy} → write two, or remove the row [error: mistyped field]"]),
    (SUMMARIES, {"info": {"article": "x"}, "summaries": [{"text": "a"}, {"text": 3}], "choice": 0},
     ["summaries: are not two of {text, policy} → write two, or remove the row [error: mistyped field]"]),
    (SUMMARIES, {"info": {"article": "x"}, "summaries": "ab", "choice": 0},
     ["summaries: are not two of {text, policy} → write two, or remove the row [error: mistyped field]"]),
    (SUMMARIES, {"info": {"article": "x", "mood": 1}, "summaries": [{"text": "a"}, {"text": "b", "x": 2}],
       "choice": 0},
     ["summaries[2].x: is filled, and twofold does not read it → leave it out, or drop it by data.ignore=[x] "
      "(--ignore x) [error: unread key]",
      "info.mood: is filled, and twofold does not read it → leave it out, or drop it by data.ignore=[mood] "
      "(--ignore mood) [error: unread key]"]),
    ("history + human_ref_A + human_ref_B (SHP)", {"history": "p", "human_ref_A": "a", "human_ref_B": "b",
       "labels": None},
     ["labels: is null, not 1 or 0 → write 1 or 0 [error: mistyped field]"]),
    (HELPSTEER2, {"prompt": "p", "response_1": "a", "response_2": "b", "preference_strength": 0},
     ["preference_strength: is 0: neither answer is preferred → the row is passed over [warning: no preference]"]),
    (HELPSTEER2, {"prompt": "p", "response_1": "a", "response_2": "b", "preference_strength": "1"},
     ["preference_strength: is text, not a finite number → write a number below 0 where response_1 is better, "
      "above 0 where response_2 is, or remove the row [error: mistyped field]"]),
    ("context + response1 + response2 (HelpSteer3)", {"context": [{"role": "user", "content": "p"}],
       "response1": "a", "response2": "b", "overall_preference": None},
     ["overall_preference: is null, not a finite number → write a number below 0 where response1 is better, above "
      "0 where response2 is, or remove the row [error: mistyped field]"]),
    ("prompt + response_0 + response_1 (PKU-SafeRLHF)", {"prompt": "p", "response_0": "a", "response_1": "b",
       "better_response_id": 1.0},
     ["better_response_id: is a number, not 0 or 1 → write 0 or 1 [error: mistyped field]"]),
    (ARENA, {"conversation_a": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}],
       "conversation_b": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "b"}],
       "winner": "tie (bothbad)"},
     ["winner: is 'tie (bothbad)': neither answer is preferred → the row is passed over [warning: no preference]"]),
    (ARENA, {"conversation_a": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}],
       "conversation_b": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "b"}],
       "winner": "model_c"},
     ["winner: is 'model_c', not 'model_a' or 'model_b' → write 'model_a' or 'model_b' [error: mistyped field]"]),
    (ARENA_TEXTS, {**TEXTS, "winner_tie": 1},
     ["winner_model_a: and the other two winners are not one 1 and two 0 → write one 1 and two 0 [error: mistyped "
      "field]"]),
    (ARENA_TEXTS, {**TEXTS, "winner_model_a": 0, "winner_tie": 1},
     ["winner_tie: is 1: neither answer is preferred → the row is passed over [warning: no preference]"]),
    (ARENA_TEXTS, {**TEXTS, "prompt": "p"},
     ['prompt: is no JSON list of texts → write it as ["…", …], one text for each turn [error: mistyped field]']),
    (ARENA_TEXTS, {**TEXTS, "response_b": '["b", 3]'},
     ['response_b: is no JSON list of texts → write it as ["…", …], one text for each turn [error: mistyped field]']),
    (ARENA_TEXTS, {**TEXTS, "prompt": "[" * 100_000},
     ['prompt: is no JSON list of texts → write it as ["…", …], one text for each turn [error: mistyped field]']),
    (ARENA_TEXTS, {**TEXTS, "response_a": None},
     ['response_a: is no JSON list of texts → write it as ["…", …], one text for each turn [error: mistyped field]']),
    (ARENA_TEXTS, {**TEXTS, "prompt": '["p", "q", "r"]', "response_a": '["a", "b"]'},
     ["response_a: has 2 answers to 3 prompts → remove the row [error: mistyped field]",
      "response_b: has 1 answers to 3 prompts → remove the row [error: mistyped field]"]),
    (ARENA_TEXTS, {**TEXTS, "prompt": '["p"]', "response_a": '["a", "b"]', "response_b": '["c"]'},
     ["response_a: has 2 answers to 1 prompts → remove the row [error: mistyped field]"]),
    (BEST_FIRST, {"prompt": "p", "completions": ["a"]},
     ["completions: has 1 completions: nothing to rank → list two or more, best first [error: nothing to rank]"]),
    (BEST_FIRST, {"prompt": "p", "completions": []},
     ["completions: has 0 completions: nothing to rank → list two or more, best first [error: nothing to rank]"]),
    (BEST_FIRST, {"prompt": "p", "completions": "a"},
     ["completions: is text, not a list of completions → list the completions, best first [error: mistyped field]"]),
    (BEST_FIRST, {"prompt": "p", "completions": None},
     ["completions: is null → list the completions, best first [error: mistyped field]"]),
    (BEST_FIRST, {"prompt": "p", "completions": ["a", "b", "c"], "scores": [1, 2]},
     ["scores: has 2 scores, not one for each of 3 completions → list one number for each completion [error: "
      "mistyped field]"]),
    (BEST_FIRST, {"prompt": "p", "completions": ["a", "b", "c"], "scores": 3},
     ["scores: is a number, not one for each of 3 completions → list one number for each completion [error: "
      "mistyped field]"]),
    (BEST_FIRST, {"prompt": "p", "completions": ["a", "b"], "scores": [1, "x"]},
     ["scores[2]: is text, not a finite number → write a number, or remove the row [error: mistyped field]"]),
    (BEST_FIRST, {"prompt": "p", "completions": ["a", "b", "c"], "scores": [1, 1, 2]},
     ["completions: has 3 completions of 2 different scores → break the ties, unless the objective reads "
      "`scores`: any other learns equal ones in the file's order [warning: tied scores]"]),
    (BEST_FIRST, {"prompt": "p", "completions": ["a", "", "c"], "scores": [1, 3, 2]},
     ["completions[2]: is empty → fill `completions[2]` or remove the row [error: empty field]"]),
    ("prompt + completions + ranks", {"prompt": "p", "completions": ["a", "b"], "ranks": [1]},
     ["ranks: has 1 scores, not one for each of 2 completions → list one number for each completion [error: "
      "mistyped field]"]),
    ("prompt + completions + ranks", {"prompt": "p", "completions": ["a", "b"], "ranks": [2, 2]},
     ["completions: has 2 completions of 1 different scores → break the ties, unless the objective reads "
      "`scores`: any other learns equal ones in the file's order [warning: tied scores]"]),
    ("instruction + generations + ratings", {"instruction": "p", "generations": ["a"], "ratings": [1]},
     ["generations: has 1 completions: nothing to rank → list two or more, best first [error: nothing to rank]"]),
    ("instruction + generations + ratings", {"instruction": "p", "generations": ["a", "b"], "ratings": None},
     ["ratings: is null, not one for each of 2 completions → list one number for each completion [error: mistyped "
      "field]"]),
    (SCORED, {"prompt": "p", "completions": [{"text": "a", "score": 1}, {"text": "b"}]},
     ["completions: holds items that are not {text, score} → give every item its text and its score or rank "
      "[error: mistyped field]"]),
    (SCORED, {"prompt": "p", "completions": [{"text": "a", "score": 1}, {"text": "b", "score": None, "rank": 2,
       "mood": "x"}]},
     ["completions[2].mood: is filled, and twofold does not read it → leave it out, or drop it by "
      "data.ignore=[mood] (--ignore mood) [error: unread key]",
      "completions: are rated by `score`, `rank`: numbers of two scales have no order → rate all of them by one key "
      "[error: mistyped field]"]),
    (SCORED, {"prompt": "p", "completions": [{"text": "a", "score": 1}, {"text": "b", "score": "x"}]},
     ["completions.score[2]: is text, not a finite number → write a number, or remove the row [error: mistyped "
      "field]"]),
    ("prompt + answers (ranked)", {"prompt": "p", "answers": 3},
     ["answers: is a number, not a list of completions → list the completions, best first [error: mistyped field]"]),
    ("prompt + answers (ranked)", {"prompt": "p", "answers": [{"answer": "a", "rank": 1}, {"answer": 3, "rank": 2}]},
     ["answers[2]: is a number, not text or a chat → write it as text [error: mistyped field]"]),
    ("context + completions (NeMo)", {"context": [{"role": "user", "content": "p"}],
       "completions": [{"completion": "a", "rank": 0}]},
     ["completions: has 1 completions: nothing to rank → list two or more, best first [error: nothing to rank]"]),
    ("prompt + lists of chosen and rejected (RewardBench 2)", {"prompt": "p", "chosen": ["a"], "rejected": ["", "b"]},
     ["rejected[1]: is empty → fill `rejected[1]` or remove the row [error: empty field]"]),
    ("prompt + answer", {"prompt": [{"role": "user", "content": "p"}], "answer": [{"role": "assistant",
       "content": "a", "thinking": "t"}]},
     ["answer: is no single text, by which an answer could be checked → write the answer as text [error: mistyped "
      "field]"]),
    ("prompt + completion + answer", {"prompt": "p", "completion": "a", "answer": 2},
     ["answer: is no text → write what a verifier checks as text: a result, rules, tests [error: mistyped field]"]),
    ("prompt + completion + answer", {"prompt": "p", "completion": "a", "answer": " "},
     ["answer: is only white space → fill `answer` or remove the row [error: empty field]"]),
    ("prompt + completion", {"prompt": "p", "completion": "a", "label": None},
     ["label: is null → fill `label` or remove the column [error: missing field]"]),
    ("prompt + completion", {"prompt": "p", "completion": "a", "tools": [{"x": 1}]},
     ["tools: need a chat, because no template shows them with a text → write the prompt as messages [error: "
      "mistyped field]"]),
    ("text", {"text": [{"role": "user", "content": "a"}]},
     ["text: is a chat, not text → call the column `messages` [error: mistyped field]"]),
    ("text", {"text": " "},
     ["text: is only white space → fill `text` or remove the row [error: empty field]"]),
    (IFEVAL, {"prompt": "p", "instruction_id_list": [], "kwargs": []},
     ['instruction_id_list: is no list of names → write a list, as ["punctuation:no_comma"] [error: mistyped '
      "field]"]),
    (IFEVAL, {"prompt": "p", "instruction_id_list": ["a", 3], "kwargs": [{}, {}]},
     ['instruction_id_list: is no list of names → write a list, as ["punctuation:no_comma"] [error: mistyped '
      "field]"]),
    (IFEVAL, {"prompt": "p", "instruction_id_list": ["a"], "kwargs": [1]},
     ["kwargs: is no list of objects → write the arguments of each instruction as an object, {} for none [error: "
      "mistyped field]"]),
    (IFEVAL, {"prompt": "p", "instruction_id_list": ["a"], "kwargs": {}},
     ["kwargs: is no list of objects → write the arguments of each instruction as an object, {} for none [error: "
      "mistyped field]"]),
    (IFEVAL, {"prompt": "p", "instruction_id_list": ["a", "b"], "kwargs": [{}]},
     ["kwargs: has 1 objects for 2 instructions → write one object for each instruction, {} for no arguments "
      "[error: mistyped field]"]),
    (GSM8K, {"question": "p", "ground_truth": "a", "m": {"is_correct": True, "solution": "a"}},
     [": has no wrong solution to reject → the row is passed over [warning: nothing to reject]"]),
    (GSM8K, {"question": "p", "ground_truth": "a", "m": {"is_correct": None, "solution": "a"},
       "n": {"is_correct": False, "solution": ""}},
     ["n.solution: is empty → fill `n.solution` or remove the row [error: empty field]"]),
    (OPENAI, {"input": 3, "preferred_output": [], "non_preferred_output": [{"role": "assistant", "content": "y"}]},
     ['input: is a number, not an object with `messages` → write it as {"messages": […]} [error: mistyped field]',
      "input.messages: is a chat without messages → remove the row [error: empty field]",
      "preferred_output: is a chat without messages → remove the row [error: empty field]"]),
    (OPENAI, {"input": {"messages": [{"role": "user", "content": "p"}], "mood": 1},
       "preferred_output": [{"role": "assistant", "content": "y"}], "non_preferred_output": [{"role": "assistant",
       "content": "z"}]},
     ["input.mood: is filled, and twofold does not read it → leave it out, or drop it by data.ignore=[mood] "
      "(--ignore mood) [error: unread key]"]),
    (HH, {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"},
     ["chosen: shares no turns of human and assistant with `rejected` → write it as raw HH, or remove it [error: "
      "mistyped field]"]),
    (HH, {"chosen": "\n\nHuman: a\n\nAssistant: b",
       "rejected": "\n\nHuman: a\n\nAssistant: d\n\nHuman: e\n\nAssistant: f"},
     ["rejected: parts from the other side before the last human turn → remove the row [error: two prompts]"]),
    (HH, {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant:"},
     ["rejected: is empty → the row is passed over [warning: empty answer]"]),
    (HH, {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c\n\nAssistant: d"},
     ['rejected: holds a further "Assistant:" → clean the text or remove the row [warning: turn inside an answer]']),
    (HH, {"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
       "rejected": "\n\nHuman: a\n\nAssistant: c"},
     ['chosen: is no text of turns → write it as "\\n\\nHuman: …\\n\\nAssistant: …" [error: mistyped field]']),
    (HH, {"chosen": None, "rejected": "\n\nHuman: a\n\nAssistant: c"},
     ["chosen: is null → fill `chosen` or remove the row [error: missing field]"]),
    (SHARED, {"chosen": "a b", "rejected": [{"role": "user", "content": "a"}]},
     ["rejected: is a chat, not text → write it as text [error: mistyped field]"]),
    (SHARED, {"chosen": [{"role": "user", "content": "a"}], "rejected": "a b"},
     ["chosen: is a chat, not text → write it as text [error: mistyped field]"]),
    (SHARED, {"chosen": "ab", "rejected": "ac"},
     ["chosen: is text without a prompt, and begins otherwise than `rejected` → add a `prompt` column [error: "
      "mistyped field]"]),
    (SHARED, {"chosen": "a b", "rejected": "a "},
     ["rejected: is only white space → fill `rejected` or remove the row [error: empty field]"]),
    (SHARED, {"chosen": " b", "rejected": " c"},
     ["chosen: is text without a prompt, and begins otherwise than `rejected` → add a `prompt` column [error: "
      "mistyped field]"]),
    ("messages", {"messages": [{"role": "assistant", "content": "b"}]},
     ["messages: has no turn before the answer → begin it with a user turn [error: no prompt]"]),
    (CAPYBARA, {"conversation": [{"input": "a", "output": "b", "mood": 2}]},
     ["conversation[1].mood: is filled, and twofold does not read it → leave it out, or drop it by "
      "data.ignore=[mood] (--ignore mood) [error: unread key]"]),
    (CAPYBARA, {"conversation": [{"input": "a", "output": 3}]},
     ['conversation: the content of message 2 is a number, not text → write messages as {"role": "user", '
      '"content": "…"} [error: mistyped field]']),
    ("messages + label (swift)", {"messages": [{"role": "user", "content": "a"}], "label": "x"},
     ["label: is text, not true, false or a probability → write true for good, false for bad, or a number from 0 "
      "to 1 [error: mistyped field]",
      "messages: has no assistant turn → end it with one assistant message [error: no assistant turn]"]),
    ("messages + rejected_response (swift)", {"messages": [{"role": "user", "content": "a"}],
       "rejected_response": ""},
     ["messages: has no assistant turn → end it with one assistant message [error: no assistant turn]",
      "rejected_response: is empty → fill `rejected_response` or remove the row [error: empty field]"]),
    ("instruction + output + kto_tag (alpaca)", {"instruction": "a", "output": "", "kto_tag": None},
     ["output: is empty → fill `output` or remove the row [error: empty field]",
      "kto_tag: is null → fill `kto_tag` or remove the row [error: missing field]"]),
    ("instruction + chosen + rejected (alpaca)", {"instruction": "a", "input": 3, "chosen": "b", "rejected": "c"},
     ["input: is a number, not text or a chat → write it as text [error: mistyped field]"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"choices": ["a", "b"], "labels": [1]}, "is no list of texts with labels 0 and 1"),
        ({"choices": None, "labels": [1]}, "is no list of texts with labels 0 and 1"),
        ({"a": [1]}, "is no list of texts with labels 0 and 1"),
        ({"a": 2}, "is no list of texts with labels 0 and 1"),
        ({" ": 1}, "is no list of texts with labels 0 and 1"),
        (None, "is no list of texts with labels 0 and 1"),
        (["a"], "is no list of texts with labels 0 and 1"),
        ({"choices": ["a", "b"], "labels": [0, 0]}, "has no right answer"),
        ({"a": 1, "b": 0}, None),
    ],
)
def test_choices_without_their_labels_are_a_fault(value: Any, reason: str | None) -> None:
    fields = Fields({"question": "q", "mc1_targets": {"a": 1}, "mc2_targets": value}, Source("f", 1))
    next(shape for shape in SHAPES if "TruthfulQA" in shape.name).parse(fields)
    assert [f.reason for f in fields.faults] == ([] if reason is None else [reason])


@pytest.mark.parametrize(("name", "row", "faults"), FAULTS)
def test_each_fault_of_a_format_in_full(name: str, row: dict[str, Any], faults: list[str]) -> None:
    fields = Fields(row, Source("f", 1))
    next(shape for shape in SHAPES if shape.name == name).parse(fields)
    found = [*fields.faults, *fields.remarks]
    assert [f"{f.field}: {f.reason} → {f.remedy} [{f.severity}: {f.check}]" for f in found] == faults
