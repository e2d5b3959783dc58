"""Draws drafts from a causal model in this process: one prefill per prompt, then decoding with a key-value cache.

Shapes: R rows of a batch (one sample each), A rows still in the cache, P prompt tokens, N new tokens, V vocabulary.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer

from twofold.errors import DataError
from twofold.models.attention import stock_attention
from twofold.sampling.base import Draft, Sampling

STRIDE = 8  # steps between looks at the rows where a look is dear: stop texts are decoded, an accelerator is waited for
DROP = 8  # finished rows leave the cache once they are this part of it, so that all copying costs a few whole caches


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

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Draft]]:
        """`samples` drafts for each of `prompts` [P], on the CPU; `seed` is (seed, step).

        Equal prompts get equal drafts. Raises DataError for a prompt that leaves no room for a draft.
        """
        if samples < 1:
            raise ValueError("samples must be ≥ 1")
        self._refuse_unfit(prompts)
        rule = Rule.of(self.settings, self.model)
        draws = samples if rule.temperature > 0 else 1
        keys = [_bytes(prompt) for prompt in prompts]
        distinct = dict(zip(keys, prompts, strict=True))
        order = sorted(distinct, key=lambda key: len(distinct[key]))
        width = max(1, self.settings.batch_size // draws)
        drafts: dict[bytes, list[Draft]] = {}
        with torch.no_grad(), stock_attention(self.model), _evaluating(self.model):
            for start in range(0, len(order), width):
                part = order[start : start + width]
                drafts.update(zip(part, self._draw([distinct[key] for key in part], draws, seed, rule), strict=True))
        return [drafts[key] * (samples // draws) for key in keys]

    @property
    def max_positions(self) -> int:
        """Tokens that the model can hold, prompt and draft together."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 2**31

    def _refuse_unfit(self, prompts: Sequence[Tensor]) -> None:
        for i, prompt in enumerate(prompts):
            if not 0 < len(prompt) < self.max_positions:
                raise DataError(
                    f"{len(prompt)} prompt tokens; the model draws drafts after 1 to {self.max_positions - 1}",
                    where=f"prompt {i + 1} of {len(prompts)}",
                    remedy="shorten or drop this prompt" if len(prompt) else "give it at least one token",
                )

    def _draw(self, prompts: list[Tensor], draws: int, seed: tuple[int, int], rule: Rule) -> list[list[Draft]]:
        """`draws` drafts for each prompt after one prefill, in as many decodings as the batch size asks for."""
        drafts: list[list[Draft]] = [[] for _ in prompts]
        prefilled = Prefilled.of(prompts, self.model)
        for start in range(0, draws, self.settings.batch_size):
            indices = range(start, min(draws, start + self.settings.batch_size))
            rows = [(p, i) for p in range(len(prompts)) for i in indices]
            noise = np.stack([uniforms(seed, prompts[p], i, self.settings.max_new_tokens) for p, i in rows])
            chosen = torch.tensor([p for p, _ in rows], device=self.model.device)
            decoding = Decoding(self, rule, prefilled.select(chosen), torch.from_numpy(noise).to(chosen.device))
            for (p, _), draft in zip(rows, decoding.run(), strict=True):
                drafts[p].append(draft)
        return drafts


@dataclass(frozen=True)
class Prefilled:
    """Rows whose tokens so far are in the cache; without padding `mask_AT` is None, which the model does faster."""

    cache: DynamicCache
    token_AT: Tensor
    mask_AT: Tensor | None
    length_A: Tensor
    logits_AV: Tensor

    @classmethod
    def of(cls, prompts: Sequence[Tensor], model: PreTrainedModel) -> Prefilled:
        longest = max(len(prompt) for prompt in prompts)
        token_AT = torch.zeros(len(prompts), longest, dtype=torch.int64)
        mask_AT = torch.zeros_like(token_AT, dtype=torch.bool)
        for i, prompt in enumerate(prompts):
            token_AT[i, longest - len(prompt) :] = prompt.cpu()
            mask_AT[i, longest - len(prompt) :] = True
        token_AT, mask_AT = token_AT.to(model.device), mask_AT.to(model.device)
        cache, padding = _cache(model), _padding(mask_AT)
        logits_AV = _logits(model, cache, token_AT, (mask_AT.cumsum(1) - 1).clamp(min=0), padding)
        return cls(cache, token_AT, padding, mask_AT.sum(1), logits_AV)

    def select(self, index: Tensor) -> Prefilled:
        """These rows, each as often as `index` names it, with a cache of their own."""
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        cache.batch_select_indices(index)
        mask_AT = None if self.mask_AT is None else _padding(self.mask_AT[index])
        return Prefilled(cache, self.token_AT[index], mask_AT, self.length_A[index], self.logits_AV[index])


class Decoding:
    """The drafts of R rows under way. Finished rows are still decoded, to no effect, until it pays to drop them."""

    def __init__(self, sampler: LocalSampler, rule: Rule, start: Prefilled, noise_RN: Tensor) -> None:
        self.model, self.tokenizer, self.rule, self.noise_RN = sampler.model, sampler.tokenizer, rule, noise_RN
        self.stop_texts = sampler.settings.stop
        self.stop_tokens = torch.tensor(sampler.stop_tokens, dtype=torch.int64, device=noise_RN.device)
        self.cache, self.mask_AT, self.logits_AV = start.cache, start.mask_AT, start.logits_AV
        self.position_A, self.last_position = start.length_A, sampler.max_positions - 1
        self.limit_A = (sampler.max_positions - start.length_A).clamp(max=noise_RN.shape[1])
        self.index_A = torch.arange(len(noise_RN), device=noise_RN.device)
        self.done_A = torch.zeros_like(self.index_A, dtype=torch.bool)
        self.seen_AV = None if rule.penalty == 1 else self._seen(start)
        self.token_RN = torch.zeros(noise_RN.shape, dtype=torch.int64, device=noise_RN.device)
        self.logp_RN = torch.zeros(noise_RN.shape, dtype=start.logits_AV.dtype, device=noise_RN.device)
        self.length_R = torch.zeros_like(self.index_A)
        self.read_R = torch.zeros_like(self.index_A)
        self.stopped_R = torch.zeros_like(self.done_A)

    def run(self) -> list[Draft]:
        """Decode until every row has stopped or met its limit."""
        steps = int(self.limit_A.max())
        stride = STRIDE if self.stop_texts or self.index_A.device.type != "cpu" else 1
        for step in range(steps):
            token_A = self._draw(step)
            if (step + 1) % stride == 0 or step + 1 == steps:
                if self.stop_texts:
                    self._read()
                finished = int(self.done_A.sum())
                if finished == len(self.index_A):
                    break
                if finished * DROP >= len(self.index_A):
                    keep = (~self.done_A).nonzero().squeeze(1)
                    self._drop(keep)
                    token_A = token_A[keep]
            self._feed(token_A)
        return self._drafts()

    def _draw(self, step: int) -> Tensor:
        token_A, logp_A = self.rule.draw(self.logits_AV, self.seen_AV, self.noise_RN[self.index_A, step])
        self.token_RN[self.index_A, step], self.logp_RN[self.index_A, step] = token_A, logp_A
        self.length_R[self.index_A] += ~self.done_A
        stopped_A = torch.isin(token_A, self.stop_tokens) & ~self.done_A
        self.stopped_R[self.index_A] |= stopped_A
        self.done_A = self.done_A | stopped_A | (self.limit_A <= step + 1)
        return token_A

    def _feed(self, token_A: Tensor) -> None:
        if self.mask_AT is not None:
            self.mask_AT = torch.cat([self.mask_AT, self.mask_AT.new_ones(len(token_A), 1)], 1)
        if self.seen_AV is not None:
            self.seen_AV.scatter_(1, token_A[:, None], True)
        self.logits_AV = _logits(self.model, self.cache, token_A[:, None], self.position_A[:, None], self.mask_AT)
        self.position_A = (self.position_A + 1).clamp(max=self.last_position)

    def _drop(self, keep: Tensor) -> None:
        self.cache.batch_select_indices(keep)
        self.mask_AT = None if self.mask_AT is None else _padding(self.mask_AT[keep])
        self.seen_AV = None if self.seen_AV is None else self.seen_AV[keep]
        self.index_A, self.done_A = self.index_A[keep], self.done_A[keep]
        self.position_A, self.limit_A = self.position_A[keep], self.limit_A[keep]

    def _read(self) -> None:
        """Cut each row that has a stop text after the token that completes it, whatever was drawn since."""
        for a, r in enumerate(self.index_A.tolist()):
            tokens, read = self.token_RN[r, : int(self.length_R[r])].tolist(), int(self.read_R[r])
            if read < len(tokens) and self._has_stop(tokens):
                self.length_R[r] = next(n for n in range(read + 1, len(tokens) + 1) if self._has_stop(tokens[:n]))
                self.stopped_R[r] = self.done_A[a] = True
            self.read_R[r] = int(self.length_R[r])

    def _has_stop(self, tokens: list[int]) -> bool:
        text = self.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return any(stop in text for stop in self.stop_texts)

    def _seen(self, start: Prefilled) -> Tensor:
        """Which tokens [A, V] each prompt holds; padding is no token."""
        seen_AV = torch.zeros_like(start.logits_AV, dtype=torch.bool)
        own_AT = torch.ones_like(start.token_AT, dtype=torch.bool) if start.mask_AT is None else start.mask_AT
        row_AT = torch.arange(len(own_AT), device=own_AT.device)[:, None].expand_as(own_AT)
        seen_AV[row_AT[own_AT], start.token_AT[own_AT]] = True
        return seen_AV

    def _drafts(self) -> list[Draft]:
        rows = zip(
            self.token_RN.cpu(), self.logp_RN.cpu(), self.length_R.tolist(), self.stopped_R.tolist(), strict=True
        )
        return [Draft(tokens[:n].clone(), logp[:n].clone(), truncated=not stopped) for tokens, logp, n, stopped in rows]


@dataclass(frozen=True)
class Rule:
    """How logits become a choice: repetition penalty, temperature, top-k, top-p, in this order."""

    temperature: float
    top_k: int
    top_p: float
    penalty: float = 1.0

    @classmethod
    def of(cls, settings: Sampling, model: PreTrainedModel) -> Rule:
        """The settings' rule; where they ask for the model's generation_config, whatever that sets replaces it."""
        config = model.generation_config if settings.use_generation_config else None

        def own(name: str, otherwise: float) -> float:
            value = getattr(config, name, None)
            return otherwise if value is None else value

        return cls(
            temperature=own("temperature", settings.temperature),
            top_k=int(own("top_k", settings.top_k)),
            top_p=own("top_p", settings.top_p),
            penalty=own("repetition_penalty", 1.0),
        )

    def draw(self, logits_AV: Tensor, seen_AV: Tensor | None, uniform_A: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens [A] that `uniform_A` chooses, and their log-probabilities [A] under the untouched logits."""
        logp_AV = logits_AV.log_softmax(-1)
        if self.temperature == 0:
            token_A = self._penalized(logits_AV, seen_AV).argmax(-1)
        elif (self.temperature, self.top_k, self.top_p, self.penalty) == (1.0, 0, 1.0, 1.0):
            token_A = inverse_cdf(logp_AV.exp(), uniform_A)
        else:
            score_AV = self._penalized(logits_AV, seen_AV) / self.temperature
            token_A = inverse_cdf(keep_top_p(keep_top_k(score_AV, self.top_k), self.top_p).softmax(-1), uniform_A)
        return token_A, logp_AV.gather(1, token_A[:, None]).squeeze(1)

    def _penalized(self, logits_AV: Tensor, seen_AV: Tensor | None) -> Tensor:
        """Tokens that the row already holds made less likely (CTRL, arXiv 1909.05858, section 4.1)."""
        if seen_AV is None:
            return logits_AV
        penalized = torch.where(logits_AV < 0, logits_AV * self.penalty, logits_AV / self.penalty)
        return torch.where(seen_AV, penalized, logits_AV)


def keep_top_k(score_AV: Tensor, k: int) -> Tensor:
    """`score_AV` with -inf below each row's k-th best; ties with it stay. 0 keeps all."""
    if not 0 < k < score_AV.shape[-1]:
        return score_AV
    return score_AV.masked_fill(score_AV < score_AV.topk(k).values[:, -1:], -torch.inf)


def keep_top_p(score_AV: Tensor, p: float) -> Tensor:
    """`score_AV` with -inf outside the smallest set of tokens whose probability reaches `p` (arXiv 1904.09751)."""
    if p >= 1:
        return score_AV
    ordered, index = score_AV.sort(dim=-1, descending=True, stable=True)
    probability = ordered.softmax(-1)
    above = probability.cumsum(-1) - probability
    return torch.empty_like(score_AV).scatter_(1, index, ordered.masked_fill(above >= p, -torch.inf))


def inverse_cdf(probability_AV: Tensor, uniform_A: Tensor) -> Tensor:
    """The tokens [A] at quantile `uniform_A` in [0, 1 - 2^-52]; never one of probability 0."""
    cdf_AV = probability_AV.cumsum(-1, dtype=torch.float64)
    target = uniform_A[:, None] * cdf_AV[:, -1:]
    return torch.searchsorted(cdf_AV, target, right=True).squeeze(1)


def uniforms(seed: tuple[int, int], prompt: Tensor, index: int, count: int) -> np.ndarray:
    """The noise [count] float64 of one row: Philox keyed by (seed, step), the prompt's tokens and the sample index."""
    text = f"{seed[0]}/{seed[1]}/{index}/".encode() + _bytes(prompt)
    key = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
    return np.minimum(np.random.Generator(np.random.Philox(key=key)).random(count), 1 - 2**-52)


def _bytes(tokens: Tensor) -> bytes:
    return tokens.cpu().numpy().astype("<i8").tobytes()


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode, every module's own mode restored afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class RoomyLayer(DynamicLayer):
    """A cache layer with room to grow: a step writes one column, where `DynamicLayer` copies the whole layer.

    `keys` and `values` [A, heads, T, d] are views of longer buffers.
    """

    ROOM = 64

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._length, self._buffers = 0, (key_states[:, :, :0], value_states[:, :, :0])
        old, self._length = self._length, self._length + key_states.shape[-2]
        if self._length > self._buffers[0].shape[-2]:
            self._buffers = tuple(self._roomier(buffer, old) for buffer in self._buffers)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, old : self._length] = states
        return self._show()

    def batch_select_indices(self, indices: Tensor) -> None:
        if self.is_initialized:
            self._buffers = tuple(buffer.index_select(0, indices) for buffer in self._buffers)
            self._show()

    def _roomier(self, buffer: Tensor, old: int) -> Tensor:
        rows, heads, _, size = buffer.shape
        roomier = buffer.new_empty(rows, heads, self._length + max(self.ROOM, self._length // 4), size)
        roomier[:, :, :old] = buffer[:, :, :old]
        return roomier

    def _show(self) -> tuple[Tensor, Tensor]:
        keys, values = (buffer[:, :, : self._length] for buffer in self._buffers)
        self.keys, self.values = keys, values
        return keys, values


def _cache(model: PreTrainedModel) -> DynamicCache:
    """An empty cache with the model's own kinds of layers; those that keep everything get room to grow."""
    cache = DynamicCache(config=model.config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _padding(mask_AT: Tensor) -> Tensor | None:
    return None if bool(mask_AT.all()) else mask_AT


def _logits(
    model: PreTrainedModel, cache: DynamicCache, token: Tensor, position: Tensor, mask_AT: Tensor | None
) -> Tensor:
    """Logits [A, V] after the last of `token` [A, n], which join the cache; float32, or float64 for float64 models."""
    logits = model(
        input_ids=token,
        position_ids=position,
        attention_mask=mask_AT,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
