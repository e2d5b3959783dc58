"""An optimizer that reads whole matrices of sharded parameters. Each matrix is assembled on one process, updated there,
and split again.

So an optimizer has the same result with shards as with whole weights. State with the shape of the parameter is sharded
like the parameter. Every process has a copy of smaller state (rows, columns, scales of blocks).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from twofold.world import part_of, whole_tensor, world

Number = int | float


class DealtMatrices(Optimizer):
    """The optimizer that `make` returns for whole parameters, applied to sharded `parameters`."""

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], make: Callable[[Mapping[str, nn.Parameter]], Optimizer]
    ) -> None:
        models = {name: _without_values(p) for name, p in parameters.items()}
        self._of = {id(models[name]): p for name, p in parameters.items()}
        self._whole = make(models)
        groups = [{**g, "params": [self._of[id(p)] for p in g["params"]]} for g in self._whole.param_groups]
        super().__init__(groups, {})
        self._models = [p for group in self._whole.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closures here
        for mine, whole in zip(self.param_groups, self._whole.param_groups, strict=True):
            whole.update({name: value for name, value in mine.items() if name != "params"})
        moved = [p for p in self._models if self._of[id(p)].grad is not None]
        moved.sort(key=lambda p: -p.numel())
        size = world().size
        for begin in range(0, len(moved), size):
            self._turn(moved[begin : begin + size], begin // size)

    def _turn(self, models: Sequence[nn.Parameter], number: int) -> None:
        """Update as many parameters as there are processes, one on each. The process of the largest one rotates."""
        owners = [(place + number) % world().size for place in range(len(models))]
        for model, owner in zip(models, owners, strict=True):
            parameter = self._of[id(model)]
            weight, grad = whole_tensor(parameter.detach()), whole_tensor(parameter.grad)  # type: ignore[arg-type]
            state = {name: whole_tensor(v) if isinstance(v, Tensor) else v for name, v in self.state[parameter].items()}
            if owner == world().rank:
                model.data, model.grad = weight.clone(), grad.clone()
                if state:
                    self._whole.state[model] = state
        if world().rank in owners:
            self._whole.step()
        for model, owner in zip(models, owners, strict=True):
            self._give_back(model, owner)

    def _give_back(self, model: nn.Parameter, owner: int) -> None:
        """Send each process its part of a parameter's weight and state, which are on the owner."""
        parameter, mine = self._of[id(model)], owner == world().rank
        state = dict(self._whole.state.pop(model, {})) if mine else {}
        known = {name: _described(value) for name, value in state.items() if value is not None}
        (sheet,) = [each for each in world().gather(known if mine else None) if each is not None]
        weight = model.data if mine else torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device)
        dist.broadcast(weight, owner)
        parameter.copy_(part_of(weight, parameter))
        for name, said in sheet.items():
            if isinstance(said, Number):
                self.state[parameter][name] = said
                continue
            shape, dtype, device = said
            value = state[name].contiguous() if mine else torch.empty(shape, dtype=getattr(torch, dtype), device=device)
            dist.broadcast(value, owner)
            self.state[parameter][name] = part_of(value, parameter) if value.shape == parameter.shape else value
        if mine:
            model.data, model.grad = _without_values(parameter).data, None


def _described(value: Tensor | Number) -> Number | tuple[list[int], str, str]:
    if not isinstance(value, Tensor):
        return value
    return list(value.shape), str(value.dtype).removeprefix("torch."), value.device.type


def _without_values(parameter: nn.Parameter) -> nn.Parameter:
    """One number that is read as a whole parameter's shape."""
    one = torch.zeros((), dtype=parameter.dtype, device=parameter.device)
    return nn.Parameter(one.expand(parameter.shape), requires_grad=parameter.requires_grad)
