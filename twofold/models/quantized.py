"""A base model in 4 or 8 bits under an adapter (QLoRA: Dettmers et al. 2023, arXiv:2305.14314), with bitsandbytes: how
it is loaded, what is stored with the adapter, and how it is dequantized."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from twofold.disk import write
from twofold.errors import ModelError
from twofold.models.integrity import header
from twofold.models.lora_targets import saved_modules

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig

Quantize = Literal["nf4", "int8"]
BYTES_PER_WEIGHT = {"nf4": 0.5 + 1 / 64 + 4 / (64 * 256), "int8": 1.0}
"""Bytes per weight of a quantized layer. nf4 has an 8-bit scale for each 64 weights, and a 32-bit scale for each 256 of
these scales."""
RECORD = "quantization.json"
"""A file next to an adapter: the quantization of its base, the dtype of all other weights, the layers left out."""
WHERE = "model.quantize"
_LINEAR = ("Linear", "Conv1D")
_SCALES = re.compile(r"\.(?:SCB|absmax|quant_map|quant_state\..*)$")
"""Names of the tensors that bitsandbytes stores next to bits."""
_OURS = "twofold_quantization"
_MARKS = "is_quantized", "is_loaded_in_4bit", "is_loaded_in_8bit", "hf_quantizer", "quantization_method", _OURS
"""Attributes of a quantized model: those of transformers, and ours."""


@dataclass(frozen=True)
class Quantization:
    """How a base model is quantized. Layers called `spared` are not; all weights that are not quantized have
    `dtype`."""

    kind: str
    dtype: torch.dtype
    spared: tuple[str, ...]

    @classmethod
    def recorded(cls, adapter: str) -> Quantization | None:
        """The quantization of the base that the adapter in a folder was trained on; None if it was not quantized."""
        file = Path(adapter) / RECORD
        if not file.is_file():
            return None
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
            return cls(str(known["quantize"]), getattr(torch, known["dtype"]), tuple(known["spared"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            remedy = "put the file back as it was written"
            raise ModelError(f"{RECORD} does not describe a quantization", where=adapter, remedy=remedy) from error

    def save(self, folder: Path) -> None:
        """Write it to the folder of an adapter."""
        dtype = str(self.dtype).removeprefix("torch.")
        known = {"quantize": self.kind, "dtype": dtype, "spared": list(self.spared)}
        write(folder / RECORD, json.dumps(known, indent=2) + "\n")

    def config(self) -> BitsAndBytesConfig:
        """The config for transformers. Raises ModelError if bitsandbytes is not installed."""
        refuse_absent()
        from transformers import BitsAndBytesConfig

        return BitsAndBytesConfig(
            load_in_4bit=self.kind == "nf4",
            load_in_8bit=self.kind == "int8",
            llm_int8_skip_modules=list(self.spared),
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=self.dtype,
        )


def refuse_absent() -> None:
    """Raise ModelError if bitsandbytes is not installed."""
    if find_spec("bitsandbytes") is None:
        remedy = "pip install 'twofold[quantized]', or leave model.quantize out"
        raise ModelError("bitsandbytes is not installed", where=WHERE, remedy=remedy)


def refuse_misnamed(config: PreTrainedConfig, path: str) -> None:
    """Raise ModelError for a config whose `quantization_config` names no known method, or bitsandbytes while the
    weights in the folder at `path` are plain."""
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    claimed = getattr(config, "quantization_config", None)
    if not isinstance(claimed, Mapping):
        return
    section = cast("Mapping[str, Any]", claimed)
    bits = bool(section.get("load_in_4bit") or section.get("load_in_8bit"))
    method = str(section.get("quant_method", "bitsandbytes" if bits else None))
    remedy = "correct quantization_config of config.json, or remove it if the weights are plain"
    if not {method, f"{method}_4bit"} & {*AUTO_QUANTIZATION_CONFIG_MAPPING}:
        raise ModelError(f"config.json names the quantization {method!r}, which is unknown", where=path, remedy=remedy)
    names = [name for file in Path(path).glob("*.safetensors") for name in header(file) or ()]
    if method == "bitsandbytes" and names and not any(_SCALES.search(name) for name in names):
        what = "config.json claims that bitsandbytes quantized the weights, and they are plain"
        remedy = "remove quantization_config from it; to quantize while loading, set model.quantize"
        raise ModelError(what, where=path, remedy=remedy)


def refuse_requantizing(quantize: str | None, path: str, adapter: str | None) -> None:
    """Raise ModelError for `quantize` if the `adapter` at `path` would be merged into the base."""
    if quantize is not None and adapter is not None:
        remedy = "`twofold export` it and name that folder, or set model.adapter to continue training the adapter"
        raise ModelError("is an adapter, and a base with a merged adapter is not quantized", where=path, remedy=remedy)


def spared(model: PreTrainedModel, trained: Sequence[str]) -> tuple[str, ...]:
    """The layers of a model that are not quantized: its head, and those called `trained`. The model may be on the meta
    device. Raises ModelError for a mixture of experts: its stacked experts, most of its weights, cannot be
    quantized."""
    if any(p.dim() == 3 for p in model.parameters()):
        what = "bitsandbytes quantizes linear layers, and the experts of this model are stacked parameters"
        raise ModelError(what, where=WHERE, remedy="leave model.quantize out, or choose a dense model")
    head = model.get_output_embeddings()
    names = [name for name, module in model.named_modules() if module is head or name == "score"]
    return tuple(dict.fromkeys([*names, *saved_modules(model, trained)]))


def count_quantized(model: PreTrainedModel, left_out: Sequence[str]) -> int:
    """The number of weights that quantization would cover: those of all linear layers except `left_out`."""
    layers = [m for n, m in model.named_modules() if type(m).__name__ in _LINEAR and not _is_in(n, left_out)]
    return sum(layer.weight.numel() for layer in layers)  # type: ignore[union-attr, operator]  # a parameter


def is_quantized(model: nn.Module) -> bool:
    """Whether bitsandbytes holds a layer of the model in 4 or 8 bits."""
    return any(hasattr(module, "dequantized") for module in model.modules())


def settle(model: PreTrainedModel, quantization: Quantization | None = None) -> None:
    """Make the layers that bitsandbytes holds, if any, compute the same with and without gradient. Store on the model
    how twofold quantized it."""
    if getattr(model, "is_quantized", False) and find_spec("bitsandbytes") is not None:
        from twofold.models.quantized_layers import take_over

        take_over(model)
    if quantization is not None:
        object.__setattr__(model, _OURS, quantization)


def separate_scales(model: nn.Module) -> None:
    """Make the bits of quantized layers plain parameters that can be sharded; each process has all scales."""
    for module in model.modules():
        if hasattr(module, "dequantized"):
            module.separate()  # type: ignore[operator]  # ours


def quantization_of(model: nn.Module) -> Quantization | None:
    """How twofold quantized the model; None if it did not."""
    return getattr(model, _OURS, None)


def remember_quantization(model: PreTrainedModel, source: PreTrainedModel) -> None:
    """Copy the quantization attributes of `source` to a model that has its layers."""
    if is_quantized(source):
        vars(model).update({name: vars(source)[name] for name in _MARKS if name in vars(source)})


def refuse_whole_tuning(model: PreTrainedModel) -> None:
    """Raise ModelError for a model without an adapter whose weights are quantized, by any method."""
    if getattr(model, "is_quantized", False):
        what = "its weights are quantized, and cannot be trained"
        remedy = "set model.lora={rank: 16}, or choose a model that is not quantized"
        raise ModelError(what, where=model.name_or_path or "model.path", remedy=remedy)


def plain_weight(layer: nn.Module) -> Tensor:
    """The weight of a linear layer, dequantized if necessary."""
    known: Any = layer
    return known.dequantized() if hasattr(layer, "dequantized") else known.weight


@torch.no_grad()
def dequantize(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Dequantize a model to `dtype`, in place; a model that is not quantized stays as it is."""
    if not is_quantized(model):
        return
    for name, module in list(model.named_modules()):
        if hasattr(module, "dequantized"):
            model.set_submodule(name, _plain(module, dtype))
    for name in _MARKS:
        vars(model).pop(name, None)
    steps: list[Any] = vars(model).get("_weight_conversions") or []  # conversions at loading, which saving undoes
    vars(model)["_weight_conversions"] = [step for step in steps if not _is_of_bits(step)]
    vars(model.config).pop("quantization_config", None)
    model.to(dtype)  # type: ignore[arg-type]  # a dtype


def _plain(layer: Any, dtype: torch.dtype) -> nn.Module:
    """A linear layer of the architecture's own class; GPT-2's is transposed."""
    weight = layer.dequantized().to(dtype)
    turned = getattr(layer, "source_cls", nn.Linear) is not nn.Linear
    with torch.device("meta"):
        if turned:
            made: Any = layer.source_cls(layer.out_features, layer.in_features)
        else:
            made = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    made.weight = nn.Parameter(weight.T.contiguous() if turned else weight, requires_grad=False)
    made.bias = None if layer.bias is None else nn.Parameter(layer.bias.data.to(dtype), requires_grad=False)
    return made


def _is_of_bits(step: Any) -> bool:
    return any("bitsandbytes" in type(operation).__module__ for operation in getattr(step, "operations", ()))


def _is_in(name: str, others: Sequence[str]) -> bool:
    return any(name == other or name.endswith(f".{other}") or name.startswith(f"{other}.") for other in others)
