"""The sequence KL between a policy and its reference, estimated token by token from completions of the policy.

At every token of a completion the policy's full distribution π is compared with the reference's: Σ π·log(π/π_ref). Its
sum over the completion has the sequence KL as its mean (chain rule), with less variance than Σ log π/π_ref of the
sampled tokens. Completions must be sampled from the full distribution at temperature 1. For a truncated completion the
result is the KL of the tokens so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from twofold.batch import Branch, Group, Role
from twofold.errors import ModelError
from twofold.models.policy import Policy
from twofold.sampling.base import Sample

HELD = 2**24  # entries of log-distributions in memory at once, for each of the two models


@dataclass(frozen=True)
class Divergence:
    """For all completions of one prompt: the number of tokens, and sums over them in nats; `kl` from full
    distributions, `kl_drawn` from the sampled tokens."""

    tokens: int
    entropy: float
    kl: float
    kl_drawn: float


def divergence(policy: Policy, reference: Policy | None, prompt: Tensor, completions: Sequence[Sample]) -> Divergence:
    """The divergence for the `completions` of `prompt` [P]. Without a reference, only the entropy; the KL is 0."""
    entropy = kl = drawn = 0.0
    for part in _parts(completions, len(prompt), policy.vocabulary):
        group = Group("completions", prompt, tuple(Branch(d.tokens, Role.DRAFT) for d in part))
        own = torch.cat(policy.distributions(group))
        entropy -= float((own.exp() * own).sum())
        if reference is not None:
            ratio = own - torch.cat(reference.distributions(group)).to(own.device)
            token = torch.cat([d.tokens for d in part]).to(own.device)
            kl += float((own.exp() * ratio).sum())
            drawn += float(ratio.gather(1, token[:, None]).sum())
    return Divergence(sum(len(d.tokens) for d in completions), entropy, kl, drawn)


def refuse_strangers(policy: Policy, reference: Policy) -> None:
    """Raise ModelError for two models with vocabularies of different size."""
    if policy.vocabulary != reference.vocabulary:
        what = f"{reference.vocabulary} tokens, the policy knows {policy.vocabulary}"
        raise ModelError(what, where="reference", remedy="give the model that the policy was trained from")


def _parts(completions: Sequence[Sample], prompt: int, vocabulary: int) -> list[list[Sample]]:
    """The completions in batches whose padded distributions fit into `HELD` entries."""
    longest = prompt + max(len(d.tokens) for d in completions)
    size = max(1, HELD // (longest * vocabulary))
    rest = iter(completions)
    return list(iter(lambda: list(islice(rest, size)), []))
