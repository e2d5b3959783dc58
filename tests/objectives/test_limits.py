"""Settings of objectives at the ends of what they may be, and traits that say what a run must bring."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch

from support.scenes import VARIANTS, painted, preferences
from twofold.batch import Batch
from twofold.objectives import (
    AOT,
    BCO,
    CPO,
    DFT,
    DPO,
    DPOP,
    EAFT,
    EXO,
    FDPO,
    GRPO,
    IPO,
    KTO,
    LDDPO,
    LNDPO,
    NCA,
    NCAK,
    ORPO,
    PPO,
    RLOO,
    RPO,
    RSO,
    SFT,
    SPPO,
    TPO,
    WPO,
    AlphaPO,
    AnyObjective,
    BetaDPO,
    BradleyTerry,
    CalDPO,
    DiscoPOP,
    DPOShift,
    InfoNCA,
    OnPairs,
    PDPOGenerator,
    PlackettLuce,
    ProcessReward,
    Reinforce,
    RewardPlackettLuce,
    RobustDPO,
    SimPO,
    SLiC,
    Unlikelihood,
)
from twofold.objectives.base import Domain, Objective
from twofold.objectives.checks import heard, leaf, total

HALF_OPEN = ([0.0, 0.49], [-0.01, 0.5, 0.6])
POSITIVE = ([1e-9, 0.5, 2.0], [0.0, -0.5])
NOT_NEGATIVE = ([0.0, 0.5, 2.0], [-0.01])
OPEN = ([0.01, 0.99], [0.0, 1.0, -0.5, 1.5])
RANGES: list[tuple[type, str, list[Any], list[Any]]] = [
    *((m, "beta", *POSITIVE) for m in (DPO, DPOP, CPO, NCA, InfoNCA, KTO, BCO, PDPOGenerator, SimPO, AlphaPO, TPO)),
    (DPO, "label_smoothing", *HALF_OPEN),
    (DPO, "nll", *NOT_NEGATIVE),
    (AOT, "label_smoothing", *HALF_OPEN),
    (RobustDPO, "epsilon", *HALF_OPEN),
    (RSO, "gamma", *POSITIVE),
    (IPO, "tau", *POSITIVE),
    (IPO, "nll", *NOT_NEGATIVE),
    (FDPO, "alpha", *OPEN),
    (LDDPO, "alpha", [0.0, 0.5, 1.0], [-0.01, 1.01]),
    (DPOShift, "f", [0.01, 1.0], [0.0, 1.01]),
    (DPOP, "lam", *NOT_NEGATIVE),
    (CalDPO, "coefficient", *NOT_NEGATIVE),
    (RPO, "eta", *NOT_NEGATIVE),
    (EXO, "epsilon", [1e-6, 0.49], [0.0, 0.5]),
    (SPPO, "eta", *POSITIVE),
    (SPPO, "probability", [0.5, 1.0, "data"], [0.49, 1.01]),
    (DiscoPOP, "tau", [0.01, 1.0], [0.0, 1.01]),
    (SLiC, "delta", *POSITIVE),
    (SLiC, "lam", *NOT_NEGATIVE),
    (SimPO, "gamma", *NOT_NEGATIVE),
    (AlphaPO, "gamma", *NOT_NEGATIVE),
    (ORPO, "lam", *POSITIVE),
    (CPO, "nll", *NOT_NEGATIVE),
    (Unlikelihood, "alpha", *POSITIVE),
    (Unlikelihood, "floor", *OPEN),
    (TPO, "nll", *POSITIVE),
    (TPO, "gamma", *NOT_NEGATIVE),
    (InfoNCA, "alpha", *NOT_NEGATIVE),
    (NCAK, "alpha", *NOT_NEGATIVE),
    (KTO, "desirable_weight", *POSITIVE),
    (KTO, "undesirable_weight", *POSITIVE),
    (BCO, "shift_decay", [0.0, 0.99], [-0.01, 1.0]),
    (BradleyTerry, "centring", *NOT_NEGATIVE),
    (PPO, "clip", *OPEN),
    (PPO, "entropy", *NOT_NEGATIVE),
    (GRPO, "clip", *OPEN),
    (GRPO, "beta", *NOT_NEGATIVE),
    (GRPO, "clip_high", [None, 0.2, 0.5], [0.19]),
    (RLOO, "clip", [None, *OPEN[0]], OPEN[1]),
    (PDPOGenerator, "clip", [None, *OPEN[0]], OPEN[1]),
    (PDPOGenerator, "kl", *NOT_NEGATIVE),
]  # fmt: skip


@pytest.mark.parametrize(("make", "name", "inside", "outside"), RANGES, ids=lambda x: getattr(x, "__name__", str(x)))
def test_a_setting_ends_where_it_says(make: Any, name: str, inside: list[Any], outside: list[Any]) -> None:
    assert [getattr(make(**{name: x}), name) for x in inside] == inside
    for x in outside:
        with pytest.raises(ValueError, match=name):
            make(**{name: x})


@pytest.mark.parametrize("make", [PPO, GRPO])
def test_a_length_goes_with_the_average_that_divides_by_it(make: Any) -> None:
    assert make(average="constant", length=8).length == 8
    for wrong in ({"average": "constant"}, {"length": 8}, {"average": "completion", "length": 8}):
        with pytest.raises(ValueError, match="length goes with average constant"):
            make(**wrong)


GENERATORS: list[tuple[dict[str, Any], str]] = [
    ({"baseline": "leave_one_out"}, ""),
    ({"baseline": "leave_one_out", "form": "unhinged"}, "leave_one_out leaves nothing"),
    ({"baseline": "leave_one_out", "form": "unhinged", "gate": "judge"}, ""),
    ({"baseline": "leave_one_out", "form": "unhinged", "per_token": True}, ""),
    ({"form": "unhinged"}, ""),
    ({"gradient_to": "truth"}, ""),
    ({"gradient_to": "truth", "clip": 0.2}, "moves no draft"),
    ({"gradient_to": "truth", "direction": "down"}, "moves no draft"),
    ({"gradient_to": "truth", "baseline": "leave_one_out"}, "moves no draft"),
    ({"gradient_to": "both", "clip": 0.2, "direction": "down", "baseline": "leave_one_out"}, ""),
    ({"gradient_to": "both", "form": "square"}, "pushes the ground truth down too"),
    ({"gradient_to": "truth", "form": "square"}, "pushes the ground truth down too"),
    ({"form": "square"}, ""),
]


@pytest.mark.parametrize(("settings", "refusal"), GENERATORS, ids=str)
def test_options_of_a_generator_that_go_together(settings: dict[str, Any], refusal: str) -> None:
    if refusal:
        with pytest.raises(ValueError, match=refusal):
            PDPOGenerator(**settings)
    else:
        assert PDPOGenerator(**settings).beta == 0.1


OBJECTIVES = [o for member in get_args(AnyObjective) for o in VARIANTS[member]]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_the_columns_that_it_requires_are_those_that_it_reads(objective: Objective) -> None:
    """With them alone it says the same; without any one of them it says nothing."""
    groups, logps = painted(objective, 4, torch.Generator().manual_seed(0))
    said = heard(objective, leaf(logps))

    def cost(columns: tuple[str, ...]) -> float:
        batch = Batch.of([g.only_columns(columns) for g in groups])
        return total(objective(said, batch), batch).item()

    names = groups[0].branches[0].names
    if objective.reads == "scores":
        names -= {"level"}  # ties are read where there are any
        assert objective.requires == (("margin",) if "data" in repr(objective) else ())
        return
    assert cost(objective.requires) == pytest.approx(cost(tuple(names)), rel=1e-12)
    for column in objective.requires:
        with pytest.raises(KeyError, match=column):
            cost(tuple(names - {column}))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_everything_is_made_where_the_batch_is(objective: Objective) -> None:
    """On a batch that lies elsewhere than tensors do by default: whatever is made without a device does not fit."""
    groups, logps = painted(objective, 4, torch.Generator().manual_seed(0))
    batch, said = Batch.of(groups), heard(objective, leaf(logps))
    want = total(objective(said, batch), batch).item()
    with torch.device("meta"):
        loss = objective(said, batch)
    told = [*loss.terms.values(), *loss.metrics.values()]
    assert {term.value.device.type for term in told} == {"cpu"}
    assert total(loss, batch).item() == want


def test_what_learns_from_what() -> None:
    kinds = {member: member().data_kind for member in get_args(AnyObjective)}
    assert {m for m, kind in kinds.items() if kind == "pairs"} >= {*get_args(OnPairs)}
    assert {m for m, kind in kinds.items() if kind == "prompts"} == {PPO, GRPO, RLOO, Reinforce}
    assert {m for m, kind in kinds.items() if kind == "labels"} == {KTO, BCO}
    assert {m for m, kind in kinds.items() if kind == "triples"} == {TPO}
    assert {m for m, kind in kinds.items() if kind == "steps"} == {ProcessReward}
    assert {m for m, kind in kinds.items() if kind == "demonstrations"} == {SFT, DFT, EAFT}
    ranked = {PlackettLuce, InfoNCA, NCAK, BradleyTerry, RewardPlackettLuce}
    assert {m for m, kind in kinds.items() if kind == "rankings"} == ranked
    members = get_args(AnyObjective)
    assert {m for m in members if m().reads == "scores"} == {BradleyTerry, RewardPlackettLuce}
    assert {m for m in members if m().reads == "values"} == {ProcessReward}
    assert {m for m in members if m().couples} == {AOT}
    assert {m for m in members if m().token_advantages} == {PPO}
    assert {m for m in members if m().statistics} == {WPO, EAFT}
    fixed = {BCO: ("shift_decay",), BetaDPO: ("beta", "alpha", "momentum", "least")}
    assert {m: m().constant for m in members if m().constant} == fixed
    told = [WPO(alignment=a).statistics for a in ("sampled", "greedy", "none")]  # type: ignore[arg-type]  # by name
    assert told == [("log_collision",), ("log_greedy",), ()]
    assert PPO(entropy=0.01).statistics == ("entropy",)


def test_where_each_is_finite() -> None:
    """In float32, whose largest number is e^88.7: 80 nats leave room for a sum over a batch."""
    places = {member: member().domain for member in get_args(AnyObjective) if member().domain != Domain()}
    assert places == {
        FDPO: Domain(logratio=80.0),
        GRPO: Domain(logratio=80.0),
        ORPO: Domain(certain=False),
        AlphaPO: Domain(token=320.0),
    }
    everywhere = [AlphaPO(alpha=0.0), AlphaPO(alpha=-0.5), GRPO(beta=0.0), GRPO(estimator="k2"), GRPO(estimator="k1")]
    assert [o.domain for o in everywhere] == [Domain()] * 5
    assert AlphaPO(alpha=2.0).domain == Domain(token=40.0)


@pytest.mark.parametrize(
    "objective", [DPO(beta=0.7), LDDPO(beta=0.7), LNDPO(beta=0.7), RPO(beta=0.7, eta=0.0)], ids=str
)
def test_gradients_that_are_the_margins_by_the_weight_that_is_told(objective: Objective) -> None:
    """By central differences of the metric `margin` in each token."""
    assert objective.margin_weighted
    groups, logps = preferences(1, torch.Generator().manual_seed(4))
    batch, said = Batch.of(groups), leaf(logps)
    loss = objective(heard(objective, said), batch)
    (found,) = torch.autograd.grad(total(loss, batch), said)
    slopes = []
    for i in range(len(said)):
        step = torch.zeros_like(said)
        step[i] = 1e-6
        up, down = (
            objective(heard(objective, said.detach() + s), batch).metrics["margin"].value for s in (step, -step)
        )
        slopes.append(((up - down) / 2e-6).item())
    weight = loss.metrics["gradient_weight"].value.item()
    assert found.tolist() == pytest.approx([-weight * s for s in slopes], abs=1e-8)


def test_who_is_pushed_by_the_margin_alone() -> None:
    members = get_args(AnyObjective)
    assert {m for m in members if m().margin_weighted} == {DPO, LDDPO, LNDPO, RPO, PlackettLuce}


def test_a_likelihood_beside_is_a_term_only_where_it_weighs() -> None:
    groups, logps = preferences(3, torch.Generator().manual_seed(0))
    batch, said = Batch.of(groups), heard(DPO(), leaf(logps))
    for objective, name in ((DPO(), "nll"), (IPO(), "nll"), (CPO(), "nll"), (RPO(), "eta"), (SLiC(), "lam")):
        with_it, without = (replace(objective, **{name: w})(said, batch).terms for w in (0.25, 0.0))  # type: ignore[arg-type]  # by name
        assert (with_it["nll"].weight, "nll" in without, len(without)) == (0.25, False, 1)
