"""The layout of groups on the device: one stream without padding per pack, with each prompt once for all its branches.

A pack is `prompt, branch, branch, …, next prompt, …`. Every branch starts at position len(prompt). Its last token is
only a target and is left out, unless a head reads the ends of branches. A branch of several strands is as many rows
behind the prompt. Private to `models/`: objectives never see a pack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import heapify, heapreplace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from twofold.batch import Group
from twofold.settings import require, settings
from twofold.world import world

_FAR = 2**62  # a position that no query reaches: padding of keys
_LONG = 320  # keys; from here on a segment is worth a call of its own
_WASTE = 1.25  # padded length over true length within a bucket


@dataclass
class Segment:
    """One causal stretch: stream indices of its queries and of its keys (the last keys are the queries)."""

    query: Tensor
    key: Tensor
    num_prompt: int


@dataclass
class Route:
    """How rows of a [T, …] stream are gathered into the buckets' padded rows [M, …], and gathered back.

    `gather_M` is the stream row of each padded row (0 for padding), `inverse_T` the padded row of each stream row.
    `shared_prompt` lists (stream row, padded row) of further copies: prompts among the keys of further branches.
    """

    gather_M: Tensor
    inverse_T: Tensor
    padding: Tensor
    shared_prompt: tuple[Tensor, Tensor] | None = None

    def summed(self, padded_M: Tensor) -> Tensor:
        """Rows of the stream, each the sum of its copies among padded rows [M, …]."""
        total = padded_M.index_select(0, self.inverse_T)
        if self.shared_prompt is None:
            return total
        to, away = self.shared_prompt
        return total.index_add(0, to, padded_M.index_select(0, away))


@dataclass
class Bucket:
    """Segments of similar length that share one attention call; indices and positions are padded to the longest."""

    query_position_NQ: Tensor
    key_position_NK: Tensor
    square: bool
    masks: dict[int | None, Tensor | None] = field(default_factory=dict[int | None, Tensor | None])

    def mask(self, window: int | None) -> Tensor | None:
        """Boolean [N, 1, Q, K], True where a query sees a key; None if a plain causal mask is enough."""
        if window not in self.masks:
            self.masks[window] = self._make_mask(window)
        return self.masks[window]

    def _make_mask(self, window: int | None) -> Tensor | None:
        q, k = self.query_position_NQ[:, None, :, None], self.key_position_NK[:, None, None, :]
        if self.square and (window is None or q.shape[2] <= window):
            return None
        seen = k <= q
        return seen if window is None else seen & (q - k < window)


@dataclass
class Layout:
    """The layout of a pack for branch attention. `calls` counts the attention layers that used it."""

    segments: list[Segment]
    position_T: Tensor
    device: torch.device
    calls: int = 0
    tiles: dict[tuple[int | None, int], list[Any]] = field(default_factory=dict[tuple[int | None, int], list[Any]])
    """The tiles of `tiled_attention`, by window and heads."""

    @cached_property
    def chunks(self) -> list[list[Segment]]:
        """The segments of each call: few calls, with little padding."""
        return _by_length(self.segments)

    @cached_property
    def buckets(self) -> list[Bucket]:
        """One per chunk, in the order of the routes' padded rows."""
        return [self._bucket(chunk) for chunk in self.chunks]

    @cached_property
    def query_route(self) -> Route:
        """Stream to padded queries; outputs use it in reverse."""
        return self._route([[s.query for s in chunk] for chunk in self.chunks], [[0] * len(c) for c in self.chunks])

    @cached_property
    def key_route(self) -> Route:
        """Stream to padded keys."""
        return self._route([[s.key for s in c] for c in self.chunks], [[s.num_prompt for s in c] for c in self.chunks])

    def _bucket(self, chunk: list[Segment]) -> Bucket:
        position = self.position_T
        query, key = [position[s.query] for s in chunk], [position[s.key] for s in chunk]
        return Bucket(
            query_position_NQ=pad_sequence(query, batch_first=True).to(self.device),
            key_position_NK=pad_sequence(key, batch_first=True, padding_value=_FAR).to(self.device),
            square=len(chunk) == 1 and chunk[0].num_prompt == 0,
        )

    def _route(self, chunks: list[list[Tensor]], guests: list[list[int]]) -> Route:
        """The route for the rows of each segment; the first `guests` of them are copies from another segment."""
        take = [pad_sequence(rows, batch_first=True, padding_value=-1).flatten() for rows in chunks]
        take_M = torch.cat(take)
        is_guest = [
            torch.arange(max(map(len, rows))) < torch.tensor(n)[:, None] for rows, n in zip(chunks, guests, strict=True)
        ]
        guest_M = torch.cat([g.flatten() for g in is_guest])
        home = ((take_M >= 0) & ~guest_M).nonzero().squeeze(1)
        home_T = torch.empty_like(home)
        home_T[take_M[home]] = home
        away = guest_M.nonzero().squeeze(1)
        return Route(
            gather_M=take_M.clamp(min=0).to(self.device),
            inverse_T=home_T.to(self.device),
            padding=(take_M < 0).nonzero().squeeze(1).to(self.device),
            shared_prompt=(take_M[away].to(self.device), away.to(self.device)) if len(away) else None,
        )

    @cached_property
    def key_K(self) -> Tensor:
        """Stream indices [K] of every segment's keys, for one variable-length call."""
        return torch.cat([s.key for s in self.segments]).to(self.device)

    @cached_property
    def lengths(self) -> tuple[Tensor, Tensor, int, int]:
        """Cumulative query and key lengths (int32) and the longest of each."""
        num_q, num_k = (
            [len(x) for x in xs] for xs in ([s.query for s in self.segments], [s.key for s in self.segments])
        )
        cu_q, cu_k = (torch.tensor([0, *n]).cumsum(0).to(device=self.device, dtype=torch.int32) for n in (num_q, num_k))
        return cu_q, cu_k, max(num_q), max(num_k)


def _by_length(segments: list[Segment]) -> list[list[Segment]]:
    """Buckets of similar length. A long segment is a bucket of its own: padding would cost more than a call saves."""
    chunks: list[list[Segment]] = []
    for s in sorted(segments, key=lambda s: (len(s.key), len(s.query))):
        shortest = len(chunks[-1][0].key) if chunks else 0
        if chunks and len(s.key) < _LONG and len(s.key) <= max(_WASTE * shortest, shortest + 16):
            chunks[-1].append(s)
        else:
            chunks.append([s])
    return chunks


@dataclass
class Pack:
    """One stream: tokens and positions [1, T], the hidden states to read [S] and the tokens that they must predict [S].
    For the ends of branches, only their hidden states [B], which predict nothing."""

    token_T: Tensor
    position_T: Tensor
    score_S: Tensor
    target_S: Tensor
    layout: Layout


def pack(groups: Sequence[Group], device: torch.device | str = "cpu", *, ends: bool = False) -> Pack:
    """Pack `groups` in order. The first branch continues the segment of its prompt; each further one is its own
    segment.

    With `ends` every branch includes its last token, and only the hidden state of that token is read.
    """
    tokens: list[Tensor] = []
    positions: list[Tensor] = []
    score: list[Tensor] = []
    segments: list[Segment] = []
    start = 0
    for group in groups:
        num_prompt = len(group.prompt)
        prompt = torch.arange(start, start + num_prompt)
        tokens.append(group.prompt)
        positions.append(torch.arange(num_prompt))
        start += num_prompt
        for i, strand in enumerate(s for branch in group.branches for s in branch.strands(ends=ends)):
            kept = strand.tokens if ends else strand.tokens[:-1]
            own = torch.arange(start, start + len(kept))
            tokens.append(kept)
            positions.append(torch.arange(num_prompt, num_prompt + len(own)))
            before = torch.cat([prompt[-1:], own])
            score.append(own[-1:] if ends else before if strand.scored is None else before[strand.scored])
            key = torch.cat([prompt, own])
            if i == 0:
                segments.append(Segment(key, key, 0))
            elif len(own):
                segments.append(Segment(own, key, num_prompt))
            start += len(own)
    device = torch.device(device)
    position = torch.cat(positions)
    return Pack(
        token_T=torch.cat(tokens).unsqueeze(0).to(device),
        position_T=position.unsqueeze(0).to(device),
        score_S=torch.cat(score).to(device),
        target_S=targets(groups, device, ends=ends),
        layout=Layout(segments, position, device),
    )


def targets(groups: Sequence[Group], device: torch.device, *, ends: bool = False) -> Tensor:
    """The target tokens [S] of all branches, in order."""
    return torch.cat([b.tokens[:0] if ends else b.tokens for g in groups for b in g.branches]).to(device)


@settings
class Packing:
    """How much of a step goes through the model at once. It changes memory and speed, but no gradient."""

    tokens: int | Literal["auto"] = 8192
    """Tokens per pack. A larger group is a pack of its own. auto uses the dry run's estimate of what fits into the
    device's memory. The number is in resolved.yaml, and a resumed run uses the same one."""
    groups: int | None = None
    """Maximum number of groups per pack."""

    def __post_init__(self) -> None:
        require(self.tokens == "auto" or self.tokens > 0, "tokens must be ≥ 1")
        require(self.groups is None or self.groups > 0, "groups must be ≥ 1")


def bins(groups: Sequence[Group], packing: Packing, processes: int | None = None) -> list[list[int]]:
    """Indices of the groups in each pack, by first-fit-decreasing. They depend only on the groups' sizes and order, and
    on the number of `processes` (by default those of the run). Each process gets equally many packs of similar size."""
    budget, most = packing.tokens, packing.groups
    if budget == "auto":
        raise ValueError("the size of packs must be settled before there are packs")
    filled: list[tuple[int, list[int]]] = []
    for i in sorted(range(len(groups)), key=lambda i: (-groups[i].num_tokens, i)):
        size = groups[i].num_tokens
        for at, (used, members) in enumerate(filled):
            if used + size <= budget and (most is None or len(members) < most):
                members.append(i)
                filled[at] = (used + size, members)
                break
        else:
            filled.append((size, [i]))
    packs = sorted(sorted(members) for _, members in filled)
    size = processes or world().size
    return packs if size == 1 else _evened(groups, (budget, most or len(groups)), len(packs), size)


def _evened(groups: Sequence[Group], bounds: tuple[int, int], fewest: int, processes: int) -> list[list[int]]:
    """At least `fewest` packs within `bounds` of tokens and groups, and a multiple of `processes` if there are enough
    groups. The largest group comes first; each goes into the smallest pack."""
    (budget, most), sizes = bounds, [group.num_tokens for group in groups]
    order = sorted(range(len(groups)), key=lambda i: (-sizes[i], i))
    for count in range(-(-fewest // processes) * processes, len(groups), processes):
        loads = [(0, number) for number in range(count)]
        members = [list[int]() for _ in range(count)]
        heapify(loads)
        for i in order:
            load, number = loads[0]
            members[number].append(i)
            heapreplace(loads, (load + sizes[i], number))
        fits = all(load <= budget or len(members[number]) == 1 for load, number in loads)
        if fits and all(len(pack) <= most for pack in members):
            return sorted(sorted(pack) for pack in members)
    return [[i] for i in range(len(groups))]
