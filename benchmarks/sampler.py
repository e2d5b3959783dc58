"""Useful tokens per second of the sampler beside transformers' `generate`: `python -m benchmarks.sampler`.

Both sides draw several drafts for each of the same prompts, from the same model and the same distribution, until a stop
token or the cap. Stop tokens are so many that they come with a chosen probability at every step: lengths are geometric.
A useful token is one that a draft holds, its stop token included. `generate` prefills a prompt once per draft
(num_return_sequences), and gets its prompts sorted by length, at the batch size that suits it best of those tried.

On a GPU (`--device cuda`) time is the wall's, and the share of the memory bandwidth is told as well: the bytes that
decoding cannot help reading (all weights once per step, every draft's own keys and values) over those that a copy moves
in the same time.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from benchmarks import pairs
from benchmarks.commands import circumstances, command_line
from benchmarks.ranking_shape import MODEL
from benchmarks.reporting import median_interval, print_facts, print_table, write_json
from twofold.models import prepacked
from twofold.sampling.base import Sampling
from twofold.sampling.local import LocalSampler

TARGET, TARGET_OF_PRETRAINED = 2.3, 3.0
SIZES = (16, 32, 64, 128)
STOP_PROBABILITY = 1 / 40


@dataclass(frozen=True)
class Case:
    """What is drawn: `samples` for each prompt, at most `cap` tokens each."""

    samples: int
    cap: int
    autocast: torch.dtype | None = None


@dataclass(frozen=True)
class Turn:
    """What one side did in one turn: lengths of its drafts, processor seconds."""

    lengths: tuple[int, ...]
    seconds: float

    @property
    def rate(self) -> float:
        return sum(self.lengths) / self.seconds


Side = Callable[[Sequence[Tensor], int], list[int]]


def sampler_of(model: PreTrainedModel, stops: Sequence[int], case: Case, size: int) -> LocalSampler:
    """The sampler that is measured."""
    how = Sampling(max_new_tokens=case.cap, batch_size=size)
    return LocalSampler(model, None, stops, how, print, autocast=case.autocast)  # type: ignore[arg-type]  # no stop texts


def with_copies(model: PreTrainedModel, stops: Sequence[int], case: Case, size: int) -> LocalSampler:
    """The same sampler with a copy of the prompt's keys and values for each sample."""
    how = Sampling(max_new_tokens=case.cap, batch_size=size)
    return LocalSampler(model, None, stops, how, print, drive="cache", autocast=case.autocast)  # type: ignore[arg-type]  # no stop texts


def ours(sampler: LocalSampler, case: Case) -> Side:
    """Lengths of the sampler's drafts."""

    def draw(prompts: Sequence[Tensor], seed: int) -> list[int]:
        drafts = sampler.sample(prompts, samples=case.samples, seed=(seed, 0))
        return [len(d.tokens) for several in drafts for d in several]

    return draw


def unpacked(side: Side) -> Side:
    """The same without packed copies of the weights."""

    def draw(prompts: Sequence[Tensor], seed: int) -> list[int]:
        with patch.object(prepacked, "FEWEST", math.inf):
            return side(prompts, seed)

    return draw


def generate(model: PreTrainedModel, stops: Sequence[int], case: Case, size: int) -> Side:
    """Lengths of what `generate` draws, `size` rows at a time, prompts of similar length together."""

    def draw(prompts: Sequence[Tensor], seed: int) -> list[int]:
        torch.manual_seed(seed)
        ordered = sorted(prompts, key=len)
        lengths: list[int] = []
        width = max(1, size // case.samples)
        for start in range(0, len(ordered), width):
            part = ordered[start : start + width]
            longest = max(len(p) for p in part)
            token = torch.stack([torch.nn.functional.pad(p, (longest - len(p), 0), value=pairs.PAD) for p in part])
            mask = torch.stack([torch.arange(longest) >= longest - len(p) for p in part]).long()
            said = model.generate(  # type: ignore[operator]  # the mixin's method
                token.to(model.device), attention_mask=mask.to(model.device),
                do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                max_new_tokens=case.cap, num_return_sequences=min(case.samples, size),
                eos_token_id=list(stops) or None, pad_token_id=pairs.PAD,
            )[:, longest:].cpu()  # fmt: skip
            lengths += [_length(row, stops) for row in said]
        return lengths

    return draw


def _length(row: Tensor, stops: Sequence[int]) -> int:
    ends = torch.isin(row, torch.tensor(stops)).nonzero()
    return int(ends[0]) + 1 if len(ends) else len(row)


def spent(side: Side, prompts: Sequence[Tensor], seed: int) -> Turn:
    """One turn of one side."""
    clock = time.perf_counter if torch.cuda.is_initialized() else time.process_time
    began = clock()
    lengths = side(prompts, seed)  # they are read on the CPU: a device has finished by then
    return Turn(tuple(lengths), clock() - began)


def best(make: Callable[[int], Side], sizes: Sequence[int], prompts: Sequence[Tensor], turns: int) -> dict[int, float]:
    """Useful tokens per second at every batch size, the first turn left out."""
    spent(make(sizes[0]), prompts[:4], 0)
    return {size: max(spent(make(size), prompts, 1000 + t).rate for t in range(turns)) for size in sizes}


@dataclass(frozen=True)
class Roofline:
    """Bytes that decoding reads at least, and bytes per second that the device copies."""

    weights: int
    """Per step; an input embedding is looked up, not read."""
    per_token: int
    """Keys and values of one position, all layers."""
    bandwidth: float

    @classmethod
    def of(cls, model: PreTrainedModel) -> Roofline:
        """Of a model as it lies in memory."""
        config, module = model.config.get_text_config(), cast("Any", model)
        embedding, head = module.get_input_embeddings().weight, module.get_output_embeddings().weight
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        if embedding.data_ptr() != head.data_ptr():
            weights -= embedding.numel() * embedding.element_size()
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * size * embedding.element_size()
        return cls(weights, per_token, copied_per_second(model.device))

    def share(self, prompts: Sequence[int], lengths: Sequence[Sequence[int]], steps: int, seconds: float) -> float:
        """Of the bandwidth: `lengths[i]` of the drafts of a prompt of `prompts[i]` tokens, drawn in `steps` steps. The
        first token of a draft comes from the prefill, whose bytes and time count for nothing here."""
        held = sum(
            n * p + n * (n + 1) // 2 for p, some in zip(prompts, lengths, strict=True) for n in (m - 1 for m in some)
        )
        return (steps * self.weights + held * self.per_token) / seconds / self.bandwidth


def copied_per_second(device: torch.device, size: int = 2**28) -> float:
    """Bytes read and written per second by the best of several copies of `size` bytes."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target, best = torch.empty_like(source), float("inf")
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for _ in range(5):
        wait()
        began = time.perf_counter()
        target.copy_(source)
        wait()
        best = min(best, time.perf_counter() - began)
    return 2 * size / best


def prompts_of(num: int) -> list[Tensor]:
    """GSM8K's questions, or random tokens of 20 to 120 where there is no GSM8K."""
    folder = pairs.gsm8k_folder()
    if folder is not None:
        return [torch.tensor(prompt) for prompt, _ in pairs.gsm8k_rankings(folder, num)]
    draw = random.Random(0)
    return [
        torch.tensor([draw.randrange(pairs.FIRST, pairs.VOCABULARY) for _ in range(draw.randint(20, 120))])
        for _ in range(num)
    ]


def scene(
    asked: argparse.Namespace,
) -> tuple[PreTrainedModel, PreTrainedModel, Sequence[int], list[Tensor], Case]:
    """Our model and generate's (narrow weights where we cast), the stop tokens, the prompts and what is drawn."""
    if asked.model is None:
        model = Qwen2ForCausalLM(Qwen2Config(vocab_size=pairs.VOCABULARY, **MODEL)).eval().to(asked.device)
        model = model.bfloat16() if asked.device == "cuda" else model
        count = round(STOP_PROBABILITY * pairs.VOCABULARY)
        stops = random.Random(1).sample(range(pairs.FIRST, pairs.VOCABULARY), count)
        return model, model, stops, prompts_of(asked.prompts), Case(asked.samples, asked.cap)
    narrow = torch.bfloat16 if asked.precision == "bfloat16" else None
    model, peer = (
        AutoModelForCausalLM.from_pretrained(asked.model, dtype=dtype).eval()
        for dtype in (torch.float32, narrow or torch.float32)
    )
    peer.generation_config.eos_token_id = None  # or it would stop before the cap
    prompts = [torch.tensor(pair["prompt"]) for pair in pairs.hh(asked.model, asked.prompts)]
    return model, peer, (), prompts, Case(asked.samples, asked.cap, narrow)


def main() -> None:
    """Read the command line, measure, print, write."""
    parser = command_line("benchmarks.sampler", __doc__)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--cap", type=int, default=160, help="most new tokens")
    parser.add_argument("--turns", type=int, default=7, help="paired turns")
    parser.add_argument("--size", type=int, default=64, help="our batch size")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="batch sizes that generate may choose from")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--model", type=Path, help="a pretrained model of this folder, on real HH prompts, to the cap")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of --model, on a CPU")
    parser.add_argument("--copies", action="store_true", help="also measure a copy of the prompt for each sample")
    parser.add_argument("--unpacked", action="store_true", help="also measure without packed weights, on a CPU")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    facts = circumstances("benchmarks.sampler")
    model, peer, stops, prompts, case = scene(asked)
    rates = best(lambda size: generate(peer, stops, case, size), asked.sizes, prompts, 1)
    print_facts("generate, useful tokens/s by batch size", {str(k): v for k, v in rates.items()})
    size = max(rates, key=rates.__getitem__)
    sampler = sampler_of(model, stops, case, asked.size)
    sides = {"ours": ours(sampler, case), "generate": generate(peer, stops, case, size)}
    if asked.copies:
        sides["copies"] = ours(with_copies(model, stops, case, asked.size), case)
    if asked.unpacked:
        sides["unpacked"] = unpacked(sides["ours"])
    for name in sides.keys() - {"generate"}:
        spent(sides[name], prompts[:4], 0)
    turns: list[dict[str, Turn]] = []
    began = sampler.steps
    for t in range(asked.turns):
        turns.append({name: spent(sides[name], prompts, t) for name in (sides if t % 2 else reversed(sides))})
    found = report(turns, size, TARGET if asked.model is None else TARGET_OF_PRETRAINED)
    if asked.device == "cuda":
        seconds = sum(turn["ours"].seconds for turn in turns)
        lengths = [n for turn in turns for n in turn["ours"].lengths]
        grouped = [lengths[i : i + case.samples] for i in range(0, len(lengths), case.samples)]
        whole = [len(p) for p in prompts] * len(turns)
        share = Roofline.of(model).share(whole, grouped, sampler.steps - began, seconds)
        print(f"{share:.1%} of the memory bandwidth, prefill's time included")
        found["bandwidth_share"] = share
    if asked.json:
        write_json(asked.json, {**facts, "model": MODEL, "target": TARGET, "rates": rates, "found": found})


def report(turns: Sequence[dict[str, Turn]], size: int, target: float) -> dict[str, object]:
    """Rates, their ratios turn by turn, and how long the drafts were."""
    rates = {name: median_interval([turn[name].rate for turn in turns]) for name in sorted(turns[0], reverse=True)}
    ratios = {
        name: median_interval([turn["ours"].rate / turn[name].rate for turn in turns])
        for name in rates.keys() - {"ours"}
    }
    lengths = {name: [n for turn in turns for n in turn[name].lengths] for name in rates}
    rows = [
        {
            "side": name,
            "useful tokens/s": f"{rate.value:.0f} [{rate.low:.0f}, {rate.high:.0f}]",
            "drafts": len(lengths[name]),
            "mean length": sum(lengths[name]) / len(lengths[name]),
        }
        for name, rate in rates.items()
    ]
    print_table(f"{len(turns)} paired turns, processor seconds, one thread; generate at batch size {size}", rows)
    for name, ratio in ratios.items():
        asked = f"; at least {target} is asked for" if name == "generate" else ""
        print(f"ours over {name}: {ratio} ({ratio.level:.1%}){asked}")
    return {"rates": rates, "ratios": ratios, "size": size, "lengths": lengths}


if __name__ == "__main__":
    main()
