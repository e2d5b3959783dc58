"""Tiny tokenizers and files, made here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

Make = Callable[..., Any]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _tokenizer(
    template: str | None = CHATML, merges: tuple[tuple[str, str], ...] = (), leading_bos: bool = False, **special: Any
) -> Any:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*alphabet, *("".join(p) for p in merges)])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<s>", "</s>", "<|im_start|>", "<|im_end|>"])
    if leading_bos:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", core.token_to_id("<s>"))]
        )
    settings = {"bos_token": "<s>", "eos_token": "</s>", **special}
    made = PreTrainedTokenizerFast(tokenizer_object=core, **settings)
    made.chat_template = template
    return made


@pytest.fixture(scope="session")
def metaspace() -> Any:
    """A tokenizer in the manner of SentencePiece: it puts a space before a first word, and words swallow the space."""
    vocabulary = {token: i for i, token in enumerate(["▁", "\n", "a", ":", "y", "▁y", "</s>"])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "y")]))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    core.decoder = decoders.Metaspace(prepend_scheme="first")
    core.add_special_tokens(["</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>")


@pytest.fixture(scope="session")
def tokenizer() -> Make:
    """Makes byte-level BPE tokenizers that know the pairs `merges` and the special tokens of a chat."""
    return _tokenizer


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes rows (objects, or texts as they are) as lines of a file in `tmp_path`; gives its path."""

    def _write(name: str, *rows: Any, end: str = "\n") -> str:
        lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
        path = tmp_path / name
        path.write_text("\n".join(lines) + end, encoding="utf-8")
        return str(path)

    return _write
