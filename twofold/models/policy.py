"""The policy: groups in, log-probabilities of every completion token out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from twofold.batch import Group
from twofold.errors import ModelError
from twofold.models.attention import UnsupportedAttention, stock_attention
from twofold.models.backbone import final_bias, logit_bias, logit_scale
from twofold.models.logprob import entropies_of, statistics_of, token_entropies, token_logps, token_statistics
from twofold.models.packed_model import ModelOptions, PackedModel
from twofold.models.packed_model import Sharing as Sharing
from twofold.models.packing import Packing
from twofold.models.row_lengths import restart_rotary
from twofold.models.rows import padded, predicting_rows, predictions
from twofold.models.seq2seq import branch_logits, encodes_prompts
from twofold.world import settle

ENTROPY = "entropy"


class LanguageHead:
    """Log-probabilities [S] of the completions' tokens; padded rows go through the model's own logits."""

    ends = False
    name = "log-probabilities (nats per token)"
    output = "logp_S"

    def of_pack(self, model: PreTrainedModel, hidden_SH: Tensor, target_S: Tensor) -> Tensor:
        if (head := _linear_head(model)) is not None:
            bias_V = logit_bias(model, head)
            return token_logps(_scaled(model, hidden_SH), head.weight, target_S, bias_V, _softcap(model))
        return _logits(model, hidden_SH).log_softmax(-1).gather(1, target_S[:, None]).squeeze(1)

    def of_rows(self, model: PreTrainedModel, groups: Sequence[Group]) -> Tensor:
        targets = [b.tokens for g in groups for b in g.branches]
        rows = zip(_row_logits(model, groups), targets, strict=True)
        scored = [z.log_softmax(-1).gather(1, tokens.to(z.device)[:, None]).squeeze(1) for z, tokens in rows]
        return torch.cat(scored)

    def statistics(
        self, model: PreTrainedModel, groups: Sequence[Group], hidden_SH: Tensor | None, names: Sequence[str]
    ) -> Mapping[str, Tensor]:
        head = None if hidden_SH is None else _linear_head(model)
        if hidden_SH is None or head is None:
            with torch.set_grad_enabled(torch.is_grad_enabled() and ENTROPY in names):
                logits = torch.cat(_row_logits(model, groups)) if hidden_SH is None else _logits(model, hidden_SH)
            return {ENTROPY: entropies_of(logits), **statistics_of(logits.detach())}
        rows, bias_V, softcap = _scaled(model, hidden_SH), logit_bias(model, head), _softcap(model)
        known = {ENTROPY: token_entropies(rows, head.weight, bias_V, softcap)} if ENTROPY in names else {}
        if set(names) <= known.keys():
            return known
        top = "top_entropy" in names
        return known | token_statistics(rows, head.weight, bias_V, softcap, top=top)


def _linear_head(model: PreTrainedModel) -> nn.Linear | None:
    """The current head, if it is a plain linear layer. An adapter may have a fully trained head of its own."""
    head: Any = model.get_output_embeddings()
    copies = getattr(head, "modules_to_save", None)
    if copies is not None:
        active = None if head.disable_adapters else next(iter(head.active_adapters), None)
        head = dict(copies).get(active, head.original_module)
    return head if type(head) is nn.Linear else None


def _scaled(model: PreTrainedModel, hidden_SH: Tensor) -> Tensor:
    """Hidden states scaled so that the head's output equals the model's logits."""
    scale = logit_scale(model)
    return hidden_SH if scale == 1 else hidden_SH * scale


def _softcap(model: PreTrainedModel) -> float | None:
    return getattr(model.config.get_text_config(), "final_logit_softcapping", None)


def _logits(model: PreTrainedModel, hidden_SH: Tensor) -> Tensor:
    """The logits [S, V] of an adapted head: scored rows only, but all at once."""
    head, softcap = model.get_output_embeddings(), _softcap(model)
    if head is None:
        raise UnsupportedAttention("the model has no output embeddings")
    logits, bias_V = head(_scaled(model, hidden_SH)), final_bias(model)
    logits = logits if bias_V is None else logits + bias_V
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits if softcap is None else torch.tanh(logits / softcap) * softcap


def _row_logits(model: PreTrainedModel, groups: Sequence[Group]) -> list[Tensor]:
    """The logits [n, V] that predict each branch's tokens, from padded rows."""
    if encodes_prompts(model):
        return [z.to(torch.promote_types(z.dtype, torch.float32)) for z in branch_logits(model, groups)]
    logits = model(input_ids=padded(predicting_rows(groups), model.device), use_cache=False).logits
    return predictions(logits.to(torch.promote_types(logits.dtype, torch.float32)), groups)


class Policy(PackedModel):
    """A causal language model with its log-probabilities."""

    def __init__(self, model: PreTrainedModel, **holding: Unpack[ModelOptions]) -> None:
        super().__init__(model, LanguageHead(), **holding)

    def logps(self, groups: Sequence[Group], packing: Packing | None = None) -> list[list[Tensor]]:
        """Per group and branch the log-probabilities [n] of its tokens, without gradient, on the CPU."""
        return self.per_branch(groups, packing)

    @torch.no_grad()
    def distributions(self, group: Group) -> list[Tensor]:
        """For each branch, log π [n, V]: the log-probability of every token of the vocabulary at each position of the
        branch. Computed from padded rows; all of them are in memory at once."""
        found: dict[int, Tensor] = {}
        with stock_attention(self.model), self._precision():
            for members, places in self.row_lengths.calls([group], ends=False):
                restart_rotary(self.model)
                found |= zip(places, _row_logits(self.model, members), strict=True)
        return [found[place].log_softmax(-1) for place in range(len(found))]

    @property
    def vocabulary(self) -> int:
        """The number of tokens in the vocabulary."""
        return int(self.model.get_input_embeddings().weight.shape[0])  # type: ignore[union-attr, arg-type]  # an nn.Embedding

    @contextmanager
    def as_reference(self, adapter: str | None = None) -> Iterator[None]:
        """Inside the context the policy has no adapter, or the frozen one named `adapter`. Gradient flags are restored
        afterwards."""
        if self.adapter is None:
            what = "a policy without an adapter cannot be its own reference"
            remedy = "set model.lora, or compute the reference with a frozen copy of the model"
            raise ModelError(what, where="", remedy=remedy)
        flags = {n: p.requires_grad for n, p in self.weights().items()}
        active = str(self.adapter.active_adapter)
        try:
            if adapter is None:
                with self.adapter.disable_adapter():
                    yield
            else:
                self.adapter.set_adapter(adapter)
                yield
        finally:
            settle(self)  # PEFT sets flags on whatever it finds
            if adapter is not None:
                self.adapter.set_adapter(active)
            for name, parameter in self.weights().items():
                parameter.requires_grad_(flags[name])
