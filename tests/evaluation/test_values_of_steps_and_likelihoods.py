"""Intervals of figures over steps, by hand; by which prompts and weights likelihoods count; what judges of rows get."""

from __future__ import annotations

import math
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from support import tiny
from support.heard import Heard
from twofold.batch import STEP_LABEL, Branch, Group, Role
from twofold.errors import DataError, RecipeError
from twofold.evaluation import rate_in_training
from twofold.evaluation.figures import BinaryOutcomes, Ratio
from twofold.evaluation.likelihood import Likely, likelihoods, perplexity_entry, preference_entry
from twofold.evaluation.parts import WHOLE
from twofold.evaluation.rate_in_training import RateInTraining, WinRateInTraining
from twofold.evaluation.reward_scores import Scored, ScoreSettings, _by_judge
from twofold.evaluation.steps import RatedSolution, StepReport, first_error_f1, rated, step_report
from twofold.judges.questions import Question
from twofold.models.packing import Packing
from twofold.records import Candidate, Source
from twofold.statistics import Estimate, share_by_cluster
from twofold.statistics.bootstrap import bca_bounds

KINDS = [
    ("a", "seen"), ("a", "missed"), ("b", "passed"), ("b", "seen"), ("c", "failed"), ("d", "seen"), ("d", "passed"),
    ("e", "missed"), ("f", "passed"), ("g", "seen"), ("h", "failed"), ("i", "seen"), ("i", "passed"), ("j", "passed"),
]  # fmt: skip
"""A solution with an error is seen at its place or missed; one without passes or fails."""
STEPS = {
    "seen": ([1.0, 0.0], [0.5, 0.25]), "missed": ([0.0, 1.0], [0.75, 0.25]),
    "passed": ([1.0, 1.0], [0.5, 0.75]), "failed": ([1.0, 1.0], [0.75, 0.25]),
}  # fmt: skip
SOLUTIONS = [RatedSolution(prompt, *(tuple(side) for side in STEPS[kind])) for prompt, kind in KINDS]


def harmonic(kinds: list[str]) -> float:
    """Of the shares seen of those with an error, and passed of those without."""
    erroneous, correct = (sum(k in names for k in kinds) for names in (("seen", "missed"), ("passed", "failed")))
    seen, passed = kinds.count("seen"), kinds.count("passed")
    if not seen or not passed:
        return 0.0
    return 2 / (erroneous / seen + correct / passed)


@pytest.mark.parametrize(("how", "seed", "level"), [({}, 0, 0.95), ({"seed": 3, "level": 0.8}, 3, 0.8)])
def test_the_interval_of_f1_by_hand(how: dict[str, Any], seed: int, level: float) -> None:
    names = sorted({prompt for prompt, _ in KINDS})
    of = {name: [kind for prompt, kind in KINDS if prompt == name] for name in names}
    draws = np.random.default_rng(seed).multinomial(10, np.full(10, 1 / 10), size=2000)
    moved = [harmonic([k for name, often in zip(names, row, strict=True) for k in of[name] * often])
             for row in draws.tolist()]  # fmt: skip
    left_out = [harmonic([kind for prompt, kind in KINDS if prompt != name]) for name in names]
    value = 2 / (7 / 5 + 7 / 5)
    low, high, kind = bca_bounds(value, np.array(moved), np.array(left_out), level)
    found = first_error_f1(SOLUTIONS, **how)
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high), abs=1e-12)
    assert found.method == f"bootstrap over prompts {level:.0%}, {kind}"
    assert (found.n, found.count, found.clusters) == (14, None, 10)
    assert step_report(SOLUTIONS).f1 == first_error_f1(SOLUTIONS)


def test_every_share_of_steps_is_over_prompts() -> None:
    report = step_report(SOLUTIONS)
    prompts, kinds = [p for p, _ in KINDS], [k for _, k in KINDS]
    twice = [p for p in prompts for _ in range(2)]
    hits = {"seen": [True, True], "missed": [False, False], "passed": [True, True], "failed": [True, False]}
    rights = {"seen": [True, False], "missed": [False, True], "passed": [True, True], "failed": [True, True]}
    assert report.accuracy == share_by_cluster([h for k in kinds for h in hits[k]], twice)
    assert report.right_steps == share_by_cluster([r for k in kinds for r in rights[k]], twice)
    for found, good, bad in ((report.erroneous, "seen", "missed"), (report.correct, "passed", "failed")):
        some = [(p, k == good) for p, k in KINDS if k in (good, bad)]
        assert found == share_by_cluster([right for _, right in some], [p for p, _ in some])
    assert report.as_dict() == {
        "step accuracy": report.accuracy.as_dict(), "right steps": report.right_steps.as_dict(),
        "first error located": report.erroneous.as_dict(), "no error seen in correct ones": report.correct.as_dict(),
        "first-error F1": report.f1.as_dict(),
    }  # fmt: skip
    assert StepReport.section == "process_reward_model"


@pytest.mark.parametrize("kinds", [["seen", "missed"], ["passed", "failed"], []])
def test_f1_without_one_kind_is_unknown(kinds: list[str]) -> None:
    some = [RatedSolution("a", *(tuple(side) for side in STEPS[kind])) for kind in kinds]
    assert first_error_f1(some) == Estimate(0.0, 0.0, 1.0, 0, None, "one kind of solutions is missing", None)


def test_f1_is_zero_where_nothing_is_seen_or_nothing_passes() -> None:
    for kinds in (["missed", "passed", "passed"], ["seen", "failed", "seen"]):
        found = first_error_f1([RatedSolution(str(i), *map(tuple, STEPS[k])) for i, k in enumerate(kinds)])  # type: ignore[arg-type]
        assert (found.value, found.low, found.high, found.n, found.clusters) == (0.0, 0.0, 0.0, 3, None)


def test_values_are_read_at_rated_steps_in_double_precision() -> None:
    """A label of 0 or above is rated; a label of exactly ½ is right, and so is such a probability."""
    column = torch.tensor([-1.0, 0.0, 0.5, -1.0, 1.0])
    branch = Branch(torch.tensor([1, 2, 3, 4, 5]), Role.STEPS, {STEP_LABEL: column})
    value = torch.tensor([9.0, -0.7, 0.0, 9.0, 0.3])
    (found,) = rated([Group("x", torch.tensor([6, 7]), (branch,))], [[value]])
    assert found.prompt == torch.tensor([6, 7]).numpy().tobytes()
    assert found.labels == (0.0, 0.5, 1.0)
    exact = [1 / (1 + math.exp(-x)) for x in value.double()[[1, 2, 4]].tolist()]
    assert found.probabilities == pytest.approx(exact, rel=1e-14)
    assert (found.hits, found.has_error, found.is_located) == ([True, True, True], True, True)
    assert not RatedSolution("a", (0.5, 1.0), (0.5, 0.4)).has_error
    assert RatedSolution("a", (0.5, 1.0), (0.5, 0.4)).hits == [True, False]


def likely(prompt: bytes, chosen: tuple[float, int], rejected: tuple[float, int], **numbers: float) -> Likely:
    sides = {"chosen": chosen, "rejected": rejected}
    return Likely(f"row {chosen[0]}", prompt, {s: v[0] for s, v in sides.items()}, {s: v[1] for s, v in sides.items()},
                  numbers)  # fmt: skip


ROWS = [
    likely(b"x", (-2.0, 2), (-3.0, 1), weight=2.0, probability=0.75),
    likely(b"x", (-4.0, 8), (-3.0, 2), probability=0.9),
    likely(b"y", (-1.0, 1), (-1.0, 1), weight=3.0),
]  # fmt: skip


def test_perplexities_are_over_prompts_by_weight() -> None:
    found, prompts = perplexity_entry("m", ROWS), [b"x", b"x", b"y"]
    assert found.measures == {
        "chosen_perplexity": Ratio([4.0, 4.0, 3.0], [4.0, 8.0, 3.0], True, [2.0, 8.0, 1.0], prompts),
        "chosen_perplexity_per_completion": Ratio([2.0, 0.5, 3.0], [2.0, 1.0, 3.0], True, [2.0, 8.0, 1.0], prompts),
        "chosen_nats_per_completion": Ratio([4.0, 4.0, 3.0], [2.0, 1.0, 3.0], prompts=prompts),
        "rejected_perplexity": Ratio([6.0, 3.0, 3.0], [2.0, 2.0, 3.0], True, [1.0, 2.0, 1.0], prompts),
        "rejected_perplexity_per_completion": Ratio([6.0, 1.5, 3.0], [2.0, 1.0, 3.0], True, [1.0, 2.0, 1.0], prompts),
        "rejected_nats_per_completion": Ratio([6.0, 3.0, 3.0], [2.0, 1.0, 3.0], prompts=prompts),
    }  # fmt: skip
    assert found.rows[0] == {
        "model": "m", "name": "row -2.0", "weight": 2.0, "probability": 0.75, "chosen_logp": -2.0, "chosen_tokens": 2,
        "rejected_logp": -3.0, "rejected_tokens": 1,
    }  # fmt: skip


def test_preferences_are_by_weight_and_by_probability() -> None:
    """In order 1, out of order 1 less the probability, a tie nothing."""
    prompts, weights = [b"x", b"x", b"y"], [2.0, 1.0, 3.0]
    found = preference_entry("m", ROWS)
    assert found.measures["logp"] == BinaryOutcomes([True, False, False], prompts, weights, [0.75, 1 - 0.9, 0.0])
    per_token = found.measures["logp_per_token"]
    assert per_token == BinaryOutcomes([True, True, False], prompts, weights, [0.75, 0.9, 0.0])
    plain = preference_entry("m", [likely(b"x", (-1.0, 1), (-2.0, 1), weight=1.0, probability=1.0)])
    assert plain.measures["logp"] == BinaryOutcomes([True], [b"x"])
    doubted = preference_entry("m", [likely(b"x", (-1.0, 1), (-2.0, 1), weight=1.0, probability=0.5)])
    assert doubted.measures["logp"] == BinaryOutcomes([True], [b"x"], [1.0], [0.5])


def test_a_row_is_recorded_with_a_digest_of_its_prompt() -> None:
    told = ROWS[0].as_dict()
    assert told == {
        "name": "row -2.0", "prompt": sha256(b"x").hexdigest()[:16], "logp": {"chosen": -2.0, "rejected": -3.0},
        "tokens": {"chosen": 2, "rejected": 1}, "weight": 2.0, "probability": 0.75,
    }  # fmt: skip
    again = Likely.of(told)
    assert again.as_dict() == told
    assert (again.weight, ROWS[1].weight) == (2.0, 1.0)
    assert Likely.of({**told, "margin": 3.0}).numbers == {"weight": 2.0, "probability": 0.75}


def test_sums_are_in_double_precision_with_a_rows_own_numbers() -> None:
    policy, (group,) = tiny.policy(), tiny.pairs(1)
    branches = tuple(Branch(b.tokens, b.role, b.token_columns, {"weight": 2.0, "margin": 1.0}) for b in group.branches)
    (found,) = likelihoods(policy, [Group(group.name, group.prompt, branches)])
    (known,) = policy.logps([group], Packing())
    assert [found.logp[side] for side in ("chosen", "rejected")] == [float(x.double().sum()) for x in known]
    assert found.numbers == {"weight": 2.0}


def test_the_accuracy_of_a_judge_is_noted_with_its_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured once; a second evaluation has the same figures."""
    calls, heard = list[Any](), Heard()
    right = {"value": 0.7512, "low": 0.5, "high": 0.9049, "n": 48, "count": 36}
    monkeypatch.setattr(rate_in_training, "verdict_rows", lambda *given: calls.append(given) or ["rows"])
    monkeypatch.setattr(rate_in_training, "figures_of", lambda *given: calls.append(given) or {"accuracy": right})
    referee: Any = SimpleNamespace(provenance={"kind": "k"})
    pairs: Any = ["pair"]
    made = RateInTraining(WinRateInTraining(prompts="f", judge="reward:r"), [], referee, Path("none"), pairs)
    known = {"judge_accuracy": 0.7512, "judge_low": 0.5, "judge_high": 0.9049, "judge_n": 48.0}
    for _ in range(2):
        figures = made._judge_accuracy(heard)
        assert figures == known
        figures.clear()
    assert calls == [(pairs, referee, heard), (["rows"], {"kind": "k"})]
    assert heard.notes == ["win rate: reward:r is right on 75.1% [50.0%, 90.5%] of 48 labeled pairs"]


def test_a_judge_of_rows_is_put_questions_in_batches() -> None:
    """Of 33 rows three at once; a row without a verdict is named with what to do."""
    calls, heard, ledger = list[Any](), Heard(), object()

    def scores(questions: Any, progress: Any) -> list[list[float] | None]:
        calls.append((questions, progress))
        return [None if q.source.row == 5 else [float(q.source.row), 0.0] for q in questions]

    judge = SimpleNamespace(provenance={"kind": "k"}, scores=scores)
    kind: Any = SimpleNamespace(asks_server=False, gives="scores", help=lambda: "h", open=lambda how, stack: judge)
    items = [Scored(f"p{n}", ("a", "b"), 1, Source("f", n), {"subset": "s"}) for n in range(10, 43)]
    how: Any = ScoreSettings(progress=heard)
    line = _by_judge("k", kind, items, how, WHOLE, ledger)  # type: ignore[arg-type]  # nobody writes to it
    assert [len(questions) for questions, _ in calls] == [3] * 11
    assert all(progress is heard for _, progress in calls)
    assert calls[0][0][1] == Question("p11", Source("f", 11), None, (Candidate("a", {}), Candidate("b", {})))
    assert [row["scores"][0] for row in line.rows] == list(map(float, range(10, 43)))
    assert heard.of("scores") == [("begin", 33), *[("advance", 3, {})] * 11, ("end",)]
    lacking = [Scored("p", ("a",), 1, Source("f", n), {}) for n in (4, 5)]
    with pytest.raises(DataError) as refused:
        _by_judge("k", kind, [*lacking, *items], how, WHOLE, ledger)  # type: ignore[arg-type]
    assert str(refused.value) == (
        "f:5: 1 row without a verdict\n  → see its reply in ledger.jsonl; choose another judge or rubric"
    )
    with pytest.raises(RecipeError) as error:
        _by_judge("k", kind, items, ScoreSettings(rubric="r"), WHOLE, ledger)  # type: ignore[arg-type]
    assert str(error.value) == "k: a rubric goes with llm and llm-score\n  → leave --rubric out"
