"""The policy: groups in, log-probabilities of every completion token out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Unpack

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from twofold.batch import Group, Outputs
from twofold.errors import ModelError
from twofold.models.attention import UnsupportedAttention
from twofold.models.held import HeldModel, Holding, padded
from twofold.models.held import Sharing as Sharing
from twofold.models.logprob import token_logps
from twofold.models.packing import Pack, Packing, bins


class LanguageHead:
    """Log-probabilities [S] of the completions' tokens; padded rows go through the model's own logits."""

    ends = False
    name = "log-probabilities (nats per token)"

    def of_pack(self, model: PreTrainedModel, hidden_SH: Tensor, stream: Pack) -> Tensor:
        head = model.get_output_embeddings()
        softcap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
        if type(head) is nn.Linear:
            return token_logps(hidden_SH, head.weight, stream.target_S, head.bias, softcap)
        if head is None:
            raise UnsupportedAttention("the model has no output embeddings")
        logits = head(hidden_SH)  # an adapted head: scored rows only, but all at once
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if softcap is not None:
            logits = torch.tanh(logits / softcap) * softcap
        return logits.log_softmax(-1).gather(1, stream.target_S[:, None]).squeeze(1)

    def of_rows(self, model: PreTrainedModel, groups: Sequence[Group]) -> Tensor:
        pairs = [(g.prompt, b.tokens) for g in groups for b in g.branches]
        token = padded([torch.cat([prompt, tokens[:-1]]) for prompt, tokens in pairs], model.device)
        logits = model(input_ids=token, use_cache=False).logits
        scored: list[Tensor] = []
        for i, (prompt, tokens) in enumerate(pairs):
            z = logits[i, len(prompt) - 1 : len(prompt) - 1 + len(tokens)]
            z = z.to(torch.promote_types(z.dtype, torch.float32))
            scored.append(z.log_softmax(-1).gather(1, tokens.to(z.device)[:, None]).squeeze(1))
        return torch.cat(scored)

    def outputs(self, value: Tensor) -> Outputs:
        return Outputs(logp_S=value)


class Policy(HeldModel):
    """A causal language model as twofold sees it."""

    def __init__(self, model: PreTrainedModel, **holding: Unpack[Holding]) -> None:
        super().__init__(model, LanguageHead(), **holding)

    @torch.no_grad()
    def logps(self, groups: Sequence[Group], packing: Packing | None = None) -> list[list[Tensor]]:
        """Per group and branch the log-probabilities [n] of its tokens, without gradient, on the CPU."""
        result: list[list[Tensor]] = [[] for _ in groups]
        for members in bins(groups, packing or Packing()):
            chosen = [groups[i] for i in members]
            outputs, batch = self(chosen)
            assert outputs.logp_S is not None
            pieces = iter(outputs.logp_S.cpu().split(batch.length_B.tolist()))
            for i in members:
                result[i] = [next(pieces) for _ in groups[i].branches]
        return result

    @contextmanager
    def as_reference(self, adapter: str | None = None) -> Iterator[None]:
        """The policy without its adapter, or with the frozen one named `adapter`; gradient flags come back."""
        if self.adapter is None:
            raise ModelError("a policy without an adapter cannot step aside for its reference")
        flags = {n: p.requires_grad for n, p in self.model.named_parameters()}
        active = str(self.adapter.active_adapter)
        try:
            if adapter is None:
                with self.adapter.disable_adapter():
                    yield
            else:
                self.adapter.set_adapter(adapter)
                yield
        finally:
            if adapter is not None:
                self.adapter.set_adapter(active)
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(flags[name])
