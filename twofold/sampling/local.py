"""Draws drafts from a causal model in this process: one prefill per prompt, then decoding with a key-value cache whose
slots are taken by the next drafts as soon as theirs are finished.

Shapes: A slots of the cache (one draft each), P prompt tokens, N new tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from twofold.models.attention import stock_attention
from twofold.sampling.base import Draft, Sampling
from twofold.sampling.cache import Prefilled, RoomyLayer, held, max_positions, next_logits, refillable, refuse_unfit
from twofold.sampling.rule import Rule, as_bytes, uniforms

STRIDE = (
    8  # steps between looks at the slots where a look is dear: stop texts are decoded, an accelerator is waited for
)
DROP = 8  # slots without a draft leave the cache once they are this part of it: all copying costs a few whole caches
AHEAD = 8  # further prompts are prefilled for this part of the slots at a time

Row = tuple[int, int]
"""A prompt's place and the index of its sample."""


class LocalSampler:
    """A `Sampler` over `model` itself, with the attention that the model came with."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        stop_tokens: Collection[int],
        settings: Sampling,
    ) -> None:
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.stop_tokens = sorted(stop_tokens)
        self.max_positions, self.refills = max_positions(model), refillable(model)

    @property
    def note(self) -> str:
        """What a person should know of how it draws; empty where it draws in the fastest way."""
        if self.refills:
            return ""
        return "a layer of this model keeps a window only: no draft takes a finished one's place in the batch"

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Draft]]:
        """`samples` drafts for each of `prompts` [P], on the CPU; `seed` is (seed, step).

        Equal prompts get equal drafts. Raises DataError for a prompt that leaves no room for a draft.
        """
        if samples < 1:
            raise ValueError("samples must be ≥ 1")
        refuse_unfit(prompts, self.max_positions)
        rule = Rule.of(self.settings, self.model)
        draws = samples if rule.temperature > 0 else 1
        keys = [as_bytes(prompt) for prompt in prompts]
        distinct = dict(zip(keys, prompts, strict=True))
        place = {key: i for i, key in enumerate(sorted(distinct, key=lambda key: -len(distinct[key])))}
        drafts: dict[Row, Draft] = {}
        with torch.no_grad(), stock_attention(self.model), evaluating(self.model):
            supply = Supply(self, [distinct[key] for key in place], draws, seed)
            while (fresh := supply.take(self.settings.batch_size)) is not None:
                drafts.update(Decoding(self, rule, fresh, supply).run())
        return [[drafts[place[key], i] for i in range(draws)] * (samples // draws) for key in keys]


class Fresh:
    """Drafts about to begin: their rows, their prompts in a cache of their own, and the noise of each."""

    def __init__(self, rows: Sequence[Row], prefilled: Prefilled, noise_AN: Tensor) -> None:
        self.rows, self.prefilled, self.noise_AN = list(rows), prefilled, noise_AN

    def __len__(self) -> int:
        return len(self.rows)


class Supply:
    """The drafts that have not begun. Prompts are prefilled a group at a time, the longest first, so that whatever
    comes later fits into the columns that are there."""

    def __init__(self, sampler: LocalSampler, prompts: Sequence[Tensor], draws: int, seed: tuple[int, int]) -> None:
        self.sampler, self.prompts, self.draws, self.seed = sampler, prompts, draws, seed
        self.begun = 0
        self.group: Prefilled | None = None
        self.waiting: list[tuple[Row, int]] = []

    def take(self, most: int) -> Fresh | None:
        """Up to `most` drafts, of one group; None when all have begun."""
        if not self.waiting:
            self._prefill()
        part, self.waiting = self.waiting[:most], self.waiting[most:]
        if self.group is None or not part:
            return None
        rows, model = [row for row, _ in part], self.sampler.model
        num = self.sampler.settings.max_new_tokens
        noise = np.stack([uniforms(self.seed, self.prompts[p], i, num) for p, i in rows])
        index = torch.tensor([place for _, place in part], device=model.device)
        return Fresh(rows, self.group.select(index), torch.from_numpy(noise).to(model.device))

    def _prefill(self) -> None:
        slots = self.sampler.settings.batch_size
        if not self.sampler.refills:
            width = slots // self.draws
        else:
            width = -(-(slots // AHEAD if self.begun else slots) // self.draws)
        prompts = self.prompts[self.begun : self.begun + max(1, width)]
        self.group = Prefilled.of(prompts, self.sampler.model) if prompts else None
        self.waiting = [((self.begun + p, i), p) for p in range(len(prompts)) for i in range(self.draws)]
        self.begun += len(prompts)


class Decoding:
    """Drafts under way, one per slot. A finished draft is decoded on, to no effect, until its slot is looked at."""

    def __init__(self, sampler: LocalSampler, rule: Rule, fresh: Fresh, supply: Supply) -> None:
        self.sampler, self.rule, self.supply = sampler, rule, supply
        self.stop_texts, self.last_position = sampler.settings.stop, sampler.max_positions - 1
        start = fresh.prefilled
        device, slots = start.length_A.device, len(fresh)
        self.stop_tokens = torch.tensor(sampler.stop_tokens, dtype=torch.int64, device=device)
        self.cache, self.width = start.cache, start.token_AT.shape[1]
        self.drafts: dict[Row, Draft] = {}
        self.rows, self.slot_A = fresh.rows, torch.arange(slots, device=device)
        # One column more than tokens: what is decoded after the end goes there.
        shape = (slots, fresh.noise_AN.shape[1] + 1)
        self.noise_AN = torch.zeros(shape, dtype=torch.float64, device=device)
        self.token_AN = torch.zeros(shape, dtype=torch.int64, device=device)
        self.logp_AN = torch.zeros(shape, dtype=start.logits_AV.dtype, device=device)
        self.position_A, self.limit_A, self.last_A, self.drawn_A, self.read_A = (
            torch.zeros_like(self.slot_A) for _ in range(5)
        )
        self.done_A, self.stopped_A = (torch.zeros_like(self.slot_A, dtype=torch.bool) for _ in range(2))
        self.seen_AV = None if rule.penalty == 1 else torch.zeros_like(start.logits_AV, dtype=torch.bool)
        self.step = self.horizon = 0
        self._begin(self.slot_A, fresh)

    def run(self) -> Mapping[Row, Draft]:
        """Decode until every draft, and every one that took a slot, has stopped or met its limit."""
        stride = STRIDE if self.stop_texts or self.slot_A.device.type != "cpu" else 1
        for self.step in count(1):
            if (self.step % stride == 0 or self.step >= self.horizon) and not self._look():
                break
            self._draw(self._feed(), self.slot_A)
        return self.drafts

    def _begin(self, slot_A: Tensor, fresh: Fresh) -> None:
        """Draw the first tokens of `fresh`, whose prompts are in these slots."""
        start, num = fresh.prefilled, fresh.noise_AN.shape[1]
        self.noise_AN[slot_A, :num] = fresh.noise_AN
        self.position_A[slot_A] = start.length_A
        self.limit_A[slot_A] = (self.sampler.max_positions - start.length_A).clamp(max=num)
        for state in (self.drawn_A, self.read_A, self.done_A, self.stopped_A):
            state[slot_A] = 0
        if self.seen_AV is not None:
            self.seen_AV[slot_A] = _seen(start)
        self.horizon = max(self.horizon, self.step + int(self.limit_A[slot_A].max()))
        self.padded = bool((self.position_A != self.width).any())
        self._draw(start.logits_AV, slot_A)

    def _draw(self, logits_AV: Tensor, slot_A: Tensor) -> None:
        drawn_A, live_A = self.drawn_A[slot_A], ~self.done_A[slot_A]
        seen_AV = None if self.seen_AV is None else self.seen_AV[slot_A]
        token_A, logp_A = self.rule.draw(logits_AV, seen_AV, self.noise_AN[slot_A, drawn_A])
        self.token_AN[slot_A, drawn_A], self.logp_AN[slot_A, drawn_A] = token_A, logp_A
        self.last_A[slot_A], drawn_A = token_A, drawn_A + live_A
        stopped_A = torch.isin(token_A, self.stop_tokens) & live_A
        self.drawn_A[slot_A] = drawn_A
        self.stopped_A[slot_A] |= stopped_A
        self.done_A[slot_A] |= stopped_A | (drawn_A >= self.limit_A[slot_A])

    def _feed(self) -> Tensor:
        """Logits [A, V] after the tokens that were drawn last."""
        self.width += 1
        mask_AT = held(self.position_A + 1, self.width) if self.padded else None
        if self.seen_AV is not None:
            self.seen_AV.scatter_(1, self.last_A[:, None], True)
        logits_AV = next_logits(self.sampler.model, self.cache, self.last_A[:, None], self.position_A[:, None], mask_AT)
        self.position_A = (self.position_A + 1).clamp(max=self.last_position)
        return logits_AV

    def _look(self) -> bool:
        """Give the slots of finished drafts to others, or drop them; whether any are left."""
        if self.stop_texts:
            self._read()
        while len(slot_A := self.done_A.nonzero().squeeze(1)) and self.sampler.refills:
            fresh = self.supply.take(len(slot_A))
            if fresh is None:
                break
            self._refill(slot_A[: len(fresh)], fresh)
        if len(slot_A) and len(slot_A) * DROP >= len(self.rows):
            self._harvest(slot_A)
            self._drop((~self.done_A).nonzero().squeeze(1))
        return bool(self.rows)

    def _refill(self, slot_A: Tensor, fresh: Fresh) -> None:
        self._harvest(slot_A)
        for slot, row in zip(slot_A.tolist(), fresh.rows, strict=True):
            self.rows[slot] = row
        for layer, other in zip(self.cache.layers, fresh.prefilled.cache.layers, strict=True):
            layer.fill(slot_A, other)  # type: ignore[union-attr,operator]  # roomy, or nothing is refilled
        self._begin(slot_A, fresh)
        self._narrow()

    def _drop(self, keep: Tensor) -> None:
        self.rows, self.slot_A = [self.rows[slot] for slot in keep.tolist()], self.slot_A[: len(keep)]
        if not self.rows:
            return
        self.cache.batch_select_indices(keep)
        self.seen_AV = None if self.seen_AV is None else self.seen_AV[keep]
        self.noise_AN, self.token_AN, self.logp_AN = self.noise_AN[keep], self.token_AN[keep], self.logp_AN[keep]
        self.position_A, self.limit_A, self.last_A = self.position_A[keep], self.limit_A[keep], self.last_A[keep]
        self.drawn_A, self.read_A = self.drawn_A[keep], self.read_A[keep]
        self.done_A, self.stopped_A = self.done_A[keep], self.stopped_A[keep]
        self._narrow()

    def _narrow(self) -> None:
        """Forget the columns in which no draft has a token."""
        if self.sampler.refills:
            self.width = int(self.position_A.max())
            for layer in self.cache.layers:
                assert isinstance(layer, RoomyLayer)
                layer.narrow(self.width)
        self.padded = bool((self.position_A != self.width).any())

    def _read(self) -> None:
        """Cut each draft that has a stop text after the token that completes it, whatever was drawn since."""
        for slot in range(len(self.rows)):
            read, drawn = int(self.read_A[slot]), int(self.drawn_A[slot])
            tokens = self.token_AN[slot, :drawn].tolist()
            if read < drawn and self._has_stop(tokens):
                drawn = next(n for n in range(read + 1, drawn + 1) if self._has_stop(tokens[:n]))
                self.drawn_A[slot] = drawn
                self.stopped_A[slot] = self.done_A[slot] = True
            self.read_A[slot] = drawn

    def _has_stop(self, tokens: list[int]) -> bool:
        text = self.sampler.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return any(stop in text for stop in self.stop_texts)

    def _harvest(self, slot_A: Tensor) -> None:
        finished = zip(
            slot_A.tolist(), self.token_AN[slot_A].cpu(), self.logp_AN[slot_A].cpu(),
            self.drawn_A[slot_A].tolist(), self.stopped_A[slot_A].tolist(), strict=True,
        )  # fmt: skip
        for slot, tokens, logp, n, stopped in finished:
            self.drafts[self.rows[slot]] = Draft(tokens[:n].clone(), logp[:n].clone(), truncated=not stopped)


def _seen(start: Prefilled) -> Tensor:
    """Which tokens [A, V] each prompt holds; padding is no token."""
    seen_AV = torch.zeros_like(start.logits_AV, dtype=torch.bool)
    own_AT = held(start.length_A, start.token_AT.shape[1])
    row_AT = torch.arange(len(own_AT), device=own_AT.device)[:, None].expand_as(own_AT)
    seen_AV[row_AT[own_AT], start.token_AT[own_AT]] = True
    return seen_AV


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode, every module's own mode restored afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
