"""A model that learns beside the policy: what moves it, and what of it survives a stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from twofold.models.packed_model import PackedModel
from twofold.training.optim import AdamW, make_optimizer, make_schedule

_WEIGHTS, _MOMENTS = "weights", "optimizer"


class Trainable:
    """`model` with an optimizer and a schedule of its own. The step moves it by its name; to the loop it is a keeper:
    weights, moments and the steps made stand in the checkpoint."""

    def __init__(self, name: str, model: PackedModel, optimizer: AdamW, steps: int) -> None:
        self.name, self.model, self.settings, self.steps = name, model, optimizer, steps
        self.parameters = model.trainable()
        self.optimizer = make_optimizer(optimizer, self.parameters)
        self._begin(0)

    def tensors(self) -> Mapping[str, Tensor]:
        """Weights and AdamW's moments: `weights/<parameter>` and `optimizer/<parameter>/<moment>`."""
        state = self.optimizer.state
        moments = {(n, k): v for n, p in self.parameters.items() for k, v in state.get(p, {}).items()}
        weights = {f"{_WEIGHTS}/{n}": p.detach() for n, p in self.parameters.items()}
        return {**weights, **{f"{_MOMENTS}/{n}/{k}": v for (n, k), v in moments.items()}}

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.made}

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        for name, parameter in self.parameters.items():
            with torch.no_grad():
                parameter.copy_(tensors[f"{_WEIGHTS}/{name}"])
            of = f"{_MOMENTS}/{name}/"
            mine = {k.removeprefix(of): v for k, v in tensors.items() if k.rpartition("/")[0] == of[:-1]}
            if mine:
                moments = {k: v if k == "step" else v.to(parameter.device) for k, v in mine.items()}
                self.optimizer.state[parameter] = moments
        self._begin(numbers["steps"])

    def on_step_end(self, steps: int) -> None:
        self.made = steps
        self.schedule.step()

    def _begin(self, made: int) -> None:
        self.made = made
        self.schedule = make_schedule(self.settings, self.optimizer, self.steps, made)
