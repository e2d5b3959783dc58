"""Encoder–decoders (T5, BART): the encoder reads a prompt once, and each of its completions is a row of the decoder
that attends to it. A completion's tokens are the labels in transformers' sense: the input of the decoder is a start
token and all of them but the last.

Shapes: N prompts of P tokens, B branches of T decoder tokens, S scored tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput

from twofold.batch import Group
from twofold.errors import ModelError

_WASTE, _SHORT = 1.25, 16  # prompts share a call if the longest is at most 1.25 × the shortest, or 16 tokens longer


def encodes_prompts(model: PreTrainedModel | PreTrainedConfig) -> bool:
    """Whether an encoder reads the prompts."""
    config = model.config if isinstance(model, PreTrainedModel) else model
    return bool(getattr(config, "is_encoder_decoder", False))


def auto_class(config: PreTrainedConfig) -> type[Any]:
    """The auto class of language models for a config. Raises ModelError for an encoder of audio or images."""
    if not encodes_prompts(config):
        return AutoModelForCausalLM
    if type(config) not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        what = f"is a {config.model_type} model, whose encoder reads no text"
        raise ModelError(what, where=config.name_or_path or "", remedy="choose a language model")
    return AutoModelForSeq2SeqLM


def start_token(model: PreTrainedModel) -> int:
    """The decoder's start token. Raises ModelError if no config contains it."""
    named: list[Any] = [getattr(c, "decoder_start_token_id", None) for c in (model.config, model.generation_config)]
    named.append(getattr(getattr(model.config, "decoder", None), "bos_token_id", None))  # of T5Gemma
    for token in named:
        if isinstance(token, int):
            return token
    raise ModelError(
        "names no token that its decoder begins with",
        where=model.name_or_path or type(model).__name__,
        remedy="set decoder_start_token_id in config.json",
    )


@dataclass(frozen=True)
class Encoded:
    """Encoded prompts: hidden states [N, P, H], and a mask [N, P] that is 0 for padding."""

    hidden_NPH: Tensor
    mask_NP: Tensor

    @classmethod
    def of(cls, model: PreTrainedModel, prompts: Sequence[Tensor]) -> Encoded:
        """One pass of the encoder over `prompts` [P]."""
        encoder: Any = model.get_encoder()
        arguments = _padded_prompts(model, prompts)
        return cls(encoder(**arguments).last_hidden_state, arguments["attention_mask"])

    def select(self, index: Tensor) -> Encoded:
        """The prompts at `index`; an index may repeat."""
        return Encoded(self.hidden_NPH.index_select(0, index), self.mask_NP.index_select(0, index))

    def arguments(self) -> dict[str, Any]:
        """Model arguments that replace the prompts."""
        return {"encoder_outputs": BaseModelOutput(last_hidden_state=self.hidden_NPH), "attention_mask": self.mask_NP}


def branch_hidden(model: PreTrainedModel, groups: Sequence[Group]) -> Tensor:
    """The hidden states [S, H] that predict the tokens of all branches, in order; every prompt is encoded once."""
    parts: dict[int, Sequence[Tensor]] = {}
    decoder: Any = model.get_decoder()
    for members in _of_similar_length(groups):
        chosen = [groups[i] for i in members]
        place_B = torch.tensor([n for n, g in enumerate(chosen) for _ in g.branches], device=model.device)
        encoded = Encoded.of(model, [g.prompt for g in chosen]).select(place_B)
        out = decoder(
            input_ids=_decoder_rows(model, chosen),
            encoder_hidden_states=encoded.hidden_NPH,
            encoder_attention_mask=encoded.mask_NP,
            use_cache=False,
        ).last_hidden_state
        lengths = [len(b.tokens) for g in chosen for b in g.branches]
        rows = iter([hidden[:length] for hidden, length in zip(out, lengths, strict=True)])
        parts |= {i: [next(rows) for _ in groups[i].branches] for i in members}
    return torch.cat([row for i in range(len(groups)) for row in parts[i]])


def take_one_kernel(model: PreTrainedModel) -> None:
    """Use eager attention in models with learned position biases. There torch selects one kernel with gradient and
    another without, so the log-probabilities of a reference would be rounded differently."""
    for module in model.modules():
        if hasattr(module, "has_relative_attention_bias") and hasattr(module, "config"):
            module.config._attn_implementation = "eager"  # type: ignore[union-attr]  # a half's own


def branch_logits(model: PreTrainedModel, groups: Sequence[Group]) -> list[Tensor]:
    """The model's own logits [n, V] of each branch's tokens, every branch with a prompt of its own."""
    prompts = _padded_prompts(model, [g.prompt for g in groups for _ in g.branches])
    logits = model(**prompts, decoder_input_ids=_decoder_rows(model, groups), use_cache=False).logits
    return [z[: len(b.tokens)] for z, b in zip(logits, (b for g in groups for b in g.branches), strict=True)]


def _padded_prompts(model: PreTrainedModel, prompts: Sequence[Tensor]) -> dict[str, Tensor]:
    token_NP = pad_sequence(list(prompts), batch_first=True, padding_value=_padding(model))
    length_N = torch.tensor([len(prompt) for prompt in prompts])
    mask_NP = (torch.arange(token_NP.shape[1]) < length_N[:, None]).long()
    return {"input_ids": token_NP.to(model.device), "attention_mask": mask_NP.to(model.device)}


def _decoder_rows(model: PreTrainedModel, groups: Sequence[Group]) -> Tensor:
    """The decoder's input [B, T], padded on the right; causal attention does not see that padding."""
    begin = torch.tensor([start_token(model)])
    rows = [torch.cat([begin, b.tokens[:-1]]) for g in groups for b in g.branches]
    return pad_sequence(rows, batch_first=True, padding_value=_padding(model)).to(model.device)


def _padding(model: PreTrainedModel) -> int:
    """The padding token. Some models give it no position."""
    token = getattr(model.config, "pad_token_id", None)
    return token if isinstance(token, int) and token >= 0 else 0


def _of_similar_length(groups: Sequence[Group]) -> list[list[int]]:
    """Indices of the groups in each call, chosen so that there is little padding."""
    calls: list[list[int]] = []
    for i in sorted(range(len(groups)), key=lambda i: len(groups[i].prompt)):
        if not groups[i].branches:
            continue
        shortest = len(groups[calls[-1][0]].prompt) if calls else 0
        if calls and len(groups[i].prompt) <= max(_WASTE * shortest, shortest + _SHORT):
            calls[-1].append(i)
        else:
            calls.append([i])
    return calls
