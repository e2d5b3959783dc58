"""Load a model, its tokenizer and its stop tokens from a folder or a Hub name, with adapters and precision; save it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from twofold import disk, manifest
from twofold.errors import ModelError
from twofold.models.adapters import (
    REFERENCE_ADAPTER,
    LoRA,
    attach_adapter,
    base_and_adapter,
    load_reference,
    merged,
    refuse_classifier,
    saved_by,
)
from twofold.models.casts import can_be_narrow
from twofold.models.integrity import check_folder
from twofold.models.loadable import readable, refuse_broken_weights, refuse_other_weights, refuse_unknown_tokens
from twofold.models.locate import gguf_of
from twofold.models.packed_model import ModelOptions, PackedModel, Sharing
from twofold.models.planned import planned_memory
from twofold.models.policy import LanguageHead, Policy
from twofold.models.precision import hidden_units, resolve_precision
from twofold.models.quantized import WHERE as QUANTIZE
from twofold.models.quantized import (
    Quantization,
    Quantize,
    dequantize,
    quantization_of,
    refuse_misnamed,
    refuse_requantizing,
    settle,
    spared,
)
from twofold.models.seq2seq import auto_class
from twofold.models.sharding import layers
from twofold.models.stored import casts, dtype_on_disk, on_disk, remember_dtype, save_weights, stored_dtype
from twofold.models.tokenizer_files import config_at, load_tokenizer, mark, stop_tokens
from twofold.models.tokenizers import added_rows, beyond, grow, prepare
from twofold.models.trial import findings, know_float64, refuse_leaks
from twofold.settings import require, settings
from twofold.world import is_sharded, whole_tensor, whole_tensors, world

if TYPE_CHECKING:
    from peft import PeftModel


@settings
class ModelSettings:
    """Which model to load, and how it is stored in memory."""

    path: str
    """Folder or Hub name."""
    revision: str | None = None
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """bfloat16 computes in bfloat16 with float32 weights. auto uses bfloat16 where it is faster: on GPUs, and on CPUs
    with fast bfloat16 for models with at least 512 hidden units. A model that is passed in memory in float64 stays
    float64 under auto."""
    residual: Literal["auto", "float32", "bfloat16"] = "auto"
    """With bfloat16: the data type of the hidden states between layers. bfloat16 halves them and the weights sent
    between processes (FSDP2's mixed precision). float32 is autocast's behavior. auto is bfloat16 on GPUs."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    lora: LoRA | None = None
    adapter: str | None = None
    """Folder of a PEFT adapter to continue training."""
    quantize: Quantize | None = None
    """Store the base model with 4 (nf4) or 8 (int8) bits per weight and train an adapter (QLoRA: Dettmers et al. 2023,
    arXiv:2305.14314). Embeddings, head and norms are not quantized. Requires bitsandbytes, the extra `quantized`."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass. This needs less memory and about a third more time."""
    recompute_every: int = 1
    """With activation_checkpointing: recompute one layer in every N; 1 recomputes all layers. A larger N takes less
    time and more memory."""
    router_aux_loss_coef: float | None = None
    """For a mixture of experts: weight of the load-balancing loss, computed over all tokens of a step. The default is
    the value in the model's config if the config sets output_router_logits; otherwise, and with 0, there is no such
    loss."""
    add_tokens: tuple[str, ...] = ()
    """Strings to add to the tokenizer as new tokens. The model gets a row for each in its embeddings and its head,
    initialized to the mean of the other rows. Full fine-tuning trains these rows."""
    train_tokens: bool = False
    """With LoRA: whether to train the rows of add_tokens too. The adapter then contains them."""
    template_arguments: Mapping[str, bool | int | float | str] | None = None
    """Variables for the chat template in addition to the messages (`enable_thinking: false`). They apply wherever the
    template is rendered, and the trained model's tokenizer stores them as its default."""
    gguf_file: str | None = None
    """Which file to read from a folder with several GGUF files. Its weights are dequantized."""
    sharing: Sharing = "auto"
    """Whether completions of one prompt share its computation. auto uses sharing if a check shows that the model
    computes the same result with it."""

    def __post_init__(self) -> None:
        wide = self.precision == "float64" and self.quantize is not None
        require(not wide, "quantize has no float64: set precision to auto, float32 or bfloat16")
        require(self.recompute_every >= 1, "recompute_every must be ≥ 1")
        require((self.router_aux_loss_coef or 0) >= 0, "router_aux_loss_coef must be ≥ 0")
        require(
            not self.train_tokens or bool(self.lora and self.add_tokens), "train_tokens asks for lora and add_tokens"
        )
        require(not (self.lora and self.adapter), "give lora (a new adapter) or adapter (an existing one), not both")


@dataclass(frozen=True)
class LoadedModel:
    """A language model with its tokenizer; `stop_tokens` end a completion."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    stop_tokens: frozenset[int]

    def __post_init__(self) -> None:
        refuse_unknown_tokens(self.tokenizer, self.model)


def resolve_device(device: str) -> str:
    """`auto` becomes cuda if a CUDA device is visible or planned for, else cpu."""
    if device != "cpu" and planned_memory() is not None:
        return "cuda"
    try:
        torch.device("cpu" if device == "auto" else device)
    except RuntimeError:
        remedy = "set model.device to auto, cpu or cuda"
        raise ModelError(f"{device!r} is no device", where="model.device", remedy=remedy) from None
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("no CUDA device is visible", where="model.device", remedy="set model.device to auto or cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def load_model(settings: ModelSettings, of: str | None = None) -> LoadedModel:
    """Weights in float32 (float64 if set; the frozen base under LoRA in bfloat16 if that is the precision).

    An adapter folder as `path` loads its base model with the adapter merged in. `of` is an adapter that the caller will
    merge.
    """
    base, adapter = base_and_adapter(settings.path)
    named = settings.path if adapter is None or _has_tokenizer(adapter) else base
    tokenizer = load_tokenizer(named, settings.revision, settings.gguf_file)
    added = prepare(tokenizer, settings.add_tokens, settings.template_arguments or {})
    refuse_classifier(settings.path, settings.revision)
    refuse_requantizing(settings.quantize, settings.path, adapter)
    model = load_weights(settings, base, adapter=adapter or of)
    mark(tokenizer, model.config)
    grow(model, added if adapter is None else beyond(tokenizer, model))
    if adapter is not None:
        model = merged(model, adapter)
    know_float64(model)
    refuse_leaks(model, findings(model, LanguageHead()), LanguageHead.name)
    return LoadedModel(model, tokenizer, stop_tokens(model.generation_config, tokenizer, settings.path))


def load_policy(settings: ModelSettings, seed: int = 0) -> tuple[Policy, LoadedModel]:
    """The policy to train, with a new adapter drawn from `seed` if the settings request one, and the loaded model."""
    loaded = load_model(settings)
    return wrap(settings, loaded.model, loaded.tokenizer, seed)


def wrap(
    settings: ModelSettings, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int = 0
) -> tuple[Policy, LoadedModel]:
    """As `load_policy`, for a model that is already in memory; it is trained in place."""
    if settings.quantize and quantization_of(model) is None:
        remedy = "name its folder as model.path, or leave model.quantize out"
        raise ModelError("a model that is in memory is not quantized", where=QUANTIZE, remedy=remedy)
    move_to_device(model, settings)
    settle(model)
    refuse_broken_weights(model, settings.path)
    mark(tokenizer, model.config)
    grow(model, prepare(tokenizer, settings.add_tokens, settings.template_arguments or {}))
    loaded = LoadedModel(model, tokenizer, stop_tokens(model.generation_config, tokenizer, settings.path))
    adapter = attach_adapter(model, settings, seed)
    if adapter is not None and settings.adapter is not None:
        load_reference(adapter, settings.adapter)
    return Policy(loaded.model, **model_options(settings, model, adapter)), loaded


def move_to_device(model: PreTrainedModel, settings: ModelSettings) -> None:
    """Move a model that is in memory to the device of `settings`, in place. `auto` does not move it from one GPU to
    another, and a model over several devices stays where it is."""
    device = resolve_device(settings.device)
    if model.device.type != device and getattr(model, "hf_device_map", None) is None:
        model.to(device)  # type: ignore[arg-type]  # a name is a device


def autocast_of(settings: ModelSettings, model: PreTrainedModel) -> torch.dtype | None:
    """The dtype in which `model` computes for inference, if it is not that of its weights."""
    precision = resolve_precision(settings.precision, resolve_device(settings.device), hidden_units(model.config))
    return torch.bfloat16 if precision == "bfloat16" else None


def training_precision(settings: ModelSettings, hidden: int) -> str:
    """The precision in which a model of `hidden` units is trained. On a CPU, `auto` trains all weights in float32,
    which needs no masters (`masters.py`)."""
    adapter = settings.lora is not None or settings.adapter is not None
    return resolve_precision(settings.precision, resolve_device(settings.device), hidden if adapter else 0)


def weights_dtype(settings: ModelSettings, config: PreTrainedConfig) -> torch.dtype:
    """The dtype of the weights during training; with an adapter, of the frozen base."""
    precision = training_precision(settings, hidden_units(config))
    if precision == "bfloat16" and (settings.lora or settings.adapter):
        return torch.bfloat16
    return torch.float64 if precision == "float64" else torch.float32


def is_residual_narrow(settings: ModelSettings) -> bool:
    """Whether, with bfloat16, the hidden states between layers are bfloat16 too."""
    residual = settings.residual
    return residual == "bfloat16" or (residual == "auto" and resolve_device(settings.device) == "cuda")


def model_options(settings: ModelSettings, model: PreTrainedModel, adapter: PeftModel | None) -> ModelOptions:
    """The options of the wrapper around a model with these `settings`."""
    stays = settings.precision == "auto" and model.dtype == torch.float64
    narrow = training_precision(settings, hidden_units(model.config)) == "bfloat16" and not stays
    cast = narrow and is_residual_narrow(settings) and can_be_narrow(model)
    return {
        "adapter": adapter,
        "autocast": torch.bfloat16 if narrow and not cast else None,
        "cast": torch.bfloat16 if cast else None,
        "sharing": settings.sharing,
        "activation_checkpointing": settings.activation_checkpointing,
        "recompute_every": settings.recompute_every,
        "router_aux_loss_coef": settings.router_aux_loss_coef,
    }


def save_policy(
    policy: PackedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    sealed: bool = True,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a Hugging Face folder in the dtype of the base model (or a PEFT adapter), with the tokenizer. Only its
    owner can read it. It is written in full or not at all; `sealed` adds a manifest that detects damage. `weights`
    replace the model's own. All processes of a run must call this; the first one writes."""
    with ExitStack() as stack:
        if is_sharded(policy):
            weights = _gathered(policy, folder.with_name(f"{folder.name}.parts.tmp"), stack)
        if world().first:
            temporary = folder.with_name(f"{folder.name}.tmp")
            _save_weights(policy, temporary, weights)
            tokenizer.save_pretrained(temporary)
            disk.make_private(temporary)
            if sealed:
                manifest.write(temporary)
            disk.put_folder(temporary, folder)


def _save_weights(policy: PackedModel, folder: Path, weights: Mapping[str, Tensor] | None) -> None:
    disk.remove(folder)
    disk.make_folder(folder)
    if policy.adapter is not None:
        trains = getattr(policy.adapter.peft_config["default"], "trainable_token_indices", None)
        # Added rows that the adapter does not train are saved with it; other libraries could not recreate them.
        embeddings = not trains if added_rows(policy.model) else "auto"
        policy.adapter.save_pretrained(
            str(folder), selected_adapters=["default"], save_embedding_layers=embeddings, state_dict=weights
        )
        if (how := quantization_of(policy.model)) is not None:
            how.save(folder)
    else:
        with _as_trained(policy):
            save_weights(policy.model, folder, stored_dtype(policy.model), weights)


def _as_trained(policy: PackedModel) -> AbstractContextManager[None]:
    """Inside the context the weights are what should be written: the masters, or in bfloat16 the rounded weights."""
    return nullcontext() if stored_dtype(policy.model) == torch.bfloat16 else policy.whole_weights()


def _gathered(policy: PackedModel, folder: Path, stack: ExitStack) -> dict[str, Tensor]:
    """The weights of a sharded model, for the first process to write. It gathers them one by one and keeps them in
    files in `folder` until then. With an adapter, the frozen weights of the layers are left out."""
    weights = (policy.adapter or policy.model).state_dict(keep_vars=True)
    if policy.adapter is not None:
        inside = {id(p) for layer in layers(policy.model) for p in layer.parameters() if not p.requires_grad}
        weights = {name: value for name, value in weights.items() if id(value) not in inside}
    with _as_trained(policy):
        if not world().first:
            return whole_tensors(weights)
        put = stack.enter_context(on_disk(folder))
        cast = casts(policy.model, stored_dtype(policy.model)) if policy.adapter is None else lambda _, value: value
        return whole_tensors(weights, lambda name, value: put(cast(name, value)))


def weights_digest(model: nn.Module, begin: str = "") -> str:
    """sha256 over `begin` and every weight's name, type, shape and bytes, without a reference's copy of an adapter."""
    digest = hashlib.sha256(begin.encode())
    for name, value in model.state_dict().items():
        if f".{REFERENCE_ADAPTER}." in name:
            continue
        value = whole_tensor(value.detach())
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_weights(
    settings: ModelSettings, path: str, auto: type[Any] | None = None, adapter: str | None = None
) -> PreTrainedModel:
    """The model at `path`, loaded with the class `auto` (by default that of language models), on the device and in the
    dtype of `settings`. If `adapter` was trained on a quantized base, the weights are quantized and dequantized, so
    that they have the values that the adapter was trained on."""
    device = resolve_device(settings.device)
    check_folder(path)
    with readable(path):
        gguf = gguf_of(path, settings.gguf_file)
        config = config_at(path, settings.revision, gguf)
        refuse_misnamed(config, path)
        auto = auto or auto_class(config)
        dtype = weights_dtype(settings, config)
        if gguf is not None and settings.quantize:
            remedy = "train on the folder that the GGUF file was made from, or leave model.quantize out"
            raise ModelError("a GGUF file comes dequantized, and stays so", where=QUANTIZE, remedy=remedy)
        how = Quantization.recorded(adapter) if adapter else _quantization(settings, config, dtype, auto)
        model, info = auto.from_pretrained(
            path,
            revision=settings.revision,
            dtype=how.dtype if how else dtype,
            trust_remote_code=False,
            **({"use_safetensors": True} if gguf is None else {"gguf_file": gguf}),
            **({"quantization_config": how.config(), "device_map": {"": device}} if how else {}),
            attn_implementation=None,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
    refuse_other_weights(model, info, path)
    if gguf is not None:
        del model.config.quantization_config, model.hf_quantizer  # the weights are plain now
        model.is_quantized = False  # type: ignore[assignment]  # a flag of transformers
    settle(model, how)
    if adapter is not None:
        dequantize(model, dtype)
    model = model if how else model.to(device)
    if dtype != torch.float64:  # which is asked for by name, and written as well
        remember_dtype(model, dtype_on_disk(path, settings.revision, settings.gguf_file))
    refuse_broken_weights(model, path)
    return model


def _quantization(
    settings: ModelSettings, config: PreTrainedConfig, dtype: torch.dtype, auto: type[Any]
) -> Quantization | None:
    """The quantization of the base under the adapter of `settings`. Raises ModelError if it is not possible."""
    known = Quantization.recorded(settings.adapter) if settings.adapter else None
    if known is not None and known.kind != settings.quantize:
        what = f"was trained on a base in {known.kind}"
        remedy = f"set model.quantize={known.kind}, or `twofold export` it and train on that"
        raise ModelError(what, where=str(settings.adapter), remedy=remedy)
    if settings.quantize is None:
        return None
    if getattr(config, "quantization_config", None) is not None:
        remedy = "leave model.quantize out, or name the folder of the model before that"
        raise ModelError("is quantized already", where=settings.path, remedy=remedy)
    if known is not None:
        return replace(known, dtype=dtype)
    with torch.device("meta"):
        empty = auto.from_config(config, trust_remote_code=False)
    trained = settings.lora.modules_to_save if settings.lora else saved_by(settings.adapter)
    return Quantization(settings.quantize, dtype, spared(empty, trained))


def _has_tokenizer(path: str) -> bool:
    return (Path(path) / "tokenizer_config.json").is_file()
