"""The same question of a pretrained model, on instructions that a program can check.

Repeat: `python -m experiments.search.real`. The rows are those of `experiments.pretrained` (task `instructions`). DPO
with NLL, a reward model, a process reward model whose steps are words, and PPO with a value model are trained with LoRA
on the training questions. Then the base is searched with each as a guide, or the best of its samples is chosen, and all
meet in one contest on questions of the development split. A program is the judge.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.harness.files import read_rows, write_rows
from experiments.harness.instructions import base_of, options_of
from experiments.harness.recipes import stage
from experiments.search.__main__ import ppo_sections
from twofold.cli.progress import RichProgress
from twofold.progress import Progress
from twofold.rewards.instructions import judge

MODULE = "experiments.search.real"
WIDTH, BEST_OF, NEW_TOKENS = 3, 9, 40
SHOWS_EARLY = ("at most", "without", "lowercase")
"""Rules that the beginning of an answer can break for good. The others are decided by its last word."""


def rated_words(prompt: str, rule: str, answer: str) -> dict[str, Any]:
    """The words of an answer as steps: right until the rule is broken, and the last one as the whole answer is."""
    words = [word for word in answer.split(" ") if word.strip()]  # of several spaces one is left
    beginnings = [" ".join(words[: i + 1]) for i in range(len(words) - 1)]
    early = rule.startswith(SHOWS_EARLY)
    labels = [not early or judge(beginning, rule).strict for beginning in beginnings] + [judge(answer, rule).strict]
    return {"prompt": prompt, "completions": words, "labels": labels}


def rated_rows(data: Path) -> Iterator[dict[str, Any]]:
    """Both answers of every pair, each once."""
    rules = {row["prompt"]: row["answer"] for row in read_rows(data / "problems.jsonl")}
    pairs = read_rows(data / "pairs.jsonl")
    answers = {(row["prompt"], row[side]): None for row in pairs for side in ("chosen", "rejected")}
    for prompt, answer in answers:
        yield rated_words(prompt, rules[prompt], answer)


def models(runs: Path, base: str, data: Path, progress: Progress) -> Mapping[str, Path]:
    """Each trained with LoRA of rank 16 in bfloat16, 8 rows a step."""
    command = f"python -m {MODULE}"
    steps = runs / "steps.jsonl"
    write_rows(steps, rated_rows(data))
    common: dict[str, Any] = {
        "model": {"path": base, "precision": "bfloat16", "lora": {"rank": 16}},
        "optimizer": {"learning_rate": 1e-4, "schedule": "constant", "warmup": 2},
    }
    pairs: dict[str, Any] = {"train": str(data / "pairs.jsonl"), "tokenize": {"max_length": 384}}
    heldout = {"heldout": {"file": str(data / "heldout.jsonl")}}
    rated = {"train": str(steps), "tokenize": {"max_length": 384, "step_separator": " "}}
    faster = {"optimizer": {**common["optimizer"], "learning_rate": 3e-4}}
    ppo = ppo_sections(base, data / "problems.jsonl", "verifier:instructions", steps=24)
    ppo["sampling"]["max_new_tokens"] = NEW_TOKENS
    sections: dict[str, dict[str, Any]] = {
        "dpo": {
            **common, "data": pairs, "objective": {"kind": "dpo", "beta": 0.1, "nll": 1.0},
            "reference": {"kind": "live"}, "training": {"steps": 24, "batch_size": 8},
        },
        "reward": {
            **common, "data": {**pairs, **heldout}, "objective": {"kind": "bradley_terry"},
            "training": {"steps": 48, "batch_size": 8},
        },
        "process": {
            **common, **faster, "data": {**rated, "heldout": {"fraction": 0.1}},
            "objective": {"kind": "process_reward"},
            "training": {"steps": 96, "batch_size": 16},
        },
        "ppo": {**ppo, **common, **faster, "training": {"steps": 24, "batch_size": 8}},
    }  # fmt: skip
    sections["ppo"]["algorithm"]["rollouts"] = 8
    for name, each in sections.items():
        stage(runs / name, each, command, progress)
    return {name: runs / name for name in sections}


def players(base: str, made: Mapping[str, Path]) -> list[str]:
    """The ways to answer."""
    rewards = [f"reward:{made['reward']}", f"process:{made['process']}"]
    return [
        str(made["dpo"]), f"{made['dpo']}@beam:{WIDTH}", base, f"{base}@beam:{WIDTH}",
        *(f"{base}@beam:{WIDTH}?guide={guide}" for guide in (*rewards, f"reward:{made['ppo']}")),
        *(f"{base}@best-of:{BEST_OF}?reward={reward}" for reward in rewards),
    ]  # fmt: skip


def main() -> None:
    parser = options_of(MODULE, __doc__, Path("runs/search-real"))
    parser.add_argument("--prompts", type=int, default=24)
    options = parser.parse_args()
    torch.set_num_threads(1)
    base = base_of(parser, options)
    options.runs.mkdir(parents=True, exist_ok=True)
    prompts = options.runs / "prompts.jsonl"
    rows = read_rows(options.data / "development.jsonl")
    write_rows(prompts, ({key: row[key] for key in ("prompt", "answer")} for row in rows))
    with RichProgress() as progress:
        made = models(options.runs, base, options.data, progress)
    line = [sys.executable, "-m", "twofold", "evaluate", *players(base, made), "--task", "contest"]
    line += ["--tasks", str(prompts), "--limit", str(options.prompts), "--judge", "verifier:instructions"]
    line += ["--max-new-tokens", str(NEW_TOKENS), "--out", str(options.runs / "contest")]
    line += ["--json", str(options.json)] if options.json else []
    raise SystemExit(subprocess.run(line).returncode)


if __name__ == "__main__":
    main()
