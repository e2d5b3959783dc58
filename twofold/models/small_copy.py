"""A small model of the same architecture: every kind of layer, a few heads, random weights. Limits that depend on
length are so low that a few dozen tokens reach them. It shows what the architecture does, whatever the weights are.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from twofold.models.attention import stock_name
from twofold.models.row_lengths import rope_kind, rope_tables
from twofold.models.seq2seq import encodes_prompts

WINDOW, SWITCH, POSITIONS = 8, 20, 48
"""Of the copy: the length of a sliding window, the tokens after which rotary factors change, and its positions."""
_VOCABULARY = 64
_LAYERS, _EXPERTS, _FEED_FORWARD = 6, 16, 48  # maximums; there are at least two layers, one of each kind
_HEADS = 2, 4  # some architectures require at least four
_MOST = 42_000_000  # weights; a larger copy would take too long

_WINDOW_NAMES = re.compile(r"(window|window_size|window_len|attention_chunk_size|local_attention|index_topk)$")
_FEED_FORWARD_NAMES = re.compile(r"(intermediate_size|ffn_dim|ffn_hidden_size|n_inner|d_ff)$")
_EXPERT_NAMES = re.compile(r"(num_experts|num_local_experts|n_routed_experts|moe_num_experts)$")
_LAYER_NAMES = ("num_hidden_layers", "num_encoder_layers", "num_decoder_layers", "encoder_layers", "decoder_layers")
_DENSE = "first_k_dense_replace"
_BORROWERS = "num_kv_shared_layers"
_HEAD_NAMES = ("num_attention_heads", "encoder_attention_heads", "decoder_attention_heads")


def small_copy(
    model: PreTrainedModel, dtypes: Sequence[torch.dtype] = (torch.float64, torch.float32)
) -> PreTrainedModel | None:
    """A model of `model`'s class on the CPU, in the first of `dtypes` that its layers support, with finite logits for a
    row; None if no small one can be built."""
    with _quiet():
        return _first_built(model, dtypes)


def _first_built(model: PreTrainedModel, dtypes: Sequence[torch.dtype]) -> PreTrainedModel | None:
    for dtype in dtypes:
        for heads in (*_HEADS, None):
            config = copy.deepcopy(model.config)
            config._attn_implementation = stock_name(model)
            try:
                for part in _parts(config):
                    _shorten(part)
                    if heads:
                        _narrow(part, heads)
                made = _built(type(model), config, dtype)
                if made is not None and _is_finite(made):
                    return made
            except Exception:  # of any kind: the class may reject the changed config
                continue
    return None


def windows(config: PreTrainedConfig) -> list[int]:
    """The sliding windows in a config, in tokens."""
    named = ((name, value) for part in _parts(config) for name, value in vars(part).items())
    return [value for name, value in named if _WINDOW_NAMES.search(name) and type(value) is int]


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide warnings of transformers about a model that users never see."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)


def _is_finite(model: PreTrainedModel) -> bool:
    token = torch.arange(1, 13)[None]
    further = {"decoder_input_ids": token} if encodes_prompts(model) else {}
    with torch.no_grad():
        return bool(model(input_ids=token, use_cache=False, **further).logits.isfinite().all())


def _parts(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    """The config and the configs inside it."""
    yield config
    for value in list(vars(config).values()):
        if isinstance(value, PreTrainedConfig):
            yield from _parts(value)


def _built(kind: type[PreTrainedModel], config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel | None:
    with torch.device("meta"):
        size = sum(p.numel() for p in kind._from_config(copy.deepcopy(config)).parameters())
    if size > _MOST:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for part in _parts(config):
            part._experts_implementation = "eager"  # the only one with float64
        model = kind._from_config(config, dtype=dtype)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():  # large enough that a token's context matters
            if weight.dim() > 1 and weight.is_floating_point():
                weight.normal_(0, 1.5 * min(weight.shape[-2:]) ** -0.5, generator=noise)
    return model.eval().requires_grad_(False)


def _shorten(config: PreTrainedConfig) -> None:
    """Set a small vocabulary, few layers, short windows and early switches of rotary factors."""
    for name, value in list(vars(config).items()):
        if name.startswith("vocab_size") and isinstance(value, int):
            _set(config, name, min(value, _VOCABULARY))
        elif name.endswith("token_id"):
            _set(config, name, _known(value))
        elif _WINDOW_NAMES.search(name) and type(value) is int:
            _set(config, name, min(value, WINDOW))
    _fewer_layers(config)
    tables = list(rope_tables(config))
    for table in (*tables, config):
        if isinstance(table, MutableMapping):
            if table.get("original_max_position_embeddings"):
                table["original_max_position_embeddings"] = SWITCH
        elif getattr(table, "original_max_position_embeddings", None):
            _set(config, "original_max_position_embeddings", SWITCH)
    positions = SWITCH if any(rope_kind(table) == "dynamic" for table in tables) else POSITIONS
    _set(config, "max_position_embeddings", min(getattr(config, "max_position_embeddings", None) or 0, positions))


def _set(config: PreTrainedConfig, name: str, value: Any) -> None:
    """Set a field that the config has, unless it is read-only."""
    if getattr(config, name, None):
        with suppress(NotImplementedError):
            setattr(config, name, value)


def _known(token: Any) -> Any:
    if isinstance(token, (list, tuple)):
        return [_known(t) for t in token]  # pyright: ignore[reportUnknownVariableType]  # of whatever it holds
    return min(token, _VOCABULARY - 1) if isinstance(token, int) else token


def _fewer_layers(config: PreTrainedConfig) -> None:
    """Keep one layer of each kind; kinds differ in the config's per-layer lists."""
    count = getattr(config, "num_hidden_layers", None)
    if not isinstance(count, int) or count < 1:
        return
    lists = {n: v for n, v in vars(config).items() if isinstance(v, (list, tuple)) and len(v) == count}
    borrowing = count - (getattr(config, _BORROWERS, None) or 0)  # later layers use the keys and values of others
    kinds: dict[str, int] = {}
    for i in range(count):
        kinds.setdefault(repr([i >= borrowing, *(v[i] for v in lists.values())]), i)
    chosen = sorted({*list(kinds.values())[:_LAYERS], *range(min(2, count))})
    for name, values in lists.items():
        _set(config, name, [values[i] for i in chosen])
    _set(config, _DENSE, 1)
    for name in _LAYER_NAMES:
        _set(config, name, len(chosen))
    _set(config, _BORROWERS, sum(i >= borrowing for i in chosen))


def _narrow(config: PreTrainedConfig, most: int) -> None:
    """Keep at most `most` heads of the same size, few experts, and a narrow feed-forward layer."""
    heads, hidden = (getattr(config, name, None) for name in ("num_attention_heads", "hidden_size"))
    numbers = {name: value for name, value in vars(config).items() if type(value) is int}
    if isinstance(heads, int) and isinstance(hidden, int) and heads > most:
        for name, value in numbers.items():
            if value == hidden and "vocab" not in name and "position" not in name:
                _set(config, name, hidden // heads * most)
        shared = numbers.get("num_key_value_heads", heads)
        _set(config, "num_key_value_heads", most if shared == heads else 1)
        for name in _HEAD_NAMES:
            _set(config, name, most)
    for name, value in list(vars(config).items()):
        for names, most_of_it in ((_FEED_FORWARD_NAMES, _FEED_FORWARD), (_EXPERT_NAMES, _EXPERTS)):
            if names.search(name):
                _set(config, name, _at_most(value, most_of_it))


def _at_most(value: Any, most: int) -> Any:
    """A number, or one for each layer."""
    if isinstance(value, (list, tuple)):
        return [_at_most(v, most) for v in value]  # pyright: ignore[reportUnknownVariableType]  # of whatever it holds
    return min(value, most) if type(value) is int else value
