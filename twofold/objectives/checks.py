"""Checks of properties that every objective has, as functions that raise AssertionError on a failure. twofold's tests
run them on each objective; `check_objective` runs them on yours.

A *scene* is a list of groups with all columns that the objective requires, and the model's outputs: per group and
branch the log-probabilities [n], or for an objective that reads scores the score [1], in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import TypeAlias

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from twofold.batch import STEP_LABEL, UNITS, Batch, Branch, DataKind, Group, Outputs, Role
from twofold.objectives.base import Loss, Objective, PlainObjective, as_objective

Scene: TypeAlias = tuple[list[Group], list[list[Tensor]]]
Painter: TypeAlias = Callable[[int, torch.Generator], Scene]
"""Makes a scene with this number of groups from a random generator."""


def check_objective(objective: PlainObjective, paint: Painter | None = None, *, constant: bool = False) -> None:
    """Run every check of this module on `objective`, with random scenes of its data kind.

    Pass `paint` if it requires more than `ref_logp`. Pass `constant` if it treats values of the policy as constants, so
    that its gradient intentionally differs from that of its loss. Raises AssertionError if a check fails.
    """
    mine = as_objective(objective)
    painter = paint or partial(random_scene, mine.data_kind)
    for seed in range(3):
        noise = torch.Generator().manual_seed(seed)
        scene = painter(5, noise)
        has_one_entry_per_unit(mine, scene)
        if not mine.couples:
            splits_into_micro_batches(mine, scene, [0, 1, 0, 2, 1])
            keeps_groups_apart(mine, scene)
        follows_permutations(mine, scene, [3, 0, 4, 1, 2])
        widens_bfloat16(mine, scene)
        uses_what_it_requires(mine, scene)
        if not constant:
            has_the_gradient_of_its_loss(mine, scene)
    for size in (0.0, 1e-30, 1e4):
        is_finite_at_extremes(mine, painter(6, torch.Generator().manual_seed(2)), size, torch.float32)


def splits_into_micro_batches(objective: Objective, scene: Scene, bins: Sequence[int]) -> None:
    """The gradient does not depend on how groups are packed into `bins`, averaged by the counts of the whole round."""
    expected, batch, at = gradient(objective, scene), Batch.of(scene[0]), offsets(scene)
    for part in ([i for i, b in enumerate(bins) if b == chosen] for chosen in sorted(set(bins))):
        found = gradient(objective, pick(scene, part), batch)
        _same(found, torch.cat([expected[at[i]] for i in part]))


def follows_permutations(objective: Objective, scene: Scene, order: Sequence[int]) -> None:
    """The order of groups does not change their gradients."""
    expected, at = gradient(objective, scene), offsets(scene)
    found = gradient(objective, pick(scene, order))
    _same(found, torch.cat([expected[at[i]] for i in order]))


def keeps_groups_apart(objective: Objective, scene: Scene) -> None:
    """A group's values do not depend on the other groups of the batch, and only its own tokens change them."""
    said, batch = leaf(scene[1]), Batch.of(scene[0])
    for name, term in objective(heard(objective, said), batch).terms.items():
        at = 0
        for i, tokens in enumerate(offsets(scene)):
            alone = pick(scene, [i])
            own = objective(heard(objective, leaf(alone[1])), Batch.of(alone[0])).terms[name].value
            mine = term.value[at : at + len(own)]
            _same(mine, own)
            (grad,) = torch.autograd.grad(mine.sum(), said, retain_graph=True)
            elsewhere = torch.ones_like(grad, dtype=torch.bool)
            elsewhere[tokens] = False
            assert not grad[elsewhere].any(), f"{name}: {scene[0][i].name} moves other groups' tokens"
            at += len(own)
        assert at == len(term.value), f"{name}: {len(term.value)} values, but {at} from separate groups"


def has_one_entry_per_unit(objective: Objective, scene: Scene) -> None:
    """Terms and metrics have an entry per unit of the batch; terms have a gradient, metrics exist and have none."""
    batch = Batch.of(scene[0])
    loss = objective(heard(objective, leaf(scene[1])), batch)
    assert loss.metrics, "no metrics: nobody could watch it"
    for name, term in (*loss.terms.items(), *loss.metrics.items()):
        assert term.unit.partition(":")[0] in UNITS, f"{name}: unknown unit {term.unit!r}"
        shape = tuple(term.value.shape)
        assert shape == (batch.count(term.unit),), f"{name}: {shape} for {batch.count(term.unit)} of {term.unit}"
    assert all(t.value.requires_grad for t in loss.terms.values()), "a term has no gradient"
    assert not any(t.value.requires_grad for t in loss.metrics.values()), "a metric has a gradient: detach it"


def has_the_gradient_of_its_loss(objective: Objective, scene: Scene) -> None:
    """Autograd's gradient equals that of finite differences, and it is not 0."""
    batch = Batch.of(scene[0])
    assert gradient(objective, scene).abs().max() > 1e-4, "no gradient to speak of"

    def value(said: Tensor) -> Tensor:
        return total(objective(heard(objective, said), batch), batch)

    try:
        torch.autograd.gradcheck(value, (leaf(scene[1]),))
    except GradcheckError as error:
        raise AssertionError(str(error)) from None


def widens_bfloat16(objective: Objective, scene: Scene) -> None:
    """bfloat16 log-probabilities give float32 values that match float64 to float32 precision."""
    said, batch = leaf(scene[1], torch.bfloat16), Batch.of(scene[0])
    loss = objective(heard(objective, said), batch)
    wide = objective(heard(objective, said.detach().double()), batch)
    for name, term in loss.terms.items():
        assert term.value.dtype == torch.float32, f"{name} is {term.value.dtype}"
        torch.testing.assert_close(term.value.double(), wide.terms[name].value, rtol=1e-5, atol=1e-5)
    (grad,) = torch.autograd.grad(total(loss, batch), said)
    assert torch.isfinite(grad).all(), "a gradient is not finite"


def is_finite_at_extremes(objective: Objective, scene: Scene, size: float, dtype: torch.dtype) -> None:
    """Tokens of probability 1 and tokens of −`size` nats, alternating between policy and reference, within the
    objective's domain."""
    domain = objective.domain
    high = torch.full((1,), 0.0 if domain.certain else -1e-30, dtype=torch.float64)
    low = torch.full((1,), -min(size, domain.logratio / 5, domain.token), dtype=torch.float64).minimum(high)
    for turn in (0, 1):
        made: list[Group] = []
        said: list[list[Tensor]] = []
        for i, (g, row) in enumerate(zip(*scene, strict=True)):
            mine, theirs = (low, high) if i % 2 == turn else (high, low)
            made.append(g.with_columns([{"ref_logp": theirs.expand(len(b.tokens)).clone()} for b in g.branches]))
            said.append([mine.expand(len(x)).clone() for x in row])
        batch, out = Batch.of(made), leaf(said, dtype)
        loss = objective(heard(objective, out), batch)
        whole = total(loss, batch)
        (grad,) = torch.autograd.grad(whole, out)
        assert torch.isfinite(whole), f"the loss is {whole.item()}"
        assert torch.isfinite(grad).all(), "a gradient is not finite"
        assert all(torch.isfinite(t.value).all() for t in loss.metrics.values()), "a metric is not finite"


def uses_what_it_requires(objective: Objective, scene: Scene) -> None:
    """A change of a required column changes the loss: every required column is used."""
    groups, logps = scene
    batch = Batch.of(groups)
    before = total(objective(heard(objective, leaf(logps)), batch), batch).item()
    for column in objective.requires:
        moved: list[Group] = []
        for g in groups:
            shifted = [
                {column: b.token_columns[column] * 1.5 if column in b.token_columns else b.columns[column] * 1.5 + 0.5}
                for b in g.branches
            ]
            moved.append(g.with_columns(shifted))
        after = total(objective(heard(objective, leaf(logps)), Batch.of(moved)), Batch.of(moved)).item()
        assert abs(after - before) > 1e-6, f"the column {column!r} is required and moves nothing"


def random_scene(learnt: DataKind, count: int, noise: torch.Generator) -> Scene:
    """Groups of an objective's data kind, with one to five tokens per branch and the reference model's column."""
    groups: list[Group] = []
    logps: list[list[Tensor]] = []
    for i in range(count):
        roles = _roles(learnt, noise)
        sizes = [int(torch.randint(1, 6, (), generator=noise)) for _ in roles]
        said = [[-3 * torch.rand(n, generator=noise, dtype=torch.float64) for _ in range(2)] for n in sizes]
        labels = [{STEP_LABEL: torch.randint(0, 2, (n,), generator=noise).double()} for n in sizes]
        branches = (
            Branch(torch.zeros(n, dtype=torch.int64), role, {"ref_logp": ref} | (rated if learnt == "steps" else {}))
            for n, role, (ref, _), rated in zip(sizes, roles, said, labels, strict=True)
        )
        groups.append(Group(f"row {i}", torch.zeros(1, dtype=torch.int64), tuple(branches)))
        logps.append([logp for _, logp in said])
    return groups, logps


def _roles(learnt: DataKind, noise: torch.Generator) -> list[Role]:
    """The branches of one group; two to five for a ranking."""

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=noise))

    match learnt:
        case "pairs":
            return [Role.CHOSEN, Role.REJECTED]
        case "triples":
            return [Role.CHOSEN, Role.REJECTED, Role.DEMONSTRATION]
        case "rankings":
            return [Role.RANKED] * draw(2, 6)
        case "labels":
            return [Role.DESIRABLE if draw(0, 2) else Role.UNDESIRABLE]
        case "steps":
            return [Role.STEPS]
        case _:
            return [Role.DEMONSTRATION]


def leaf(said: Sequence[Sequence[Tensor]], dtype: torch.dtype = torch.float64) -> Tensor:
    """The outputs of a scene as tensors that require a gradient."""
    return torch.cat([x for row in said for x in row]).to(dtype).requires_grad_()


def heard(objective: Objective, said: Tensor) -> Outputs:
    """The outputs that `objective` reads, made from one leaf tensor: log-probabilities or values [S], or scores [B].
    Each statistic of a token is half its log-probability, without a sign where it is an entropy (an arbitrary choice).
    Only `entropy` has a gradient."""
    if objective.reads != "logps":
        return Outputs(score_B=said) if objective.reads == "scores" else Outputs(value_S=said)
    half = said.detach() / 2
    known = {"log_collision": half, "log_greedy": half, "top_entropy": -half, "entropy": -said / 2}
    return Outputs(said, statistics=known)


def total(loss: Loss, whole: Batch) -> Tensor:
    """The value that the step minimizes: the weighted sum of each term's sum divided by the count of its unit in the
    whole round."""
    return torch.stack([t.value.sum() * (t.weight / whole.count(t.unit)) for t in loss.terms.values()]).sum()


def gradient(
    objective: Objective, scene: Scene, whole: Batch | None = None, dtype: torch.dtype = torch.float64
) -> Tensor:
    """d total / d log π [S], or d score [B]; `whole` is the round whose counts average."""
    said, batch = leaf(scene[1], dtype), Batch.of(scene[0])
    (grad,) = torch.autograd.grad(total(objective(heard(objective, said), batch), whole or batch), said)
    return grad


def _same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-15)


def pick(scene: Scene, indices: Sequence[int]) -> Scene:
    """A scene of only these groups."""
    return [scene[0][i] for i in indices], [scene[1][i] for i in indices]


def offsets(scene: Scene) -> list[slice]:
    """The positions of each group's tokens."""
    ends = [0, *accumulate(sum(len(x) for x in row) for row in scene[1])]
    return [slice(a, b) for a, b in pairwise(ends)]
