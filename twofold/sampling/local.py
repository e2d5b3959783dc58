"""Draws drafts from a causal model in this process: one prefill per prompt, then decoding with a key-value cache whose
slots are taken by the next drafts as soon as theirs are finished.

Shapes: A slots of the cache (one draft each), P prompt tokens, N new tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import count
from typing import Literal, Protocol, TypedDict, Unpack, cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from twofold.errors import NonFiniteError, RecipeError
from twofold.models.attention import stock_attention
from twofold.models.casts import Casts
from twofold.models.row_lengths import restart_rotary
from twofold.models.seq2seq import encodes_prompts
from twofold.models.sharding import in_shards, whole_model
from twofold.models.trial import know_float64
from twofold.sampling.base import Draft, Sampling
from twofold.sampling.cache import GrowingStore, Prefilled, max_positions, refillable, refuse_unfit
from twofold.sampling.dealt import all_drafts, own_prompts
from twofold.sampling.encoded import EncodedStart, EncodedStore
from twofold.sampling.logits_processor import LogitsProcessor, as_bytes, uniforms
from twofold.sampling.recompute import RowStore, cache_fault, prefilled_rows, why_recompute
from twofold.sampling.slots import NewDrafts, Row, Slots, StopCriteria
from twofold.sampling.static import Graphs, StaticStore, Unfit, addresses, refuse_unfit_model

STRIDE = (
    8  # steps between looks at the slots where a look is dear: stop texts are decoded, an accelerator is waited for
)
AHEAD = 8  # further prompts are prefilled for this part of the slots at a time


class Store(Protocol):
    """The keys and values of the drafts under way."""

    @property
    def refills(self) -> bool: ...

    def fill(self, slot_A: Tensor, start: Prefilled) -> None: ...

    def size_for(self, live: int, size: int) -> int: ...

    def keep(self, index: Tensor) -> None: ...

    def settle(self, position_A: Tensor, live_A: Tensor) -> None: ...

    def feed(self, token_A: Tensor, position_A: Tensor) -> Tensor: ...


class DecodingOptions(TypedDict, total=False):
    """`drive` insists on the model's cache, or on whole rows; auto takes the cache wherever it is right. `autocast` is
    the dtype of products, where it is not the weights' own; `casts` makes other weights of them."""

    drive: Literal["auto", "cache", "rows"]
    autocast: torch.dtype | None
    casts: Casts | None


class LocalSampler:
    """A `Sampler` over `model` itself, with the attention that the model came with; `tell` hears what slows it down."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        stop_tokens: Collection[int],
        settings: Sampling,
        tell: Callable[[str], None] = lambda said: None,
        **decoding: Unpack[DecodingOptions],
    ) -> None:
        if settings.server is not None:
            remedy = "leave it out: a server draws the drafts of training only"
            raise RecipeError("these drafts are drawn in this process", where="sampling.server", remedy=remedy)
        self.model, self.tokenizer, self.settings, self.tell = model, tokenizer, settings, tell
        self.ends = StopCriteria(sorted(stop_tokens), settings.max_new_tokens, max_positions(model))
        self._drive, self._autocast = decoding.get("drive", "auto"), decoding.get("autocast")
        self._casts = decoding.get("casts")
        self._rows, self._warned = self._drive == "rows", False
        self._static, self._fits = None, True
        know_float64(model)
        LogitsProcessor.of(settings, model)  # which refuses what cannot be followed
        self.steps = 0
        """Decoding steps so far, in all calls."""

    @property
    def static(self) -> bool:
        """Whether the next drafts are decoded with a static cache."""
        asked = self.settings.cache == "static" or (self.settings.cache == "auto" and self.model.device.type == "cuda")
        asked = asked and not in_shards(self.model)  # whose weights come and go under a captured step
        return asked and self._fits and not self._rows and not (self._static is not None and self._static.graphs.failed)

    @property
    def refills(self) -> bool:
        """Whether a finished draft's place is taken by another."""
        return not encodes_prompts(self.model) and (self._rows or self.static or refillable(self.model))

    @property
    def note(self) -> str:
        """What a person should know of how it draws; empty where it draws in the fastest way."""
        if self._drive != "rows" and (why := cache_fault(self.model, draw_for_trial)):
            return f"drafts are computed as whole rows, without a cache, which is slow: {why}"
        if self.refills:
            return ""
        if encodes_prompts(self.model):
            return (
                "its drafts are rows of a decoder that begin together: none takes a finished one's place in the batch"
            )
        return "a layer of this model keeps a window only: no draft takes a finished one's place in the batch"

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Draft]]:
        """`samples` drafts for each of `prompts` [P], on the CPU; `seed` is (seed, step).

        Equal prompts get equal drafts. Raises DataError for a prompt that leaves no room for a draft.
        """
        if samples < 1:
            raise ValueError("samples must be ≥ 1")
        refuse_unfit(prompts, self.ends.max_positions)
        rule = LogitsProcessor.of(self.settings, self.model)
        draws = samples if rule.temperature else 1
        keys = [as_bytes(prompt) for prompt in prompts]
        distinct = dict(zip(keys, prompts, strict=True))
        order = sorted(distinct, key=lambda key: -len(distinct[key]))
        mine = own_prompts([distinct[key] for key in order])
        drafts: dict[Row, Draft] = {}
        with torch.no_grad(), whole_model(self.model), stock_attention(self.model), evaluating(self.model):
            self._choose(prompts)
            static = self._prepared(max((len(p) for p in prompts), default=0))
            supply = DraftQueue(self, [distinct[order[i]] for i in mine], draws, seed)
            with self._precision(static):
                while (fresh := supply.take(self.settings.batch_size)) is not None:
                    decoding = Decoding(self, rule, fresh, supply, static)
                    drafts.update(decoding.run())
                    self.steps += decoding.step
        drawn = {i: [drafts[place, k] for k in range(draws)] for place, i in enumerate(mine)}
        answers = dict(zip(order, all_drafts(drawn, len(order)), strict=True))
        found = [answers[key] * (samples // draws) for key in keys]
        _refuse_nan(found)
        return found

    def _precision(self, static: StaticDecoder | None) -> AbstractContextManager[object]:
        """Autocast, where its casts of weights last for a call: those of weights that could be trained, outside of
        captured steps, which would go on reading them after they are gone."""
        lasting = static is None and any(p.requires_grad for p in self.model.parameters())
        if self._casts is not None:
            return self._casts.of(self.model) if lasting and not in_shards(self.model) else nullcontext()
        narrow = self._autocast is not None and lasting
        return torch.autocast(self.model.device.type, self._autocast, narrow)

    def _choose(self, prompts: Sequence[Tensor]) -> None:
        """Whether the next drafts are computed as whole rows; said once where that is slower than it might be."""
        if self._drive != "auto":
            return
        why = why_recompute(self.model, prompts, self.ends.max_new_tokens, draw_for_trial)
        self._rows = bool(why)
        if not why:
            restart_rotary(self.model)
        elif not self._warned:
            self._warned = True
            self.tell(f"drafts are computed as whole rows, without a cache, which is slow: {why}")

    def start(self, prompts: Sequence[Tensor]) -> Prefilled:
        """`prompts` [P], ready to be gone on with."""
        return started(prompts, self.model, whole=self._rows)

    def store(self) -> Store:
        """What holds drafts under way, where it is not static."""
        return store_of(self.model, whole=self._rows, refills=self.refills)

    def _prepared(self, longest: int) -> StaticDecoder | None:
        """The static decoder with room for prompts of up to `longest` tokens, or None where the cache grows."""
        if not self.static:
            self._static = None
            return None
        columns = min(longest + self.ends.max_new_tokens, self.ends.max_positions)
        if self._static is None or self._static.store.columns < columns:
            try:
                if self._static is None:
                    refuse_unfit_model(self.model, STRIDE)
                self._static = StaticDecoder(self, columns)
            except Unfit as error:
                self._fits = False
                self.tell(f"drafts are decoded with a growing cache: {error}")
                return None
        self._static.check()
        return self._static


class DraftQueue:
    """The drafts that have not begun. Prompts are prefilled a group at a time, the longest first, so that whatever
    comes later fits into the columns that are there."""

    def __init__(self, sampler: LocalSampler, prompts: Sequence[Tensor], draws: int, seed: tuple[int, int]) -> None:
        self.sampler, self.prompts, self.draws, self.seed = sampler, prompts, draws, seed
        self.begun = 0
        self.group: Prefilled | None = None
        self.waiting: list[tuple[Row, int]] = []

    def take(self, most: int) -> NewDrafts | None:
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
        return NewDrafts(rows, self.group.select(index), torch.from_numpy(noise).to(model.device))

    def _prefill(self) -> None:
        slots = self.sampler.settings.batch_size
        if not self.sampler.refills:
            width = slots // self.draws
        else:
            width = -(-(slots // AHEAD if self.begun else slots) // self.draws)
        prompts = self.prompts[self.begun : self.begun + max(1, width)]
        self.group = self.sampler.start(prompts) if prompts else None
        self.waiting = [((self.begun + p, i), p) for p in range(len(prompts)) for i in range(self.draws)]
        self.begun += len(prompts)


class Decoding:
    """Drafts under way until all that `supply` holds for them have finished."""

    def __init__(
        self,
        sampler: LocalSampler,
        rule: LogitsProcessor,
        fresh: NewDrafts,
        supply: DraftQueue,
        static: StaticDecoder | None = None,
    ) -> None:
        self.sampler, self.supply, self.static = sampler, supply, static
        like = fresh.prefilled.logits_AV
        self.store: Store = sampler.store() if static is None else static.store
        self.slots = Slots(len(fresh), rule, sampler.ends, like) if static is None else static.slots(rule, like)
        self.slots.restart(
            len(fresh) if static is None else static.store.size_for(len(fresh), len(static.store.frame.row_A))
        )
        self.drafts: dict[Row, Draft] = {}
        self.step = self.horizon = 0
        self._begin(self.slots.slot_A[: len(fresh)], fresh)
        self._settle()

    def run(self) -> Mapping[Row, Draft]:
        """Decode until every draft, and every one that took a slot, has stopped or met its limit."""
        dear = self.sampler.settings.stop or self.static is not None or self.slots.slot_A.device.type != "cpu"
        stride = STRIDE if dear else 1
        for self.step in count(1):
            if (self.step % stride == 0 or self.step >= self.horizon) and not self._look():
                break
            if self.static is None:
                self._advance()
            else:
                self.static.graphs.run(self.static.store.key, self._advance)
        return self.drafts

    def _advance(self) -> None:
        """A token for every slot. Everything that it reads and writes stays where it is."""
        self.slots.next(self.store.feed(*self.slots.last()))

    def _begin(self, slot_A: Tensor, fresh: NewDrafts) -> None:
        self.store.fill(slot_A, fresh.prefilled)
        self.horizon = max(self.horizon, self.step + self.slots.begin(slot_A, fresh))

    def _look(self) -> bool:
        """Give the slots of finished drafts to others, or drop them; whether any are left."""
        if self.sampler.settings.stop:
            self._read()
        while True:
            finished, free_A = self.slots.release()
            self.drafts.update(finished)
            fresh = self.supply.take(len(free_A)) if len(free_A) and self.store.refills else None
            if fresh is None:
                break
            self._begin(free_A[: len(fresh)], fresh)
        live_A = self.slots.live()
        size = self.store.size_for(len(live_A), self.slots.size)
        if size < self.slots.size:
            self.slots.keep(live_A, size)
            if size:
                self.store.keep(live_A)
        if size:
            self._settle()
        return bool(size)

    def _settle(self) -> None:
        self.store.settle(self.slots.position_A[: self.slots.size], self.slots.live())

    def _read(self) -> None:
        """Cut each draft that has a stop text after the token that completes it, whatever was drawn since."""
        slots = self.slots
        for slot in range(slots.size):
            read, drawn = int(slots.read_A[slot]), int(slots.drawn_A[slot])
            tokens = slots.token_AN[slot, :drawn].tolist()
            if slots.rows[slot] is not None and read < drawn and self._has_stop(tokens):
                drawn = next(n for n in range(read + 1, drawn + 1) if self._has_stop(tokens[:n]))
                slots.drawn_A[slot] = drawn
                slots.stopped_A[slot] = slots.done_A[slot] = True
            slots.read_A[slot] = drawn

    def _has_stop(self, tokens: list[int]) -> bool:
        text = self.sampler.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return any(stop in text for stop in self.sampler.settings.stop)


class StaticDecoder:
    """What stays between calls so that captured steps stay valid: cache, slots, graphs."""

    def __init__(self, sampler: LocalSampler, columns: int) -> None:
        """Raises Unfit."""
        self.sampler = sampler
        self.store = StaticStore(sampler.model, sampler.settings.batch_size, columns, STRIDE)
        self.graphs = Graphs(sampler.model.device, sampler.tell)
        self._slots: Slots | None = None
        self._addresses = addresses(sampler.model)

    def check(self) -> None:
        """Drop what was captured if the weights have moved since."""
        now = addresses(self.sampler.model)
        if now != self._addresses:
            self.graphs.forget()
            self._addresses = now

    def slots(self, rule: LogitsProcessor, like: Tensor) -> Slots:
        """The slots, made anew where the rule has changed."""
        if self._slots is None or self._slots.rule != rule:
            self.graphs.forget()
            self._slots = Slots(self.sampler.settings.batch_size, rule, self.sampler.ends, like)
        return self._slots


def started(prompts: Sequence[Tensor], model: PreTrainedModel, *, whole: bool) -> Prefilled:
    """`prompts` [P], ready to be gone on with: from a cache, or as `whole` rows."""
    if encodes_prompts(model):
        return EncodedStart.reading(prompts, model, cached=not whole)
    return prefilled_rows(prompts, model) if whole else Prefilled.of(prompts, model)


def store_of(model: PreTrainedModel, *, whole: bool, refills: bool) -> Store:
    """What holds drafts that are under way."""
    if encodes_prompts(model):
        return EncodedStore(model)
    return RowStore(model) if whole else GrowingStore(model, refills)


def draw_for_trial(
    model: PreTrainedModel, drive: Literal["cache", "rows"], prompts: Sequence[Tensor], num_new: int
) -> list[list[Draft]]:
    """Drafts of a model that is tried: they end at different times, and those of a last prompt take their place."""
    stops = range(0, model.config.get_text_config().vocab_size, 8)
    how = Sampling(max_new_tokens=num_new, batch_size=6, cache="growing")
    no_text = cast("PreTrainedTokenizerBase", None)  # only stop texts are looked for in decoded drafts
    return LocalSampler(model, no_text, stops, how, drive=drive).sample(prompts, samples=3)


def _refuse_nan(drafts: Sequence[Sequence[Draft]]) -> None:
    for i, some in enumerate(drafts):
        for draft in some:
            if draft.logp.isnan().any():
                raise unusable_logits(f"prompt {i + 1} of {len(drafts)}", len(draft.tokens))


def unusable_logits(where: str, token: int) -> NonFiniteError:
    """What to say of a model whose logits are no numbers at a draft's `token`."""
    what = f"the model's logits are not finite at token {token} of a draft: nothing can be drawn from them"
    remedy = "its weights are damaged or have diverged: take an earlier checkpoint, or set model.precision=float32"
    return NonFiniteError(what, where=where, remedy=remedy)


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
