"""Useful tokens per second of the sampler beside transformers' `generate`: `python -m benchmarks.sampler`.

Both sides draw several drafts for each of the same prompts, from the same model and the same distribution, until a stop
token or the cap. Stop tokens are so many that they come with a chosen probability at every step: lengths are geometric.
A useful token is one that a draft holds, its stop token included. `generate` prefills a prompt once per draft
(num_return_sequences), and gets its prompts sorted by length, at the batch size that suits it best of those tried.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from benchmarks import pairs
from benchmarks.ranking_shape import MODEL
from benchmarks.reporting import machine, median_interval, print_facts, print_table, versions, write_json
from twofold.sampling.base import Sampling
from twofold.sampling.local import LocalSampler

TARGET = 2.3
SIZES = (16, 32, 64, 128)
STOP_PROBABILITY = 1 / 40


@dataclass(frozen=True)
class Case:
    """What is drawn: `samples` for each prompt, at most `cap` tokens each."""

    samples: int
    cap: int


@dataclass(frozen=True)
class Turn:
    """What one side did in one turn: lengths of its drafts, processor seconds."""

    lengths: tuple[int, ...]
    seconds: float

    @property
    def rate(self) -> float:
        return sum(self.lengths) / self.seconds


Side = Callable[[Sequence[Tensor], int], list[int]]


def ours(model: PreTrainedModel, stops: Sequence[int], case: Case, size: int) -> Side:
    """Lengths of the sampler's drafts."""
    sampler = LocalSampler(model, None, stops, Sampling(max_new_tokens=case.cap, batch_size=size))  # type: ignore[arg-type]  # no stop texts

    def draw(prompts: Sequence[Tensor], seed: int) -> list[int]:
        drafts = sampler.sample(prompts, samples=case.samples, seed=(seed, 0))
        return [len(d.tokens) for several in drafts for d in several]

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
                token, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                max_new_tokens=case.cap, num_return_sequences=min(case.samples, size),
                eos_token_id=list(stops), pad_token_id=pairs.PAD,
            )[:, longest:]  # fmt: skip
            lengths += [_length(row, stops) for row in said]
        return lengths

    return draw


def _length(row: Tensor, stops: Sequence[int]) -> int:
    ends = torch.isin(row, torch.tensor(stops)).nonzero()
    return int(ends[0]) + 1 if len(ends) else len(row)


def spent(side: Side, prompts: Sequence[Tensor], seed: int) -> Turn:
    """One turn of one side."""
    began = time.process_time()
    lengths = side(prompts, seed)
    return Turn(tuple(lengths), time.process_time() - began)


def best(make: Callable[[int], Side], sizes: Sequence[int], prompts: Sequence[Tensor], turns: int) -> dict[int, float]:
    """Useful tokens per second at every batch size, the first turn left out."""
    spent(make(sizes[0]), prompts[:4], 0)
    return {size: max(spent(make(size), prompts, 1000 + t).rate for t in range(turns)) for size in sizes}


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


def main() -> None:
    """Read the command line, measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sampler", description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write everything that was measured")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--cap", type=int, default=160, help="most new tokens")
    parser.add_argument("--turns", type=int, default=7, help="paired turns")
    parser.add_argument("--size", type=int, default=64, help="our batch size")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="batch sizes that generate may choose from")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    facts = {"machine": machine(), "versions": versions(sys.executable)}
    for title, values in facts.items():
        print_facts(title, values)
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=pairs.VOCABULARY, **MODEL)).eval()
    stops = random.Random(1).sample(range(pairs.FIRST, pairs.VOCABULARY), round(STOP_PROBABILITY * pairs.VOCABULARY))
    prompts, case = prompts_of(asked.prompts), Case(asked.samples, asked.cap)
    rates = best(lambda size: generate(model, stops, case, size), asked.sizes, prompts, 1)
    print_facts("generate, useful tokens/s by batch size", {str(k): v for k, v in rates.items()})
    size = max(rates, key=rates.__getitem__)
    sides = (ours(model, stops, case, asked.size), generate(model, stops, case, size))
    spent(sides[0], prompts[:4], 0)
    turns: list[dict[str, Turn]] = []
    for t in range(asked.turns):
        order = (0, 1) if t % 2 else (1, 0)
        both = {i: spent(sides[i], prompts, t) for i in order}
        turns.append({"ours": both[0], "generate": both[1]})
    found = report(turns, size)
    if asked.json:
        write_json(asked.json, {**facts, "model": MODEL, "target": TARGET, "rates": rates, "found": found})


def report(turns: Sequence[dict[str, Turn]], size: int) -> dict[str, object]:
    """Rates, their ratio turn by turn, and how long the drafts were."""
    rates = {name: median_interval([turn[name].rate for turn in turns]) for name in ("ours", "generate")}
    ratio = median_interval([turn["ours"].rate / turn["generate"].rate for turn in turns])
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
    print(f"ratio {ratio} ({ratio.level:.1%}); at least {TARGET} is asked for")
    return {"rates": rates, "ratio": ratio, "size": size, "lengths": lengths}


if __name__ == "__main__":
    main()
