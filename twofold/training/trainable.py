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
        return {n: p.detach() if masters is None else masters.of(n) for n, p in self.parameters.items()}

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
        named = {name: part_here(tensor) for name, tensor in every.items() if tensor.is_floating_point()}
        # One pass over all. The norm of huge finite values may overflow, so those are checked again.
        norms = torch._foreach_norm(list(named.values()))  # type: ignore[reportPrivateImportUsage]  # torch's own optimizers do
        suspect = ~torch.isfinite(torch.stack([norm.double().to(self.model.device) for norm in norms]))
        names = [name for name, odd in zip(named, suspect.tolist(), strict=True) if odd]
        mine = next((name for name in names if not torch.isfinite(named[name]).all()), "")
        return next(filter(None, world().gather(mine)), "")

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
                self.optimizer.state[parameter] = {k: _moment(k, v, parameter) for k, v in mine.items()}
        self._begin(steps)

    def on_step_end(self) -> None:
        """The optimizer has just made a step."""
        if self.schedule is not None:
            self.schedule.step()

    def _begin(self, steps: int) -> None:
        self.schedule = None if self._make_schedule is None else self._make_schedule(steps)


def _moment(name: str, value: Tensor, parameter: Tensor) -> Tensor | int:
    """A moment as the optimizer had it: a number of steps stays where it is, or is a plain number."""
    if name != "step":
        return part_of(value, parameter) if value.shape == parameter.shape else value.to(parameter.device)
    return value if value.is_floating_point() else int(value)
