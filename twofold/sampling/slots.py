"""Unfinished completions, one per slot: the tokens so far, the position of each, and when it ends.

Every change is in place, and no shape depends on the sampled tokens, so that a step can be captured and replayed.
Shapes: A slots, N new tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from twofold.sampling.base import Sample
from twofold.sampling.cache import Prefilled, own_columns
from twofold.sampling.logits_processor import LogitsProcessor

Row = tuple[int, int]
"""The index of a prompt and the index of its sample."""


@dataclass(frozen=True)
class StopCriteria:
    """When a completion ends: at a stop token, after `max_new_tokens`, or at the model's last position."""

    stop_tokens: Collection[int]
    max_new_tokens: int
    max_positions: int


class NewCompletions:
    """Completions that are about to start: their rows, their prompts in a cache of their own, and their noise."""

    def __init__(self, rows: Sequence[Row], prefilled: Prefilled, noise_AN: Tensor) -> None:
        self.rows, self.prefilled, self.noise_AN = list(rows), prefilled, noise_AN

    def __len__(self) -> int:
        return len(self.rows)


class Slots:
    """The first `size` slots of buffers for `capacity`. A finished completion is still decoded, without effect, until
    its slot is released. A slot without a completion counts as done."""

    def __init__(self, capacity: int, rule: LogitsProcessor, ends: StopCriteria, like: Tensor) -> None:
        """`like` [·, V] are logits of the model's kind, on its device."""
        device, vocabulary = like.device, like.shape[1]
        self.rule, self.ends, self.size = rule, ends, capacity
        self.rows: list[Row | None] = [None] * capacity
        self.slot_A = torch.arange(capacity, device=device)
        self.stop_V = torch.zeros(vocabulary, dtype=torch.bool, device=device)
        self.stop_V[[token for token in ends.stop_tokens if token < vocabulary]] = True
        # One more column than tokens, for tokens that are decoded after the end.
        shape = (capacity, ends.max_new_tokens + 1)
        self.noise_AN = torch.zeros(shape, dtype=torch.float64, device=device)
        self.token_AN = torch.zeros(shape, dtype=torch.int64, device=device)
        self.logp_AN = torch.zeros(shape, dtype=like.dtype, device=device)
        self.position_A, self.limit_A, self.last_A, self.drawn_A, self.read_A = (
            torch.zeros_like(self.slot_A) for _ in range(5)
        )
        self.done_A = torch.ones_like(self.slot_A, dtype=torch.bool)
        self.stopped_A = torch.zeros_like(self.done_A)
        penalized = rule.penalty != 1
        self.seen_AV = torch.zeros(capacity, vocabulary, dtype=torch.bool, device=device) if penalized else None

    @property
    def _buffers(self) -> list[Tensor]:
        state = [self.noise_AN, self.token_AN, self.logp_AN, self.position_A, self.limit_A, self.last_A, self.drawn_A]
        state += [self.read_A, self.done_A, self.stopped_A]
        return state if self.seen_AV is None else [*state, self.seen_AV]

    def begin(self, slot_A: Tensor, fresh: NewCompletions) -> int:
        """Sample the first tokens of `fresh` into these slots. Returns the maximum length of one of them."""
        start, num = fresh.prefilled, self.ends.max_new_tokens
        for slot, row in zip(slot_A.tolist(), fresh.rows, strict=True):
            self.rows[slot] = row
        self.noise_AN[slot_A, :num] = fresh.noise_AN
        self.position_A[slot_A] = start.length_A
        self.limit_A[slot_A] = (self.ends.max_positions - start.length_A).clamp(max=num)
        for state in (self.drawn_A, self.read_A, self.done_A, self.stopped_A):
            state[slot_A] = 0
        if self.seen_AV is not None:
            self.seen_AV[slot_A] = _seen(start)
        self.draw(start.logits_AV, slot_A, start.forced)
        return int(self.limit_A[slot_A].max())

    def draw(self, logits_AV: Tensor, slot_A: Tensor, forced: int | None = None) -> None:
        """Sample a token for each of these slots, or use the `forced` one. Slots that are done do not change."""
        drawn_A, live_A = self.drawn_A[slot_A], ~self.done_A[slot_A]
        seen_AV = None if self.seen_AV is None else self.seen_AV[slot_A]
        token_A, logp_A = self.rule.draw(logits_AV, seen_AV, self.noise_AN[slot_A, drawn_A])
        if forced is not None:
            token_A, logp_A = torch.full_like(token_A, forced), logits_AV.log_softmax(-1)[:, forced]
        self.token_AN[slot_A, drawn_A], self.logp_AN[slot_A, drawn_A] = token_A, logp_A
        self.last_A[slot_A], drawn_A = token_A, drawn_A + live_A
        stopped_A = self.stop_V[token_A] & live_A
        self.drawn_A[slot_A] = drawn_A
        self.stopped_A[slot_A] |= stopped_A
        # NaN ends a completion at once; its last log-probability shows the fault.
        self.done_A[slot_A] |= stopped_A | (drawn_A >= self.limit_A[slot_A]) | (live_A & logp_A.isnan())

    def last(self) -> tuple[Tensor, Tensor]:
        """The last tokens [A] and their positions [A]; these tokens now count as seen."""
        last_A = self.last_A[: self.size]
        if self.seen_AV is not None:
            self.seen_AV[: self.size].scatter_(1, last_A[:, None], True)
        return last_A, self.position_A[: self.size]

    def next(self, logits_AV: Tensor) -> None:
        """Sample the tokens after `last`."""
        self.position_A[: self.size].add_(1).clamp_(max=self.ends.max_positions - 1)
        self.draw(logits_AV, self.slot_A[: self.size])

    def release(self) -> tuple[dict[Row, Sample], Tensor]:
        """Completions that have finished since the last call, and the free slots [A]."""
        free_A = self.done_A[: self.size].nonzero().squeeze(1)
        taken = [slot for slot in free_A.tolist() if self.rows[slot] is not None]
        return self._harvest(taken) if taken else {}, free_A

    def _harvest(self, taken: Sequence[int]) -> dict[Row, Sample]:
        slot_A, found = torch.tensor(taken, device=self.slot_A.device), dict[Row, Sample]()
        finished = zip(
            taken, self.token_AN[slot_A].cpu(), self.logp_AN[slot_A].cpu(),
            self.drawn_A[slot_A].tolist(), self.stopped_A[slot_A].tolist(), strict=True,
        )  # fmt: skip
        for slot, tokens, logp, n, stopped in finished:
            row = self.rows[slot]
            assert row is not None
            found[row] = Sample(tokens[:n].clone(), logp[:n].clone(), truncated=not stopped)
            self.rows[slot] = None
        return found

    def live(self) -> Tensor:
        """The slots [A] with an unfinished completion."""
        return (~self.done_A[: self.size]).nonzero().squeeze(1)

    def keep(self, index: Tensor, size: int) -> None:
        """Move these slots to the front, and use `size` slots from now on."""
        for buffer in self._buffers:
            buffer[: len(index)] = buffer[index]
        self.done_A[len(index) :] = True
        rows = [self.rows[slot] for slot in index.tolist()]
        self.rows, self.size = rows + [None] * (len(self.slot_A) - len(rows)), size

    def restart(self, size: int) -> None:
        """Start again with `size` empty slots."""
        self.keep(self.slot_A[:0], size)


def _seen(start: Prefilled) -> Tensor:
    """Which tokens [A, V] each prompt contains; padding does not count."""
    seen_AV = torch.zeros_like(start.logits_AV, dtype=torch.bool)
    own_AT = own_columns(start.length_A, start.token_AT.shape[1])
    row_AT = torch.arange(len(own_AT), device=own_AT.device)[:, None].expand_as(own_AT)
    seen_AV[row_AT[own_AT], start.token_AT[own_AT]] = True
    return seen_AV
