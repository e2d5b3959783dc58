"""KL of whole answers between a policy and its reference, token by token, from drafts of the policy.

At every token of a draft the policy's whole distribution π is compared with the reference's: Σ π·log(π/π_ref), summed
over the draft, has the sequence KL as its mean (chain rule) and less variance than Σ log π/π_ref of the tokens drawn.
Drafts must be drawn at temperature 1 with nothing cut off, or they are of another distribution; of a truncated draft it
is the KL as far as it goes.
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
from twofold.sampling.base import Draft

HELD = 2**24  # entries of log-distributions that are held at once, of either model


@dataclass(frozen=True)
class Divergence:
    """Of all drafts of one prompt: tokens, and sums over them in nats; `kl` from whole distributions, `kl_drawn` from
    the tokens that were drawn."""

    tokens: int
    entropy: float
    kl: float
    kl_drawn: float


def divergence(policy: Policy, reference: Policy | None, prompt: Tensor, drafts: Sequence[Draft]) -> Divergence:
    """Of the `drafts` of `prompt` [P]; without a reference the entropy alone, its KL 0."""
    entropy = kl = drawn = 0.0
    for part in _parts(drafts, len(prompt), policy.vocabulary):
        group = Group("drafts", prompt, tuple(Branch(d.tokens, Role.DRAFT) for d in part))
        own = torch.cat(policy.distributions(group))
        entropy -= float((own.exp() * own).sum())
        if reference is not None:
            ratio = own - torch.cat(reference.distributions(group)).to(own.device)
            token = torch.cat([d.tokens for d in part]).to(own.device)
            kl += float((own.exp() * ratio).sum())
            drawn += float(ratio.gather(1, token[:, None]).sum())
    return Divergence(sum(len(d.tokens) for d in drafts), entropy, kl, drawn)


def refuse_strangers(policy: Policy, reference: Policy) -> None:
    """Raises ModelError for two models that do not know the same number of tokens."""
    if policy.vocabulary != reference.vocabulary:
        what = f"{reference.vocabulary} tokens, the policy knows {policy.vocabulary}"
        raise ModelError(what, where="reference", remedy="give the model that the policy was trained from")


def _parts(drafts: Sequence[Draft], prompt: int, vocabulary: int) -> list[list[Draft]]:
    """The drafts in portions whose padded distributions are not too large."""
    longest = prompt + max(len(d.tokens) for d in drafts)
    size = max(1, HELD // (longest * vocabulary))
    rest = iter(drafts)
    return list(iter(lambda: list(islice(rest, size)), []))
