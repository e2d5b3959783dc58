"""Near-duplicates and contamination: what is found, at which rows, and how much of it is the same, by value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from twofold.data import contamination, signatures
from twofold.data.grams import grams, prompt_words, words
from twofold.data.issues import Issue
from twofold.data.looks import Further
from twofold.data.validate import check
from twofold.errors import RecipeError
from twofold.records import TOOLS, Message

Write = Callable[..., str]
ROBE = (
    "A robe takes two bolts of blue fiber and half that much white fiber for the whole village choir this winter "
    "and next summer. How many bolts in total does it take to make them all on time?"
)
GREEN = ROBE.replace("blue", "green")


def row(prompt: str, chosen: str = "It takes three bolts.", rejected: str = "Four.") -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def of_kind(faults: tuple[Issue, ...], kind: str) -> list[tuple[int, str]]:
    assert all(f.severity == "warning" and f.remedy for f in faults if f.check == kind)
    return [(f.row, f.reason) for f in faults if f.check == kind]


def test_words_are_without_case_and_punctuation_and_letters_where_no_spaces_are_written() -> None:
    assert words("Hello, World!").tolist() == words("hello world").tolist()
    assert (len(words("今天天气很好 ok")), len(words("안녕하세요 세상")), len(words("?!"))) == (7, 2, 0)


def test_grams_depend_on_the_order_and_a_short_text_is_one() -> None:
    three = grams(words("a b c d a b c"), 3)
    assert (len(three), three[0] == three[4], len(set(three.tolist()))) == (5, True, 4)
    assert len(grams(words("a b"), 3)) == 1
    assert grams(words("a b"), 3) != grams(words("b a"), 3)
    assert len(grams(words(""), 3)) == 0


def test_system_turns_and_tools_are_no_words_of_a_prompt() -> None:
    turns = (Message(TOOLS, "[{}]"), Message("system", "Be brief."), Message("user", "Hi there."))
    assert prompt_words(turns).tolist() == words("hi there").tolist()
    assert prompt_words(turns[1:2]).tolist() == words("be brief").tolist()


def test_a_row_with_most_of_an_evaluation_prompt_is_contaminated(write: Write) -> None:
    test = write("test.jsonl", {"question": "Four", "answer": "1"}, {"question": ROBE, "answer": "3"})
    train = write("train.jsonl", row(ROBE), row("Other."), row(GREEN), row("Q", f"They asked: {ROBE} Three."))
    report = check(train, against=test)
    sequences = len(ROBE.split()) - 7
    assert of_kind(report.faults, "contamination") == [
        (3, f"contains {(sequences - 7) / sequences:.0%} of the 8-word sequences of the prompt at {test}:2"),
        (4, f"contains 100% of the 8-word sequences of the prompt at {test}:2"),
    ]  # "blue" is the 7th word: in 7 sequences
    assert [f.row for f in report.errors] == [1]
    strict = check(train, against=test, further=Further(overlap=0.9))
    assert [place for place, _ in of_kind(strict.faults, "contamination")] == [4]


def test_what_many_evaluation_prompts_share_is_a_template(write: Write) -> None:
    template = "Answer the following question step by step and write the result in a box at the end: "
    test = write("test.jsonl", *({"question": f"{template}{n} apples", "answer": "1"} for n in range(30)))
    train = write("train.jsonl", row(f"{template}why is the sky blue"))
    assert check(train, against=test).ok
    assert of_kind(check(train, against=test).faults, "contamination") == []


def test_of_too_many_grams_a_part_is_compared(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    texts = [" ".join(map(str, draw.integers(0, 1000, 60))) for _ in range(20)]
    test = write("test.jsonl", *({"question": text, "answer": "1"} for text in texts))
    monkeypatch.setattr(contamination, "MOST", 200)
    report = check(write("train.jsonl", row("x " + texts[7], "a b"), row("none")), against=test)
    assert of_kind(report.faults, "contamination") == [
        (1, f"contains 100% of the 8-word sequences of the prompt at {test}:8")
    ]


def test_near_duplicates_are_alike_in_prompt_and_in_each_completion(write: Write) -> None:
    pytest.importorskip("datasketch")
    rows = (
        row(ROBE),
        row("Other."),
        row(GREEN),
        row(GREEN, "Nobody can know."),
        row(ROBE, "Four.", "It takes three bolts."),
    )
    report = check(write("rows.jsonl", *rows, row("Other.")), further=Further(near=0.7))
    (found,) = of_kind(report.faults, "near-duplicate")
    assert found[0] == 3
    assert found[1].startswith("nearly repeats row 1: about ")
    assert [f.row for f in report.faults if f.check == "duplicate"] == [6]
    assert of_kind(check(report.source, further=Further(near=0.97)).faults, "near-duplicate") == []


def test_near_prompts_of_another_source(write: Write) -> None:
    pytest.importorskip("datasketch")
    test = write("test.jsonl", {"question": ROBE, "answer": "3"}, {"question": "Why?", "answer": "3"})
    train = write("train.jsonl", row(GREEN), row(ROBE), row(GREEN, "Twice."), row("Why not?"))
    report = check(train, against=test, further=Further(near=0.7))
    assert [place for place, _ in of_kind(report.faults, "near-overlap")] == [1, 3]
    assert f"is nearly that of {test}:1" in of_kind(report.faults, "near-overlap")[0][1]
    none = check(train, against=write("none.jsonl", end=""), further=Further(near=0.7))
    assert of_kind(none.faults, "near-overlap") == []


def test_the_likeness_is_the_jaccard_similarity(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasketch")
    monkeypatch.setattr(signatures, "CHUNK", 8)
    draw = np.random.default_rng(1)
    made = signatures.Signatures(1)
    for number in range(40):  # each even row, and behind it one that shares 90 of 100 grams
        base = draw.integers(0, 2**63, 110).astype(np.uint64)
        made.add([base[:100]], 2 * number)
        made.add([base[10:]], 2 * number + 1)
    found = list(made.alike(0.6))
    assert [(a, b) for a, b, _ in found] == [(2 * n, 2 * n + 1) for n in range(40)]
    assert abs(np.mean([share for _, _, share in found]) - 90 / 110) < 0.02


def test_without_datasketch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="datasketch is not installed") as error:
        signatures.refuse_without_datasketch("--near")
    assert "twofold[duplicates]" in error.value.remedy


def test_the_prompt_with_the_largest_share_of_its_n_grams() -> None:
    numbers = np.array([3, 5, 9], np.uint64)
    index = contamination.Index(
        grams=numbers, begins=np.array([0, 2, 3]), counts=np.array([2, 1, 1]),
        holders=np.array([0, 1, 1, 2], np.uint32), sizes=np.array([1, 2, 4]), prompts=np.array([0, 1, 2], np.uint32),
    )  # fmt: skip
    assert index.most(np.array([9, 12], np.uint64)) == (2, 0.25), "12 is greater than every n-gram"
    assert index.most(np.array([3, 5], np.uint64)) == (0, 1.0), "the first of equal shares"
    assert index.most(np.array([1, 4, 12], np.uint64)) == (-1, 0.0)
