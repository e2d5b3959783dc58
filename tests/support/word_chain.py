"""A model folder that draws each of a few words by chance: a base for demos and experiments that takes no time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from support.tiny import chain

UNKNOWN, END = "<unk>", "</s>"
SHARES: Mapping[str, float] = {
    UNKNOWN: 0.0001, "small": 0.3, "Large": 0.1, "?": 0.2, END: 0.2, "so": 0.1, "Then": 0.05, "it": 0.0499,
}  # fmt: skip


LETTERS: Mapping[str, float] = {"a": 0.22, "e": 0.2, "s": 0.1, " ": 0.2, "T": 0.06, "?": 0.1, END: 0.1}
"""Shares of characters; every other one is drawn once in a million."""


def letter_chain(folder: Path, shares: Mapping[str, float] = LETTERS) -> Path:
    """Write a model that draws characters with `shares`. Its tokenizer knows every byte, so that any text survives."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([END, UNKNOWN, *alphabet])}
    core = Tokenizer(models.BPE(vocabulary, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token=END, pad_token=END, padding_side="left").save_pretrained(
        folder
    )
    own = {{" ": "Ġ"}.get(token, token): share for token, share in shares.items()}
    return _save(folder, torch.tensor([own.get(token, 1e-6) for token in vocabulary], dtype=torch.float64), 0)


def word_chain(folder: Path, shares: Mapping[str, float] = SHARES) -> Path:
    """Write the model that draws words with `shares`, among them the end, into `folder`."""
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(shares)}, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token=UNKNOWN, eos_token=END, pad_token=END, padding_side="left"
    ).save_pretrained(folder)
    return _save(folder, torch.tensor([*shares.values()], dtype=torch.float64), [*shares].index(END))


def _save(folder: Path, share_V: Tensor, end: int) -> Path:
    model = chain(share_V.log().expand(len(share_V), -1).contiguous()).float()
    model.config.max_position_embeddings = 256
    model.config.eos_token_id = model.generation_config.eos_token_id = end
    model.save_pretrained(folder)
    return folder
