"""One optimizer step: counts first, then forward, objective and backward per pack, then one update.

Objectives return unreduced values. Only this module averages them, by counts of units over the whole round. So neither
packing nor accumulation can change a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field

import torch
from torch import Tensor

from twofold.batch import Batch, Group, Outputs, Routing, with_row_columns, with_shared_columns
from twofold.errors import BrokenUpdateError, NonFiniteError, RecipeError
from twofold.models.fsdp import before_backward
from twofold.models.packing import Packing, bins
from twofold.objectives.base import Loss, Objective, logps
from twofold.objectives.row_columns import evaluated, with_both_orders
from twofold.training.trainable import POLICY, Trainable
from twofold.world import is_sharded, whole_tensor, world

BALANCE = "load_balancing"
"""The name of the load-balancing loss of a mixture of experts among the terms."""
REMEDY = "lower the learning rate, or look at these rows"
Provider = Callable[[Sequence[Group]], list[Group]]
_ROUNDING = 1e-12  # of a mean of squares: below it a difference of two means is their rounding


@dataclass(frozen=True)
class Part:
    """Groups under an objective, as one part of a round. Its loss has the factor `weight`.

    `trainable` names the model that it trains. Its terms and metrics are behind its `name`, if it has one."""

    groups: Sequence[Group]
    objective: Objective
    weight: float = 1.0
    trainable: str = POLICY
    name: str = ""

    def named(self, figure: str) -> str:
        return f"{self.name}/{figure}" if self.name else figure


@dataclass(frozen=True)
class Round:
    """The parts of one optimizer step, and figures of how they were made (number of samples, truncated …)."""

    step: int
    parts: Sequence[Part]
    figures: Mapping[str, float] = field(default_factory=dict[str, float])


class Averages:
    """Sums of unreduced values over packs, each divided by the weight of its unit in its part. They are on the device
    until they are read, and then cover the packs of all processes. `skipped` counts losses with nothing to average.
    `moved` names the models that a loss trains."""

    def __init__(self) -> None:
        self.skipped = 0
        self.moved: set[str] = set()
        self._shares: dict[str, Tensor] = {}
        self._squares: set[str] = set()

    def add(self, name: str, value: Tensor, mass: float, weight: float = 1.0) -> None:
        share = value.detach().sum(dtype=torch.float64) * (weight / mass)
        self._shares[name] = self._shares[name] + share if name in self._shares else share

    def note(self, trainable: str, loss: Tensor | None) -> None:
        """Record that `loss` trains a model, if it does."""
        if loss is not None and loss.requires_grad:
            self.moved.add(trainable)

    def add_spread(self, name: str, value: Tensor, mass: float, weight_N: Tensor | None = None) -> None:
        """Like `add`, and also report the standard deviation over all units."""
        self._squares.add(name)
        self.add(name, weighed(value, weight_N), mass)
        self.add(f"{name}_std", weighed(value.detach().double().square(), weight_N), mass)

    def figures(self) -> dict[str, float]:
        """All of them, fetched at once."""
        found: dict[str, float] = {}
        if self._shares:
            found = dict(zip(self._shares, torch.stack(list(self._shares.values())).tolist(), strict=True))
        found, squares = world().summed(found), [name for names in world().gather([*self._squares]) for name in names]
        for name in dict.fromkeys(squares):
            square = found[f"{name}_std"]
            variance = square - found[name] ** 2
            found[f"{name}_std"] = math.sqrt(variance) if variance > _ROUNDING * square else 0.0
        return found


def weighed(value_N: Tensor, weight_N: Tensor | None) -> Tensor:
    """Each entry as often as it counts."""
    return value_N if weight_N is None else value_N * weight_N.to(value_N)


@dataclass
class Step:
    """`step(round)` updates every trainable once and returns the round's metrics. `measure(parts)` only measures.
    `loss` is the policy's loss. The losses of other models have the names of their terms."""

    trainables: Sequence[Trainable]
    """The policy first; parts name the others."""
    _: KW_ONLY
    providers: Mapping[str, Provider]
    packing: Packing
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        self.policy = self.trainables[0]
        self._models = {each.name: each.model for each in self.trainables}

    def __call__(self, round: Round) -> dict[str, float]:
        for each in self.trainables:
            each.optimizer.zero_grad(set_to_none=True)
        averages = Averages()
        whole = self._routing(round.parts)
        last = {part.trainable: place for place, part in enumerate(round.parts) if part.groups}
        with self.policy.model.cast_once():
            for place, part in enumerate(round.parts):
                ends = last.get(part.trainable) == place
                for loss in self._losses(part, averages, whole, last=ends):
                    if loss is not None and loss.requires_grad:
                        loss.backward()
        counted: list[tuple[int, list[str]]] = world().gather((averages.skipped, sorted(averages.moved)))
        skipped = sum(count for count, _ in counted)
        for each in self.trainables:
            each.sum_gradients(moved=any(each.name in moved for _, moved in counted))
        norms = {f"{self._prefix(each)}grad_norm": self._clipped(each.optimizer, round) for each in self.trainables}
        metrics = {**averages.figures(), **norms, **round.figures}
        for each in self.trainables:
            if each.name in whole:
                metrics |= {f"{self._prefix(each)}{name}": value for name, value in whole[each.name].figures().items()}
        if skipped:
            metrics["skipped"] = float(skipped)
        for each in self.trainables:
            each.update()
            if broken := each.non_finite():
                where = _few([g.name for part in round.parts for g in part.groups])
                what = f"after the update {broken} is not finite; the update was not saved"
                raise BrokenUpdateError(what, where=where, remedy="lower the learning rate")
        return metrics

    def _prefix(self, trainable: Trainable) -> str:
        return "" if trainable is self.policy else f"{trainable.name}/"

    @torch.no_grad()
    def measure(self, parts: Sequence[Part]) -> dict[str, float]:
        """Metrics of `parts` without gradient or update."""
        averages = Averages()
        for part in parts:
            for _ in self._losses(part, averages, {}, last=True):
                pass
        return averages.figures()

    def _routing(self, parts: Sequence[Part]) -> dict[str, Routing]:
        """By model, the routing of the tokens of all parts, which a load-balancing loss requires before any gradient.
        It costs one more forward pass."""
        models = {name: model for name, model in self._models.items() if model.balance}
        whole: dict[str, Routing] = {}
        for name, model in models.items():
            groups = [g for part in parts if part.trainable == name for g in part.groups]
            if (routed := model.routing(groups, self.packing)) is not None:
                whole[name] = routed
        return whole

    def _losses(
        self, part: Part, averages: Averages, routing: Mapping[str, Routing], *, last: bool
    ) -> Iterator[Tensor | None]:
        """The loss of each pack of this process, scaled so that they add up to the loss of the part; None where there
        is nothing to average. For a model in `routing`, it includes the pack's share of the load-balancing loss. The
        last pack of a model's `last` part ends its step."""
        if not part.groups:
            averages.skipped += world().first
            return
        model = self._models[part.trainable]
        groups = self._with_columns(part)
        packs = [[groups[i] for i in members] for members in bins(groups, self.packing)]
        routed = routing.get(part.trainable)
        if part.objective.couples and len(packs) > 1:
            for loss, ends in self._coupled(part, packs, averages, routed):
                before_backward(model, last=last and ends)
                yield loss
            return
        whole, faults = with_both_orders(part.objective, Batch.of(groups)), list[NonFiniteError]()
        turns = model.turns(packs)
        for turn in turns:
            outputs, batch = model(packs[turn.place], part.objective.statistics, routing=routed is not None)
            loss: Tensor | None = None
            if turn.real:
                with _postponed(faults):
                    _refuse_non_finite(outputs, batch)
                    loss = self._total(part, *evaluated(part.objective, outputs, batch), whole, averages)
                    averages.skipped += loss is None and routed is None
                    loss = self._balanced(part, loss, outputs, routed, averages)
            averages.note(part.trainable, loss)
            before_backward(model, last=last and turn is turns[-1])
            yield _joined(loss, outputs) if is_sharded(model) else loss
        with world().agreed():
            if faults:
                raise faults[0]

    def _balanced(
        self, part: Part, loss: Tensor | None, outputs: Outputs, whole: Routing | None, averages: Averages
    ) -> Tensor | None:
        """`loss` with what these outputs contribute to the load-balancing loss of the step."""
        if whole is None or outputs.routing is None:
            return loss
        imbalance, weight = outputs.routing.imbalance(whole), self._models[part.trainable].balance
        averages.add(f"loss/{BALANCE}", imbalance, 1)
        if part.trainable == POLICY:
            averages.add("loss", imbalance, 1, weight)
        return imbalance * weight + (0.0 if loss is None else loss)

    def _coupled(
        self, part: Part, packs: Sequence[list[Group]], averages: Averages, routed: Routing | None
    ) -> Iterator[tuple[Tensor | None, bool]]:
        """Like `_losses`, for an objective that must see all packs at once. First its gradient with respect to each
        log-probability is computed, then a second forward pass carries it through each pack. Each loss comes with
        whether it is the last."""
        model = self._models[part.trainable]
        whole = Batch.of([g for pack in packs for g in pack], model.device)
        turns = model.turns(packs)
        with torch.no_grad():
            every = [(turn, logps(model(packs[turn.place])[0]).cpu()) for turn in turns]
            mine = {turn.place: logp for turn, logp in every if turn.real}
            lengths = [sum(len(b.tokens) for g in pack for b in g.branches) for pack in packs]
            dtype = torch.promote_types(model.model.dtype, torch.float32)
            said = [logp.to(model.device) for logp in world().pooled(mine, lengths, dtype)]
        outputs = Outputs(torch.cat(said).requires_grad_(torch.is_grad_enabled()))
        _refuse_non_finite(outputs, whole)
        counted = evaluated(part.objective, outputs, whole)
        total = self._total(part, *counted, counted[1], averages if world().first else Averages())
        averages.skipped += total is None and world().first
        averages.note(part.trainable, total)
        moved = total if total is not None and total.requires_grad else None
        moves = moved is not None
        if not moves and not (is_sharded(model) and torch.is_grad_enabled()):
            yield total, True
            return
        grads = torch.autograd.grad(moved, logps(outputs))[0].split(lengths) if moved is not None else []
        for turn in turns:
            real = turn.real and moves
            again, _ = model(packs[turn.place], routing=routed is not None)
            loss = (logps(again) * (grads[turn.place] if real else 0.0)).sum()
            yield self._balanced(part, loss, again, routed, averages) if real else loss, turn is turns[-1]

    def _with_columns(self, part: Part) -> list[Group]:
        groups = with_row_columns(part.groups)
        for column in part.objective.requires:
            if all(g.has(column) for g in groups):
                continue
            if column not in self.providers:
                raise RecipeError(
                    f"{type(part.objective).__name__} requires the column {column!r}: neither data nor provider has it",
                    where=groups[0].name,
                    remedy=f"known providers: {', '.join(sorted(self.providers)) or 'none'}",
                )
            groups = self.providers[column](groups)
        return with_shared_columns(groups)

    def _total(self, part: Part, loss: Loss, batch: Batch, whole: Batch, averages: Averages) -> Tensor | None:
        """What `loss`, of `batch`, contributes to the part's, whose rows are `whole`."""
        total: Tensor | None = None
        for name, term in loss.terms.items():
            mass = whole.mass(term.unit)
            if mass == 0:
                continue
            value = weighed(term.value, batch.weights(term.unit))
            averages.add(f"loss/{part.named(name)}", value, mass)
            if part.trainable == POLICY:
                averages.add("loss", value, mass, part.weight * term.weight)
            share = value.sum() * (part.weight * term.weight / mass)
            if not torch.isfinite(share):
                raise NonFiniteError(f"the loss {name!r} is {share.item()}", where=_few(whole.names), remedy=REMEDY)
            total = share if total is None else total + share
        for name, term in loss.metrics.items():
            mass, weight_N = whole.mass(term.unit), batch.weights(term.unit)
            if mass and term.spread:
                averages.add_spread(part.named(name), term.value, mass, weight_N)
            elif mass:
                averages.add(part.named(name), weighed(term.value, weight_N), mass)
        return total

    def _clipped(self, optimizer: torch.optim.Optimizer, round: Round) -> float:
        """The gradient's norm before clipping; raises before the update where it is not finite."""
        parameters = [p for p in _parameters(optimizer) if p.grad is not None]
        total = torch.nn.utils.clip_grad_norm_(parameters, self.clip or float("inf")) if parameters else torch.zeros(())
        norm = whole_tensor(total).item()
        if not torch.isfinite(torch.tensor(norm)):
            optimizer.zero_grad(set_to_none=True)
            names = [g.name for part in round.parts for g in part.groups]
            what = f"the gradient's norm is {norm}; nothing was updated"
            raise NonFiniteError(what, where=_few(names), remedy=REMEDY)
        return norm


@contextmanager
def _postponed(faults: list[NonFiniteError]) -> Iterator[None]:
    """Keep a fault for later where other processes wait for this one's next call."""
    try:
        yield
    except NonFiniteError as error:
        if world().size == 1:
            raise
        faults.append(error)


def _joined(loss: Tensor | None, outputs: Outputs) -> Tensor:
    """`loss`, or without one a zero that depends on all of the model: processes that share the weights must run the
    same number of backward passes."""
    if loss is not None and loss.requires_grad:
        return loss
    said = (outputs.logp_S, outputs.score_B, outputs.value_S)
    nothing = [(value * 0.0).sum() for value in said if value is not None]
    return torch.stack(nothing).sum()


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _refuse_non_finite(outputs: Outputs, batch: Batch) -> None:
    said = (
        ("log-probability", outputs.logp_S, batch.group_B[batch.branch_S]),
        ("score", outputs.score_B, batch.group_B),
        ("value", outputs.value_S, batch.group_B[batch.branch_S]),
    )
    for name, value, group in said:
        if value is None or torch.isfinite(value.detach()).all():
            continue
        groups = group[~torch.isfinite(value.detach())].unique().tolist()
        raise NonFiniteError(
            f"a {name} is not finite; nothing was updated",
            where=_few([batch.names[i] for i in groups]),
            remedy=REMEDY,
        )


def _few(names: Sequence[str], most: int = 4) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
