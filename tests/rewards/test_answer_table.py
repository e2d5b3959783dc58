"""A table of ground truths and completions, with the right verdict by each metric: `answers.jsonl`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from twofold.errors import DataError
from twofold.evaluation.answers import METRICS, Answered, refuse_unanswerable, verdicts
from twofold.records import Source, Task
from twofold.rewards.mathematics import MathVerifier
from twofold.rewards.verifier import judge

ROWS = [json.loads(line) for line in Path(__file__).with_name("answers.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def by_algebra() -> Iterator[Callable[[str, str], bool]]:
    pytest.importorskip("math_verify")
    with MathVerifier(timeout=30.0) as verifier:
        yield verifier.right
        assert verifier.timeouts == 0


def verdict(rule: Callable[[], bool]) -> str:
    try:
        return "right" if rule() else "wrong"
    except DataError:
        return "refused"


def test_the_table_is_large_and_has_every_verdict() -> None:
    assert len({(row["truth"], row["completion"]) for row in ROWS}) == len(ROWS) >= 200
    for metric in METRICS:
        counts = Counter(row[metric] for row in ROWS)
        assert min(counts["right"], counts["wrong"]) > 10, metric


@pytest.mark.parametrize("metric", ["strict", "flexible"])
def test_plain_numbers_are_read_whole(metric: str) -> None:
    seen = {(r["truth"], r["completion"]): verdict(lambda r=r: getattr(judge(r["completion"], r["truth"]), metric))
            for r in ROWS}  # fmt: skip
    assert seen == {(row["truth"], row["completion"]): row[metric] for row in ROWS}


def test_formulas_are_read_whole(by_algebra: Callable[[str, str], bool]) -> None:
    seen = {(r["truth"], r["completion"]): verdict(lambda r=r: by_algebra(r["completion"], r["truth"])) for r in ROWS}
    assert seen == {(row["truth"], row["completion"]): row["math"] for row in ROWS}


def test_texts_are_compared_as_texts() -> None:
    answered = [Answered("t:1", "q", row["completion"], row["truth"], False, 1) for row in ROWS]
    assert verdicts(answered, ["text"])["text"] == [row["text"] == "right" for row in ROWS]


@pytest.mark.parametrize("metric", METRICS)
def test_a_truth_is_refused_before_anything_is_drawn_if_and_only_if_its_verdict_is(metric: str) -> None:
    for n, row in enumerate(ROWS, 1):
        task = Task("q", row["truth"], Source("rows.jsonl", n))
        if row[metric] == "refused":
            with pytest.raises(DataError, match=rf"^rows\.jsonl:{n}: the answer"):
                refuse_unanswerable([task], [metric])
        else:
            refuse_unanswerable([task], [metric])
