"""How much rows count, by hand; and a check's result as figures."""

from __future__ import annotations

import json

import pytest

from twofold.data.issues import Issue
from twofold.data.report import Report
from twofold.data.weights import Weights


def weights(*several: float | None) -> Weights:
    made = Weights()
    for weight in several:
        made.add(weight)
    return made


def test_weights_are_summed_and_their_squares() -> None:
    """Kish: of weights 1, 3 and 0 and a row without one, (1 + 3 + 0 + 1)² / (1 + 9 + 0 + 1) = 25/11 rows."""
    made = weights(1.0, 3.0, 0.0, None)
    assert made == Weights(rows=4, total=5.0, squares=11.0, weighted=3)
    assert made.effective == pytest.approx(25 / 11)
    assert made.words() == (
        "weights: 4 rows of which 3 have a weight count as 5, and as much as 2.3 rows of equal weight"
    )
    told = json.loads(json.dumps(made.as_dict()))
    assert told == {"rows": 4, "total": 5.0, "squares": 11.0, "weighted": 3, "effective": pytest.approx(25 / 11)}
    assert Weights.of(told) == made
    assert weights(2.0, 2.0, 2.0).effective == 3.0


@pytest.mark.parametrize(
    ("made", "nothing"), [(weights(), False), (weights(0.0, 0.0), True), (weights(0.0, None), False)]
)
def test_rows_that_all_have_weight_0_are_nothing(made: Weights, nothing: bool) -> None:
    assert made.nothing == nothing
    assert made.effective == (0.0 if not made.total else 1.0)


def issue(check: str, severity: str = "error") -> Issue:
    return Issue("f", 1, "", "why", "what", severity, check)  # type: ignore[arg-type]  # one of the two


def test_faults_are_counted_by_kind_the_most_frequent_first() -> None:
    faults = [issue("a", "warning"), issue("b"), issue("b"), issue("b", "warning"), issue("c", "warning")]
    report = Report("f", "pairs", 9, 4, faults)
    assert (len(report.errors), len(report.warnings), report.ok) == (2, 3, False)
    assert report.counts == {"b": 3, "a": 1, "c": 1}
    assert next(iter(report.counts)) == "b"
    assert Report("f", "pairs", 9, 4, faults[:1]).ok
    assert (report.bias, report.tokens, report.prompts, report.weights) == (None, None, "", None)
