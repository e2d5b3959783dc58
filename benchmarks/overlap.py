"""Seconds a step with samples of its own step and with samples one step ahead: `python -m benchmarks.overlap`.

A server of ours (`benchmarks/drawing_server.py`) draws on one core, training runs on the other. Runs of both sides take
turns, and the first two steps of each are left out. The model is made up; what is compared is how the two kinds of work
overlap, so `--tokens` sets how much is drawn per training step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from benchmarks.commands import circumstances, command_line
from benchmarks.reporting import median_interval, print_table, write_json
from benchmarks.turns import ONE_THREAD
from twofold.demo.build import character_tokenizer
from twofold.objectives.grpo import GRPO
from twofold.records import Source, Task
from twofold.runs.train import train

LEFT_OUT = 2


def made_up() -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """A Llama of random weights over characters."""
    torch.manual_seed(0)
    tokenizer = character_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6,
        eos_token_id=int(str(tokenizer.eos_token_id)), bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config), tokenizer


def digits(prompt: str, completion: str, truth: str | None) -> float:
    """A reward that differs from sample to draft."""
    return float(sum(map(str.isdigit, completion)))


def step_seconds(url: str, folder: Path, ahead: int, steps: int, tokens: int) -> list[float]:
    """What each step but the first ones took, by the wall."""
    tasks = [Task(f"{a} + {b} = ?", str(a + b), Source("made", 9 * a + b)) for a in range(8) for b in range(4)]
    train(made_up(), tasks, objective=GRPO(beta=0.0), run=str(folder), **settings(url, ahead, steps, tokens))
    lines = (folder / "timings.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["seconds"] for line in lines][LEFT_OUT:]


def settings(url: str, ahead: int, steps: int, tokens: int) -> dict[str, Any]:
    """GRPO on four samples of each of four prompts."""
    server = {"url": url, "engine": "sglang", "push": "folder", "ahead": ahead, "parallel": 4}
    return {
        "algorithm": {"kind": "policy_gradient", "reward": digits, "samples": 4},
        "model": {"precision": "float32"},
        "training": {"steps": steps, "batch_size": 4, "checkpoint_every": steps},
        "optimizer": {"learning_rate": 1e-4},
        "sampling": {"max_new_tokens": tokens, "server": server},
    }


def main() -> None:
    """Measure, print, write."""
    parser = command_line("benchmarks.overlap", __doc__)
    parser.add_argument("--turns", type=int, default=3, help="runs of each side")
    parser.add_argument("--steps", type=int, default=10, help="steps of a run")
    parser.add_argument("--tokens", type=int, default=64, help="most tokens of a draft")
    options = parser.parse_args()
    facts = circumstances("benchmarks.overlap")
    torch.set_num_threads(1)
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "benchmarks.drawing_server", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **ONE_THREAD})
    try:
        os.sched_setaffinity(server.pid, {cores[-1]})
        os.sched_setaffinity(0, {cores[0]})
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        every: dict[int, list[float]] = {0: [], 1: []}
        ratios: list[float] = []
        for _ in range(options.turns):
            for ahead, seconds in every.items():
                with tempfile.TemporaryDirectory() as folder:
                    seconds += step_seconds(url, Path(folder) / "run", ahead, options.steps, options.tokens)
            size = options.steps - LEFT_OUT
            ratios += [a / b for a, b in zip(every[0][-size:], every[1][-size:], strict=True)]
    finally:
        server.kill()
        server.wait()
    report(facts, every, ratios, options.json)


def report(facts: dict[str, Any], every: dict[int, list[float]], ratios: list[float], out: Path | None) -> None:
    """The table, and everything as JSON where that is wanted."""
    named = {"ahead 0, seconds a step": every[0], "ahead 1, seconds a step": every[1], "ahead 0 / ahead 1": ratios}
    medians = {name: median_interval(values) for name, values in named.items()}
    rows = [
        {"": name, "median": each.value, "95% from": each.low, "to": each.high, "n": len(each.runs)}
        for name, each in medians.items()
    ]
    print_table("wall time of a step", rows)
    if out is not None:
        write_json(out, {**facts, "medians": medians})


if __name__ == "__main__":
    main()
