"""A model in training: what updates it, and what a checkpoint stores of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from twofold.models.packed_model import PackedModel
from twofold.training.optim import AnyOptimizer, make_optimizer, make_schedule
from twofold.world import is_sharded, part_here, part_of, world

POLICY = "policy"
"""The name of the model that a run is for. Any other model in training only supports it."""


class Trainable:
    """`model` with its optimizer and its schedule; steps, checkpoints and metrics know it by `name`.

    `schedule` makes the schedule in its state before a step. Without one, the rate never changes.
    """

    def __init__(
        self,
        name: str,
        model: PackedModel,
        optimizer: torch.optim.Optimizer,
        schedule: Callable[[int], LambdaLR] | None = None,
    ) -> None:
        self.name, self.model, self.optimizer = name, model, optimizer
        self.parameters = model.trainable()
        self._make_schedule = schedule
        self._begin(0)

    @classmethod
    def of(cls, name: str, model: PackedModel, settings: AnyOptimizer, steps: int) -> Trainable:
        """With the optimizer of `settings` and its schedule over `steps`."""
        optimizer = make_optimizer(settings, model.trainable(), model.embeddings())
        return cls(name, model, optimizer, lambda start: make_schedule(settings, optimizer, steps, start))

    @property
    def learning_rate(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def weights(self) -> dict[str, Tensor]:
        """The trained weights, by parameter."""
        masters = self.model.masters
        whole = {} if masters is None else {n: masters.of(n) for n in self.parameters if n in masters}
        return {n: p.detach() for n, p in self.parameters.items()} | whole

    def update(self) -> None:
        """Let the optimizer make a step of its gradients."""
        with self.model.whole_weights():
            self.optimizer.step()

    def moments(self) -> dict[str, Tensor]:
        """The optimizer's state: `<parameter>/<moment>`."""
        state = self.optimizer.state
        named = {f"{n}/{k}": v for n, p in self.parameters.items() for k, v in state.get(p, {}).items()}
        return {name: v if isinstance(v, Tensor) else torch.tensor(v) for name, v in named.items() if v is not None}

    def sum_gradients(self, *, moved: bool) -> None:
        """Give every process the gradient of all packs. Shards of one model have summed theirs in the backward pass,
        zeros where no loss of any process has `moved` them: then there is no gradient."""
        if not is_sharded(self.model):
            world().sum_gradients([*self.parameters.values()])
        elif not moved:
            self.optimizer.zero_grad(set_to_none=True)

    def non_finite(self) -> str:
        """The name of a weight or moment that holds inf or NaN; where there is none, an empty string."""
        every = {**{n: p.detach() for n, p in self.parameters.items()}, **self.moments()}
        named = {n: part_here(t) for n, t in every.items() if t.is_floating_point() and not n.endswith("/step")}
        names = [name for name in _with_odd_norms(named) if not torch.isfinite(named[name]).all()]
        return next(filter(None, world().gather(min(names, key=[*named].index, default=""))), "")

    def like(self, name: str) -> Tensor | None:
        """The parameter that a saved weight or moment is of, or belongs to."""
        return self.parameters.get(name, self.parameters.get(name.rpartition("/")[0]))

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load `weights` as they were saved."""
        self.model.take(weights)

    def restore(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor], steps: int) -> None:
        """Continue from the state after `steps` steps."""
        self.load_weights(weights)
        for name, parameter in self.parameters.items():
            mine = {k.rpartition("/")[2]: v for k, v in moments.items() if k.rpartition("/")[0] == name}
            if mine:
                self.optimizer.state[parameter] = {k: self._moment(k, v, parameter) for k, v in mine.items()}
        self._begin(steps)

    def on_step_end(self) -> None:
        """The optimizer has just made a step."""
        if self.schedule is not None:
            self.schedule.step()

    def _moment(self, name: str, value: Tensor, parameter: Tensor) -> Tensor | int:
        """A moment as the optimizer stores it. A fused optimizer stores the number of steps on the device of the
        weight; others store it on the CPU, or as a plain number."""
        if name != "step":
            return part_of(value, parameter) if value.shape == parameter.shape else value.to(parameter.device)
        if not value.is_floating_point():
            return int(value)
        fused = any(group.get("fused") for group in self.optimizer.param_groups)
        return value.to(parameter.device) if fused else value

    def _begin(self, steps: int) -> None:
        self.schedule = None if self._make_schedule is None else self._make_schedule(steps)


def _with_odd_norms(named: Mapping[str, Tensor]) -> list[str]:
    """The names of tensors whose norm is not finite: they hold inf or NaN, or the norm of huge values overflows. Norms
    of one device and dtype are checked at once, with one kernel on a GPU."""
    alike: dict[tuple[torch.device, torch.dtype], list[str]] = {}
    for name, tensor in named.items():
        alike.setdefault((tensor.device, tensor.dtype), []).append(name)
    found: list[str] = []
    for names in alike.values():
        norms = torch._foreach_norm([named[name] for name in names])  # type: ignore[reportPrivateImportUsage]  # torch's own optimizers do
        finite = torch.isfinite(torch.stack(list(norms))).tolist()
        found += [name for name, fine in zip(names, finite, strict=True) if not fine]
    return found
