"""Rows with rated steps, three models of them, and ways to answer at about the same number of scored tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from benchmarks.commands import command_line
from benchmarks.reporting import print_table, write_json
from experiments import search
from experiments.harness.files import write_rows
from experiments.harness.recipes import demo_run, reward_sections, stage
from twofold.cli.progress import RichProgress
from twofold.demo.task import tasks, write_files
from twofold.evaluation.answers import accuracy
from twofold.progress import Progress
from twofold.records import Task
from twofold.sampling.base import Sampling
from twofold.sampling.named_model import open_model

MODULE = "experiments.search"
BASE = Path(str(files("twofold.demo") / "base"))
NEW_TOKENS, WIDTH, BEST_OF = 64, 5, 16
GUIDED = WIDTH + WIDTH * (WIDTH + 1)
"""Tokens that policy and guide score for each place of an answer, if both have a cache."""


def rated_steps(task: Task, answer: str) -> dict[str, Any]:
    """The answer's lines with labels: right where they are the true calculation's next line, or its result."""
    truth, steps = task.answer.splitlines(), [line for line in answer.splitlines() if line.strip()]
    labels = [line == (truth[-1] if line.startswith("####") else truth[place] if place < len(truth) else None)
              for place, line in enumerate(steps)]  # fmt: skip
    return {"prompt": task.prompt, "completions": steps, "labels": labels}


def sampled(problems: Sequence[Task], samples: int, progress: Progress) -> Iterator[tuple[Task, list[str]]]:
    """The base's answers to each problem at temperature 1, without those that have no line."""
    model = open_model(str(BASE))
    sampler = model.sampler(Sampling(temperature=1.0, max_new_tokens=NEW_TOKENS, batch_size=256), progress.note)
    found = sampler.sample([model.encoder.prompt(task.prompt) for task in problems], samples=samples)
    for task, several in zip(problems, found, strict=True):
        texts = [model.encoder.text(sample.tokens) for sample in several if not sample.truncated]
        yield task, [text for text in texts if text.strip()]


def make_rows(runs: Path, problems: int, samples: int, progress: Progress) -> dict[str, Path]:
    """Pairs of the true answer and the base's first, rated steps of all its answers, and the test problems."""
    paths = {name: runs / "data" / f"{name}.jsonl" for name in ("pairs", "steps", "problems", "test")}
    write_rows(paths["problems"], ({"prompt": t.prompt, "answer": t.answer} for t in tasks("train", problems)))
    if not paths["steps"].is_file():
        answers = [*sampled(tasks("train", problems), samples, progress)]
        pairs = ((task, texts[0]) for task, texts in answers if texts and texts[0] != task.answer)
        write_rows(paths["pairs"], ({"prompt": t.prompt, "chosen": t.answer, "rejected": text} for t, text in pairs))
        write_rows(paths["steps"], (rated_steps(task, text) for task, texts in answers for text in texts))
    return paths


def ppo_sections(model: Path | str, problems: Path, reward: str, *, steps: int, **sections: Any) -> dict[str, Any]:
    """PPO with a value model on rewards of the policy's own answers."""
    return {
        "model": {"path": str(model), "precision": "float32"},
        "data": {"train": str(problems)},
        "objective": {"kind": "ppo"},
        "algorithm": {
            "kind": "policy_gradient", "reward": reward, "samples": 1, "rollouts": 32, "epochs": 2,
            "kl": {"coefficient": 0.02}, "value": {"learning_rate": 1e-3},
        },
        "optimizer": {"learning_rate": 1e-4, "warmup": 5},
        "sampling": {"max_new_tokens": NEW_TOKENS, "batch_size": 64},
        "training": {"steps": steps, "batch_size": 32},
        **sections,
    }  # fmt: skip


def models(runs: Path, rows: Mapping[str, Path], steps: int, progress: Progress) -> dict[str, Path]:
    """A DPO policy and a reward model of the pairs, a process reward model of the rated steps, and the value model of
    PPO on the problems."""
    command = f"python -m {MODULE}"
    kept = {"data.train": rows["pairs"], "evaluation.tasks.file": rows["test"], "reference.cache": runs / "cache"}
    demo_run(runs / "dpo", "dpo", kept, [f"training.steps={steps}", "training.evaluate_every=null"], command, progress)
    reward = reward_sections(BASE, rows["pairs"], rows["pairs"], rate=1e-4, steps=steps)
    reward["data"]["heldout"] = {"fraction": 0.1}
    stage(runs / "reward", reward, command, progress)
    process = {
        **reward,
        "objective": {"kind": "process_reward"},
        "data": {**reward["data"], "train": str(rows["steps"])},
    }
    stage(runs / "process", process, command, progress)
    stage(runs / "ppo", ppo_sections(BASE, rows["problems"], "verifier", steps=steps), command, progress)
    return {name: runs / name for name in ("dpo", "reward", "process", "ppo")}


def players(made: Mapping[str, Path]) -> dict[str, int]:
    """The ways to answer, and the tokens that each scores for every place of an answer."""
    judges = [f"{name}:{made[name]}" for name in ("reward", "process")]
    guides = [*judges, f"reward:{made['ppo']}"]
    return {
        f"{made['dpo']}@beam:{WIDTH}": WIDTH,
        f"{made['dpo']}": 1,
        f"{BASE}": 1,
        f"{BASE}@beam:{WIDTH}": WIDTH,
        f"{BASE}@beam:{GUIDED}": GUIDED,
        **{f"{BASE}@beam:{WIDTH}?guide={guide}": GUIDED for guide in guides},
        **{f"{BASE}@best-of:{BEST_OF}?reward={judge}": 2 * BEST_OF for judge in judges},
    }


def main() -> None:
    parser = command_line(MODULE, search.__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/search"))
    parser.add_argument("--problems", type=int, default=300, help="test problems")
    parser.add_argument("--train", type=int, default=1536, help="training problems")
    parser.add_argument("--samples", type=int, default=4, help="answers of the base to each training problem")
    parser.add_argument("--steps", type=int, default=48, help="optimizer steps of each model")
    options = parser.parse_args()
    torch.set_num_threads(1)
    test = write_files(options.runs / "data", {"test": options.problems})["test"]
    with RichProgress() as progress:
        rows = make_rows(options.runs, options.train, options.samples, progress) | {"test": test}
        made = models(options.runs, rows, options.steps, progress)
        scored = players(made)
        found = accuracy([*scored], str(test), max_new_tokens=NEW_TOKENS, metrics=["strict"], progress=progress)
    figures = found.figures
    print_table("answers to the same problems", _answers(figures["models"], scored))
    print_table("against the DPO policy's own beams", _tests(figures["comparisons"], next(iter(scored))))
    if options.json:
        write_json(options.json, figures)


def _answers(entries: Sequence[Mapping[str, Any]], scored: Mapping[str, int]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for entry in entries:
        right = entry["strict"]
        shown = f"{right['value']:.1%} [{right['low']:.1%}, {right['high']:.1%}]"
        rows.append({"player": _short(entry["name"]), "scored tokens per place": scored[entry["name"]],
                     "right": shown, "n": right["n"], "cut off": entry["truncated"]})  # fmt: skip
    return rows


def _tests(comparisons: Sequence[Mapping[str, Any]], baseline: str) -> list[dict[str, Any]]:
    return [
        {"player": _short(c["b"]), "only it": c["only_b"], "only DPO's beams": c["only_a"], "p": c["p_value"]}
        for c in comparisons
        if c["a"] == baseline
    ]


def _short(name: str) -> str:
    return name.replace(str(BASE), "base")


if __name__ == "__main__":
    main()
