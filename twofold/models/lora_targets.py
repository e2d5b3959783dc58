"""Which layers an adapter adapts: linear layers, and the experts of a mixture, which are stacked parameters. A router
is adapted only if it is named: small changes of it send tokens to other experts. Also which layers are excluded, and
which are trained fully.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from twofold.errors import ModelError

ALL = "all-linear"
EXPERTS = "experts"
"""As a target: all experts of a mixture."""
WHERE = "model.lora.targets"
EXCLUDE, SAVE = "model.lora.exclude", "model.lora.modules_to_save"

_ROUTER = re.compile(r"(^|\.)([a-z_]*router[a-z_]*|gate|[a-z_]*_gate)(\.|$)")
_LINEAR = ("Linear", "Conv1D", "Linear4bit", "Linear8bitLt")
_FUSED = {
    "gate_proj": "gate_up_proj", "up_proj": "gate_up_proj", "w1": "gate_up_proj", "w3": "gate_up_proj",
    "w2": "down_proj",
}  # fmt: skip
"""Names of parts of stacked experts in models that do not stack them."""
_RENAMED = {"gate_proj", "up_proj", "down_proj"}
"""Leaf names that PEFT treats as an older form of stacked experts; it does not find layers with these names."""
_RECURRENT = {"mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h"}
_READ_PAST = {"out_proj", "conv1d"}
"""Layers of these models whose fast kernels read the weights directly and bypass an adapter; PEFT refuses them."""


def targets_of(model: PreTrainedModel, asked: str | Sequence[str]) -> dict[str, Any]:
    """The targets of a LoraConfig. Raises ModelError for a name that the model does not have."""
    if isinstance(asked, str) and asked != ALL:
        return {"target_modules": asked}  # a pattern, which PEFT matches
    stacks = _stacks(model)
    linear = _linear(model)
    if asked == ALL and not stacks and _type(model) not in _RECURRENT:
        return {"target_modules": ALL}
    modules, layers = _split({_leaf(name) for name in linear if not _ROUTER.search(name)}, linear, stacks)
    if asked == ALL:
        modules -= _READ_PAST if _type(model) in _RECURRENT else set[str]()
        return _config(model, modules, {*stacks, *layers}, spare_routers=True)
    chosen: set[str] = set()
    named: set[str] = set()
    for name in asked:
        of_experts = {s for s in stacks if name == EXPERTS or _leaf(s) in (name, _FUSED.get(name))}
        of_layers = {each for each in linear if each == name or each.endswith(f".{name}")}
        if not of_experts and not of_layers and not _other(model, name):
            _refuse(name, linear, stacks)
        chosen |= of_experts
        named |= {name} if of_layers or not of_experts else set[str]()
    modules, layers = _split(named, linear, stacks)
    return _config(model, modules, {*chosen, *layers}, spare_routers=False)


def without(model: PreTrainedModel, targets: dict[str, Any], exclude: Sequence[str]) -> dict[str, Any]:
    """`targets` without the layers and blocks called `exclude`. Raises ModelError for a name that the model does not
    have, and if no layer is left."""
    if not exclude:
        return targets
    layers = [name for name in _weighted(model) if _is_target(name, targets["target_modules"], model)]
    ends = targets.get("target_parameters", ())
    stacks = [name for name, _ in model.named_parameters() if name.endswith(tuple(f".{end}" for end in ends))]
    for name in exclude:
        if not any(_within(name, each) for each, _ in model.named_modules() if each):
            known = _listed({_leaf(each) for each in layers} | ({EXPERTS} if stacks else set[str]()))
            raise ModelError(f"the model has nothing called {name!r}", where=EXCLUDE, remedy=f"choose from {known}")
    spared = {*targets.get("exclude_modules", ()), *(n for n in layers if any(_within(name, n) for name in exclude))}
    stacked = [n for n in stacks if not any(_within(name, n) for name in exclude)]
    if not stacked and not {*layers} - spared:
        raise ModelError("every layer is excluded", where=EXCLUDE, remedy="leave a layer to adapt")
    made = {**targets, "exclude_modules": sorted(spared)}
    if len(stacked) < len(stacks):
        made["target_parameters"] = stacked
    return {name: value for name, value in made.items() if value}


def saved_modules(model: PreTrainedModel, names: Sequence[str]) -> list[str]:
    """The full names of the modules called `names`, which are trained fully. Raises ModelError for a name that is not a
    module with weights."""
    weighted = {n: m for n, m in model.named_modules() if n and not isinstance(m, nn.ModuleList | nn.ModuleDict)}
    weighted = {n: m for n, m in weighted.items() if any(True for _ in m.parameters())}
    found: dict[str, None] = {}
    for name in names:
        meant = [each for each in weighted if each == name or each.endswith(f".{name}")]
        if not meant:
            known = _listed({_leaf(each) for each in _weighted(model)})
            raise ModelError(f"the model has no module called {name!r}", where=SAVE, remedy=f"choose from {known}")
        found |= dict.fromkeys(meant)
    return list(found)


def refuse_untouched_experts(model: PreTrainedModel, targets: dict[str, Any]) -> None:
    """Raise ModelError if experts are among the targets and the adapter adapts none."""
    wanted = set(targets.get("target_parameters") or ()) & set(_stacks(model, adapted=True))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    if wanted and not any(f".{EXPERTS}." in name or name.startswith(f"{EXPERTS}.") for name in trained):
        what = f"no expert is adapted: PEFT put nothing on {', '.join(sorted(wanted))}"
        raise ModelError(what, where=WHERE, remedy="name other layers, or update peft")


def _config(
    model: PreTrainedModel, modules: Iterable[str], parameters: Iterable[str], *, spare_routers: bool
) -> dict[str, Any]:
    spared = sorted(name for name, _ in model.named_modules() if _ROUTER.search(name)) if spare_routers else []
    made: dict[str, Any] = {"target_modules": sorted(modules)}
    if stacked := sorted(parameters):
        made["target_parameters"] = stacked
    return made | ({"exclude_modules": spared} if spared else {})


def _split(names: set[str], linear: Iterable[str], stacks: Iterable[str]) -> tuple[set[str], set[str]]:
    """Split layer names into those that PEFT can find as modules, and the others as parameters."""
    renamed = {name for name in names if _leaf(name) in _RENAMED} if any(stacks) else set[str]()
    endings = {f".{name}" for name in renamed}
    layers = {f"{_ending(each)}.weight" for each in linear if each.endswith(tuple(endings))} if endings else set[str]()
    return names - renamed, layers


def _stacks(model: PreTrainedModel, *, adapted: bool = False) -> set[str]:
    """Endings of the names of stacked experts; with `adapted`, in a model that PEFT has wrapped."""
    named = ((name.replace(".base_layer", "") if adapted else name, p) for name, p in model.named_parameters())
    return {_ending(name) for name, p in named if p.dim() == 3 and EXPERTS in name and ".lora_" not in name}


def _linear(model: PreTrainedModel) -> list[str]:
    head = model.get_output_embeddings()
    return [n for n, module in model.named_modules() if type(module).__name__ in _LINEAR and module is not head]


def _other(model: PreTrainedModel, name: str) -> bool:
    """Whether any module with weights of its own has this name: embeddings, the head, a convolution."""
    found = (m for n, m in model.named_modules() if n == name or n.endswith(f".{name}"))
    return any(getattr(module, "weight", None) is not None for module in found)


def _weighted(model: PreTrainedModel) -> list[str]:
    """Modules with weights of their own."""
    return [n for n, module in model.named_modules() if n and any(True for _ in module.parameters(recurse=False))]


def _is_target(name: str, targets: str | Sequence[str], model: PreTrainedModel) -> bool:
    if targets == ALL:
        return name in _linear(model)
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _within(name: str, full: str) -> bool:
    """Whether a layer with this full name is, or is inside, a layer or block called `name`."""
    return f".{name}." in f".{full}."


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _refuse(name: str, linear: Iterable[str], stacks: Iterable[str]) -> None:
    known = sorted({_leaf(each) for each in [*linear, *stacks]} | ({EXPERTS} if any(stacks) else set[str]()))
    what = "has no experts" if name == EXPERTS else f"has no layer called {name!r}"
    raise ModelError(f"the model {what}", where=WHERE, remedy=f"choose from {', '.join(known)}, or {ALL}")


def _type(model: PreTrainedModel) -> str:
    return str(getattr(model.config, "model_type", ""))


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _ending(name: str) -> str:
    """The last two parts of a dotted name."""
    return ".".join(name.split(".")[-2:])
