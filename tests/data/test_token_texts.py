"""Texts as token ids: with what begins a document, many at once, and inside of a text."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from twofold.batch import ENCODED_PROMPTS
from twofold.data.token_texts import TokenTexts

WORDS = {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "\n": 4, "\na": 5}


def tokenizer(begins: bool, *merged: str) -> PreTrainedTokenizerFast:
    """One token for each letter, or for one of `merged` texts."""
    plain = Tokenizer(WordLevel({k: v for k, v in WORDS.items() if len(k) != 2 or k in merged}, unk_token="</s>"))
    plain.pre_tokenizer = Split("" if not merged else merged[0], "isolated")
    if begins:
        plain.post_processor = TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=plain, bos_token="<s>", eos_token="</s>")


class Slow:
    """A tokenizer without a backend in Rust, that counts its calls."""

    bos_token_id = None

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, text: Any = None, *, text_target: str | None = None, **how: Any) -> dict[str, Any]:
        self.calls.append((text, text_target, how))
        if isinstance(text, list):
            return {"input_ids": [[WORDS[c] for c in each] for each in text]}
        return {"input_ids": [WORDS[c] for c in text or text_target or ""]}


@pytest.mark.parametrize("begins", [True, False])
def test_what_begins_a_document_is_put_once(begins: bool) -> None:
    texts = TokenTexts(tokenizer(begins))
    assert texts.bare("ab") == [2, 3]
    assert texts.whole("ab") == ([0, 2, 3] if begins else [2, 3])
    assert texts.with_bos([2, 3]) == ([0, 2, 3] if begins else [2, 3])
    assert texts.with_bos([0, 2]) == [0, 2]
    assert (texts.bos, texts.encoded) == (0, False)


def test_texts_ahead_are_tokenized_together_and_those_before_forgotten() -> None:
    slow = Slow()
    texts = TokenTexts(slow)
    assert (texts.bos, texts.with_bos([2])) == (None, [2])
    texts.ahead(["ab", "b", "ab"])
    plain = {"add_special_tokens": False, "verbose": False}
    assert slow.calls == [(["ab", "b"], None, plain)]
    known = texts.bare("ab")
    known.append(9)  # a list of one's own
    assert (texts.bare("ab"), texts.bare("b"), len(slow.calls)) == ([2, 3], [3], 1)
    texts.ahead([])
    assert (texts.bare("b"), slow.calls[1:]) == ([3], [("b", None, plain)])


def test_texts_ahead_by_a_backend_are_those_one_by_one() -> None:
    texts = TokenTexts(tokenizer(begins=True))
    texts.ahead(["ab", "b"])
    assert (texts.bare("ab"), texts.bare("b")) == ([2, 3], [3])


def test_prompts_that_are_encoded_apart_are_never_tokenized_ahead() -> None:
    slow = Slow()
    setattr(slow, ENCODED_PROMPTS, True)
    texts = TokenTexts(slow)
    texts.ahead(["ab"])
    assert (texts.encoded, slow.calls) == (True, [])


def test_a_target_is_tokenized_as_one() -> None:
    slow = Slow()
    texts = TokenTexts(slow)
    assert (texts.whole("a", target=True), texts.whole("b")) == ([2], [3])
    assert [call[:2] for call in slow.calls] == [(None, "a"), ("b", None)]
    assert all(call[2] == {"verbose": False} for call in slow.calls)


def test_text_inside_a_document_is_read_behind_a_line_break() -> None:
    assert TokenTexts(tokenizer(begins=True)).inner("ab") == [2, 3]
    merged = TokenTexts(tokenizer(False, "\na"))
    assert merged.bare("\na") == [5]
    assert merged.inner("a") == merged.bare("a") == [2]  # the break and the letter are one token
