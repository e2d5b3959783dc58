"""Prompts dealt to the processes of a run, and their drafts brought together.

Noise depends on (seed, step, prompt tokens, sample index) only, so that it does not matter who draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from twofold.sampling.base import Draft
from twofold.world import world


def own_prompts(prompts: Sequence[Tensor]) -> list[int]:
    """Which of `prompts` this process answers, in their order."""
    return sorted(turn.place for turn in world().deal([len(prompt) for prompt in prompts]))


def all_drafts(mine: Mapping[int, Sequence[Draft]], prompts: int) -> list[list[Draft]]:
    """The drafts of all `prompts`, of which this process has drawn some."""
    if world().size == 1:
        return [list(mine[place]) for place in range(prompts)]
    sheet = [
        [place, i, len(draft.tokens), draft.truncated, str(draft.logp.dtype).removeprefix("torch.")]
        for place, drafts in mine.items()
        for i, draft in enumerate(drafts)
    ]
    every = sorted(row for rows in world().gather(sheet) for row in rows)
    at = {(place, i): number for number, (place, i, *_) in enumerate(every)}
    own = {at[place, i]: draft for place, drafts in mine.items() for i, draft in enumerate(drafts)}
    lengths = [length for _, _, length, _, _ in every]
    dtype = getattr(torch, every[0][-1]) if every else torch.float32
    tokens = world().pooled({n: draft.tokens for n, draft in own.items()}, lengths, torch.int64)
    logps = world().pooled({n: draft.logp for n, draft in own.items()}, lengths, dtype)
    found: list[list[Draft]] = [[] for _ in range(prompts)]
    for (place, _, _, truncated, _), token, logp in zip(every, tokens, logps, strict=True):
        found[place].append(Draft(token, logp, truncated))
    return found
