"""Calls of encoder–decoders by hand: which prompts share one, how they are padded, how decoders begin."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as tr

from support import tiny
from support.seq2seq import T5, bart, t5
from twofold.errors import ModelError
from twofold.models.seq2seq import (
    Encoded,
    _decoder_rows,
    _of_similar_length,
    _padded_prompts,
    _padding,
    auto_class,
    branch_logits,
    encodes_prompts,
    start_token,
    take_one_kernel,
)


@pytest.mark.parametrize(
    ("lengths", "calls"),
    [
        ([], []),
        ([1, 17, 18], [[0, 1], [2]]),  # 16 tokens more than the shortest
        ([18, 17, 1], [[2, 1], [0]]),
        ([100, 125, 126], [[0, 1], [2]]),  # or a quarter
        ([2, 10, 18, 19], [[0, 1, 2], [3]]),
    ],
)
def test_prompts_of_similar_length_share_a_call(lengths: list[int], calls: list[list[int]]) -> None:
    assert _of_similar_length(tiny.groups(*[(length, 1) for length in lengths])) == calls


def test_groups_without_completions_are_left_out() -> None:
    assert _of_similar_length(tiny.groups((3, 1), (2,), (4, 1))) == [[0, 2]]


def test_prompts_and_decoder_rows_are_padded_on_the_right() -> None:
    model: Any = SimpleNamespace(
        config=SimpleNamespace(pad_token_id=9, decoder_start_token_id=7), generation_config=None,
        device=torch.device("cpu"),
    )  # fmt: skip
    groups = tiny.groups((3, 3, 1), (1, 2))
    prompts = _padded_prompts(model, [g.prompt for g in groups])
    a, b = (g.prompt.tolist() for g in groups)
    assert prompts["input_ids"].tolist() == [a, [*b, 9, 9]]
    assert prompts["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    first, _, last = (branch.tokens.tolist() for g in groups for branch in g.branches)
    assert _decoder_rows(model, groups).tolist() == [[7, *first[:-1]], [7, 9, 9], [7, last[0], 9]]


@pytest.mark.parametrize(("token", "want"), [(3, 3), (0, 0), (-1, 0), (None, 0), ([3], 0)])
def test_padding_that_is_no_position_is_0(token: Any, want: int) -> None:
    assert _padding(SimpleNamespace(config=SimpleNamespace(pad_token_id=token))) == want  # type: ignore[arg-type]


def test_selected_prompts_may_repeat() -> None:
    encoded = Encoded(torch.tensor([[[1.0]], [[2.0]]]), torch.tensor([[1], [0]]))
    chosen = encoded.select(torch.tensor([1, 1, 0]))
    assert (chosen.hidden_NPH.flatten().tolist(), chosen.mask_NP.flatten().tolist()) == ([2.0, 2.0, 1.0], [0, 0, 1])
    arguments = chosen.arguments()
    assert arguments["encoder_outputs"].last_hidden_state is chosen.hidden_NPH
    assert arguments["attention_mask"] is chosen.mask_NP


def test_only_learned_position_biases_take_one_kernel() -> None:
    biased, plain = t5(), bart()
    for model in (biased, plain):
        model.config._attn_implementation = "sdpa"
        take_one_kernel(model)
    halves = [m.config._attn_implementation for m in biased.modules() if hasattr(m, "has_relative_attention_bias")]
    assert set(halves) == {"eager"}
    assert plain.config._attn_implementation == "sdpa"


def test_the_classes_of_configs() -> None:
    assert auto_class(tr.LlamaConfig()) is tr.AutoModelForCausalLM
    assert auto_class(tr.T5Config(**T5)) is tr.AutoModelForSeq2SeqLM
    assert (encodes_prompts(tr.LlamaConfig()), encodes_prompts(t5()), encodes_prompts(tiny.llama())) == (
        False, True, False,
    )  # fmt: skip
    for name in ("here", ""):
        config = tr.WhisperConfig()
        config.name_or_path = name
        with pytest.raises(ModelError) as error:
            auto_class(config)
        assert (error.value.where, error.value.remedy) == (name, "choose a language model")


def test_a_decoder_begins_with_the_first_token_that_a_config_names() -> None:
    def model(own: Any, generating: Any = None, decoding: Any = None) -> Any:
        decoder = SimpleNamespace(bos_token_id=decoding)
        return SimpleNamespace(
            config=SimpleNamespace(decoder_start_token_id=own, decoder=decoder),
            generation_config=SimpleNamespace(decoder_start_token_id=generating), name_or_path="",
        )  # fmt: skip

    assert [start_token(model(*named)) for named in ((0, 5, 6), (None, 5, 6), (None, None, 6))] == [0, 5, 6]
    with pytest.raises(ModelError) as error:
        start_token(model(None))
    assert error.value.where == "SimpleNamespace"


def test_logits_are_read_without_a_cache() -> None:
    model: Any = bart()
    calls: list[dict[str, Any]] = []
    model.register_forward_pre_hook(lambda _, __, how: calls.append(how), with_kwargs=True)
    rows = branch_logits(model, tiny.groups((3, 2, 1)))
    assert [len(row) for row in rows] == [2, 1]
    assert [how["use_cache"] for how in calls] == [False]
