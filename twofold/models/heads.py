"""The reward model and the value model: groups in, scores or values out, read from hidden states by a linear head.

A reward model reads one score at the last token of each completion. A value model reads a value before every token: the
expected reward of the rest. A process reward model is a value model that is read where steps end, as log-odds.
Both are an `AutoModelForSequenceClassification` with one label, which other libraries can load. So a value model can
start from a reward model. A causal language model gets a fresh head (Ouyang et al. 2022, arXiv:2203.02155, start from
SFT; the head is initialized as in Stiennon et al. 2020, arXiv:2009.01325).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from twofold.batch import Group
from twofold.errors import ModelError, first_line
from twofold.models.adapters import (
    CLASSIFIER,
    CLASSIFYING,
    LoRA,
    adapter_task,
    attach_adapter,
    base_and_adapter,
    is_classifier,
    merge,
    merged,
)
from twofold.models.load import (
    LoadedModel,
    ModelSettings,
    load_model,
    load_weights,
    model_options,
    move_to_device,
    save_policy,
)
from twofold.models.packed_model import ModelOptions, PackedModel
from twofold.models.packing import Packing
from twofold.models.parts import copied, in_parts
from twofold.models.policy import Policy
from twofold.models.quantized import is_quantized, refuse_requantizing, remember_quantization, settle
from twofold.models.rows import padded, predicting_rows, predictions, whole_rows
from twofold.models.sharding import weights_here, whole_model
from twofold.models.stored import remember_dtype, stored_dtype
from twofold.models.tokenizer_files import config_at, load_tokenizer, stop_tokens
from twofold.models.tokenizers import grow, prepare
from twofold.world import is_sharded


class _LinearHead:
    """The part that both heads share."""

    def of_pack(self, model: PreTrainedModel, hidden_SH: Tensor, target_S: Tensor) -> Tensor:
        return _scores(model, hidden_SH)

    def statistics(
        self, model: PreTrainedModel, groups: Sequence[Group], hidden_SH: Tensor | None, names: Sequence[str]
    ) -> Mapping[str, Tensor]:
        return {}


class ScoreHead(_LinearHead):
    """Scores [B] of completions: a linear function of the hidden row at each last token, in float32 at least."""

    ends = True
    name = "scores"
    output = "score_B"

    def of_rows(self, model: PreTrainedModel, groups: Sequence[Group]) -> Tensor:
        rows = whole_rows(groups)
        out = model.base_model(input_ids=padded(rows, model.device), use_cache=False)
        last = torch.tensor([len(row) - 1 for row in rows], device=model.device)
        hidden_BH = out.last_hidden_state[torch.arange(len(rows), device=model.device), last]
        return _scores(model, hidden_BH)


class ValueHead(_LinearHead):
    """Values [S]: the same linear function of each hidden row that predicts a token of a completion."""

    ends = False
    name = "values"
    output = "value_S"

    def of_rows(self, model: PreTrainedModel, groups: Sequence[Group]) -> Tensor:
        rows = padded(predicting_rows(groups), model.device)
        out = model.base_model(input_ids=rows, use_cache=False).last_hidden_state
        return _scores(model, torch.cat(predictions(out, groups)))


def _scores(model: PreTrainedModel, hidden_BH: Tensor) -> Tensor:
    score = cast("nn.Module", model.score)
    with torch.autocast(hidden_BH.device.type, enabled=False):
        return score(hidden_BH.to(next(score.parameters()).dtype)).squeeze(1)


class RewardModel(PackedModel):
    """A sequence classifier with one label. `note` describes where its head comes from, if it is new."""

    def __init__(self, model: PreTrainedModel, **holding: Unpack[ModelOptions]) -> None:
        super().__init__(model, ScoreHead(), **holding)

    def scores(self, groups: Sequence[Group], packing: Packing | None = None) -> list[list[float]]:
        """Per group the score of each branch, without gradient."""
        return [[score.item() for score in row] for row in self.per_branch(groups, packing)]


class ValueModel(PackedModel):
    """A value before each token of a completion: the expected future reward (PPO's critic), or log-odds that the step
    that ends there is right (a process reward model). `note` as for a reward model."""

    def __init__(self, model: PreTrainedModel, **holding: Unpack[ModelOptions]) -> None:
        super().__init__(model, ValueHead(), **holding)

    @classmethod
    def of(cls, model: RewardModel, settings: ModelSettings) -> ValueModel:
        """The same weights read before every token. A fresh head is set to zero, so that it predicts 0 until trained.
        This happens after the check on sharing, which zeros would always pass."""
        note = model.note and f"{settings.path} has no score head: a new one begins at zero"
        held = cls(model.model, **model_options(settings, model.model, model.adapter) | {"note": note})
        if note:
            with torch.no_grad():
                for parameter in cast("nn.Module", held.model.score).parameters():
                    parameter.zero_()
        return held

    def values(self, groups: Sequence[Group], packing: Packing | None = None) -> list[list[Tensor]]:
        """Per group and branch the value [n] before each of its tokens, without gradient, on the CPU."""
        return self.per_branch(groups, packing)


def load_value_model(settings: ModelSettings, seed: int = 0) -> tuple[ValueModel, LoadedModel]:
    """A value model initialized from the reward or value model at `settings.path`; a language model gets a head of
    zeros. Raises ModelError as `load_reward_model` does."""
    model, loaded = load_reward_model(settings, seed)
    return ValueModel.of(model, settings), loaded


def value_model_of(
    policy: Policy, loaded: LoadedModel, settings: ModelSettings, seed: int = 0
) -> tuple[ValueModel, LoadedModel]:
    """A value model with a head of zeros over a copy of the policy's current weights, with adapters merged in. If the
    policy trains an adapter, the copy trains a new one."""
    if policy.adapter is None:
        model = copied(policy.model)
    else:  # a new adapter changes nothing yet, and its base may stay quantized, or in parts
        adapter: Any = copied(policy.adapter)
        stays = settings.lora and (is_quantized(policy.model) or in_parts(policy.model))
        model = adapter.unload() if stays else merge(adapter)
    lora = settings.lora or (LoRA() if settings.adapter is not None else None)
    settings = replace(settings, lora=lora, adapter=None)
    base = LoadedModel(model, deepcopy(loaded.tokenizer), loaded.stop_tokens)
    held, mine = _wrap(settings, *_with_head(base, seed, settings.path))
    return ValueModel.of(held, settings), mine


def save_value_model(model: ValueModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a folder that AutoModelForSequenceClassification loads. An adapter is merged; `model` cannot be used after
    that."""
    if model.adapter is None:
        save_policy(model, tokenizer, folder)
        return
    shared = is_sharded(model)
    with whole_model(model.model):
        plain = ValueModel(merge(model.adapter), sharing="rows")
        save_policy(plain, tokenizer, folder, weights=weights_here(plain.model) if shared else None)


def load_reward_model(settings: ModelSettings, seed: int = 0) -> tuple[RewardModel, LoadedModel]:
    """The reward model at `settings.path`; a language model gets a fresh head, drawn from `seed`.

    An adapter folder loads its base with the adapter merged in. Raises ModelError for a classifier that has more than
    one label or does not score at the last token.
    """
    base, adapter = base_and_adapter(settings.path)
    if adapter is not None and adapter_task(adapter) == CLASSIFYING:
        refuse_requantizing(settings.quantize, settings.path, adapter)
        loaded = _loaded(replace(settings, path=base), seed, adapter)[0]
        model = merged(loaded.model, adapter)
        tokenizer = load_tokenizer(adapter) if (Path(adapter) / "tokenizer_config.json").is_file() else loaded.tokenizer
        return _wrap(settings, replace(loaded, model=model, tokenizer=tokenizer), seed, "")
    return _wrap(settings, *_loaded(settings, seed))


def wrap_reward_model(
    settings: ModelSettings, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int = 0
) -> tuple[RewardModel, LoadedModel]:
    """As `load_reward_model`, of a model that is in memory already; its weights are trained in place."""
    move_to_device(model, settings)
    if CLASSIFIER in type(model).__name__:
        return _wrap(settings, LoadedModel(model, tokenizer, _stops(model, tokenizer, settings.path)), seed, "")
    grow(model, prepare(tokenizer, settings.add_tokens, settings.template_arguments or {}))
    loaded = LoadedModel(model, tokenizer, stop_tokens(model.generation_config, tokenizer, settings.path))
    return _wrap(settings, *_with_head(loaded, seed, settings.path))


def wrap_value_model(
    settings: ModelSettings, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int = 0
) -> tuple[ValueModel, LoadedModel]:
    """As `load_value_model`, of a model that is in memory already; its weights are trained in place."""
    reward, loaded = wrap_reward_model(settings, model, tokenizer, seed)
    return ValueModel.of(reward, settings), loaded


def _loaded(settings: ModelSettings, seed: int, of: str | None = None) -> tuple[LoadedModel, int, str]:
    """The classifier of a folder that is not a classifier's adapter, with `seed` and a note for the user; `of` is an
    adapter that will be merged in."""
    base, adapter = base_and_adapter(settings.path)
    if adapter is not None or not is_classifier(base, settings.revision):
        return _with_head(load_model(settings, of), seed, settings.path)
    config = config_at(base, settings.revision)
    _refuse_labels(config, base)
    tokenizer = load_tokenizer(base, settings.revision)
    model = load_weights(settings, base, AutoModelForSequenceClassification, of)
    grow(model, prepare(tokenizer, settings.add_tokens, settings.template_arguments or {}))
    return LoadedModel(model, tokenizer, _stops(model, tokenizer, base)), seed, ""


def _wrap(settings: ModelSettings, loaded: LoadedModel, seed: int, note: str) -> tuple[RewardModel, LoadedModel]:
    model, tokenizer = loaded.model, loaded.tokenizer
    _refuse_labels(model.config, settings.path)
    if not isinstance(getattr(model, "score", None), nn.Module):
        raise ModelError(
            f"a {type(model).__name__} does not read its score at the last token",
            where=settings.path,
            remedy="choose a decoder model",
        )
    _settle(loaded)
    score = cast("nn.Module", model.score)
    score.to(torch.promote_types(model.dtype, torch.float32))  # a bfloat16 head would round every score
    settle(model)
    adapter = attach_adapter(model, settings, seed, CLASSIFYING)
    held = RewardModel(model, **model_options(settings, model, adapter) | {"note": note})
    return held, LoadedModel(model, tokenizer, loaded.stop_tokens)


def _with_head(loaded: LoadedModel, seed: int, path: str) -> tuple[LoadedModel, int, str]:
    """A language model's weights under a fresh head of one label, its entries N(0, 1/(H + 1))."""
    causal = loaded.model
    config = causal.config
    config.num_labels = 1
    try:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    except (ValueError, KeyError) as error:
        raise ModelError(
            first_line(error), where=path, remedy="choose a model that transformers can classify"
        ) from error
    if type(getattr(model, "score", None)) is nn.Linear:
        setattr(model, model.base_model_prefix, causal.base_model)
        model.score = _fresh_head(cast("nn.Linear", model.score), seed).to(device=causal.device, dtype=causal.dtype)
    remember_dtype(model, stored_dtype(causal))
    remember_quantization(model, causal)
    model.config = config  # the one in which its layers look up their attention
    model.eval()
    note = f"{path} has no score head: a fresh one was drawn from seed {seed}"
    return LoadedModel(model, loaded.tokenizer, loaded.stop_tokens), seed, note


def _fresh_head(like: nn.Linear, seed: int) -> nn.Linear:
    noise = torch.Generator().manual_seed(seed)
    head = nn.utils.skip_init(nn.Linear, like.in_features, 1, bias=like.bias is not None)  # which would draw, too
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight.normal_(0, (like.in_features + 1) ** -0.5, generator=noise)
        if like.bias is not None:
            head.bias.zero_()
    return head


def _settle(loaded: LoadedModel) -> None:
    """Set what other libraries need to read the score at the right token: one label, and a padding token that is not a
    stop token. They read the score at the last token that is not padding."""
    config, tokenizer = loaded.model.config, loaded.tokenizer
    size = config.get_text_config().vocab_size
    known: tuple[Any, ...] = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id, *range(size))
    pad = next(i for i in known if isinstance(i, int) and i < size and i not in loaded.stop_tokens)
    if pad != tokenizer.pad_token_id:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
    tokenizer.padding_side = "right"
    config.pad_token_id = pad
    config.problem_type = "regression"
    config.eos_token_id = sorted(loaded.stop_tokens) if len(loaded.stop_tokens) > 1 else min(loaded.stop_tokens)


def _stops(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: str) -> frozenset[int]:
    """A classifier keeps its stop tokens in its config: it has no generation config."""
    return stop_tokens(GenerationConfig.from_model_config(model.config), tokenizer, path)


def _refuse_labels(config: Any, path: str) -> None:
    if config.num_labels != 1:
        raise ModelError(
            f"a classifier of {config.num_labels} labels is no reward model",
            where=path,
            remedy="choose a classifier of one label, or a language model, which gets a fresh head",
        )
