"""What a sampler is: prompts in, drafts out, with the log-probabilities of what was drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from twofold.settings import require, settings

if TYPE_CHECKING:
    from torch import Tensor


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
    """Take temperature, top_p, top_k and repetition penalty from the model's own generation_config instead."""
    batch_size: int = 64
    """Rows decoded at once."""
    cache: Literal["auto", "growing", "static"] = "auto"
    """static decodes with shapes that never change, which CUDA replays as graphs; auto does so on CUDA, and lets the
    cache grow elsewhere."""

    def __post_init__(self) -> None:
        require(self.temperature >= 0, "temperature must be ≥ 0")
        require(0 < self.top_p <= 1, "top_p must be in (0, 1]")
        require(self.top_k >= 0, "top_k must be ≥ 0")
        require(self.max_new_tokens > 0 and self.batch_size > 0, "max_new_tokens and batch_size must be ≥ 1")


@dataclass(frozen=True)
class Draft:
    """One sample. `tokens` [n] int64 with the stop token unless `truncated`; `logp` [n]: log-probability of each token
    under the model itself (temperature 1, nothing cut off), so that it can be compared with the policy's."""

    tokens: Tensor
    logp: Tensor
    truncated: bool


class Sampler(Protocol):
    """Draws `samples` drafts per prompt [P]; noise depends on (seed, step, prompt tokens, sample index) only."""

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Draft]]: ...
