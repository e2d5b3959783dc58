"""Adapters through PEFT: how a model gets one, and how one is merged into the model's weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from twofold.client.hub import refuse_unknown_model
from twofold.errors import ModelError, first_line
from twofold.models.dora import settle_magnitudes
from twofold.models.integrity import check_folder
from twofold.models.loadable import readable
from twofold.models.locate import refuse_missing
from twofold.models.lora_targets import SAVE, WHERE, refuse_untouched_experts, saved_modules, targets_of, without
from twofold.models.quantized import dequantize, is_quantized
from twofold.models.seq2seq import encodes_prompts
from twofold.models.tokenizer_files import SEQ2SEQ_TASK, config_at
from twofold.models.tokenizers import added_rows
from twofold.settings import require, settings

if TYPE_CHECKING:
    from peft import PeftModel

REFERENCE_ADAPTER = "reference"
CLASSIFIER, CLASSIFYING = "ForSequenceClassification", "SEQ_CLS"
"""How a reward model is recognized: part of the architecture's name in its config, and its adapter's PEFT task."""


@settings
class LoRA:
    """Low-rank adapters on every linear layer except the head (Hu et al. 2021, arXiv:2106.09685), through PEFT. There
    is no dropout: the DPO loss must start at ln 2, and the model without its adapter must be exactly the reference
    model."""

    rank: int = 16
    alpha: float = 32.0
    """Scales the update by alpha / rank."""
    rslora: bool = False
    """Scale the update by alpha / √rank instead (Kalajdzievski 2023, arXiv:2312.03732). High ranks then learn as fast
    as low ones."""
    dora: bool = False
    """Train the norm and the direction of each weight row separately (DoRA: Liu et al. 2024, arXiv:2402.09353)."""
    targets: str | tuple[str, ...] = "all-linear"
    """Layers to adapt: all-linear (all but the head and routers), or a list of names. `experts` means all experts of a
    mixture."""
    exclude: tuple[str, ...] = ()
    """Layers or blocks to leave out, even if they match `targets`: `down_proj`, `mlp`, `layers.0`."""
    modules_to_save: tuple[str, ...] = ()
    """Modules to train fully and save in the adapter, such as `lm_head` or `embed_tokens`. The reference model uses
    their original weights."""

    def __post_init__(self) -> None:
        require(self.rank > 0, "rank must be ≥ 1")
        require(self.alpha > 0, "alpha must be > 0")


class AsksForAdapter(Protocol):
    """The model settings that concern the adapter (part of `load.ModelSettings`)."""

    @property
    def path(self) -> str: ...
    @property
    def lora(self) -> LoRA | None: ...
    @property
    def adapter(self) -> str | None: ...
    @property
    def train_tokens(self) -> bool: ...


def attach_adapter(
    model: PreTrainedModel, settings: AsksForAdapter, seed: int, task: str | None = None
) -> PeftModel | None:
    """Add the adapter that `settings` request to the model, ready for training: a new one, or the one in a folder."""
    task = task or (SEQ2SEQ_TASK if encodes_prompts(model) else "CAUSAL_LM")
    if settings.lora is not None:
        return _new(model, settings, settings.lora, seed, task)
    if settings.adapter is None:
        return None
    from peft import PeftModel

    if not (Path(settings.adapter) / "adapter_config.json").is_file():  # PEFT would read a pickle of the hub
        remedy = "name a folder with adapter_config.json and adapter_model.safetensors"
        raise ModelError("is no folder of a PEFT adapter", where=settings.adapter, remedy=remedy)
    _check_adapter(settings.adapter)
    if task != CLASSIFYING:
        refuse_classifier(settings.adapter)
    with readable(settings.adapter):
        saved = saved_by(settings.adapter)
        for name in saved:
            _widen(model, name)
        adapter = PeftModel.from_pretrained(model, settings.adapter, is_trainable=True)  # type: ignore[arg-type]
    adapter.peft_config["default"].modules_to_save = list(saved) or None  # type: ignore[attr-defined]  # which PEFT has changed
    settle_magnitudes(adapter, fresh=False)
    return adapter


def _new(model: PreTrainedModel, settings: AsksForAdapter, lora: LoRA, seed: int, task: str) -> PeftModel:
    from peft import LoraConfig, get_peft_model

    targets = without(model, targets_of(model, lora.targets), lora.exclude)
    if lora.dora and targets.get("target_parameters"):
        remedy = "set model.lora.exclude=[experts], or leave dora out"
        raise ModelError("PEFT has no DoRA for experts", where="model.lora.dora", remedy=remedy)
    saved = saved_modules(model, lora.modules_to_save)
    for name in saved:
        _widen(model, name)
    head = _tied_head(model, saved)
    if head:
        saved = [*(each for each in saved if each not in _embeddings(model)), *_embeddings(model)]
    if settings.train_tokens and {*saved} & {*_embeddings(model)}:
        what = "trains the embeddings whole, and train_tokens some of their rows"
        raise ModelError(what, where=SAVE, remedy="take one of the two")
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # PEFT takes a float as well
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        **targets,
        modules_to_save=[*saved] or None,  # a list of its own, which PEFT changes
        ensure_weight_tying=bool(head),
        trainable_token_indices=_rows_to_train(model, settings),
        lora_dropout=0.0,
        task_type=task,  # type: ignore[arg-type]  # the name of a TaskType
        fan_in_fan_out=any(_class(module).__name__ == "Conv1D" for module in model.modules()),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            adapter = get_peft_model(model, config)
        except ValueError as error:  # a target that PEFT has no layer for
            raise ModelError(first_line(error), where=WHERE, remedy="name other layers") from error
    refuse_untouched_experts(model, targets)
    settle_magnitudes(adapter, fresh=True)
    config.modules_to_save = saved or None  # by the head's name PEFT ties them again wherever the adapter is loaded
    config.base_model_name_or_path = settings.path
    return adapter  # type: ignore[return-value]  # no mixed adapters here


def _widen(model: PreTrainedModel, name: str) -> None:
    """Convert the modules called `name` to float32 at least, like all trained weights; the reference reads them too."""
    for full, module in model.named_modules():
        if full == name or full.endswith(f".{name}"):
            for parameter in module.parameters():
                if parameter.is_floating_point():
                    parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))


def _class(module: nn.Module) -> type:
    """The class of a layer; for a quantized layer, its class before quantization."""
    return getattr(module, "source_cls", type(module))


def _tied_head(model: PreTrainedModel, saved: list[str]) -> str:
    """The head's name if it shares its weight with the embeddings and either is in `saved`; otherwise empty."""
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    if outputs is None or outputs.weight is not inputs.weight or not {*saved} & {*_embeddings(model)}:
        return ""
    return next(n for n, m in model.named_modules() if m is outputs)


def _embeddings(model: PreTrainedModel) -> list[str]:
    parts = model.get_input_embeddings(), model.get_output_embeddings()
    return [n for n, m in model.named_modules() if any(m is part for part in parts)]


def _rows_to_train(model: PreTrainedModel, settings: AsksForAdapter) -> dict[str, list[int]] | None:
    """For each layer, the rows of the user's tokens, if the adapter trains them. PEFT handles tied heads itself."""
    if not settings.train_tokens:
        return None
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    apart = outputs is not None and outputs.weight is not inputs.weight
    layers = [name for name, m in model.named_modules() if m is inputs or (apart and m is outputs)]
    return {name: added_rows(model) for name in layers}


def copy_adapter(adapter: PeftModel) -> None:
    """Make a frozen copy of the adapter that is trained. It is called REFERENCE_ADAPTER; an adapter of that name is
    overwritten."""
    named = dict(adapter.base_model.named_parameters())
    if REFERENCE_ADAPTER not in adapter.peft_config:
        flags = {name: p.requires_grad for name, p in named.items()}
        with torch.random.fork_rng(), _no_word_on_ties():  # its first weights are drawn, then overwritten
            adapter.add_adapter(REFERENCE_ADAPTER, adapter.peft_config["default"])
        for name, flag in flags.items():
            named[name].requires_grad_(flag)
        _settle_reference(adapter)
    with torch.no_grad():
        for copied, mine in adapter_pairs(adapter).values():
            copied.requires_grad_(False).copy_(mine)


def adapter_pairs(adapter: PeftModel) -> dict[str, tuple[Tensor, Tensor]]:
    """Name → (copy, trained) for each current weight of the trained adapter."""
    named = dict(adapter.base_model.named_parameters())
    trained = {name: p for name, p in named.items() if ".default." in f"{name}." and p.requires_grad}
    place = {name: f"{name}.".replace(".default.", f".{REFERENCE_ADAPTER}.").removesuffix(".") for name in trained}
    return {name: (named[place[name]], mine) for name, mine in trained.items()}


def load_reference(adapter: PeftModel, folder: str) -> None:
    """Load the adapter in `folder` a second time, frozen, as the reference of the trained adapter."""
    with _no_word_on_ties():
        adapter.load_adapter(folder, REFERENCE_ADAPTER, is_trainable=False)
    _settle_reference(adapter)


@contextmanager
def _no_word_on_ties() -> Iterator[None]:
    """Hide PEFT's warning that it cannot tie the head and embeddings of a second adapter; `_settle_reference` does."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*ensure_weight_tying")
        yield


def _settle_reference(adapter: PeftModel) -> None:
    """Do what PEFT leaves out for a second adapter: DoRA in float32, and a saved head tied to saved embeddings."""
    settle_magnitudes(adapter, fresh=False)
    model: Any = adapter.get_base_model()
    wrappers = model.get_input_embeddings(), model.get_output_embeddings()
    inputs, outputs = (getattr(wrapper, "modules_to_save", {}) for wrapper in wrappers)
    if "default" in inputs and "default" in outputs and outputs["default"].weight is inputs["default"].weight:
        if REFERENCE_ADAPTER not in outputs:
            wrappers[1].update(REFERENCE_ADAPTER)
        outputs[REFERENCE_ADAPTER].weight = inputs[REFERENCE_ADAPTER].weight


def saved_by(folder: str | None) -> tuple[str, ...]:
    """The modules that the adapter in a folder trained fully."""
    from peft import PeftConfig

    if folder is None or not (Path(folder) / "adapter_config.json").is_file():
        return ()
    return tuple(getattr(PeftConfig.from_pretrained(folder), "modules_to_save", None) or ())


def _check_adapter(folder: str) -> None:
    """Raise ModelError for a damaged folder, and for one without weights, for which PEFT would ask the hub."""
    check_folder(folder)
    if not (Path(folder) / "adapter_model.safetensors").is_file():
        remedy = "put adapter_model.safetensors there, or remove adapter_config.json from a whole model"
        raise ModelError("has an adapter's config without its weights", where=folder, remedy=remedy)


def merged(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    """The plain model with the adapter folder `adapter` merged into its weights."""
    from peft import PeftModel

    _check_adapter(adapter)
    with readable(adapter):
        return PeftModel.from_pretrained(model, adapter).merge_and_unload()  # type: ignore[no-any-return, operator]  # PEFT forwards by attribute


def merge(adapter: PeftModel) -> PreTrainedModel:
    """The plain model with its adapter merged into it; `adapter` cannot be used afterwards. A quantized base is
    dequantized first. Otherwise the merged weights would be rounded to its few bits."""
    base: Any = adapter.get_base_model()
    if not is_quantized(base):
        return adapter.merge_and_unload()  # type: ignore[no-any-return, operator]  # PEFT forwards by attribute
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    config, weights = adapter.peft_config["default"], get_peft_model_state_dict(adapter)
    plain: Any = adapter.unload()  # type: ignore[operator]  # likewise
    dequantize(plain, torch.promote_types(plain.dtype, torch.float32))
    again: Any = get_peft_model(plain, config)
    set_peft_model_state_dict(again, weights)
    return again.merge_and_unload()


def base_and_adapter(path: str) -> tuple[str, str | None]:
    """The base model of an adapter folder, and the folder; for any other path, the path and None."""
    check_folder(path)
    if not (Path(path) / "adapter_config.json").is_file():
        return path, None
    base = _adapter_base(path)
    try:
        refuse_missing(base)
    except ModelError as error:
        remedy = "put its base model back there, or correct base_model_name_or_path in adapter_config.json"
        raise ModelError(f"is an adapter of {base}, which is not here", where=path, remedy=remedy) from error
    if not Path(base).is_dir():
        refuse_unknown_model(base)
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
        return False  # loading the weights reports the fault
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
    """The PEFT task type of an adapter folder."""
    from peft import PeftConfig

    with readable(adapter):
        return PeftConfig.from_pretrained(adapter).task_type  # type: ignore[return-value]  # a str enum


def _adapter_base(path: str) -> str:
    from peft import PeftConfig

    with readable(path):
        base = PeftConfig.from_pretrained(path).base_model_name_or_path
    if not base:
        remedy = "write base_model_name_or_path into its adapter_config.json"
        raise ModelError("the adapter does not name its base model", where=path, remedy=remedy)
    return base
