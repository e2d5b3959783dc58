"""The device, the models and the pairs of the checks for accelerators (`gpu_check.py`)."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, Qwen2Config

from twofold.batch import Branch, Group, Role
from twofold.models import attention

# Dense bfloat16 operations per second, without sparsity: the makers' data sheets.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12}


@dataclass(frozen=True)
class Shape:
    """A decoder (of Qwen2's kind), and the pairs it is trained on: most tokens of prompt, chosen, rejected."""

    hidden: int
    layers: int
    heads: int
    key_heads: int
    inner: int
    vocabulary: int
    pairs: int
    tokens: tuple[int, int, int]
    drafts: int
    new_tokens: int

    @property
    def products(self) -> int:
        """Weights of the layers that multiply every token, the head not counted."""
        size = self.hidden // self.heads
        attention_weights = 2 * self.hidden * size * (self.heads + self.key_heads)
        return self.layers * (attention_weights + 3 * self.hidden * self.inner)


TINY = Shape(64, 2, 4, 2, 128, 512, 4, (20, 15, 15), 8, 16)
SMALL = Shape(256, 4, 4, 2, 512, 2048, 4, (40, 30, 30), 8, 16)
LARGE = Shape(896, 24, 14, 2, 4864, 151936, 24, (190, 260, 230), 64, 128)  # Qwen2.5-0.5B
HUGE = Shape(3584, 28, 28, 4, 18944, 152064, 8, (190, 260, 230), 64, 128)  # Qwen2.5-7B


@dataclass(frozen=True)
class Bench:
    """The device, the shapes of what is timed (all weights trained, an adapter trained), and how often it is timed."""

    device: torch.device
    shape: Shape
    adapted: Shape
    repeats: int

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def cast(self) -> torch.dtype | None:
        """What `model.precision: auto` computes in here."""
        return torch.bfloat16 if self.cuda else None

    @property
    def peak(self) -> float | None:
        """Bfloat16 operations per second that the maker states; none for an unknown device."""
        name = torch.cuda.get_device_name(self.device) if self.cuda else ""
        return next((peak for device, peak in PEAKS.items() if device in name), None)

    def of_peak(self, operations: float, seconds: float) -> float | None:
        return round(operations / seconds / self.peak, 4) if self.peak else None

    def model(self, shape: Shape, dtype: torch.dtype = torch.float32) -> Any:
        config = Qwen2Config(
            vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.inner,
            num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.key_heads,
            max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=None, eos_token_id=None,
        )  # fmt: skip
        torch.manual_seed(0)
        with self.device:  # a CPU draws billions of weights for minutes
            return AutoModelForCausalLM.from_config(config, dtype=dtype).to(self.device)

    def seconds(self, run: Callable[[], object]) -> float:
        """Wall seconds of one call: the mean of several, after one that is not counted."""
        run()
        self.wait()
        began = time.perf_counter()
        for _ in range(self.repeats):
            run()
        self.wait()
        return (time.perf_counter() - began) / self.repeats

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def forget_peak(self) -> None:
        """Free what is cached, and measure the peak of memory from here."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_gib(self) -> float | None:
        return round(torch.cuda.max_memory_allocated() / 2**30, 2) if self.cuda else None


def pairs(shape: Shape, seed: int = 0) -> list[Group]:
    """Random pairs whose lengths lie between half of the shape's and all of it."""
    noise = torch.Generator().manual_seed(seed)

    def tokens(most: int) -> Tensor:
        length = max(2, int(most * (0.5 + torch.rand(1, generator=noise).item() / 2)))
        return torch.randint(5, shape.vocabulary, (length,), generator=noise)

    prompt, chosen, rejected = shape.tokens
    answers = ((chosen, Role.CHOSEN), (rejected, Role.REJECTED))
    return [
        Group(f"pair {i}", tokens(prompt), tuple(Branch(tokens(most), role) for most, role in answers))
        for i in range(shape.pairs)
    ]


@contextmanager
def attention_calls() -> Iterator[set[str]]:
    """The names of the attention paths that run inside."""
    paths, ran = ("_varlen", "tiled_attention", "_bucketed"), set[str]()
    originals = {name: getattr(attention, name) for name in paths}

    def noting(name: str) -> Callable[..., Tensor]:
        def call(*arguments: Any) -> Tensor:
            ran.add(name.removeprefix("_"))
            return originals[name](*arguments)

        return call

    try:
        for name in paths:
            setattr(attention, name, noting(name))
        yield ran
    finally:
        for name, original in originals.items():
            setattr(attention, name, original)
