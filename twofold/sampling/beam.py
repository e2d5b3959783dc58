"""Beam search by the policy's own log-probabilities: the decoding that fits a DPO policy's token-level reward.

By arXiv:2404.12358 (equations 12 and 13) the best sequence under β·log-ratio with the KL penalty is the one with the
largest Σ log π: the reference cancels. So sums are compared without dividing by lengths. `generate` divides by default
(length_penalty 1), which is another search. With a `reference`, beams are compared by Σ (log π − log π_ref), which is
the implicit reward without the KL penalty. With a `guide`, its value of each beginning is added to the sum: the search
of another model's reward by a base that does not have it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from transformers import PreTrainedModel

from twofold.errors import ModelError
from twofold.models.attention import stock_attention
from twofold.models.prepacked import prepacked
from twofold.models.seq2seq import encodes_prompts
from twofold.sampling.base import Sample
from twofold.sampling.cache import max_positions, refuse_unfit
from twofold.sampling.local import draw_for_trial, evaluating, unusable_logits
from twofold.sampling.recompute import why_recompute
from twofold.sampling.shared_prompt import why_copied
from twofold.sampling.stores import Way, started, store_of
from twofold.settings import require, settings

Guide: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From a prompt [P] and the beginnings of completions [M, N] to their values [M] in nats; higher is better."""


@settings
class Beams:
    """The width and length of the search."""

    width: int = 5
    """Sequences kept at every step; more than 5 gave longer and worse summaries in arXiv:2404.12358."""
    max_new_tokens: int = 256
    """A sequence that has not stopped by then is marked truncated."""

    def __post_init__(self) -> None:
        require(self.width > 0 and self.max_new_tokens > 0, "width and max_new_tokens must be ≥ 1")


@dataclass(frozen=True)
class BeamResult:
    """A sequence and its score, the sum that ranks it."""

    completion: Sample
    score: float


class BeamSearch:
    """Beam search over `model`, one prompt at a time; `reference` must share its vocabulary."""

    def __init__(
        self,
        model: PreTrainedModel,
        stop_tokens: Collection[int],
        beams: Beams,
        reference: PreTrainedModel | None = None,
        guide: Guide | None = None,
    ) -> None:
        if reference is not None and reference.config.vocab_size != model.config.vocab_size:
            what = f"{reference.config.vocab_size} tokens, the policy knows {model.config.vocab_size}"
            raise ModelError(what, where="reference", remedy="give the model that the policy was trained from")
        self.model, self.reference, self.beams, self.guide = model, reference, beams, guide
        self.max_positions = min(max_positions(m) for m in (model, reference or model))
        self.stop_tokens = torch.tensor(sorted(stop_tokens), dtype=torch.int64, device=model.device)

    def search(self, prompts: Sequence[Tensor]) -> list[list[BeamResult]]:
        """For each of `prompts` [P], up to `width` sequences, best first. Raises DataError for a prompt that is too
        long."""
        refuse_unfit(prompts, self.max_positions)
        with torch.no_grad(), ExitStack() as state:
            for model in (self.model, self.reference):
                if model is not None:
                    state.enter_context(stock_attention(model))
                    state.enter_context(evaluating(model))
                    state.enter_context(prepacked(model, self.beams.max_new_tokens))
            return [self._search(prompt) for prompt in prompts]

    def _search(self, prompt: Tensor) -> list[BeamResult]:
        prompt = prompt.to(self.model.device)
        begun = 1 if encodes_prompts(self.model) else len(prompt)
        num_new = min(self.beams.max_new_tokens, self.max_positions - begun)
        tracks = [Track(model, prompt, num_new) for model in (self.model, self.reference) if model is not None]
        sum_K = score_K = torch.zeros(1, dtype=tracks[0].logp_KV.dtype, device=self.model.device)
        token_KN = torch.zeros(1, 0, dtype=torch.int64, device=self.model.device)
        logp_KN = torch.zeros_like(token_KN, dtype=sum_K.dtype)
        ended: list[BeamResult] = []
        for step in range(num_new):
            if any(track.logp_KV.isnan().any() for track in tracks):
                raise unusable_logits(f"a prompt of {len(prompt)} tokens", step + 1)
            sum_M, parent_M, token_M = self._grown(tracks, sum_K)
            token_MN = torch.cat([token_KN[parent_M], token_M[:, None]], 1)
            score_M, best_M = self._ranked(prompt, token_MN, sum_M)
            sum_M, parent_M, token_M, token_MN = (x[best_M] for x in (sum_M, parent_M, token_M, token_MN))
            gained_M = tracks[0].logp_KV[parent_M, token_M]
            logp_MN = torch.cat([logp_KN[parent_M], gained_M[:, None]], 1)
            stops_M = torch.isin(token_M, self.stop_tokens)
            first_M = torch.arange(len(token_M), device=token_M.device) < self.beams.width
            ended += _results(token_MN, logp_MN, score_M, stops_M & first_M, truncated=False)
            ended = sorted(ended, key=lambda found: -found.score)[: self.beams.width]
            keep = (~stops_M).nonzero().squeeze(1)[: self.beams.width]
            token_KN, logp_KN, sum_K, score_K = token_MN[keep], logp_MN[keep], sum_M[keep], score_M[keep]
            if not len(keep) or self._decided(ended, score_K):
                return ended
            for track in tracks:
                track.feed(parent_M[keep], token_M[keep])
        everyone = torch.ones_like(score_K, dtype=torch.bool)
        ended += _results(token_KN, logp_KN, score_K, everyone, truncated=True)
        return sorted(ended, key=lambda found: -found.score)[: self.beams.width]

    def _ranked(self, prompt: Tensor, token_MN: Tensor, sum_M: Tensor) -> tuple[Tensor, Tensor]:
        """The scores of successors, highest first, and their places: their sums, plus the guide's values if there is
        one."""
        if self.guide is None:
            return sum_M, torch.arange(len(sum_M), device=sum_M.device)
        return (sum_M + self.guide(prompt, token_MN).to(sum_M)).sort(descending=True, stable=True)

    def _grown(self, tracks: Sequence[Track], sum_K: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sums, parents and last tokens of the best successors [M]: enough that `width` of them continue, even if all
        stop tokens are among them. A guide sees `width` for each beam."""
        gain_KV = tracks[0].logp_KV if len(tracks) == 1 else tracks[0].logp_KV - tracks[1].logp_KV
        total = (sum_K[:, None] + gain_KV).flatten()
        each = 1 + len(self.stop_tokens) if self.guide is None else self.beams.width + len(self.stop_tokens)
        most = min(len(total), self.beams.width * each)
        score_M, index_M = total.topk(most)
        num = gain_KV.shape[1]
        return score_M, index_M // num, index_M % num

    def _decided(self, ended: Sequence[BeamResult], score_K: Tensor) -> bool:
        """Whether no unfinished sequence can become one of the best. Sums of log-probabilities only fall; sums of
        log-ratios, and values of a guide, may rise."""
        unguided = self.reference is None and self.guide is None
        return unguided and len(ended) == self.beams.width and ended[-1].score >= float(score_K.max())


class Track:
    """One model's state for all beams: its cache, and the log-probabilities [K, V] of the next tokens."""

    def __init__(self, model: PreTrainedModel, prompt: Tensor, num_new: int) -> None:
        self.model = model
        way: Way = "copies" if why_copied(model) else "shared"
        if why_recompute(model, [prompt], num_new, draw_for_trial):
            way = "rows"
        start = started([prompt], model, way)
        self.store = store_of(model, way)
        self.store.fill(torch.zeros(1, dtype=torch.int64), start)
        self.position = int(start.length_A)
        self.logp_KV = _only(start.forced, start.logits_AV.log_softmax(-1)).to(prompt.device)

    def feed(self, parent_K: Tensor, token_K: Tensor) -> None:
        """Extend these beams with these tokens."""
        parent, token = parent_K.to(self.model.device), token_K.to(self.model.device)
        self.store.keep(parent)
        logits_KV = self.store.feed(token, torch.full_like(token, self.position))
        self.logp_KV = logits_KV.log_softmax(-1).to(token_K.device)
        self.position += 1


def _only(forced: int | None, logp_KV: Tensor) -> Tensor:
    """Log-probabilities with −∞ for all tokens but a `forced` one."""
    if forced is None:
        return logp_KV
    everything = torch.full_like(logp_KV, -torch.inf)
    everything[:, forced] = logp_KV[:, forced]
    return everything


def _results(
    token_MN: Tensor, logp_MN: Tensor, score_M: Tensor, which_M: Tensor, *, truncated: bool
) -> list[BeamResult]:
    return [
        BeamResult(Sample(token_MN[m].cpu().clone(), logp_MN[m].cpu().clone(), truncated), float(score_M[m]))
        for m in which_M.nonzero().squeeze(1).tolist()
    ]
