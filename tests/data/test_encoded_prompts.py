"""Rows of encoder–decoders: prompt and completion are two texts, each with the tokenizer's own special tokens."""

from __future__ import annotations

import pytest
import transformers as tr

from support.seq2seq import tokenizer
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.errors import DataError
from twofold.models.tokenizer_files import mark
from twofold.records import Message, Pair, Prompt, Source

CONFIGS = {"t5": tr.T5Config(), "bart": tr.BartConfig()}


def encoder(kind: str, config: tr.PreTrainedConfig | None = None, **settings: object) -> Encoder:
    made = tokenizer(kind)
    mark(made, config or CONFIGS[kind])
    return Encoder(made, frozenset({made.eos_token_id}), TokenizeSettings(**settings))  # type: ignore[arg-type]  # as named


def pair(prompt: Prompt, chosen: str = "it is b.", rejected: str = "no") -> Pair:
    return Pair(prompt=prompt, chosen=chosen, rejected=rejected, source=Source("rows", 1))


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_group_is_what_the_tokenizer_makes_of_source_and_target(kind: str) -> None:
    reading = encoder(kind)
    group = reading.group(pair("what is a? "))
    plain = tokenizer(kind)
    assert group.prompt.tolist() == plain("what is a? ")["input_ids"]
    assert [b.tokens.tolist() for b in group.branches] == plain(text_target=["it is b.", "no"])["input_ids"]
    assert reading.prompt("what is a? ").tolist() == group.prompt.tolist()
    assert reading.text(group.branches[0].tokens) == "it is b."
    reading.ahead([pair("what is a? ")])
    assert reading.group(pair("what is a? ")).prompt.tolist() == group.prompt.tolist()


def test_a_decoder_of_the_same_tokenizer_reads_on() -> None:
    group = encoder("t5", tr.LlamaConfig()).group(pair("ab"))
    assert group.prompt.tolist() == tokenizer("t5")("ab", add_special_tokens=False)["input_ids"]


def test_a_target_without_an_end_gets_one_and_what_follows_it_is_cut() -> None:
    reading = encoder("t5")
    bare = tokenizer("t5")
    bare.backend_tokenizer.post_processor = None  # type: ignore[assignment]  # its stubs know no setter
    mark(bare, CONFIGS["t5"])
    without = Encoder(bare, frozenset({1})).group(pair("ab"))
    assert [b.tokens.tolist() for b in without.branches] == [
        b.tokens.tolist() for b in reading.group(pair("ab")).branches
    ]
    assert without.prompt.tolist() == reading.group(pair("ab")).prompt.tolist()[:-1]


def test_turns_need_a_template_and_are_read_whole() -> None:
    turns = (Message("user", "ab"),)
    reading = encoder("t5")
    with pytest.raises(DataError, match="is a chat, but the tokenizer has no chat template"):
        reading.group(pair(turns))
    made = tokenizer("t5")
    made.chat_template = "{% for m in messages %}{{ m['role'][0] + ': ' + m['content'] }}{% endfor %}"
    mark(made, CONFIGS["t5"])
    group = Encoder(made, frozenset({1})).group(pair(turns))
    assert group.prompt.tolist() == made("u: ab")["input_ids"]
    assert group.branches[0].tokens.tolist() == made("it is b.")["input_ids"]


def test_a_prompt_that_is_cut_keeps_its_ends() -> None:
    group = encoder("bart", max_length=12, truncation="cut_prompt").group(pair("abcdefgh", "yes", "no"))
    whole = tokenizer("bart")("abcdefgh")["input_ids"]
    assert group.prompt.tolist() == [whole[0], *whole[-6:]]
