"""Figures of a process reward model, by hand: step accuracy, where the first error is, ProcessBench's F1."""

from __future__ import annotations

import pytest
import torch

from twofold.batch import STEP_LABEL, Branch, Group, Role
from twofold.evaluation.steps import RatedSolution, first_error_f1, judge_steps, step_report


def solution(prompt: str, labels: list[float], probabilities: list[float]) -> RatedSolution:
    return RatedSolution(prompt, tuple(labels), tuple(probabilities))


SOLUTIONS = [
    solution("a", [1, 0, 1], [0.9, 0.2, 0.1]),  # the right place; two of three steps
    solution("b", [1, 0], [0.4, 0.3]),  # one step too early
    solution("c", [0], [0.8]),  # not seen
    solution("d", [1, 1], [0.7, 0.5]),  # none, and none seen
    solution("e", [1, 1], [0.7, 0.4]),  # none, and one seen
]


def test_shares_and_their_harmonic_mean() -> None:
    report = step_report(SOLUTIONS)
    found = {name: (round(e.value, 9), e.n) for name, e in report.headline.items()}
    assert found == {
        "step accuracy": (0.6, 10), "right steps": (0.7, 10), "first error located": (round(1 / 3, 9), 3),
        "no error seen in correct ones": (0.5, 2), "first-error F1": (0.4, 5),
    }  # fmt: skip
    assert report.figures == pytest.approx({"step_accuracy": 0.6, "first_error": 1 / 3, "no_error": 0.5, "f1": 0.4})
    assert all(e.low <= e.value <= e.high for e in report.headline.values())


def test_the_interval_of_f1_resamples_prompts() -> None:
    """The same solutions four times as copies of five prompts have the interval of five units, not of twenty."""
    copies = first_error_f1(SOLUTIONS * 4)
    apart = first_error_f1([solution(f"{s.prompt}{n}", [*s.labels], [*s.probabilities])
                            for n in range(4) for s in SOLUTIONS])  # fmt: skip
    assert copies.value == apart.value == pytest.approx(0.4)
    assert (copies.n, copies.clusters, apart.clusters) == (20, 5, None)
    assert copies.high - copies.low > 1.3 * (apart.high - apart.low) > 0.1


def test_f1_of_one_kind_of_solutions_is_left_out() -> None:
    report = step_report(SOLUTIONS[3:])
    assert (report.f1.n, report.erroneous.n) == (0, 0)
    assert report.figures.keys() == {"step_accuracy", "no_error"}
    assert "first-error F1" not in report.as_dict()


def test_values_are_read_where_rated_steps_end() -> None:
    column = torch.tensor([-1.0, 1.0, -1.0, 0.0])
    tokens = torch.zeros(4, dtype=torch.int64)
    group = Group("x", torch.tensor([1]), (Branch(tokens, Role.STEPS, {STEP_LABEL: column}),))
    report = judge_steps([group], [[torch.tensor([-9.0, 0.0, -9.0, 1e-3])]])
    assert report.accuracy.count == 1  # ½ is right; above it too, where the step is wrong
    assert report.erroneous.value == 0
