"""One step: counts first, so that neither packing nor accumulation changes a gradient; nothing non-finite passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from support import tiny
from twofold.batch import Batch, Group, Outputs, Role
from twofold.errors import NonFiniteError, RecipeError, TwofoldError
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import live_reference, with_reference
from twofold.objectives import AOT, DPO, SFT, WPO
from twofold.objectives.base import Loss, Objective, Term, as_objective
from twofold.training.column_providers import providers
from twofold.training.optim import AdamW, make_optimizer
from twofold.training.step import Part, Round, Step
from twofold.training.trainable import POLICY, Trainable

PACKINGS = {
    "1×8": Packing(groups=8), "2×4": Packing(groups=4), "8×1": Packing(groups=1),
    "17 tokens": Packing(tokens=17), "40 tokens": Packing(tokens=40),
}  # fmt: skip


def stepper(policy: Policy, *, packing: Packing | None = None, rate: float = 1e-3, clip: float | None = None) -> Step:
    packing = packing or Packing()
    optimizer = make_optimizer(AdamW(learning_rate=rate), policy.trainable())
    columns = providers(policy, live_reference(policy), packing)
    return Step([Trainable(POLICY, policy, optimizer)], providers=columns, packing=packing, clip=clip)


def rounds(step: int) -> Round:
    """Eight pairs and four demonstrations, whose tokens count by themselves; other lengths in every step."""
    shown = tiny.groups(*[(2 + (step + i) % 5, 1 + (3 * step + 2 * i) % 7) for i in range(4)], seed=step + 50)
    return Round(step, [Part(tiny.pairs(8, seed=step), DPO(beta=0.5)), Part(shown, SFT(), 0.3)])


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Largest difference of any entry, relative to the largest entry of its tensor."""
    assert a.keys() == b.keys()
    return max(((a[n] - b[n]).abs().max() / b[n].abs().max().clamp(min=1e-12)).item() for n in b)


@pytest.mark.parametrize("make", [tiny.policy, tiny.lora_policy], ids=["full", "lora"])
def test_no_packing_changes_a_gradient(make: Callable[..., Policy]) -> None:
    found = []
    for packing in PACKINGS.values():
        policy = make()
        with torch.no_grad():
            before = live_reference(policy)
            for p in policy.trainable().values():
                p.add_(0.05)
        optimizer = torch.optim.SGD(policy.trainable().values(), lr=0.0)
        metrics = Step(
            [Trainable(POLICY, policy, optimizer)],
            providers=providers(policy, before, packing),
            packing=packing,
            clip=None,
        )(rounds(0))
        found.append((metrics, tiny.gradients(policy)))
    assert sum(g.norm().item() for g in found[0][1].values()) > 0.1
    for metrics, gradient in found[1:]:
        assert distance(gradient, found[0][1]) <= 1e-11
        assert metrics == pytest.approx(found[0][0], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("alignment", ["sampled", "greedy"])
def test_an_objective_gets_the_statistics_that_it_asks_for(alignment: Any) -> None:
    """To a policy that finds all tokens alike each is as likely as its own samples: every weight is 1, DPO's."""
    policy = tiny.policy()
    groups = tiny.pairs(4, seed=0)
    plain = stepper(policy).measure([Part(groups, DPO())])
    with torch.no_grad():
        policy.model.get_output_embeddings().weight.mul_(1e-9)
    metrics = stepper(policy).measure([Part(groups, WPO(alignment=alignment))])
    assert metrics["pair_weight"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["loss"] == pytest.approx(plain["loss"], abs=1e-6)


@pytest.mark.parametrize("form", ["paired", "unpaired"])
def test_no_packing_changes_an_objective_that_sorts_the_step(form: Any) -> None:
    """And what is only measured is sorted as a whole too."""
    found = []
    for packing in PACKINGS.values():
        policy = tiny.policy()
        before = live_reference(policy)
        with torch.no_grad():
            for p in policy.trainable().values():
                p.add_(0.05)
        optimizer = torch.optim.SGD(policy.trainable().values(), lr=0.0)
        step = Step(
            [Trainable(POLICY, policy, optimizer)],
            providers=providers(policy, before, packing),
            packing=packing,
            clip=None,
        )
        part = Part(tiny.pairs(8, seed=0), AOT(beta=0.5, form=form), 0.7)
        measured = step.measure([part])
        metrics = step(Round(0, [part]))
        assert measured == pytest.approx({k: v for k, v in metrics.items() if k != "grad_norm"}, rel=1e-12)
        found.append((metrics, tiny.gradients(policy)))
    assert found[0][0]["grad_norm"] > 0.01
    for metrics, gradient in found[1:]:
        assert distance(gradient, found[0][1]) <= 1e-11
        assert metrics == pytest.approx(found[0][0], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    "dtype", [torch.float64, pytest.param(torch.float32, marks=pytest.mark.slow)], ids=["float64", "float32"]
)
def test_every_packing_gives_one_trajectory_over_20_steps(dtype: torch.dtype) -> None:
    losses, ends = [], []
    for name in ("1×8", "2×4", "8×1", "40 tokens"):
        packing, policy = PACKINGS[name], tiny.policy(dtype=dtype)
        step = stepper(policy, packing=packing, clip=1.0)
        losses.append([step(rounds(s))["loss"] for s in range(20)])
        ends.append(tiny.weights(policy))
    assert abs(losses[0][-1] - losses[0][0]) > 0.01
    for trajectory, end in zip(losses[1:], ends[1:], strict=True):
        assert trajectory == pytest.approx(losses[0], abs=1e-10 if dtype == torch.float64 else 1e-5)
        if dtype == torch.float64:
            assert max((end[n] - ends[0][n]).abs().max().item() for n in end) <= 1e-10


def test_the_gradient_is_that_of_the_loss_written_out() -> None:
    """(1/8) Σ over pairs of −log σ(margin) + 0.3 · (1/tokens) Σ over tokens of −log π, from unpacked rows."""
    policy = tiny.policy()
    reference = live_reference(policy)
    with torch.no_grad():
        for p in policy.trainable().values():
            p.add_(0.05)
    made = rounds(0)
    packing = Packing(groups=3)
    optimizer = torch.optim.SGD(policy.trainable().values(), lr=0.0)
    metrics = Step(
        [Trainable(POLICY, policy, optimizer)],
        providers=providers(policy, reference, packing),
        packing=packing,
        clip=None,
    )(made)
    found = tiny.gradients(policy)
    policy.zero_grad()
    pairs, shown = (p.groups for p in made.parts)
    margins = []
    for group, (rc, rr) in zip(pairs, reference.logps(pairs, packing), strict=True):
        logp_S = policy([group])[0].logp_S
        chosen, rejected = logp_S.split([len(rc), len(rr)])
        margins.append(0.5 * ((chosen - rc).sum() - (rejected - rr).sum()))
    nll = -torch.cat([policy([g])[0].logp_S for g in shown])
    d, s = -torch.nn.functional.logsigmoid(torch.stack(margins)).mean(), nll.mean()
    (d + 0.3 * s).backward()
    assert distance(found, tiny.gradients(policy)) <= 1e-10
    assert metrics["loss/dpo"] == pytest.approx(d.item(), rel=1e-12)
    assert metrics["loss/sft"] == pytest.approx(s.item(), rel=1e-12)
    assert metrics["loss"] == pytest.approx(d.item() + 0.3 * s.item(), rel=1e-12)
    assert metrics["margin"] == pytest.approx(torch.stack(margins).mean().item(), rel=1e-12)
    norm = torch.stack([g.norm() for g in found.values()]).norm().item()
    assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-12)


def test_a_parts_weight_scales_its_gradient_and_not_its_metrics() -> None:
    found = {}
    for weight in (1.0, 0.25):
        policy = tiny.policy()
        optimizer = torch.optim.SGD(policy.trainable().values(), lr=0.0)
        step = Step([Trainable(POLICY, policy, optimizer)], providers={}, packing=Packing(), clip=None)
        metrics = step(Round(0, [Part(tiny.groups((3, 4)), SFT(), weight)]))
        found[weight] = (metrics, tiny.gradients(policy))
    assert distance({n: g / 4 for n, g in found[1.0][1].items()}, found[0.25][1]) <= 1e-14
    assert found[1.0][0]["loss"] == pytest.approx(4 * found[0.25][0]["loss"], rel=1e-14)
    assert found[1.0][0]["loss/sft"] == found[0.25][0]["loss/sft"]


def test_an_empty_part_is_skipped_and_counted() -> None:
    with_empty, without = tiny.policy(), tiny.policy()
    part = Part(tiny.pairs(3), DPO())
    metrics = stepper(with_empty)(Round(0, [part, Part([], SFT(), 0.1)], {"kept": 0.0}))
    plain = stepper(without)(Round(0, [part]))
    assert metrics == {**plain, "skipped": 1.0, "kept": 0.0}
    assert all(
        torch.equal(p, q)
        for p, q in zip(tiny.weights(with_empty).values(), tiny.weights(without).values(), strict=True)
    )


class OnDrafts(Objective):
    """A term on drafts only: in a round without any, its count is 0."""

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        mine = batch.of_role(Role.DRAFT)
        return Loss(
            {"mine": Term(-batch.sum(outputs.logp_S)[mine], "branch:draft")}, {"n": Term(mine.double(), "branch:draft")}
        )


def test_a_term_whose_count_is_0_is_skipped_and_counted() -> None:
    policy = tiny.policy()
    before = tiny.weights(policy)
    metrics = stepper(policy)(Round(0, [Part(tiny.pairs(2), OnDrafts())]))
    assert metrics == {"grad_norm": 0.0, "skipped": 1.0}
    assert all(torch.equal(before[n], w) for n, w in tiny.weights(policy).items())


def refused(policy: Policy, step: Step, made: Round) -> NonFiniteError:
    before = tiny.weights(policy)
    state = {k: {n: v.clone() for n, v in s.items()} for k, s in step.policy.optimizer.state.items()}
    with pytest.raises(NonFiniteError) as caught:
        step(made)
    after = tiny.weights(policy)
    assert all(torch.equal(before[n].nan_to_num(), w.nan_to_num()) for n, w in after.items())
    for k, s in step.policy.optimizer.state.items():
        assert all(torch.equal(v, state[k][n]) for n, v in s.items())
    return caught.value


def test_a_non_finite_log_probability_stops_the_step_and_names_its_rows() -> None:
    """An embedding that only `row 1` uses is NaN."""
    policy = tiny.policy()
    groups = tiny.groups((3, 4), (3, 4), (3, 4), vocabulary=50)
    marked = replace(groups[1], prompt=torch.tensor([5, 60, 5]))
    step = stepper(policy)
    step(Round(0, [Part(groups, SFT())]))
    with torch.no_grad():
        policy.model.get_input_embeddings().weight[60] = float("nan")
    error = refused(policy, step, Round(1, [Part([groups[0], marked, groups[2]], SFT())]))
    assert error.where == "row 1"
    assert "log-probability" in error.what
    assert error.remedy
    assert isinstance(error, TwofoldError)


class Faulty(Objective):
    """A loss of our making, from the log-probabilities."""

    def __init__(self, value: Callable[[Tensor], Tensor]) -> None:
        self.value = value

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        return Loss({"faulty": Term(self.value(outputs.logp_S), "token")})


def test_a_non_finite_loss_stops_the_step() -> None:
    policy = tiny.policy()
    error = refused(
        policy, stepper(policy), Round(0, [Part(tiny.groups((3, 4), (2, 5)), Faulty(lambda x: x * torch.inf))])
    )
    assert "'faulty'" in error.what
    assert error.where == "row 0, row 1"


def test_a_non_finite_gradient_of_a_finite_loss_stops_the_step() -> None:
    """√0 is finite, its derivative is not."""
    policy = tiny.policy()
    step = stepper(policy)
    step(Round(0, [Part(tiny.groups((3, 4)), SFT())]))
    error = refused(policy, step, Round(1, [Part(tiny.groups((3, 4)), Faulty(lambda x: (x - x).sqrt()))]))
    assert "gradient" in error.what
    assert error.where == "row 0"


def test_many_rows_are_named_by_the_first_four() -> None:
    policy = tiny.policy()
    groups = tiny.groups(*[(3, 2)] * 9)
    error = refused(policy, stepper(policy), Round(0, [Part(groups, Faulty(lambda x: x * torch.nan))]))
    assert error.where == "row 0, row 1, row 2, row 3 and 5 more"


def test_a_column_that_nobody_provides_is_the_recipes_mistake() -> None:
    class Asking(OnDrafts):
        requires = ("ref_logpp",)

    policy = tiny.policy()
    with pytest.raises(RecipeError, match=r"Asking requires the column 'ref_logpp'") as caught:
        stepper(policy)(Round(0, [Part(tiny.pairs(1), Asking())]))
    assert caught.value.where == "row 0"
    assert "ref_logp" in caught.value.remedy


def test_a_column_that_the_data_has_is_not_asked_for_again() -> None:
    def never(groups: Sequence[Group]) -> list[Group]:
        raise AssertionError("asked")

    policy = tiny.policy()
    logps = policy.logps(tiny.pairs(2))
    groups = with_reference(tiny.pairs(2), [[x - 1.0 for x in row] for row in logps])
    optimizer = torch.optim.SGD(policy.trainable().values(), lr=0.0)
    step = Step([Trainable(POLICY, policy, optimizer)], providers={"ref_logp": never}, packing=Packing(), clip=None)
    metrics = step(Round(0, [Part(groups, DPO())]))
    lengths = [[len(b.tokens) for b in g.branches] for g in groups]
    assert metrics["margin"] == pytest.approx(sum(0.1 * (c - r) for c, r in lengths) / 2, abs=1e-9)


def test_an_objective_of_ones_own_is_a_plain_class() -> None:
    class Shortest:
        """Raises what is chosen, by completions."""

        requires: tuple[str, ...] = ()

        def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
            value = -batch.sum(outputs.logp_S)[batch.of_role(Role.CHOSEN)]
            return Loss({"own": Term(value, "branch:chosen")}, {"half": Term(value.detach() / 2, "branch:chosen")})

    policy = tiny.policy()
    step, groups = stepper(policy, rate=1e-2, packing=Packing(groups=2)), tiny.pairs(5)
    seen = [step(Round(s, [Part(groups, as_objective(Shortest()))])) for s in range(10)]
    assert seen[-1]["loss/own"] < 0.8 * seen[0]["loss/own"]
    assert seen[0]["half"] == pytest.approx(seen[0]["loss/own"] / 2, rel=1e-12)


def test_clipping_shortens_the_gradient_to_its_limit_and_reports_it_as_it_was() -> None:
    free, clipped = tiny.policy(), tiny.policy()
    made = Round(0, [Part(tiny.groups((3, 4), (5, 2)), SFT())])
    a = Step(
        [Trainable(POLICY, free, torch.optim.SGD(free.trainable().values(), lr=1.0))],
        providers={},
        packing=Packing(),
        clip=None,
    )(made)
    b = Step(
        [Trainable(POLICY, clipped, torch.optim.SGD(clipped.trainable().values(), lr=1.0))],
        providers={},
        packing=Packing(),
        clip=0.01,
    )(made)
    assert a["grad_norm"] == b["grad_norm"] > 0.1
    norm = torch.stack([g.norm() for g in tiny.gradients(clipped).values()]).norm().item()
    assert norm == pytest.approx(0.01, rel=1e-3)
    start = tiny.weights(tiny.policy())
    moved = torch.stack([(w - start[n]).norm() for n, w in tiny.weights(clipped).items()]).norm().item()
    assert moved == pytest.approx(0.01, rel=1e-3)


def test_measuring_changes_nothing_and_says_what_the_step_would() -> None:
    policy = tiny.policy()
    step, made = stepper(policy, packing=Packing(groups=2)), rounds(3)
    step(rounds(0))
    before = tiny.weights(policy)
    gradients = tiny.gradients(policy)
    state: list[dict[str, Any]] = [{n: v.clone() for n, v in s.items()} for s in step.policy.optimizer.state.values()]
    measured = step.measure(made.parts)
    assert all(torch.equal(before[n], w) for n, w in tiny.weights(policy).items())
    assert all(torch.equal(gradients[n], g) for n, g in tiny.gradients(policy).items())
    for now, then in zip(step.policy.optimizer.state.values(), state, strict=True):
        assert all(torch.equal(now[n], then[n]) for n in then)
    stepped = step(made)
    stepped.pop("grad_norm")
    assert stepped == pytest.approx(measured, rel=1e-12)
    assert measured["loss/dpo"] != pytest.approx(math.log(2), abs=1e-6)


def test_the_first_dpo_step_starts_at_ln_2_and_lowers_the_loss() -> None:
    policy = tiny.policy(dtype=torch.float32)
    step, part = stepper(policy, rate=1e-3, packing=Packing(groups=3)), Part(tiny.pairs(8), DPO())
    losses = [step(Round(s, [part]))["loss/dpo"] for s in range(5)]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < math.log(2) - 0.05


class Lengths(Objective):
    """Tells the spread of the branches' lengths."""

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        length_B = batch.length_B.to(outputs.logp_S.dtype)
        even_B = torch.full_like(length_B, 0.1)
        metrics = {"length": Term(length_B, "branch", spread=True), "even": Term(even_B, "branch", spread=True)}
        return Loss({"mine": Term(batch.sum(-outputs.logp_S), "branch")}, metrics)


def test_a_spread_is_that_of_all_units_however_they_are_packed() -> None:
    groups = tiny.pairs(7)
    lengths = torch.tensor([float(len(b.tokens)) for g in groups for b in g.branches], dtype=torch.float64)
    for packing in PACKINGS.values():
        told = stepper(tiny.policy(), packing=packing).measure([Part(groups, Lengths())])
        assert told["length"] == pytest.approx(lengths.mean().item(), rel=1e-12)
        assert told["length_std"] == pytest.approx(lengths.std(correction=0).item(), rel=1e-12)
        assert told["even_std"] == 0
