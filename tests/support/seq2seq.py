"""Tiny encoder–decoders with tokenizers of the same conventions as T5 and BART."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers as tr
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing

from support.tiny import sharp

LETTERS = "abcdefghijklmnopqrstuvwxyz .:?0123456789"
VOCABULARY = 61
T5: dict[str, Any] = {
    "vocab_size": VOCABULARY, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "d_model": 32,
    "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4,
}  # fmt: skip
BART: dict[str, Any] = {
    "vocab_size": VOCABULARY, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2,
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 40, "max_position_embeddings": 64,
    "forced_eos_token_id": None,
}  # fmt: skip


def t5(seed: int = 0, **changes: Any) -> tr.PreTrainedModel:
    return sharp(tr.T5ForConditionalGeneration(tr.T5Config(**{**T5, **changes})), seed)


def bart(seed: int = 0, **changes: Any) -> tr.PreTrainedModel:
    model: Any = sharp(tr.BartForConditionalGeneration(tr.BartConfig(**{**BART, **changes})), seed)
    model.final_logits_bias.copy_(model.get_input_embeddings().weight[:, 0].detach())
    return model


MAKERS = {"t5": t5, "bart": bart}


def tokenizer(kind: str) -> tr.PreTrainedTokenizerFast:
    """Letters as tokens; T5's puts </s> behind a text, BART's <s> before it as well."""
    special = ["<pad>", "</s>", "<unk>"] if kind == "t5" else ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = {token: i for i, token in enumerate([*special, *LETTERS])}
    made = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = Split("", "isolated")  # type: ignore[assignment]  # its stubs know no setter
    ends = [(token, vocabulary[token]) for token in ("<s>", "</s>") if token in vocabulary]
    single = "$A </s>" if kind == "t5" else "<s> $A </s>"
    made.post_processor = TemplateProcessing(single=single, special_tokens=ends)  # type: ignore[assignment]  # likewise
    made.decoder = Fuse()  # type: ignore[assignment]  # likewise
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "</s>"}
    return tr.PreTrainedTokenizerFast(tokenizer_object=made, **names, **({} if kind == "t5" else {"bos_token": "<s>"}))


def folder(kind: str, path: Path, **changes: Any) -> Path:
    """A model's folder, as one finds them on the hub."""
    MAKERS[kind](**changes).save_pretrained(path)
    tokenizer(kind).save_pretrained(path)
    return path
