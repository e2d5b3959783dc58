"""What a sampler is: prompts in, drafts out, with the log-probabilities of what was drawn."""

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
"""Of importance weights, as in what the literature runs (`objectives/importance.py`)."""


@settings
class ServerSettings:
    """Servers that draw the drafts of training, with weights that are pushed to them."""

    url: str | tuple[str, ...]
    """http://127.0.0.1:8000, or a list of several; with push none also the model's name there, behind #."""
    engine: Literal["vllm", "sglang", "transformers"] = "vllm"
    """What runs there."""
    push: Literal["adapter", "folder", "none"] = "adapter"
    """adapter: a LoRA adapter. folder: the whole model. none: whatever a vLLM server holds."""
    sync_every: int = 1
    """Steps between pushes; drafts in between come from older weights."""
    ahead: int = 0
    """1: while a step trains, the servers draw the drafts of the next one, with the weights that this step began with.
    0: a step waits for its drafts, drawn with its own weights."""
    importance_cap: float | Literal["auto", "none"] = "auto"
    """Largest importance weight π/π_server of what a server drew; auto is 2 with ahead, and no weights without it."""
    timeout: float = 120.0
    """Seconds for one whole answer."""
    attempts: int = 6
    """How often one thing is asked before the run stops."""
    pause: float = 1.0
    """Seconds before the second attempt; doubles, up to a minute."""
    parallel: int = 32
    """Drafts asked for at once."""

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
        """Where importance weights are cut off; None for no weights."""
        if self.importance_cap == "auto":
            return TRUNCATION if self.ahead else None
        return None if self.importance_cap == "none" else self.importance_cap


@settings
class Sampling:
    """How drafts are drawn. The defaults draw from the policy itself (no truncation of its distribution)."""

    temperature: float = 1.0
    """0 takes the most probable token."""
    top_p: float = 1.0
    """Keep the smallest set of tokens with at least this probability."""
    top_k: int = 0
    """Keep this many tokens; 0 keeps all."""
    max_new_tokens: int = 256
    """A draft that has not stopped by then is marked truncated."""
    stop: tuple[str, ...] = ()
    """Further texts that end a draft."""
    use_generation_config: bool = False
    """Take temperature, top_p, top_k, min_p, do_sample and the repetition penalty from the model's own
    generation_config instead; what else it sets is refused."""
    batch_size: int = 64
    """Rows decoded at once."""
    cache: Literal["auto", "growing", "static"] = "auto"
    """static decodes with shapes that never change, which CUDA replays as graphs; auto does so on CUDA, and lets the
    cache grow elsewhere."""
    server: ServerSettings | None = None
    """Draws the drafts of training; by default they are drawn in this process."""

    def __post_init__(self) -> None:
        require(self.temperature >= 0, "temperature must be ≥ 0")
        require(0 < self.top_p <= 1, "top_p must be in (0, 1]")
        require(self.top_k >= 0, "top_k must be ≥ 0")
        require(self.max_new_tokens > 0 and self.batch_size > 0, "max_new_tokens and batch_size must be ≥ 1")
        require(self.max_new_tokens <= MOST_TOKENS, f"max_new_tokens must be ≤ {MOST_TOKENS}")
        whole = (self.temperature, self.top_p, self.top_k) == (1.0, 1.0, 0)
        require(
            whole or self.server is None or self.server.cap is None,
            "importance weights need drafts of the whole distribution: temperature 1, top_p 1 and top_k 0, or "
            "server.importance_cap none",
        )


@dataclass(frozen=True)
class Draft:
    """One sample. `tokens` [n] int64 with the stop token unless `truncated`; `logp` [n]: log-probability of each token
    under the model itself (temperature 1, nothing cut off), so that it can be compared with the policy's; `columns` are
    what whoever learns from the draft must know of how it was drawn (`objectives/importance.py`)."""

    tokens: Tensor
    logp: Tensor
    truncated: bool
    columns: Mapping[str, Tensor | float] = field(default_factory=dict[str, "Tensor | float"])


class Sampler(Protocol):
    """Draws `samples` drafts per prompt [P]; noise depends on (seed, step, prompt tokens, sample index) only."""

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Draft]]: ...


@dataclass(frozen=True)
class DraftRequest:
    """What an algorithm wants drawn in a step: `samples` drafts for each of `prompts` [P]."""

    prompts: Sequence[Tensor]
    samples: int
    seed: tuple[int, int]
    """(seed, step)."""

    def drawn_by(self, sampler: Sampler) -> list[list[Draft]]:
        """The drafts, a row for each prompt."""
        return sampler.sample(self.prompts, samples=self.samples, seed=self.seed)


def sampler_metrics(sampler: Sampler) -> dict[str, float]:
    """What a sampler tells of its last call, for the metrics of a step; those without `metrics` tell nothing."""
    return dict(getattr(sampler, "metrics", {}))
