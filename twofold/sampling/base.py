"""The interface of samplers: prompts in, completions with log-probabilities out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from twofold.settings import require, settings

if TYPE_CHECKING:
    from torch import Tensor

MOST_TOKENS = 1_000_000
TRUNCATION = 2.0
"""The default cap of importance weights, as in the literature (`objectives/importance.py`)."""


@settings
class ServerSettings:
    """Inference servers that sample the training completions with weights that the run pushes to them."""

    url: str | tuple[str, ...]
    """http://127.0.0.1:8000, or a list of URLs. With push none, append # and the server's name of the model."""
    engine: Literal["vllm", "sglang", "transformers"] = "vllm"
    """Server software."""
    push: Literal["adapter", "folder", "none"] = "adapter"
    """adapter: push a LoRA adapter. folder: push the whole model. none: use the model that a vLLM server has loaded."""
    sync_every: int = 1
    """Steps between pushes. Completions in between come from older weights."""
    ahead: int = 0
    """1: while a step trains, the servers sample the completions of the next step, with the weights from the start of
    this step. 0: a step waits for completions that are sampled with its own weights."""
    importance_cap: float | Literal["auto", "none"] = "auto"
    """Maximum importance weight π/π_server of a server's completions. auto: 2 with `ahead: 1`, and no importance
    weights with 0."""
    timeout: float = 120.0
    """Timeout in seconds for one whole response."""
    attempts: int = 6
    """Attempts per request before the run stops."""
    pause: float = 1.0
    """Seconds before the second attempt. It doubles with each attempt, up to a minute."""
    parallel: int = 32
    """Number of completions requested at once."""

    def __post_init__(self) -> None:
        require(len(self.urls()) > 0, "url must name a server")
        models = set[str]()
        for url in self.urls():
            base, _, model = url.partition("#")
            models.add(model)
            require(base.startswith(("http://", "https://")), "url must begin with http:// or https://")
            require((self.push == "none") == bool(model), "url names a model behind # with push none, and only then")
        require(len(models) == 1, "url names one model, the same on all servers")
        require(self.push != "none" or self.engine == "vllm", "push none is for vllm")
        texts = self.engine == "transformers"
        require(not texts or self.push == "folder", "transformers takes whole models: push folder")
        require(
            not texts or self.cap is None,
            "transformers reports no log-probabilities, so that there are no importance weights: importance_cap none",
        )
        require(self.sync_every > 0 and self.parallel > 0, "sync_every and parallel must be ≥ 1")
        require(self.ahead in (0, 1), "ahead must be 0 or 1: one step at most")
        require(self.cap is None or 1 <= self.cap < math.inf, "importance_cap must be ≥ 1, auto or none")
        require(self.timeout > 0 and self.pause >= 0 and 1 <= self.attempts <= 64,
                "timeout must be > 0, pause ≥ 0, attempts in 1 … 64")  # fmt: skip

    def urls(self) -> tuple[str, ...]:
        """All servers."""
        return (self.url,) if isinstance(self.url, str) else self.url

    @property
    def cap(self) -> float | None:
        """The maximum importance weight; None for no importance weights."""
        if self.importance_cap == "auto":
            return TRUNCATION if self.ahead else None
        return None if self.importance_cap == "none" else self.importance_cap


@settings
class Sampling:
    """How completions are sampled. The defaults sample from the full distribution of the policy (no truncation)."""

    temperature: float = 1.0
    """0 is greedy decoding."""
    top_p: float = 1.0
    """Sample from the smallest set of tokens with at least this total probability."""
    top_k: int = 0
    """Sample from this many most probable tokens; 0 means all."""
    max_new_tokens: int = 256
    """Maximum length of a completion. One that has not stopped by then is marked as truncated."""
    stop: tuple[str, ...] = ()
    """Additional strings that end a completion."""
    use_generation_config: bool = False
    """Read temperature, top_p, top_k, min_p, do_sample and the repetition penalty from the model's generation_config
    instead. Any other setting there is an error."""
    batch_size: int = 64
    """Number of completions decoded at once."""
    cache: Literal["auto", "growing", "static"] = "auto"
    """static: a cache of fixed shape, so that CUDA graphs can be replayed. auto: static on CUDA, and a growing cache
    elsewhere."""
    server: ServerSettings | None = None
    """Inference servers that sample the training completions. By default they are sampled in this process."""

    def __post_init__(self) -> None:
        require(self.temperature >= 0, "temperature must be ≥ 0")
        require(0 < self.top_p <= 1, "top_p must be in (0, 1]")
        require(self.top_k >= 0, "top_k must be ≥ 0")
        require(self.max_new_tokens > 0 and self.batch_size > 0, "max_new_tokens and batch_size must be ≥ 1")
        require(self.max_new_tokens <= MOST_TOKENS, f"max_new_tokens must be ≤ {MOST_TOKENS}")
        whole = (self.temperature, self.top_p, self.top_k) == (1.0, 1.0, 0)
        require(
            whole or self.server is None or self.server.cap is None,
            "importance weights need completions from the full distribution: set temperature 1, top_p 1 and top_k 0, "
            "or server.importance_cap none",
        )


@dataclass(frozen=True)
class Sample:
    """One sample: `tokens` [n] int64, with the stop token unless `truncated`, and `logp` [n], the log-probability of
    each token under the full distribution at temperature 1, as the policy computes it. `columns` hold what an objective
    needs to know about the sampling (`objectives/importance.py`)."""

    tokens: Tensor
    logp: Tensor
    truncated: bool
    columns: Mapping[str, Tensor | float] = field(default_factory=dict[str, "Tensor | float"])


class Sampler(Protocol):
    """Samples `samples` completions per prompt [P]. Noise depends only on seed, step, prompt tokens and sample
    index."""

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Sample]]: ...


@dataclass(frozen=True)
class SampleRequest:
    """The completions that an algorithm needs in a step: `samples` for each of `prompts` [P]."""

    prompts: Sequence[Tensor]
    samples: int
    seed: tuple[int, int]
    """(seed, step)."""

    def drawn_by(self, sampler: Sampler) -> list[list[Sample]]:
        """The completions from `sampler`, a row for each prompt."""
        return sampler.sample(self.prompts, samples=self.samples, seed=self.seed)


def sampler_metrics(sampler: Sampler) -> dict[str, float]:
    """A sampler's metrics of its last call, for the metrics of a step; empty for samplers without `metrics`."""
    return dict(getattr(sampler, "metrics", {}))
