"""What is counted in an answer, which rows count, and how much of a file is read."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twofold import disk
from twofold.errors import DataError, RecipeError
from twofold.evaluation import answer_style
from twofold.evaluation import earlier as module
from twofold.evaluation.answer_style import markdown_of, styled
from twofold.evaluation.answers import Answered
from twofold.evaluation.earlier import earlier
from twofold.evaluation.figures import BinaryOutcomes
from twofold.evaluation.instruction_following import IfevalSettings, _entry, _rows, measure_instructions
from twofold.evaluation.parts import WHOLE
from twofold.evaluation.published_rows import items_of, load
from twofold.records import Source, Task


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("# a", [1, 0, 0]), ("###### a", [1, 0, 0]), ("####### a", [0, 0, 0]), ("#a", [0, 0, 0]), ("b # a", [0, 0, 0]),
        ("# a\n## b\n b", [2, 0, 0]), ("- a\n* b\n+ c\n12. d\n  - e", [0, 5, 0]), ("-a\n12) b\nc - d", [0, 0, 0]),
        ("**a** __b__ **c**", [0, 0, 3]), ("**a\nb** __c\nd__", [0, 0, 0]), ("**** __a_b__", [0, 0, 0]),
        ("```\n# a\n- b\n**c**```\n# d", [1, 0, 0]), ("```# a``` # a", [0, 0, 0]), ("```a`b```\n# c", [1, 0, 0]),
    ],
)  # fmt: skip
def test_markdown_by_hand(text: str, counts: list[int]) -> None:
    assert markdown_of(text) == counts


def counted(text: str) -> int:
    return 100 + len(text)


def test_each_side_has_the_counts_of_its_own_file(tmp_path: Path) -> None:
    """0 is a count. What a file lacks is counted, and a row that it lacks wholly."""
    data = tmp_path / "q.jsonl"
    data.write_text("".join(json.dumps({"uid": f"q{i}", "category": "c", "prompt": f"p{i}"}) + "\n" for i in range(2)))
    own, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    own.write_text(json.dumps({"uid": "q1", "metadata": {"token_len": 0, "list_count": {"o": 2, "u": 3}}}) + "\n")
    other.write_text(json.dumps({"uid": "q0", "metadata": {"header_count": 4, "bold_count": {"a": 0, "b": 1}}}) + "\n")
    items = items_of("arena-hard", load("arena-hard", str(data)).records)
    rows = [{"index": 0, "own": "# x", "other": "- y"}, {"index": 1, "own": "# xyz", "other": "- y"}]
    counter: Any = SimpleNamespace(count=counted)
    found = styled(rows, items, (str(own), str(other)), counter)
    assert [row["style"] for row in found] == [[103, 1, 0, 0], [0, 1, 5, 0]]
    assert [row["other_style"] for row in found] == [[103, 4, 1, 1], [103, 0, 1, 0]]
    assert styled(rows, items, (None, str(other)), counter)[1]["style"] == [105, 1, 0, 0]
    with pytest.raises(DataError) as refused:
        answer_style._total({"h1": 1, "h2": -1}, "f:1: metadata.header_count")
    assert str(refused.value) == (
        "f:1: metadata.header_count: is no count\n  → remove `metadata` from the row: then the answer's text is counted"
    )


def test_an_answer_is_counted_without_its_reasoning() -> None:
    counter: Any = SimpleNamespace(count=counted)
    told = [{"role": "assistant", "content": "xy", "reasoning": "# a"}]
    (row,) = styled([{"index": 0, "own": told, "other": "z"}], [], (None, None), counter)
    assert (row["style"], row["other_style"]) == ([102, 0, 0, 0], [101, 0, 0, 0])


def lines(model: str, *names: str, **more: Any) -> str:
    return "".join(json.dumps({"model": model, "name": name, "right": True, **more}) + "\n" for name in names)


def test_ten_common_items_of_a_file_of_one_gibibyte_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, whole = list[Any](), disk.read_text
    monkeypatch.setattr(module.disk, "read_text", lambda *given: calls.append(given) or whole(*given))
    names = [f"n{i}" for i in range(11)]
    path = tmp_path / "rows.jsonl"
    path.write_text(lines("a", *names[:10]) + lines("b", *names))
    found = earlier([path])
    assert (found.n, found.base, found.discordance, found.deviation) == (10, 1.0, 0.0, 0.0)
    assert calls == [(path, 1024**3)]
    path.write_text(lines("a", *names[:9]) + lines("b", *names))
    with pytest.raises(DataError) as refused:
        earlier([path], "right")
    assert str(refused.value) == (
        f"{path}: the models have 9 common items with 'right', fewer than 10\n"
        "  → name rows.jsonl of `twofold evaluate --out`"
    )


def test_a_verdict_comes_before_a_number_wherever_it_stands() -> None:
    row = {"model": "a", "tokens": 3, "loss": 0.5, "right": False, "wrong": True, "truncated": True}
    assert module._metric({"a": [row, {"other": True}], "b": [{"first": True}]}) == "right"
    assert module._metric({"a": [{"model": "a", "step": 1, "cut": True}]}) == "strict"
    assert module._values([{"name": 1, "x": True}, {"name": "1", "x": 0}, {"prompt": "p", "x": 2}, {"x": 9}], "x") == {
        "1": 0.5, "p": 2.0,
    }  # fmt: skip


INSTRUCTIONS = '[{"kind": "punctuation:no_comma"}, {"kind": "startend:end_checker", "end_phrase": "no"}]'


def test_answers_are_judged_on_every_instruction() -> None:
    """Loosely without the first line, which has a comma."""
    answers = [Answered("t:1", "p", "Sure, so:\nno", INSTRUCTIONS, True, 3, ""),
               Answered("t:2", "q", "Yes", INSTRUCTIONS, False, 2, "")]  # fmt: skip
    rows = _rows("m", answers)
    kinds = [{"kind": "punctuation:no_comma"}, {"kind": "startend:end_checker", "end_phrase": "no"}]
    assert rows[0] == {
        "model": "m", "name": "t:1", "prompt": "p", "completion": "Sure, so:\nno", "instructions": kinds,
        "strict": [False, True], "loose": [True, True], "truncated": True, "tokens": 3,
    }  # fmt: skip
    assert (rows[1]["strict"], rows[1]["loose"], rows[1]["truncated"]) == ([True, False], [True, False], False)
    found = _entry("m", [*rows, {**rows[1], "prompt": "p"}], {"style": "text"})
    prompts = ["p", "q", "p"]
    twice = ["p", "p", "q", "q", "p", "p"]
    assert found.measures == {
        "prompt_strict": BinaryOutcomes([False] * 3, prompts),
        "instruction_strict": BinaryOutcomes([False, True, True, False, True, False], twice),
        "prompt_loose": BinaryOutcomes([True, False, False], prompts),
        "instruction_loose": BinaryOutcomes([True, True, True, False, True, False], twice),
    }  # fmt: skip
    assert found.about["subsets"] == {
        "punctuation": {"strict": BinaryOutcomes([False, True, True], prompts).estimate().as_dict(),
                        "loose": BinaryOutcomes([True] * 3, prompts).estimate().as_dict()},
        "startend": {"strict": BinaryOutcomes([True, False, False], prompts).estimate().as_dict(),
                        "loose": BinaryOutcomes([True, False, False], prompts).estimate().as_dict()},
    }  # fmt: skip
    assert (found.about["prompting"], found.counts) == ({"style": "text", "first prompt": "p"}, {"truncated": 1})


def test_what_has_no_meaning_for_instructions_is_named() -> None:
    task = Task("p", INSTRUCTIONS, Source("t", 1))
    for name in ("reference", "m@shots:2"):
        with pytest.raises(RecipeError) as refused:
            measure_instructions(["m", name], [task], IfevalSettings(), WHOLE)
        assert (refused.value.where, refused.value.remedy) == (
            "--task ifeval", "IFEval has no reference answers and no worked examples",
        )  # fmt: skip
        assert refused.value.what.endswith(" has no meaning here")
    with pytest.raises(DataError) as error:
        measure_instructions(["m"], [task, Task("p", "[short]"[1:], Source("t", 2))], IfevalSettings(), WHOLE)
    assert str(error.value) == (
        "t:2: the row has no instructions of IFEval\n  → rows need prompt, instruction_id_list and kwargs"
    )
