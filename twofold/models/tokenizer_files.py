"""A model's tokenizer and stop tokens, read from its files only: what neither knows a model's class nor its weights.

transformers imports the code of all models to read a config by its class: 130 MiB that a check of texts does not need.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import CONFIG_MAPPING, AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from twofold.batch import ENCODED_PROMPTS
from twofold.errors import ModelError
from twofold.models.integrity import check_folder
from twofold.models.loadable import readable, refuse_ids
from twofold.models.locate import gguf_of, refuse_missing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SEQ2SEQ_TASK = "SEQ_2_SEQ_LM"
"""The PEFT task type of an adapter of an encoder–decoder."""


def load_tokenizer(path: str, revision: str | None = None, gguf_file: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer that belongs to `path` (an adapter folder's, or its base model's)."""
    refuse_missing(path)
    check_folder(path, weights=False)
    how: dict[str, Any] = {"revision": revision, "gguf_file": gguf_of(path, gguf_file), "trust_remote_code": False}
    plain = None if how["gguf_file"] is not None else plain_config(path, revision)
    with readable(path):
        try:
            tokenizer = AutoTokenizer.from_pretrained(path, **how, **({"config": plain} if plain else {}))
        except ValueError as error:
            if "instantiate the backend tokenizer" in str(error):
                raise _no_tokenizer(path) from error
            raise
    if set(tokenizer.get_vocab()) <= {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}:
        raise _no_tokenizer(path)
    if how["gguf_file"] is not None:
        return tokenizer
    try:
        config: Any = plain or config_at(path, revision)
        mark(tokenizer, config)
        rows = config.vocab_size if plain else config.get_text_config().vocab_size
    except (OSError, ValueError, KeyError, AttributeError, ImportError):
        mark_by_adapter(tokenizer, Path(path))
        return tokenizer  # loading the weights checks the sizes
    if isinstance(rows, int):
        refuse_ids(tokenizer, rows, path)
    return tokenizer


def _no_tokenizer(path: str) -> ModelError:
    remedy = "the folder must hold config.json, *.safetensors and the tokenizer's files"
    return ModelError("holds no tokenizer that can be read", where=path, remedy=remedy)


def config_at(path: str, revision: str | None = None, gguf_file: str | None = None) -> Any:
    """The config of a folder or Hub name. Code that comes with it is not run."""
    return AutoConfig.from_pretrained(path, revision=revision, gguf_file=gguf_file, trust_remote_code=False)


def plain_config(path: str, revision: str | None = None) -> PreTrainedConfig | None:
    """The config at `path` without the defaults of its class, if its file and the tokenizer's have all that loading a
    tokenizer needs: a decoder that transformers knows, its number of embeddings, and the tokenizer's class."""
    try:
        read, _ = PreTrainedConfig.get_config_dict(path, revision=revision)
        names = get_tokenizer_config(path, revision=revision)
        kind, made = read.get("model_type"), read.get("architectures") or [""]
        decodes = read.get("is_encoder_decoder") is False or all(a.endswith("ForCausalLM") for a in made)
        known = kind in CONFIG_MAPPING and kind not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
        sized = type(read.get("vocab_size")) is int and "text_config" not in read
        tokenized = isinstance(names.get("tokenizer_class"), str) and "auto_map" not in {*names, *read}
        return PreTrainedConfig(**read) if decodes and known and sized and tokenized else None
    except Exception:  # the config's own class reports it, in words of its own
        return None


def load_stop_tokens(path: str, tokenizer: PreTrainedTokenizerBase, revision: str | None = None) -> frozenset[int]:
    """As `stop_tokens`, for a model whose weights are not loaded."""
    try:
        config = GenerationConfig.from_pretrained(path, revision=revision or "main")
    except (OSError, ValueError):
        config = None
    return stop_tokens(config, tokenizer, path)


def stop_tokens(config: GenerationConfig | None, tokenizer: PreTrainedTokenizerBase, where: str) -> frozenset[int]:
    """The end-of-sequence tokens of the tokenizer and of the model's generation config."""
    named: Any = config.eos_token_id if config is not None else None
    listed = named if isinstance(named, list) else [named]
    own: Any = tokenizer.eos_token_id
    if odd := [t for t in listed if t is not None and type(t) is not int]:
        what = f"eos_token_id of generation_config.json is {odd[0]!r}, not a token's number"
        raise ModelError(what, where=where, remedy="write the number of the token, or a list of numbers")
    found = frozenset(int(t) for t in [own, *listed] if t is not None)
    if not found:
        raise ModelError(
            "neither tokenizer nor generation config names an end-of-sequence token",
            where=where,
            remedy="set eos_token in tokenizer_config.json",
        )
    return found


def mark(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
    """Store on the tokenizer whether an encoder reads the prompts, for code that has only the tokenizer."""
    setattr(tokenizer, ENCODED_PROMPTS, bool(getattr(config, "is_encoder_decoder", False)))


def mark_by_adapter(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """As `mark`, by the task type of the PEFT adapter in `folder`, if there is one."""
    try:
        task = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("task_type")
    except (OSError, ValueError, AttributeError):
        return
    setattr(tokenizer, ENCODED_PROMPTS, task == SEQ2SEQ_TASK)
