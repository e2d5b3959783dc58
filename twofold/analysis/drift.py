"""Drift of a policy's own completions from its reference model's: length, entropy, diversity, and KL per token.

Both models answer the same prompts. KL is that of `sampling/divergence.py`, in both of its forms. Distinct n-grams are
those of Li et al. 2016, arXiv:1510.03055, over the same number of n-grams of each model, because their share decreases
with the number of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from twofold.models.policy import Policy
from twofold.sampling.base import Sample
from twofold.sampling.divergence import Divergence, divergence, refuse_strangers
from twofold.statistics import Estimate, clustered_mean, clustered_share, mean_interval

LONGEST = 3  # tokens of the n-grams that are counted
Completions = Sequence[Sequence[Sample]]


@dataclass(frozen=True)
class Style:
    """How a model answers: tokens of an answer, share cut off, entropy in nats per token, shares of n-grams that are
    different ones. Intervals know that the answers to one prompt are alike."""

    length: Estimate
    truncated: Estimate
    entropy: Estimate
    distinct: tuple[float, ...]


@dataclass(frozen=True)
class Drift:
    """`policy` and `reference` as they answer `prompts` prompts; `longer` and `surer` are the differences per prompt
    of length and entropy. KL(π ‖ π_ref) of whole answers, `kl` from full distributions and `kl_drawn` from the sampled
    tokens, and of a token, `kl_token`; all in nats."""

    prompts: int
    policy: Style
    reference: Style
    longer: Estimate
    surer: Estimate
    kl: Estimate
    kl_drawn: Estimate
    kl_token: Estimate


def drift(policy: Policy, reference: Policy, prompts: Sequence[Tensor], own: Completions, other: Completions) -> Drift:
    """From the answers of both models to `prompts` [P]: `own` were drawn from the policy, `other` from the reference,
    at temperature 1 with nothing cut off, otherwise these are not the KL and entropy of the models."""
    if not prompts or not all(own) or not all(other):
        raise ValueError("drift needs prompts, and answers of both models to each")
    refuse_strangers(policy, reference)
    mine = [divergence(policy, reference, p, completions) for p, completions in zip(prompts, own, strict=True)]
    theirs = [divergence(reference, None, p, completions) for p, completions in zip(prompts, other, strict=True)]
    answers = [len(completions) for completions in own]
    lengths = [m.tokens for m in mine]
    styles = _distinct(own, other)
    return Drift(
        prompts=len(prompts),
        policy=_style(own, mine, styles[0]),
        reference=_style(other, theirs, styles[1]),
        longer=mean_interval(
            [m.tokens / len(a) - t.tokens / len(b) for m, t, a, b in zip(mine, theirs, own, other, strict=True)]
        ),
        surer=mean_interval([t.entropy / t.tokens - m.entropy / m.tokens for m, t in zip(mine, theirs, strict=True)]),
        kl=clustered_mean([m.kl for m in mine], answers),
        kl_drawn=clustered_mean([m.kl_drawn for m in mine], answers),
        kl_token=clustered_mean([m.kl for m in mine], lengths),
    )


def _style(completions: Completions, sums: Sequence[Divergence], distinct: tuple[float, ...]) -> Style:
    tokens, answers = [m.tokens for m in sums], [len(row) for row in completions]
    cut = [sum(d.truncated for d in row) for row in completions]
    return Style(
        length=clustered_mean(tokens, answers),
        truncated=clustered_share(cut, answers),
        entropy=clustered_mean([m.entropy for m in sums], tokens),
        distinct=distinct,
    )


def _distinct(*sides: Completions) -> list[tuple[float, ...]]:
    """For each side the share of its n-grams that are different ones, n from 1 on; as many n-grams of each side."""
    said = [[d.tokens.tolist() for row in completions for d in row] for completions in sides]
    shares: list[tuple[float, ...]] = [() for _ in sides]
    for n in range(1, LONGEST + 1):
        grams = [[tuple(t[at : at + n]) for t in texts for at in range(len(t) - n + 1)] for texts in said]
        fewest = min(len(g) for g in grams)
        shares = [
            (*told, len(set(g[:fewest])) / fewest if fewest else 0.0) for told, g in zip(shares, grams, strict=True)
        ]
    return shares
