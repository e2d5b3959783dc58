"""Public sets as they are published: rows with their columns and values, read without `columns` or with one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from twofold.data.formats import read, scan
from twofold.data.reading import Reading
from twofold.records import Demonstration, Message, Pair, Ranking, Record, Source, Task

NOWHERE = Source("", 0)
ASKED = (Message("user", "1 + 1?"),)
LATER = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "1 + 1?"))


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def pair(prompt: Any = "1 + 1?", chosen: str = "2", rejected: str = "3") -> Pair:
    return Pair(prompt, chosen, rejected, NOWHERE)


POST = "SUBREDDIT: r/relationships\n\nTITLE: Two cats\n\nPOST: My cats fight.\n\nTL;DR:"
SUMMARIES = {
    "info": {"id": "t3_1", "post": "My cats fight.", "title": "Two cats", "subreddit": "relationships", "site": None,
             "article": None},
    "summaries": [{"text": " Cats.", "policy": "sup2", "note": None}, {"text": " My cats fight.", "policy": "ref"}],
    "choice": 1, "worker": "w1", "batch": "batch3", "split": "train", "extra": {"confidence": 7},
}  # fmt: skip
SHP = {
    "post_id": "qt3nxl", "domain": "askculinary_train", "upvote_ratio": 0.98, "history": "1 + 1?",
    "c_root_id_A": "hkh25sc", "c_root_id_B": "hkh25lp", "created_at_utc_A": 1636822112, "created_at_utc_B": 1636822110,
    "score_A": 340, "score_B": 166, "human_ref_A": "2", "human_ref_B": "3", "labels": 1, "seconds_difference": 2.0,
    "score_ratio": 2.048,
}  # fmt: skip
HELPSTEER2 = {
    "split": "train", "prompt": "1 + 1?", "response_1": "3", "response_2": "2", "preference_strength": 2,
    "preference_statement": "@Response 2 is much better", "preference_elaboration": "It is right.",
    "three_most_similar_preferences": [{"statement": "x", "elaboration": "y", "strength": 2}],
    "all_preferences_unprocessed": [{"strength": 2}],
}  # fmt: skip
HELPSTEER3 = {
    "domain": "general", "language": "english", "context": turns("1 + 1?"), "response1": "2", "response2": "3",
    "overall_preference": -2, "individual_preference": [{"score": -2, "reasoning": "right", "feedback1": "good"}],
}  # fmt: skip
ULTRA = {
    "source": "sharegpt", "instruction": "1 + 1?", "models": ["alpaca-7b", "gpt-4"],
    "completions": [
        {"annotations": {"helpfulness": {"Rating": "2", "Rationale": "no"}}, "custom_system_prompt": "Be helpful.",
         "model": "alpaca-7b", "principle": "helpfulness", "response": "3", "critique": "It is wrong.",
         "fine-grained_score": 2.5, "overall_score": 3.0},
        {"annotations": {"helpfulness": {"Rating": "5", "Rationale": "yes"}}, "custom_system_prompt": "Be helpful.",
         "model": "gpt-4", "principle": "helpfulness", "response": "2", "critique": "It is right.",
         "fine-grained_score": 5.0, "overall_score": 9.0}],
    "correct_answers": ["None"], "incorrect_answers": ["None"],
}  # fmt: skip
BINARIZED = {
    "prompt": "1 + 1?", "prompt_id": "ab", "chosen": turns("1 + 1?", "2"), "rejected": turns("1 + 1?", "3"),
    "messages": turns("1 + 1?", "2"), "score_chosen": 9.0, "score_rejected": 3.0,
}  # fmt: skip
HH_BEGIN = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: 1 + 1?\n\nAssistant:"
HH = {"chosen": f"{HH_BEGIN} 2", "rejected": f"{HH_BEGIN} 3"}
HELPSTEER2_RATINGS = {
    "prompt": "1 + 1?", "response": "2", "helpfulness": 4, "correctness": 4, "coherence": 4, "complexity": 1,
    "verbosity": 1,
}  # fmt: skip
NECTAR = {
    "prompt": "\n\nHuman: 1 + 1?\n\nAssistant: ", "turns": 1, "num_responses": 2, "source": ["anthropic-hh"],
    "good_natured": True,
    "answers": [{"answer": "3", "model": "alpaca-7b", "rank": 2.0}, {"answer": "2", "model": "gpt-4", "rank": 1.0}],
}  # fmt: skip
REWARD_BENCH = {
    "prompt": "1 + 1?", "chosen": "2", "chosen_model": "GPT4-Turbo", "rejected": "3", "rejected_model": "vicuna-7b",
    "subset": "alpacaeval-easy", "id": 0,
}  # fmt: skip
REWARD_BENCH_2 = {
    "id": "1", "prompt": "1 + 1?", "chosen": ["2"], "rejected": ["3", "4", "5"], "num_correct": 1, "num_incorrect": 3,
    "total_completions": 4, "models": ["a", "b", "c", "d"], "subset": "Math", "additional_metadata": {"category": "x"},
}  # fmt: skip
SAFE = {
    "prompt": "1 + 1?", "response_0": "3", "response_1": "2", "prompt_source": "Alpaca3-70B",
    "response_0_source": "Alpaca2-7B", "response_1_source": "Alpaca2-7B", "is_response_0_safe": True,
    "is_response_1_safe": False, "response_0_harm_category": {"Privacy Violation": False},
    "response_1_harm_category": {"Privacy Violation": True}, "response_0_severity_level": 0,
    "response_1_severity_level": 2, "better_response_id": 1, "safer_response_id": 0, "response_0_sha256": "a",
    "response_1_sha256": "b",
}  # fmt: skip
CAPYBARA = {
    "source": "Airoboros",
    "conversation": [{"input": "Hi", "output": "Hello"}, {"input": "1 + 1?", "output": "2"}],
}
ORCA = {"system": "", "question": "1 + 1?", "chosen": "2", "rejected": "3"}
ORCA_ARGILLA = {
    "system": "", "input": "1 + 1?", "chosen": "2", "rejected": "3", "generations": ["2", "3"], "order": ["a", "b"],
    "labelling_model": "gpt-4-1106-preview", "labelling_prompt": [{"role": "system", "content": "Judge."}],
    "raw_labelling_response": "9, 1", "rating": [9.0, 1.0], "rationale": "two", "status": "unchanged",
    "original_chosen": "2", "original_rejected": "3", "chosen_score": 9.0, "in_gsm8k_train": False,
}  # fmt: skip
ARGILLA = {
    "dataset": "argilla/ultrafeedback", "chosen": turns("1 + 1?", "2"), "rejected": turns("1 + 1?", "3"),
    "chosen_rating": 5.0, "rejected_rating": 2.0,
}  # fmt: skip
CAPYBARA_ARGILLA = {
    "source": "Dove", "conversation": [{"input": "Hi", "output": "Hello"}, {"input": "1 + 1?", "output": None}],
    "original_response": "2", "generation_prompt": ["<s>"], "raw_generation_responses": ["3"],
    "new_generations": ["3"], "prompt": "Hi Hello 1 + 1?", "chosen": turns("Hi", "Hello", "1 + 1?", "2"),
    "rejected": turns("Hi", "Hello", "1 + 1?", "3"), "chosen_rating": 5.0, "rejected_rating": 1.0,
}  # fmt: skip
NEMO = {
    "context": turns("1 + 1?"), "completions": [
        {"rank": 1, "completion": [{"role": "assistant", "content": "3"}]},
        {"rank": 0, "completion": [{"role": "assistant", "content": "2"}]}],
}  # fmt: skip
TULU = {
    "id": "ai2-1", "source": "ultrafeedback", "prompt": "1 + 1?", "chosen": turns("1 + 1?", "2"),
    "rejected": turns("1 + 1?", "3"), "chosen_rating": 4.5, "rejected_rating": 2.0, "chosen_model": "m",
    "rejected_model": "n",
}  # fmt: skip
TULU_SFT = {"id": "oasst1_1", "messages": turns("1 + 1?", "2"), "source": "ai2-adapt-dev/oasst1_converted"}
TULU_RLVR = {"messages": turns("1 + 1?"), "ground_truth": "2", "dataset": "gsm8k"}
ARENA = {
    "id": 30192, "model_a": "gpt-4-1106-preview", "model_b": "gpt-4-0613", "prompt": '["Hi", "1 + 1?"]',
    "response_a": '["Hello", "3"]', "response_b": '["Hello", "2"]', "winner_model_a": 0, "winner_model_b": 1,
    "winner_tie": 0,
}  # fmt: skip
ARENA_33K = {
    "question_id": "58210e39", "model_a": "chatglm-6b", "model_b": "koala-13b", "winner": "model_a", "judge": "u1",
    "conversation_a": turns("1 + 1?", "2"), "conversation_b": turns("1 + 1?", "3"), "turn": 1, "anony": True,
    "language": "English", "tstamp": 1682351591.13, "openai_moderation": {"flagged": False},
    "toxic_chat_tag": {"t5-large": {"flagged": False}},
}  # fmt: skip

# set → (a row, its record, the settings of `data` that it needs)
SETS: dict[str, tuple[dict[str, Any], Record, dict[str, Any]]] = {
    "OpenAI summarize-from-feedback": (SUMMARIES, pair(POST, " My cats fight.", " Cats."), {}),
    "SHP": (SHP, pair(), {}),
    "SHP, B preferred": ({**SHP, "labels": 0}, pair("1 + 1?", "3", "2"), {}),
    "HelpSteer 2 preferences": (HELPSTEER2, pair(), {}),
    "HelpSteer 2 preferences, the first": ({**HELPSTEER2, "preference_strength": -1}, pair("1 + 1?", "3", "2"), {}),
    "HelpSteer 3 preferences": (HELPSTEER3, pair(ASKED), {}),
    "UltraFeedback": (ULTRA, Ranking(ASKED, ("2", "3"), NOWHERE, scores=(9.0, 3.0)), {}),
    "UltraFeedback binarized": (BINARIZED, pair(ASKED), {}),
    "Anthropic HH": (HH, pair(HH_BEGIN, " 2", " 3"), {}),
    "HelpSteer 2 ratings": (
        HELPSTEER2_RATINGS, Demonstration("1 + 1?", "2", NOWHERE), {"columns": {"completion": "response"}}),
    "Nectar": (NECTAR, Ranking("\n\nHuman: 1 + 1?\n\nAssistant: ", ("2", "3"), NOWHERE), {}),
    "RewardBench": (REWARD_BENCH, pair(), {}),
    "RewardBench 2": (REWARD_BENCH_2, Ranking("1 + 1?", ("2", "3", "4", "5"), NOWHERE, scores=(1.0, 0, 0, 0)), {}),
    "PKU-SafeRLHF": (SAFE, pair(), {}),
    "PKU-SafeRLHF, safer": (
        SAFE, pair("1 + 1?", "3", "2"), {"columns": {"better_response_id": "safer_response_id"}}),
    "Capybara": (CAPYBARA, Demonstration(LATER, "2", NOWHERE), {}),
    "Orca pairs": (ORCA, pair(ASKED), {}),
    "Orca pairs of Argilla": (ORCA_ARGILLA, pair(ASKED), {"ignore": ("in_gsm8k_train",)}),
    "Argilla mix": (ARGILLA, pair(ASKED), {}),
    "Capybara preferences of Argilla": (
        {k: v for k, v in CAPYBARA_ARGILLA.items() if k != "prompt"}, pair(LATER),
        {"ignore": ("conversation", "generation_prompt", "original_response", "new_generations",
                    "raw_generation_responses")}),
    "NeMo RL": (NEMO, Ranking(ASKED, ("2", "3"), NOWHERE), {}),
    "Tülu 3 preferences": (TULU, pair(ASKED), {}),
    "Tülu 3 demonstrations": (TULU_SFT, Demonstration(ASKED, "2", NOWHERE), {}),
    "Tülu 3 RLVR": (
        TULU_RLVR, Task(ASKED, "2", NOWHERE), {"columns": {"prompt": "messages", "answer": "ground_truth"}}),
    "LMArena votes": (ARENA, pair(LATER), {}),
    "LMArena votes, the first": (
        {**ARENA, "winner_model_a": 1, "winner_model_b": 0}, pair(LATER, "3", "2"), {}),
    "LMArena conversations": (ARENA_33K, pair(ASKED), {}),
}  # fmt: skip


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", SETS)
def test_a_public_set_is_read_as_it_is_published(name: str, ending: str, tmp_path: Path) -> None:
    row, expected, settings = SETS[name]
    found = read(Reading(written(tmp_path / f"rows.{ending}", row), **settings)).records
    assert [replace(record, source=NOWHERE) for record in found] == [expected]


def written(path: Path, *rows: dict[str, Any]) -> str:
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("row", "field", "tie"),
    [
        (HELPSTEER2, "preference_strength", {"preference_strength": 0}),
        (HELPSTEER3, "overall_preference", {"overall_preference": 0}),
        (ARENA, "winner_tie", {"winner_model_b": 0, "winner_tie": 1}),
        *((ARENA_33K, "winner", {"winner": tie}) for tie in ("tie", "tie (bothbad)", "both_bad")),
    ],
)
def test_a_row_without_a_winner_is_passed_over(
    row: dict[str, Any], field: str, tie: dict[str, Any], tmp_path: Path
) -> None:
    found = scan(written(tmp_path / "rows.jsonl", row, {**row, **tie}))
    assert len(found.table.records) == 1
    (issue,) = found.faults
    assert (issue.row, issue.field, issue.severity, issue.check) == (2, field, "warning", "no preference")


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({**SHP, "labels": 2}, "labels", "is 2, not 1 or 0"),
        ({**SHP, "labels": True}, "labels", "is True, not 1 or 0"),
        ({**SHP, "labels": None}, "labels", "not 1 or 0"),
        ({**SUMMARIES, "choice": "1"}, "choice", "is '1', not 0 or 1"),
        ({**SUMMARIES, "summaries": SUMMARIES["summaries"][:1]}, "summaries", "are not two"),
        ({**SUMMARIES, "summaries": [{"text": None}, {"text": "x"}]}, "summaries", "are not two"),
        ({**SUMMARIES, "info": {"title": "x"}}, "info", "has no `post`"),
        ({**HELPSTEER2, "preference_strength": "much"}, "preference_strength", "not a finite number"),
        ({**SAFE, "better_response_id": 2}, "better_response_id", "is 2, not 0 or 1"),
        ({**SAFE, "response_1": None}, "response_1", "is null"),
        ({**ARENA, "prompt": "Hi"}, "prompt", "no JSON list"),
        ({**ARENA, "response_a": '["Hello", null]'}, "response_a", "no JSON list"),
        ({**ARENA, "response_b": '["Hello"]'}, "response_b", "has 1 answers to 2 prompts"),
        ({**ARENA, "winner_model_a": 1}, "winner_model_a", "not one 1 and two 0"),
        ({**ARENA_33K, "winner": "model_c"}, "winner", "is 'model_c'"),
        ({**ARENA_33K, "conversation_b": turns("2 + 2?", "4")}, "conversation_a", "shares no prompt"),
        ({"conversation": [{"input": "Hi", "output": "x", "weight": 2}]}, "conversation[1].weight", "weight"),
        ({**NEMO, "completions": NEMO["completions"][:1]}, "completions", "nothing to rank"),
    ],
)  # fmt: skip
def test_a_broken_row_of_a_public_set_is_named(row: dict[str, Any], field: str, reason: str, tmp_path: Path) -> None:
    issues = scan(written(tmp_path / "rows.jsonl", row)).faults
    assert [(i.row, i.field) for i in issues if reason in i.reason and i.severity == "error"][:1] == [(1, field)], (
        issues
    )
