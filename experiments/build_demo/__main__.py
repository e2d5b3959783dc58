"""Pairs of the base's own answers, DPO on them, and the table."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.commands import command_line
from benchmarks.reporting import machine, print_facts, print_table, write_json
from experiments import build_demo
from experiments.harness.recipes import demo_run
from twofold.cli.progress import RichProgress
from twofold.datagen.build import BuildSettings, build, read_for
from twofold.demo.task import write_files
from twofold.rewards.model import open_reward
from twofold.sampling.base import Sampling

MODULE, OUT = "experiments.build_demo", Path("runs/build-demo")
DEMO = Path("twofold/demo")
JUDGES = ("verifier", "truth")


def prefer(judge: str, out: Path, problems: Path, samples: int, progress: RichProgress) -> dict[str, Any]:
    """Pairs of the base's own answers."""
    sampling = Sampling(max_new_tokens=64, batch_size=256)
    how = BuildSettings(models=(str(DEMO / "base"),), judge=judge, samples=samples, sampling=sampling)
    began = time.monotonic()
    built = build(read_for(how, str(problems)), how, out / f"{judge}.jsonl", open_reward, progress)
    return {"pairs": built.rows, "prompts": built.questions, "prompts used": built.used,
            "seconds": round(time.monotonic() - began, 1)}  # fmt: skip


def align(judge: str, out: Path, progress: RichProgress) -> dict[str, Any]:
    """A DPO run on the pairs; its results."""
    paths = {
        "data.train": out / f"{judge}.jsonl",
        "evaluation.tasks.file": out / "test.jsonl",
        "reference.cache": out / "reference-cache",
    }
    return demo_run(out / f"run-{judge}", "dpo", paths, [], f"python -m {MODULE}", progress)


def line(judge: str, pairs: dict[str, Any], results: dict[str, Any]) -> dict[str, Any]:
    """A line of the table."""
    base, policy = (model["strict"] for model in results["models"])
    test = next(c for c in results["comparisons"] if c["metric"] == "strict")
    return {"judge": judge, "pairs": pairs["pairs"], "prompts": pairs["prompts"], "n": policy["n"],
            "base": f"{base['value']:.1%}", "after DPO": f"{policy['value']:.1%}",
            "interval": f"{policy['low']:.1%} to {policy['high']:.1%}",
            "only base": test["only_a"], "only DPO": test["only_b"], "McNemar p": f"{test['p_value']:.1e}"}  # fmt: skip


def main() -> None:
    parser = command_line(MODULE, build_demo.__doc__, OUT)
    parser.add_argument("--prompts", type=int, default=1024)
    parser.add_argument("--samples", type=int, default=4)
    options = parser.parse_args()
    files = write_files(options.out, {"train": options.prompts, "test": 500})
    lines: list[dict[str, Any]] = []
    found: dict[str, Any] = {"machine": machine()}
    with RichProgress() as progress:
        for judge in JUDGES:
            pairs = prefer(judge, options.out, files["train"], options.samples, progress)
            results = align(judge, options.out, progress)
            lines.append(line(judge, pairs, results))
            found[judge] = {"build": pairs, "results": {k: results[k] for k in ("models", "comparisons")}}
    size = f"{options.prompts} prompts, {options.samples} samples each"
    print_table(f"{size} at temperature 1, exact match (strict)", lines)
    for judge in JUDGES:
        print_facts(judge, found[judge]["build"])
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
