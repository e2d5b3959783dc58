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


FIRST = "the first DPO loss is {:.4f}, not ln 2 = 0.6931: the policy does not start at its reference"


@pytest.mark.parametrize(("off", "told"), [(9e-4, False), (-9e-4, False), (1.1e-3, True), (-1.1e-3, True)])
def test_a_first_loss_is_ln_2_within_a_thousandth(off: float, told: bool) -> None:
    want = [FIRST.format(math.log(2) + off)] if told else []
    assert looks([{"loss/dpo": math.log(2) + off}]) == [want]
    assert looks([{"loss/sft": 9.0}, {"loss/dpo": 9.0}]) == [[], []]  # of the first step alone


def test_a_fall_is_that_of_the_running_mean_from_the_tenth_look_on() -> None:
    """Nine tenths of the mean so far: after a row of zeros −9.9 makes −0.99, which is nothing, and −10.1 makes −1.01;
    two of −6 make −0.6 and then −1.14."""

    def fallen(*values: float, zeros: int = 9) -> list[list[str]]:
        rows = [{"chosen_logratio": v, "chosen_length": 9.0} for v in (*[0.0] * zeros, *values)]
        return looks(rows)[zeros:]

    text = (
        "step {}: chosen fell {} nats against the reference: see docs/likelihood-displacement.md; try objective.nll=1"
    )
    assert fallen(-9.9) == [[]]
    assert fallen(-10.1) == [[text.format(9, "1.0")]]
    assert fallen(-6.0, -6.0) == [[], [text.format(10, "1.1")]]
    assert fallen(-99.0, zeros=8) == [[]]  # the ninth look


@pytest.mark.parametrize(("mean", "told"), [(-1.99, False), (-2.01, True)])
def test_a_long_answer_may_lose_a_hundredth_of_a_nat_a_token(mean: float, told: bool) -> None:
    said = looks([{"chosen_logratio": mean, "chosen_length": 200.0}] * 10)
    assert [bool(texts) for texts in said] == [False] * 9 + [told]


def test_what_else_fell_or_rose_is_its_running_mean_too() -> None:
    rows = [{**FALLEN, "rejected_logratio": 0.0}] * 9 + [{**FALLEN, "rejected_logratio": 5.0}]
    assert "chosen fell 3.1 nats against the reference, rejected rose 0.5: see" in looks(rows)[9][0]
    assert ", rejected fell 0.0: see" in looks([{**FALLEN, "rejected_logratio": 0.0}] * 10)[9][0]


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
    assert "almost no gradient any more" in texts[0]
    assert looks([{"loss/ipo": 0.1, **row} for row in rows], IPO()) == [[]] * 80


@pytest.mark.parametrize(("weight", "told"), [(0.011, False), (0.009, True)])
def test_weights_are_spent_below_a_hundredth(weight: float, told: bool) -> None:
    said = looks([{"gradient_weight": weight}] * 12)
    text = (
        f"step 9: the mean gradient weight has fallen from 0.5 to {weight:.2g}: the preferences give almost no "
        "gradient any more; stop here, or continue with a lower objective.beta"
    )
    assert said == [[]] * 9 + [[text] if told else []] + [[]] * 2


@pytest.mark.parametrize(
    ("first", "last", "told"),
    [(40.0, 59.0, None), (40.0, 61.0, "40 to 60"), (60.0, 41.0, None), (60.0, 39.0, "60 to 40"),
     (0.0, 1.4, None), (0.0, 2.0, "0 to 2")],
)  # fmt: skip
def test_lengths_drift_by_half(first: float, last: float, told: str | None) -> None:
    """Against the first step's drafts, or one token where they were shorter."""
    said = looks([{"draft_length": first}, *[{"draft_length": last}] * 200])
    texts = [text.partition(": ")[2] for row in said for text in row]
    assert texts == ([] if told is None else [f"the length of samples went from {told} tokens"])


def test_lengths_are_looked_at_from_the_tenth_step_on() -> None:
    said = looks([{"draft_length": 10.0}, *[{"draft_length": 99.0}] * 12])
    assert [step for step, texts in enumerate(said) if texts] == [9]


def test_several_faults_are_told_together_and_remembered_by_name() -> None:
    watch = Diagnostics({})
    row = {**FALLEN, "gradient_weight": 0.001, "draft_length": 9.0}
    said = [watch.check(s, {**row, "draft_length": 90.0 if s else 9.0, "loss/dpo": 0.1}, DPO_RUN) for s in range(12)]
    assert [len(texts) for texts in said] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0]
    assert watch.state["said"] == ["first loss", "chosen falls", "weights spent", "length drifts"]


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
