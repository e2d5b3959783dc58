"""A model, its tokenizer and its stop tokens from a folder or a hub name; adapters and precision as asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from twofold import disk, manifest
from twofold.errors import ModelError
from twofold.models.integrity import check_folder
from twofold.models.loadable import readable, refuse_broken_weights, refuse_unknown_tokens
from twofold.models.locate import gguf_of, refuse_missing
from twofold.models.lora_targets import WHERE, refuse_untouched_experts, targets_of
from twofold.models.packed_model import ModelOptions, PackedModel, Sharing
from twofold.models.policy import LanguageHead, Policy
from twofold.models.precision import hidden_units, resolve_precision
from twofold.models.stored import config_at, dtype_on_disk, remember_dtype, save_weights, stored_dtype
from twofold.models.tokenizers import added_rows, beyond, load_tokenizer, prepare, stop_tokens
from twofold.models.tokenizers import grow as grow
from twofold.models.tokenizers import load_stop_tokens as load_stop_tokens
from twofold.models.trial import findings, first_line, know_float64, refuse_leaks
from twofold.settings import require, settings
from twofold.world import is_sharded, whole_tensor, whole_tensors, world

if TYPE_CHECKING:
    from peft import PeftModel

REFERENCE_ADAPTER = "reference"
CLASSIFIER, CLASSIFYING = "ForSequenceClassification", "SEQ_CLS"
"""What the architectures of a reward model's config, and the task of its adapter, are called."""


@settings
class LoRA:
    """Low-rank adapters on every linear layer but the head (Hu et al. 2021, arXiv:2106.09685), through PEFT."""

    rank: int = 16
    alpha: float = 32.0
    """The update is scaled by alpha / rank."""
    targets: str | tuple[str, ...] = "all-linear"
    """Names of the layers to adapt: all-linear, which leaves the head and routers out, or a list of names; `experts`
    are all those of a mixture."""

    def __post_init__(self) -> None:
        require(self.rank > 0, "rank must be ≥ 1")
        require(self.alpha > 0, "alpha must be > 0")


@settings
class ModelSettings:
    """Which model, and how it is held."""

    path: str
    """Folder or hub name."""
    revision: str | None = None
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """bfloat16 computes under autocast over float32 weights; auto takes it where that pays: on GPUs, and on processors
    that are fast at it for models of 512 hidden units or more."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    lora: LoRA | None = None
    adapter: str | None = None
    """Folder of a PEFT adapter to go on training."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    router_aux_loss_coef: float | None = None
    """Of a mixture of experts: how much the load-balancing loss counts, over all tokens of a step. By default as the
    model's config says, where that sets output_router_logits; else, and with 0, there is none."""
    add_tokens: tuple[str, ...] = ()
    """Tokens that the tokenizer does not know yet, each of which becomes one: the model gets a row for it in its
    embeddings and its head, the mean of all others. They are trained where all weights are."""
    train_tokens: bool = False
    """Under LoRA, whether the rows of add_tokens are trained as well; the adapter then holds them."""
    template_arguments: Mapping[str, bool | int | float | str] | None = None
    """What the chat template reads beside the messages (`enable_thinking: false`); whatever renders takes it, and the
    trained model's tokenizer has it as its default."""
    gguf_file: str | None = None
    """Of a folder with several GGUF files the one to read; its weights come dequantized."""
    sharing: Sharing = "auto"
    """Whether completions share their prompt; auto checks that the model computes the same either way."""

    def __post_init__(self) -> None:
        require((self.router_aux_loss_coef or 0) >= 0, "router_aux_loss_coef must be ≥ 0")
        require(
            not self.train_tokens or bool(self.lora and self.add_tokens), "train_tokens asks for lora and add_tokens"
        )
        require(not (self.lora and self.adapter), "give lora (a new adapter) or adapter (an existing one), not both")


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model with its tokenizer; `stop_tokens` end a completion."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    stop_tokens: frozenset[int]

    def __post_init__(self) -> None:
        refuse_unknown_tokens(self.tokenizer, self.model)


def resolve_device(device: str) -> str:
    """`auto` becomes cuda where there is one."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("no CUDA device is visible", where="model.device", remedy="set model.device to auto or cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def load_model(settings: ModelSettings) -> LoadedModel:
    """Weights in float32 (float64 if asked; a frozen base under LoRA in bfloat16 where that is the precision).

    An adapter folder as `path` loads its base model with the adapter merged in.
    """
    base, adapter = base_and_adapter(settings.path)
    named = settings.path if adapter is None or _has_tokenizer(adapter) else base
    tokenizer = load_tokenizer(named, settings.revision, settings.gguf_file)
    added = prepare(tokenizer, settings.add_tokens, settings.template_arguments or {})
    refuse_classifier(settings.path, settings.revision)
    model = load_weights(settings, base)
    grow(model, added if adapter is None else beyond(tokenizer, model))
    if adapter is not None:
        model = merged(model, adapter)
    know_float64(model)
    refuse_leaks(model, findings(model, LanguageHead()), LanguageHead.name)
    return LoadedModel(model, tokenizer, stop_tokens(model.generation_config, tokenizer, settings.path))


def load_policy(settings: ModelSettings, seed: int = 0) -> tuple[Policy, LoadedModel]:
    """The policy that training moves, an adapter drawn from `seed` if one is asked for, and what it was made from."""
    loaded = load_model(settings)
    return wrap(settings, loaded.model, loaded.tokenizer, seed)


def wrap(
    settings: ModelSettings, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int = 0
) -> tuple[Policy, LoadedModel]:
    """As `load_policy`, of a model that is in memory already; it is trained in place."""
    refuse_broken_weights(model, settings.path)
    grow(model, prepare(tokenizer, settings.add_tokens, settings.template_arguments or {}))
    loaded = LoadedModel(model, tokenizer, stop_tokens(model.generation_config, tokenizer, settings.path))
    adapter = attach_adapter(model, settings, seed)
    if adapter is not None and settings.adapter is not None:
        adapter.load_adapter(settings.adapter, REFERENCE_ADAPTER, is_trainable=False)
    return Policy(loaded.model, **model_options(settings, model, adapter)), loaded


def autocast_of(settings: ModelSettings, model: PreTrainedModel) -> torch.dtype | None:
    """The dtype in which `model` answers, where that is not the one of its weights."""
    precision = resolve_precision(settings.precision, resolve_device(settings.device), hidden_units(model.config))
    return torch.bfloat16 if precision == "bfloat16" else None


def training_precision(settings: ModelSettings, hidden: int) -> str:
    """The precision in which a model of `hidden` units is trained. On a processor `auto` leaves training of all weights
    in float32: an update of less than half a step of bfloat16 would not be seen by the next forward pass."""
    adapter = settings.lora is not None or settings.adapter is not None
    return resolve_precision(settings.precision, resolve_device(settings.device), hidden if adapter else 0)


def model_options(settings: ModelSettings, model: PreTrainedModel, adapter: PeftModel | None) -> ModelOptions:
    """How a model of `settings` is held."""
    narrow = training_precision(settings, hidden_units(model.config)) == "bfloat16"
    return {
        "adapter": adapter,
        "autocast": torch.bfloat16 if narrow else None,
        "sharing": settings.sharing,
        "activation_checkpointing": settings.activation_checkpointing,
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
    """A Hugging Face folder in the dtype that its base has (or a PEFT adapter) with its tokenizer, for its owner alone,
    written whole or not at all; `sealed` with a manifest, by which damage is noticed. `weights` take the place of
    the model's own. Of several processes all must ask, and the first one writes."""
    if is_sharded(policy):
        weights = whole_tensors((policy.adapter or policy.model).state_dict(keep_vars=True))
    if not world().first:
        return
    temporary = folder.with_name(f"{folder.name}.tmp")
    disk.remove(temporary)
    disk.make_folder(temporary)
    if policy.adapter is not None:
        trains = getattr(policy.adapter.peft_config["default"], "trainable_token_indices", None)
        # Rows that the adapter does not train are written beside it, or other libraries could not have them.
        embeddings = not trains if added_rows(policy.model) else "auto"
        policy.adapter.save_pretrained(
            str(temporary), selected_adapters=["default"], save_embedding_layers=embeddings, state_dict=weights
        )
    else:
        save_weights(policy.model, temporary, stored_dtype(policy.model), weights)
    tokenizer.save_pretrained(temporary)
    disk.make_private(temporary)
    if sealed:
        manifest.write(temporary)
    disk.put_folder(temporary, folder)


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


def load_weights(settings: ModelSettings, path: str, auto: type[Any] = AutoModelForCausalLM) -> PreTrainedModel:
    """The weights at `path`, as a class of the family `auto`, on the device and in the dtype of `settings`."""
    device = resolve_device(settings.device)
    check_folder(path)
    with readable(path):
        gguf = gguf_of(path, settings.gguf_file)
        config = config_at(path, settings.revision, gguf)
        precision = training_precision(settings, hidden_units(config))
        dtype = torch.float64 if precision == "float64" else torch.float32
        if precision == "bfloat16" and (settings.lora or settings.adapter):
            dtype = torch.bfloat16
        model, info = auto.from_pretrained(
            path,
            revision=settings.revision,
            dtype=dtype,
            trust_remote_code=False,
            **({"use_safetensors": True} if gguf is None else {"gguf_file": gguf}),
            attn_implementation=None,
            output_loading_info=True,
        )
    if missing := sorted(info["missing_keys"]):  # transformers would draw them, and say nothing that one sees
        what = f"lacks weights that a {type(model).__name__} has: {missing[0]}"
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise ModelError(f"{what}{more}", where=path, remedy="the folder is of another model, or damaged: check it")
    if gguf is not None:
        del model.config.quantization_config, model.hf_quantizer  # the weights are plain now
        model.is_quantized = False  # type: ignore[assignment]  # a flag of transformers
    model = model.to(device)
    if dtype != torch.float64:  # which is asked for by name, and written as well
        remember_dtype(model, dtype_on_disk(path, settings.revision, settings.gguf_file))
    refuse_broken_weights(model, path)
    return model


def attach_adapter(
    model: PreTrainedModel, settings: ModelSettings, seed: int, task: str = "CAUSAL_LM"
) -> PeftModel | None:
    """The adapter that `settings` ask for, in the model and ready to be trained: a new one, or a folder's."""
    if settings.lora is None and settings.adapter is None:
        return None
    from peft import LoraConfig, PeftModel, get_peft_model

    if settings.adapter is not None:
        _refuse_no_adapter(settings.adapter)
        if task != CLASSIFYING:
            refuse_classifier(settings.adapter)
    if settings.lora is not None:
        targets = targets_of(model, settings.lora.targets)
        config = LoraConfig(
            r=settings.lora.rank,
            lora_alpha=settings.lora.alpha,  # type: ignore[arg-type]  # PEFT takes a float as well
            **targets,
            trainable_token_indices=_rows_to_train(model, settings),
            lora_dropout=0.0,
            task_type=task,  # type: ignore[arg-type]  # the name of a TaskType
            fan_in_fan_out=any(type(m).__name__ == "Conv1D" for m in model.modules()),
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            try:
                adapter = get_peft_model(model, config)
            except ValueError as error:  # a target that PEFT has no layer for
                raise ModelError(first_line(error), where=WHERE, remedy="name other layers") from error
        refuse_untouched_experts(model, targets)
        config.base_model_name_or_path = settings.path
        return adapter  # type: ignore[return-value]  # no mixed adapters here
    assert settings.adapter is not None, "one of both"
    with readable(settings.adapter):
        return PeftModel.from_pretrained(model, settings.adapter, is_trainable=True)  # type: ignore[arg-type]


def _rows_to_train(model: PreTrainedModel, settings: ModelSettings) -> dict[str, list[int]] | None:
    """By layer the rows of the user's tokens, if an adapter is to train them; PEFT follows tied heads by itself."""
    if not settings.train_tokens:
        return None
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    apart = outputs is not None and outputs.weight is not inputs.weight
    layers = [name for name, m in model.named_modules() if m is inputs or (apart and m is outputs)]
    return {name: added_rows(model) for name in layers}


def merged(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    """The model with the adapter folder `adapter` merged into its weights."""
    from peft import PeftModel

    check_folder(adapter)
    with readable(adapter):
        return PeftModel.from_pretrained(model, adapter).merge_and_unload()  # type: ignore[no-any-return, operator]  # PEFT forwards by attribute


def base_and_adapter(path: str) -> tuple[str, str | None]:
    """The model that an adapter folder is for, and the folder; of any other path, the path and None."""
    check_folder(path)
    if not (Path(path) / "adapter_config.json").is_file():
        return path, None
    base = _adapter_base(path)
    try:
        refuse_missing(base)
    except ModelError as error:
        remedy = "put its base model back there, or correct base_model_name_or_path in adapter_config.json"
        raise ModelError(f"is an adapter of {base}, which is not here", where=path, remedy=remedy) from error
    check_folder(base)
    return base, path


def is_classifier(path: str, revision: str | None = None) -> bool:
    """Whether a folder or hub name holds a sequence classifier, as a reward model is one, or an adapter of one."""
    base, adapter = base_and_adapter(path)
    if adapter is not None and adapter_task(adapter) == CLASSIFYING:
        return True
    try:
        config = config_at(base, revision)
    except (OSError, ValueError):
        return False  # whoever loads the weights says what is wrong
    return any(CLASSIFIER in name for name in config.architectures or ())


def refuse_classifier(path: str, revision: str | None = None) -> None:
    """Raise ModelError where a language model is needed and `path` holds a reward model."""
    if is_classifier(path, revision):
        raise ModelError(
            "is a reward model, not a language model: it scores answers and cannot write them",
            where=path,
            remedy="name a language model; `twofold score` and `data build` take this one as --judge reward:FOLDER",
        )


def adapter_task(adapter: str) -> str | None:
    """What PEFT calls the task of an adapter folder."""
    from peft import PeftConfig

    with readable(adapter):
        return PeftConfig.from_pretrained(adapter).task_type  # type: ignore[return-value]  # a str enum


def _adapter_base(path: str) -> str:
    from peft import PeftConfig

    with readable(path):
        base = PeftConfig.from_pretrained(path).base_model_name_or_path
    if not base:
        raise ModelError("the adapter does not name its base model", where=path)
    return base


def _has_tokenizer(path: str) -> bool:
    return (Path(path) / "tokenizer_config.json").is_file()


def _refuse_no_adapter(path: str) -> None:
    """An adapter is a folder: PEFT would read a pickle of the hub where there are no safetensors."""
    if not (Path(path) / "adapter_config.json").is_file():
        remedy = "name a folder with adapter_config.json and adapter_model.safetensors"
        raise ModelError("is no folder of a PEFT adapter", where=path, remedy=remedy)
    check_folder(path)
