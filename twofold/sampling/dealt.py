"""Distribute prompts over the processes of a run, and gather their completions.

Noise depends only on seed, step, prompt tokens and sample index, so the result does not depend on the processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from twofold.sampling.base import Sample
from twofold.world import world


def own_prompts(prompts: Sequence[Tensor]) -> list[int]:
    """The indices of the `prompts` that this process completes, in order."""
    return sorted(turn.place for turn in world().deal([len(prompt) for prompt in prompts]))


def all_completions(mine: Mapping[int, Sequence[Sample]], prompts: int) -> list[list[Sample]]:
    """The completions of all `prompts`; `mine` are those of this process."""
    if world().size == 1:
        return [list(mine[place]) for place in range(prompts)]
    sheet = [
        [place, i, len(completion.tokens), completion.truncated, str(completion.logp.dtype).removeprefix("torch.")]
        for place, completions in mine.items()
        for i, completion in enumerate(completions)
    ]
    every = sorted(row for rows in world().gather(sheet) for row in rows)
    at = {(place, i): number for number, (place, i, *_) in enumerate(every)}
    own = {at[place, i]: completion for place, completions in mine.items() for i, completion in enumerate(completions)}
    lengths = [length for _, _, length, _, _ in every]
    dtype = getattr(torch, every[0][-1]) if every else torch.float32
    tokens = world().pooled({n: completion.tokens for n, completion in own.items()}, lengths, torch.int64)
    logps = world().pooled({n: completion.logp for n, completion in own.items()}, lengths, dtype)
    found: list[list[Sample]] = [[] for _ in range(prompts)]
    for (place, _, _, truncated, _), token, logp in zip(every, tokens, logps, strict=True):
        found[place].append(Sample(token, logp, truncated))
    return found
