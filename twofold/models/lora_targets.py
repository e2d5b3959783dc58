"""What of a mixture of experts an adapter on all linear layers is for: attention, and the experts themselves, which are
stacked parameters; never a router, whose small changes send tokens elsewhere. Shapes: E experts.
"""

from __future__ import annotations

import re
from typing import Any

from transformers import PreTrainedModel

_ROUTER = re.compile(r"(^|\.)([a-z_]*router[a-z_]*|gate|[a-z_]*_gate)(\.|$)")
_LINEAR = ("Linear", "Conv1D")
_RENAMED = {"gate_proj", "up_proj", "down_proj"}
"""Leaf names that PEFT takes for an older form of stacked experts, and would no longer find as layers."""


def expert_targets(model: PreTrainedModel) -> dict[str, Any]:
    """The targets of a LoraConfig in a mixture of experts; empty for any other model."""
    experts = {_ending(name) for name, p in model.named_parameters() if p.dim() == 3 and "experts" in name}
    if not experts:
        return {}
    head = model.get_output_embeddings()
    linear = [
        name
        for name, module in model.named_modules()
        if type(module).__name__ in _LINEAR and module is not head and not _ROUTER.search(name)
    ]
    modules = {name.rpartition(".")[2] for name in linear}
    layers = {f"{_ending(name)}.weight" for name in linear if name.rpartition(".")[2] in _RENAMED}
    return {
        "target_modules": sorted(modules - _RENAMED),
        "target_parameters": sorted(experts | layers),
        "exclude_modules": sorted(name for name, _ in model.named_modules() if _ROUTER.search(name)),
    }


def _ending(name: str) -> str:
    """The last two parts of a dotted name."""
    return ".".join(name.split(".")[-2:])
