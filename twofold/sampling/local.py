"""Sample completions from a causal model in this process: one prefill per prompt, then decoding with a key-value cache.
When a completion is finished, the next one takes its slot in the cache.

Shapes: A slots of the cache (one completion each), P prompt tokens, N new tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import count
from typing import Literal, TypedDict, Unpack, cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from twofold.errors import NonFiniteError, RecipeError
from twofold.models.attention import stock_attention
from twofold.models.casts import Casts
from twofold.models.prepacked import prepacked
from twofold.models.row_lengths import restart_rotary
from twofold.models.seq2seq import encodes_prompts
from twofold.models.sharding import in_shards, whole_model
from twofold.models.trial import know_float64
from twofold.sampling.base import Sample, Sampling
from twofold.sampling.cache import Prefilled, max_positions, refillable, refuse_unfit
from twofold.sampling.dealt import all_completions, own_prompts
from twofold.sampling.logits_processor import LogitsProcessor, as_bytes, uniforms
from twofold.sampling.recompute import cache_fault, why_recompute
from twofold.sampling.shared_prompt import why_copied
from twofold.sampling.slots import NewCompletions, Row, Slots, StopCriteria
from twofold.sampling.static import Graphs, StaticStore, Unfit, addresses, refuse_unfit_model
from twofold.sampling.stores import Store, Way, started, store_of

STRIDE = (
    8  # steps between checks of the slots if a check is expensive: it decodes stop strings, or waits for an accelerator
)
AHEAD = 8  # after the first batch, prompts are prefilled for an eighth of the slots at a time


_WHOLE_ROWS = "completions are computed as whole rows, without a cache, which is slow"


class DecodingOptions(TypedDict, total=False):
    """`drive` selects a cache with a copy of the prompt for each completion, or whole rows; auto selects the fastest
    way that is correct. `autocast` is the dtype of products, if it is not that of the weights; `casts` converts the
    weights."""

    drive: Literal["auto", "cache", "rows"]
    autocast: torch.dtype | None
    casts: Casts | None


class LocalSampler:
    """A `Sampler` for a `model` in this process, with its stock attention. `tell` gets notes on what makes it slow."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        stop_tokens: Collection[int],
        settings: Sampling,
        tell: Callable[[str], None] = lambda note: None,
        **decoding: Unpack[DecodingOptions],
    ) -> None:
        if settings.server is not None:
            remedy = "leave it out: a server samples only the completions of training"
            raise RecipeError("these completions are sampled in this process", where="sampling.server", remedy=remedy)
        self.model, self.tokenizer, self.settings, self.tell = model, tokenizer, settings, tell
        self.ends = StopCriteria(sorted(stop_tokens), settings.max_new_tokens, max_positions(model))
        self._drive, self._autocast = decoding.get("drive", "auto"), decoding.get("autocast")
        self._casts = decoding.get("casts")
        self._rows, self._warned = self._drive == "rows", False
        self._shares = False
        self._static, self._fits = None, True
        know_float64(model)
        LogitsProcessor.of(settings, model)  # raises RecipeError for unsupported settings
        self.steps = 0
        """Decoding steps so far, in all calls."""

    @property
    def static(self) -> bool:
        """Whether the next completions are decoded with a static cache."""
        static = self.settings.cache == "static" or (self.settings.cache == "auto" and self.model.device.type == "cuda")
        static = static and not in_shards(self.model)  # a captured step needs weights that stay in place
        failed = self._static is not None and self._static.graphs.failed
        return static and self._fits and not self._rows and not failed

    @property
    def refills(self) -> bool:
        """Whether a new completion can take the slot of a finished one."""
        return not encodes_prompts(self.model) and (self._rows or self.static or refillable(self.model))

    @property
    def note(self) -> str:
        """A note for users on what makes sampling slow; empty if nothing does."""
        if self._drive != "rows" and (why := cache_fault(self.model, draw_for_trial)):
            return f"{_WHOLE_ROWS}: {why}"
        if self.refills:
            return ""
        if encodes_prompts(self.model):
            return "all rows of a decoder start together: no completion takes the slot of a finished one"
        return "a layer of this model keeps only a window: no completion takes the slot of a finished one"

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Sample]]:
        """`samples` completions for each of `prompts` [P], on the CPU; `seed` is (seed, step).

        Equal prompts get equal completions. Raises DataError for a prompt that is too long.
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
        completions: dict[Row, Sample] = {}
        with torch.no_grad(), whole_model(self.model), stock_attention(self.model), evaluating(self.model):
            self._choose(prompts)
            static = self._prepared(max((len(p) for p in prompts), default=0))
            may = self._drive == "auto" and static is None and not self._rows and draws > 1
            self._shares = may and not why_copied(self.model)
            supply = CompletionQueue(self, [distinct[order[i]] for i in mine], draws, seed)
            with self._precision(static), prepacked(self.model, self.ends.max_new_tokens):
                while (fresh := supply.take(self.settings.batch_size)) is not None:
                    decoding = Decoding(self, rule, fresh, supply, static)
                    completions.update(decoding.run())
                    self.steps += decoding.step
        drawn = {i: [completions[place, k] for k in range(draws)] for place, i in enumerate(mine)}
        answers = dict(zip(order, all_completions(drawn, len(order)), strict=True))
        found = [answers[key] * (samples // draws) for key in keys]
        _refuse_nan(found)
        return found

    def _precision(self, static: StaticDecoder | None) -> AbstractContextManager[object]:
        """Autocast, if its casts of weights last for a whole call: they do for trainable weights. Not in captured
        steps, which would read the casts after they are freed."""
        lasting = static is None and any(p.requires_grad for p in self.model.parameters())
        if self._casts is not None:
            return self._casts.of(self.model) if lasting and not in_shards(self.model) else nullcontext()
        narrow = self._autocast is not None and lasting
        return torch.autocast(self.model.device.type, self._autocast, narrow)

    def _choose(self, prompts: Sequence[Tensor]) -> None:
        """Decide whether the next completions are computed as whole rows; report it once, since it is slow."""
        if self._drive != "auto":
            return
        why = why_recompute(self.model, prompts, self.ends.max_new_tokens, draw_for_trial)
        self._rows = bool(why)
        if not why:
            restart_rotary(self.model)
        elif not self._warned:
            self._warned = True
            self.tell(f"{_WHOLE_ROWS}: {why}")

    def start(self, prompts: Sequence[Tensor]) -> Prefilled:
        """`prompts` [P], ready for decoding."""
        return started(prompts, self.model, self._way)

    def store(self) -> Store:
        """An empty store for unfinished completions, for decoding without a static cache."""
        return store_of(self.model, self._way)

    @property
    def _way(self) -> Way:
        return "rows" if self._rows else "shared" if self._shares else "copies"

    def _prepared(self, longest: int) -> StaticDecoder | None:
        """The static decoder with room for prompts of up to `longest` tokens; None for a growing cache."""
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
                self.tell(f"completions are decoded with a growing cache: {error}")
                return None
        self._static.check()
        return self._static


class CompletionQueue:
    """The completions that have not started. Prompts are prefilled a group at a time, the longest first, so that later
    ones fit into the existing columns."""

    def __init__(self, sampler: LocalSampler, prompts: Sequence[Tensor], draws: int, seed: tuple[int, int]) -> None:
        self.sampler, self.prompts, self.draws, self.seed = sampler, prompts, draws, seed
        self.begun = 0
        self.group: Prefilled | None = None
        self.waiting: list[tuple[Row, int]] = []

    def take(self, most: int) -> NewCompletions | None:
        """Up to `most` completions, of one group; None if all have started."""
        if not self.waiting:
            self._prefill()
        part, self.waiting = self.waiting[:most], self.waiting[most:]
        if self.group is None or not part:
            return None
        rows, model = [row for row, _ in part], self.sampler.model
        num = self.sampler.settings.max_new_tokens
        noise = np.stack([uniforms(self.seed, self.prompts[p], i, num) for p, i in rows])
        index = torch.tensor([place for _, place in part], device=model.device)
        return NewCompletions(rows, self.group.select(index), torch.from_numpy(noise).to(model.device))

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
    """Decodes completions, and those in `supply`, until all have finished."""

    def __init__(
        self,
        sampler: LocalSampler,
        rule: LogitsProcessor,
        fresh: NewCompletions,
        supply: CompletionQueue,
        static: StaticDecoder | None = None,
    ) -> None:
        self.sampler, self.supply, self.static = sampler, supply, static
        like = fresh.prefilled.logits_AV
        self.store: Store = sampler.store() if static is None else static.store
        self.slots = Slots(len(fresh), rule, sampler.ends, like) if static is None else static.slots(rule, like)
        self.slots.restart(
            len(fresh) if static is None else static.store.size_for(len(fresh), len(static.store.frame.row_A))
        )
        self.completions: dict[Row, Sample] = {}
        self.step = self.horizon = 0
        self._begin(self.slots.slot_A[: len(fresh)], fresh)
        self._settle()

    def run(self) -> Mapping[Row, Sample]:
        """Decode until every completion, including those from `supply`, has stopped or reached its limit."""
        slow = self.sampler.settings.stop or self.static is not None or self.slots.slot_A.device.type != "cpu"
        stride = STRIDE if slow else 1
        for self.step in count(1):
            if (self.step % stride == 0 or self.step >= self.horizon) and not self._look():
                break
            if self.static is None:
                self._advance()
            else:
                self.static.graphs.run(self.static.store.key, self._advance)
        return self.completions

    def _advance(self) -> None:
        """One token for every slot. All buffers that it reads and writes stay at the same address."""
        self.slots.next(self.store.feed(*self.slots.last()))

    def _begin(self, slot_A: Tensor, fresh: NewCompletions) -> None:
        self.store.fill(slot_A, fresh.prefilled)
        self.horizon = max(self.horizon, self.step + self.slots.begin(slot_A, fresh))

    def _look(self) -> bool:
        """Give the slots of finished completions to new ones, or drop them; return whether any are left."""
        if self.sampler.settings.stop:
            self._read()
        while True:
            finished, free_A = self.slots.release()
            self.completions.update(finished)
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
        """Cut each completion that contains a stop string after the token that completes the string."""
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
    """The cache, slots and graphs, which are kept between calls so that captured steps stay valid."""

    def __init__(self, sampler: LocalSampler, columns: int) -> None:
        """Raises Unfit."""
        self.sampler = sampler
        self.store = StaticStore(sampler.model, sampler.settings.batch_size, columns, STRIDE)
        self.graphs = Graphs(sampler.model.device, sampler.tell)
        self._slots: Slots | None = None
        self._addresses = addresses(sampler.model)

    def check(self) -> None:
        """Drop captured steps if the weights have moved in memory since."""
        now = addresses(self.sampler.model)
        if now != self._addresses:
            self.graphs.forget()
            self._addresses = now

    def slots(self, rule: LogitsProcessor, like: Tensor) -> Slots:
        """The slots; created again if the rule has changed."""
        if self._slots is None or self._slots.rule != rule:
            self.graphs.forget()
            self._slots = Slots(self.sampler.settings.batch_size, rule, self.sampler.ends, like)
        return self._slots


def draw_for_trial(
    model: PreTrainedModel, drive: Literal["cache", "rows"], prompts: Sequence[Tensor], num_new: int
) -> list[list[Sample]]:
    """Completions for a trial of a model. They end at different times, so that those of the last prompt take slots."""
    stops = range(0, model.config.get_text_config().vocab_size, 8)
    how = Sampling(max_new_tokens=num_new, batch_size=6, cache="growing")
    no_text = cast("PreTrainedTokenizerBase", None)  # completions are decoded only to find stop strings
    return LocalSampler(model, no_text, stops, how, drive=drive).sample(prompts, samples=3)


def _refuse_nan(completions: Sequence[Sequence[Sample]]) -> None:
    for i, some in enumerate(completions):
        for completion in some:
            if completion.logp.isnan().any():
                raise unusable_logits(f"prompt {i + 1} of {len(completions)}", len(completion.tokens))


def unusable_logits(where: str, token: int) -> NonFiniteError:
    """The error for logits that are not finite at this `token` of a completion."""
    what = f"the model's logits are not finite at token {token} of a completion, so nothing can be sampled from them"
    remedy = "its weights are damaged or have diverged: take an earlier checkpoint, or set model.precision=float32"
    return NonFiniteError(what, where=where, remedy=remedy)


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode inside the context; the mode of every module is restored afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
