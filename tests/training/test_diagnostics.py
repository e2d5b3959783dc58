"""Live warnings: said when there is cause, once, and remembered by a state that a checkpoint can keep."""

from __future__ import annotations

import json
import math

import pytest

from twofold.objectives import DPO, DPOP, EXO, IPO
from twofold.objectives.base import Objective
from twofold.objectives.xpo import XPO
from twofold.training.diagnostics import LN2, Diagnostics

DPO_RUN = DPO()


def looks(rows: list[dict[str, float]], objective: Objective = DPO_RUN) -> list[list[str]]:
    watch = Diagnostics({})
    return [watch.check(step, row, objective) for step, row in enumerate(rows)]


def test_a_first_loss_of_ln_2_is_as_it_should_be() -> None:
    assert looks([{"loss/dpo": math.log(2) + 5e-4}, {"loss/dpo": 0.2}]) == [[], []]


@pytest.mark.parametrize("loss", [0.68, 0.71])
def test_another_first_loss_is_told(loss: float) -> None:
    (said,), later = looks([{"loss/dpo": loss}, {"loss/dpo": loss}])
    assert f"{loss:.4f}" in said
    assert "ln 2" in said
    assert later == []


FALLEN = {"chosen_logratio": -3.14, "rejected_logratio": -9.0, "chosen_length": 20.0}


def test_chosen_that_falls_is_told_once_with_its_remedy() -> None:
    said = looks([{"loss/dpo": LN2, **FALLEN}] * 30)
    told = [step for step, texts in enumerate(said) if texts]
    assert told == [9]
    assert said[9] == [
        "step 9: chosen fell 3.1 nats against the reference, rejected fell 9.0: "
        "see docs/likelihood-displacement.md; try objective.nll=1"
    ]


@pytest.mark.parametrize(
    ("objective", "losses", "told"),
    [
        (DPO(nll=0.1), ("dpo", "nll"), "a larger weight of the likelihood of chosen"),
        (DPOP(), ("dpop",), "a larger objective.lam, or a lower learning rate"),
        (EXO(), ("exo",), "objective.kind=dpo with objective.nll=1"),
        (XPO(DPO(), 0.1), ("dpo", "optimism"), "objective.nll=1"),
    ],
    ids=str,
)
def test_the_remedy_is_one_that_the_objective_has(objective: Objective, losses: tuple[str, ...], told: str) -> None:
    rows = [{**{f"loss/{name}": LN2 for name in losses}, **FALLEN}] * 12
    ((text,),) = [texts for texts in looks(rows, objective) if texts]
    assert text.endswith(f"try {told}")


def test_rankings_and_labels_have_their_own_names() -> None:
    rows = {"best_logratio": -2.0, "worst_logratio": 0.5, "best_length": 9.0}
    assert "best fell 2.0 nats against the reference, worst rose 0.5" in looks([rows] * 10)[9][0]
    assert "desirable fell 2.0" in looks([{"desirable_logratio": -2.0, "desirable_length": 9.0}] * 10)[9][0]


def test_a_fall_that_no_token_feels_is_no_news() -> None:
    """Below one nat; or a nat and a half over 300 tokens, 0.5% of each one's probability; or rising."""
    assert looks([{**FALLEN, "chosen_logratio": -0.99}] * 30) == [[]] * 30
    assert looks([{**FALLEN, "chosen_logratio": -1.5, "chosen_length": 300.0}] * 30) == [[]] * 30
    assert looks([{**FALLEN, "chosen_logratio": 0.1 * s} for s in range(30)]) == [[]] * 30


def test_spent_weights_are_told_where_they_are_the_gradient() -> None:
    rows = [{"gradient_weight": max(0.5 - 0.1 * s, 0.001)} for s in range(80)]
    texts = [t for row in looks([{"loss/dpo": 0.1, **row} for row in rows]) for t in row if "ln 2" not in t]
    assert len(texts) == 1
    assert "nothing left to teach" in texts[0]
    assert looks([{"loss/ipo": 0.1, **row} for row in rows], IPO()) == [[]] * 80


@pytest.mark.parametrize("last", [100.0, 10.0])
def test_drafts_that_grow_or_shrink_are_told(last: float) -> None:
    said = looks([{"draft_length": 40.0}] * 12 + [{"draft_length": last}] * 40)
    texts = [t for row in said for t in row]
    assert len(texts) == 1
    assert "from 40 to" in texts[0]
    assert said[:12] == [[]] * 12


def test_drafts_of_steady_length_are_no_news() -> None:
    assert looks([{"draft_length": 40.0 + s % 7} for s in range(60)]) == [[]] * 60


def test_the_state_goes_through_json_and_carries_on() -> None:
    rows = [{**FALLEN, "draft_length": 10.0 + 2 * s} for s in range(30)]
    whole = looks(rows)
    first = Diagnostics({})
    head = [first.check(s, rows[s], DPO()) for s in range(7)]
    second = Diagnostics(json.loads(json.dumps(first.state)))
    assert head + [second.check(s, rows[s], DPO()) for s in range(7, 30)] == whole
    assert sum(map(len, whole)) == 2
