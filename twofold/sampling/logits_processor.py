"""How the next token is chosen from logits. The noise is a function of seed, step, prompt and sample index.

Shapes: A rows, V vocabulary.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from twofold.errors import RecipeError
from twofold.sampling.base import Sampling

BLOCK = 128  # tokens
_RESTING_AT_1 = "num_beams", "num_beam_groups", "guidance_scale", "typical_p", "encoder_repetition_penalty"
IGNORED = (
    *_RESTING_AT_1, "penalty_alpha", "top_h", "epsilon_cutoff", "eta_cutoff", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "min_length", "min_new_tokens", "exponential_decay_length_penalty", "bad_words_ids",
    "force_words_ids", "constraints", "sequence_bias", "suppress_tokens", "begin_suppress_tokens",
    "forced_bos_token_id", "forced_eos_token_id", "stop_strings", "watermarking_config",
)  # fmt: skip
"""Settings of a generation_config that sampling does not support. They are off if 0 or unset; some also if 1."""


@dataclass(frozen=True)
class LogitsProcessor:
    """How a token is chosen from logits: repetition penalty, temperature, top-k, top-p, min-p, in this order."""

    temperature: float
    top_k: int
    top_p: float
    penalty: float = 1.0
    min_p: float = 0.0

    @classmethod
    def of(cls, settings: Sampling, model: PreTrainedModel) -> LogitsProcessor:
        """The rule of the settings. With `use_generation_config`, values of the model's generation_config replace those
        of the settings.

        Raises RecipeError if the generation_config sets something that sampling does not support.
        """
        config = model.generation_config if settings.use_generation_config else None

        def own(name: str, otherwise: float) -> float:
            value = getattr(config, name, None)
            if value is not None and not (isinstance(value, int | float) and 0 <= value < math.inf):
                what = f"the model's generation_config has {name}: {value!r}"
                raise RecipeError(what, where="sampling.use_generation_config", remedy="write a number ≥ 0 there")
            return otherwise if value is None else value

        if config is not None:
            _refuse_ignored(config)
        greedy = getattr(config, "do_sample", None) is False
        return cls(
            temperature=0.0 if greedy else own("temperature", settings.temperature),
            top_k=int(own("top_k", settings.top_k)),
            top_p=own("top_p", settings.top_p),
            penalty=own("repetition_penalty", 1.0),
            min_p=own("min_p", 0.0),
        )

    def draw(self, logits_AV: Tensor, seen_AV: Tensor | None, uniform_A: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens [A] that `uniform_A` selects, and their log-probabilities [A] under the unchanged logits."""
        if (self.temperature, self.top_k, self.top_p, self.penalty, self.min_p) == (1.0, 0, 1.0, 1.0, 0.0):
            probability_AV = logits_AV.softmax(-1)
            token_A = inverse_cdf(probability_AV, uniform_A)
            return token_A, probability_AV.gather(1, token_A[:, None]).squeeze(1).log()
        if not self.temperature:
            token_A = self._penalized(logits_AV, seen_AV).argmax(-1)
        else:
            score_AV = self._penalized(logits_AV, seen_AV) / self.temperature
            score_AV = keep_min_p(keep_top_p(keep_top_k(score_AV, self.top_k), self.top_p), self.min_p)
            token_A = inverse_cdf(score_AV.softmax(-1), uniform_A)
        logp_AV = logits_AV.log_softmax(-1)
        return token_A, logp_AV.gather(1, token_A[:, None]).squeeze(1)

    def _penalized(self, logits_AV: Tensor, seen_AV: Tensor | None) -> Tensor:
        """Logits with a penalty on tokens that the row already contains (CTRL, arXiv:1909.05858, section 4.1)."""
        if seen_AV is None:
            return logits_AV
        penalized = torch.where(logits_AV < 0, logits_AV * self.penalty, logits_AV / self.penalty)
        return torch.where(seen_AV, penalized, logits_AV)


def _refuse_ignored(config: GenerationConfig) -> None:
    named = {name: getattr(config, name, None) for name in IGNORED}
    asked = [f"{k}: {v}" for k, v in named.items() if v and not (v == 1 and k in _RESTING_AT_1)]
    if asked:
        raise RecipeError(
            f"the model's generation_config has settings that are not supported here ({', '.join(asked)})",
            where="sampling.use_generation_config",
            remedy="leave it out and set temperature, top_p, top_k, or remove these lines from generation_config.json",
        )


def keep_top_k(score_AV: Tensor, k: int) -> Tensor:
    """`score_AV` with -inf below the k-th best score of each row; ties with it stay. 0 keeps all."""
    if not 0 < k < score_AV.shape[-1]:
        return score_AV
    return score_AV.masked_fill(score_AV < score_AV.topk(k).values[:, -1:], -torch.inf)


def keep_top_p(score_AV: Tensor, p: float) -> Tensor:
    """`score_AV` with -inf outside the smallest set of tokens whose probability reaches `p` (arXiv:1904.09751). The
    best token always stays."""
    if p >= 1:
        return score_AV
    ordered, index = score_AV.sort(descending=True, stable=True)
    probability = ordered.softmax(-1)
    above = probability.cumsum(-1) - probability
    return torch.empty_like(score_AV).scatter_(1, index, ordered.masked_fill((above >= p) & (above > 0), -torch.inf))


def keep_min_p(score_AV: Tensor, p: float) -> Tensor:
    """`score_AV` with -inf where a token has less than `p` times the best token's probability (arXiv:2407.01082). The
    best token always stays."""
    if p <= 0:
        return score_AV
    return score_AV.masked_fill(score_AV < score_AV.amax(-1, keepdim=True) + math.log(min(p, 1)), -torch.inf)


def inverse_cdf(probability_AV: Tensor, uniform_A: Tensor) -> Tensor:
    """The tokens [A] at quantile `uniform_A` in [0, 1 - 2^-52]; never one of probability 0. For NaN, the last token.

    First the block of tokens at the quantile, then the token in it: cumulative sums over a vocabulary take longer.
    """
    rows, size = probability_AV.shape
    if short := -size % BLOCK:
        probability_AV = F.pad(probability_AV, (0, short))
    block_ANB = probability_AV.unflatten(1, (-1, BLOCK))
    mass_AN = block_ANB.sum(-1).cumsum(-1, dtype=torch.float64)
    target = uniform_A[:, None] * mass_AN[:, -1:]
    at = torch.searchsorted(mass_AN, target, right=True).clamp(max=mass_AN.shape[1] - 1)
    before = F.pad(mass_AN, (1, 0)).gather(1, at)
    cdf_AB = block_ANB[torch.arange(rows, device=at.device), at[:, 0]].cumsum(-1, dtype=torch.float64)
    rest = torch.minimum(target - before, cdf_AB[:, -1:] * (1 - 2**-52))  # the two sums of a block differ by rounding
    return (at * BLOCK + torch.searchsorted(cdf_AB, rest, right=True)).squeeze(1).clamp(max=size - 1)


def uniforms(seed: tuple[int, int], prompt: Tensor, index: int, count: int) -> np.ndarray:
    """The noise [count] float64 of one row: Philox keyed by (seed, step), the prompt's tokens and the sample index."""
    text = f"{seed[0]}/{seed[1]}/{index}/".encode() + as_bytes(prompt)
    key = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
    return np.minimum(np.random.Generator(np.random.Philox(key=key)).random(count), 1 - 2**-52)


def as_bytes(tokens: Tensor) -> bytes:
    """Tokens as a key."""
    return tokens.cpu().numpy().astype("<i8").tobytes()
