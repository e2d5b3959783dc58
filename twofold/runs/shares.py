"""The ways in which processes can share a run's models, the memory of each, and which one is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from transformers import PreTrainedConfig

from twofold.config.schema import Recipe
from twofold.models.adapters import saved_by
from twofold.models.load import is_residual_narrow, resolve_device
from twofold.models.locate import gguf_of, is_adapter
from twofold.models.model_size import ModelSize
from twofold.runs.forecast import Forecast, Packs, forecast, is_adapted, widths
from twofold.world import Kind, World, WorldSettings

SHARE = 0.85
"""The share of a device's memory that `auto` fills. The rest allows for errors of the estimate."""
Reduce = Literal["step", "pack"]


@dataclass(frozen=True)
class Shares:
    """One way: its kind, the complete settings, and the memory of each process."""

    kind: Kind
    settings: WorldSettings
    memory: Forecast

    def line(self) -> str:
        """As one line of text."""
        how = self.kind if self.kind == "replicate" else f"{self.kind}, gradients summed once a {self.settings.reduce}"
        return f"{how}: {self.memory.line()}"


def ways(
    recipe: Recipe, sizes: ModelSize, packs: Packs, here: World, config: PreTrainedConfig | None = None
) -> list[Shares]:
    """The ways that the recipe allows, in order of the data they send. `config` is as in `forecast`."""
    whole, how = forecast(recipe, sizes, packs, config), recipe.world
    if here.size == 1:
        return [Shares("replicate", how, whole)]
    found = list[Shares]()
    if how.kind == "replicate" or (how.kind == "auto" and not how.offload):
        found.append(Shares("replicate", how, whole))
    among: Kind = "hybrid" if here.size > here.local_size > 1 else "shard"
    if how.kind != "replicate":
        kind = among if how.kind == "auto" else how.kind
        reduces: tuple[Reduce, ...] = ("step", "pack") if how.reduce == "auto" else (how.reduce,)
        settled = [replace(how, reduce=reduce) for reduce in reduces]
        found += [Shares(kind, each, _of_part(recipe, sizes, whole, (kind, each, here))) for each in settled]
    return found


def chosen(open_ways: Sequence[Shares], limit: float | None) -> Shares:
    """The first way that uses at most `limit` bytes per process. If none does, the one that uses least."""
    fitting = [way for way in open_ways if limit is None or way.memory.total <= limit]
    return fitting[0] if fitting else min(open_ways, key=lambda way: way.memory.total)


def _of_part(recipe: Recipe, sizes: ModelSize, whole: Forecast, way: tuple[Kind, WorldSettings, World]) -> Forecast:
    """Memory of a process with a part of each weight, gradient and moment, and all weights of one layer at a time."""
    kind, how, here = way
    parts = here.local_size if kind == "hybrid" else here.size
    wide, narrow = widths(recipe, sizes)
    adapted, stream = is_adapted(recipe), is_residual_narrow(recipe.model)
    width = narrow if adapted or stream else wide
    layer = (sizes.parameters - sizes.outside) // sizes.layers
    ahead = min(sizes.layers, 1 + how.prefetch)
    here_at_once = sizes.outside + ahead * layer if how.reshard_after_forward else sizes.parameters
    group = sizes.trainable // sizes.layers if adapted else max(sizes.outside, layer)
    once = how.reduce == "step"
    away = how.offload and resolve_device(recipe.model.device) == "cuda"
    weights = 0 if away else whole.weights // parts
    draws = recipe.algorithm.draws_drafts and recipe.sampling.server is None
    return replace(
        whole,
        weights=weights,
        gradients=(0 if away else whole.gradients // parts) + whole.gradients * once,
        optimizer=0 if away else whole.optimizer // parts,
        reference=0 if away else whole.reference // parts,
        value=0 if away else whole.value // parts,
        activations=whole.activations - (sizes.trainable * narrow if stream and narrow < wide and not adapted else 0),
        loading=max(0, whole.weights + whole.loading - weights) if whole_because(recipe) else whole.loading // parts,
        gathered=here_at_once * width + group * wide * (1 if once else 2),
        drawing=sizes.parameters * width if draws or recipe.evaluation.tasks is not None else 0,
    )


def whole_because(recipe: Recipe) -> str:
    """Why weights cannot be read in parts; where they can, an empty string."""
    settings = recipe.model
    lora = settings.lora
    value = recipe.algorithm.value_model
    because = {
        "its base is quantized as it is read": settings.quantize is not None,
        "a GGUF file is read as a whole": gguf_of(settings.path, settings.gguf_file) is not None,
        "an adapter is merged into them first": is_adapter(Path(settings.path)),
        "tokens are added to them first": bool(settings.add_tokens),
        "DoRA takes the norms of their rows": lora is not None and lora.dora,
        "modules_to_save are copied": bool(lora.modules_to_save if lora else saved_by(settings.adapter)),
        "the value model has the adapter merged in": settings.adapter is not None and value is not None,
    }
    return next((reason for reason, so in because.items() if so), "")
