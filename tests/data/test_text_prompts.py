"""Text prompts before a chat template: turns letter by letter, bare text where it must be, warnings of guesses."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from support.chat_templates import ANSWER, FAMILIES, HH, QUESTION, Family
from twofold.data.encode import encode
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.data.transcripts import transcript
from twofold.data.turns import ChatChoice, Turns, described, keep_choice
from twofold.errors import DataError, RecipeError
from twofold.progress import Silent
from twofold.records import Demonstration, Labelled, Message, Pair, Prompt, Ranking, Record, Request, Source, Task

Make = Callable[..., Any]
AT = Source("rows.jsonl", 3)
CHATML = FAMILIES[0]
by_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def encoder(tokenizer: Any, chat: ChatChoice = "auto", **settings: Any) -> Encoder:
    return Encoder(tokenizer, frozenset({tokenizer.eos_token_id}), TokenizeSettings(**settings), chat)


def written(made: Encoder, record: Record) -> tuple[str, ...]:
    """The prompt and every completion of a record as text, special tokens included."""
    group = made.group(record)
    truth = () if group.truth is None else (group.truth,)
    return tuple(made.decode(ids.tolist()) for ids in (group.prompt, *(b.tokens for b in group.branches), *truth))


@by_family
def test_text_is_a_users_turn_and_a_transcript_several(family: Family) -> None:
    made = encoder(family.tokenizer())
    assert written(made, Pair(QUESTION, ANSWER, " 5", AT)) == (family.question, family.answer, family.answer)
    assert written(made, Pair(HH, " 5", "\n\nAssistant: 5\n", AT)) == (family.dialogue, family.answer, family.answer)


@by_family
def test_every_kind_of_row_gets_the_prompt_that_is_drawn_from(family: Family) -> None:
    made = encoder(family.tokenizer())
    drawn = made.prompt(QUESTION).tolist()
    rows = [
        Pair(QUESTION, "5", "6", AT), Demonstration(QUESTION, "5", AT), Labelled(QUESTION, "5", True, AT),
        Ranking(QUESTION, ("5", "6"), AT), Task(QUESTION, "5", AT), Request(QUESTION, AT),
    ]  # fmt: skip
    assert [group.prompt.tolist() for group in encode(rows, made).groups] == [drawn] * len(rows)
    assert drawn == made.prompt((Message("user", QUESTION),)).tolist()
    assert made.decode(drawn) == family.question


@by_family
def test_a_text_that_holds_the_template_already_is_left_and_warned_of(family: Family) -> None:
    made, progress = encoder(family.tokenizer()), Silent()
    for rendered in (family.question, family.dialogue):
        assert made.prompt(rendered).tolist() == made.tokenizer(rendered, add_special_tokens=False)["input_ids"]
    encoded = encode([Pair(family.question, "5", "6", AT)], made, progress)
    assert encoded.forms == {"rendered": 1}
    assert "1 prompt, the first at rows.jsonl:3: already holds the model's chat template" in progress.warnings[0]
    twice = encoder(family.tokenizer(), "chat").turns.put(family.question)
    assert (twice.form, twice.guess) in (("turn", ""), ("transcript", ""))  # as chosen, whatever it looks like


@by_family
def test_text_on_request_is_bare(family: Family) -> None:
    made = encoder(family.tokenizer(), "text")
    assert written(made, Pair(HH, " 5", " 6", AT)) == (HH, f" 5{family.eos}", f" 6{family.eos}")
    chat = (Message("user", QUESTION),)
    assert written(made, Demonstration(chat, "5", AT)) == (family.question, family.answer)  # what is a chat stays one


def test_a_tokenizer_without_a_template_reads_text_as_it_stands(tokenizer: Make) -> None:
    bare = tokenizer(None)
    for chat in ("auto", "text"):
        assert written(encoder(bare, chat), Pair(HH, " 5", " 6", AT)) == (HH, " 5</s>", " 6</s>")
    assert encode([Pair("[INST] a [/INST]", "b", "c", AT)], encoder(bare)).guesses == {}
    with pytest.raises(RecipeError, match=r"data.chat: chat is asked for, and the tokenizer has no chat template"):
        encoder(bare, "chat")


def test_text_without_a_prompt_is_no_turn() -> None:
    made = encoder(Family("", CHATML.template, "", "", "", "<|im_end|>", "<s>", ("<|im_start|>",)).tokenizer(), "chat")
    assert written(made, Demonstration("", "All of it.", AT)) == ("<s>", "All of it.<|im_end|>")


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("\n\nHuman: Hi\n\nAssistant:", [("user", "Hi")]),
        ("\n\nHuman: Hi", [("user", "Hi")]),
        ("Human: Hi \n\nAssistant: ", [("user", "Hi")]),
        ("\n\nHuman: a\n\nb: c\n\nAssistant: d\n\nHuman: e\n\nAssistant:",
         [("user", "a\n\nb: c"), ("assistant", "d"), ("user", "e")]),
        ("\n\nHuman: a\n\nHuman: b\n\nAssistant:", [("user", "a\n\nb")]),
        ("\n\nHuman: a\n\nAssistant:\n\nHuman: b\n\nAssistant:", [("user", "a"), ("assistant", ""), ("user", "b")]),
        ("User: a\nAssistant: b\nUser: c\nAssistant:", [("user", "a"), ("assistant", "b"), ("user", "c")]),
        ("### Human: a### Assistant: b### Human: c### Assistant:", [("user", "a"), ("assistant", "b"), ("user", "c")]),
        ("Be kind. USER: a ASSISTANT: b</s>USER: c ASSISTANT:",
         [("system", "Be kind."), ("user", "a"), ("assistant", "b"), ("user", "c")]),
        ("Below is an instruction that describes a task. Write …\n\n### Instruction:\nAdd.\n\n### Input:\n1 + 1\n\n"
         "### Response:\n",
         [("user", "Add.\n1 + 1")]),
        ("Rhyme.\n\n### Instruction:\nAdd.\n\n### Response:", [("system", "Rhyme."), ("user", "Add.")]),
    ],
)  # fmt: skip
def test_known_transcripts_become_turns(text: str, turns: list[tuple[str, str]]) -> None:
    found = transcript(text)
    assert found is not None
    assert [(m.role, m.content) for m in found[1]] == turns


@pytest.mark.parametrize(
    "text",
    [
        "Who is human: you or I?", "\n\nHuman: Hi\n\nAssistant: Well,", "Human: is it a noun?", "Use USER: as it is.",
        "Before.\n\nHuman: a\n\nAssistant:", "\n\nHuman: \n\nAssistant:", "\n\nAssistant: Hi\n\nHuman: a",
        "User: a\nAssistant: b", "",
    ],
)  # fmt: skip
def test_other_texts_are_no_transcripts(text: str) -> None:
    assert transcript(text) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[INST] 2+3? [/INST]", "holds [INST], a mark of a chat template,"),
        ("What does <|im_start|> mean?", "holds <|im_start|>, a mark of a chat template,"),
        ("Question: 2+3?\nAnswer:", "looks like a transcript of no known form, ends with `Answer:`,"),
        ("\n\nHuman: Hi\n\nAssistant: Well,", "looks like a transcript of no known form"),
        ("SUBREDDIT: r/a\nPOST: b\nTL;DR:", "looks like a transcript of no known form, ends with `TL;DR:`,"),
        ("2+3?", ""), ("Write a list:", ""), ("Note: be brief.\nTopic: cats", ""), ("a < b and c > d", ""),
    ],
)  # fmt: skip
def test_what_is_a_guess_is_said(text: str, why: str) -> None:
    guess = f"{why} and is put as one user's turn" if why else ""
    put = Turns(CHATML.tokenizer()).put(text)
    assert (put.prompt, put.form, put.guess) == ((Message("user", text),), "turn", guess)
    assert Turns(CHATML.tokenizer(), "chat").put(text).guess == ""


def test_only_the_space_that_joins_texts_is_left_out_of_an_answer() -> None:
    made = encoder(CHATML.tokenizer())
    for text, kept in ((" 5", "5"), ("5 ", "5 "), ("    return", "    return"), ("\n5", "\n5")):
        assert written(made, Demonstration("q", text, AT))[1] == f"{kept}<|im_end|>"


def test_a_choice_is_kept_with_the_tokenizer_and_followed(tmp_path: Any) -> None:
    from transformers import AutoTokenizer

    made = CHATML.tokenizer()
    keep_choice(made, "auto")
    assert Turns(made).renders
    keep_choice(made, "text")
    made.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert (Turns(again).renders, Turns(again, "chat").renders) == (False, True)
    assert written(encoder(again), Pair("q", "a", "b", AT))[0] == "q"


def test_how_prompts_are_put_is_said_in_words() -> None:
    chat = (Message("user", "q"),)
    rows = [Request(p, AT) for p in (QUESTION, QUESTION, HH, chat, CHATML.question)]
    forms = encode(rows, encoder(CHATML.tokenizer())).forms
    assert described(forms, has_template=True) == (
        "1 as chats in the model's chat template; 2 as a user's turn in the model's chat template; 1 as transcripts "
        "split into turns of the model's chat template; 1 unchanged: they hold the model's chat template already"
    )
    assert described({"text": 2, "none": 1}, has_template=False) == (
        "2 as bare text: the tokenizer has no chat template"
    )


@pytest.mark.parametrize(
    ("answer", "learnt"),
    [
        ("<think>\n2 and 3</think>\n5", "2 and 3</think>\n5<eos>"),  # the prompt has opened it
        ("2 and 3</think>\n5", "2 and 3</think>\n5<eos>"),
        ("5", "\n</think>\n\n5<eos>"),
    ],
)
def test_reasoning_that_an_answered_turn_loses_is_learnt_behind_the_prompt(answer: str, learnt: str) -> None:
    family = next(f for f in FAMILIES if f.name == "deepseek-r1")
    made = encoder(family.tokenizer())
    assert written(made, Demonstration((Message("user", QUESTION),), answer, AT)) == (family.question, learnt)
    guess = made.fit(Demonstration(QUESTION, answer, AT)).guess
    assert ("answers without </think> follow it as an empty one" in guess) == (answer == "5")


def test_reasoning_is_not_cut_out_where_the_prompt_opens_nothing(tokenizer: Make) -> None:
    turns = "{% for m in messages %}[{{ m.role }}]{{ m.content.split('</think>')[-1] }}</s>{% endfor %}"
    made = encoder(tokenizer(turns + "{% if add_generation_prompt %}[assistant]{% endif %}"))
    row = Demonstration("q", "<think>why</think>a", AT)
    assert written(made, row) == ("[user]q</s>[assistant]", "<think>why</think>a</s>")
    asked = (Message("system", "s"), Message("user", "q"))
    assert written(made, Demonstration(asked, "<think>why</think>a", AT))[1] == "<think>why</think>a</s>"


def test_a_template_that_refuses_turns_names_the_row() -> None:
    gemma = next(f for f in FAMILIES if f.name == "gemma")
    with pytest.raises(DataError, match=r"rows.jsonl:3, `prompt`: is refused by the chat template: no system role"):
        encoder(gemma.tokenizer()).group(Pair("Be kind. USER: a ASSISTANT:", "b", "c", AT))


@pytest.mark.parametrize("prompt", [QUESTION, HH, (Message("user", "q"),), CHATML.question, "[INST] a [/INST]"])
def test_tokenizing_ahead_changes_nothing(prompt: Prompt) -> None:
    row = Pair(prompt, " 5", "6", AT)
    ahead, alone = encoder(CHATML.tokenizer()), encoder(CHATML.tokenizer())
    ahead.ahead([row])
    assert written(ahead, row) == written(alone, row)


@pytest.mark.parametrize(
    "text", ["\n" * 200_000, "\n\nHuman:" * 20_000, "### Input:\n" * 20_000 + "Assistant:", "<|" * 100_000]
)
def test_long_texts_of_odd_shapes_take_no_longer_than_their_length(text: str) -> None:
    start = time.process_time()
    Turns(CHATML.tokenizer()).put(f"a{text}b")
    Turns(CHATML.tokenizer()).put(f"{text}Human: a\n\nAssistant:")
    assert time.process_time() - start < 2
