"""From prompts to a better model, offline: `python -m benchmarks.build_demo --out FOLDER` (a few minutes on one core).

The demo's base answers problems, a judge makes pairs of the answers (`twofold data build`), DPO learns from the pairs
(the demo's recipe), and base and policy are examined on the same problems. What was broken off is taken up again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.reporting import machine, print_facts, print_table, write_json
from twofold.cli.progress import RichProgress
from twofold.config.load import load_recipe, validate
from twofold.config.schema import Recipe
from twofold.datagen.build import BuildSettings, build, read_for
from twofold.demo.task import write_files
from twofold.rewards.model import open_reward
from twofold.runs.train import RunOptions, train_recipe
from twofold.sampling.base import Sampling

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
        "model.path": DEMO / "base",
        "data.train": out / f"{judge}.jsonl",
        "evaluation.tasks.file": out / "test.jsonl",
        "reference.cache": out / "reference-cache",
        "run": out / f"run-{judge}",
    }
    overrides = [f"{key}={json.dumps(str(path))}" for key, path in paths.items()]
    recipe = validate(Recipe, load_recipe(DEMO / "recipes" / "dpo.yaml", overrides))
    return dict(train_recipe(recipe, RunOptions(progress=progress, command="python -m benchmarks.build_demo")).results)


def told(judge: str, pairs: dict[str, Any], results: dict[str, Any]) -> dict[str, Any]:
    """A line of the table."""
    base, policy = (model["strict"] for model in results["models"])
    test = next(c for c in results["comparisons"] if c["metric"] == "strict")
    return {"judge": judge, "pairs": pairs["pairs"], "prompts": pairs["prompts"], "n": policy["n"],
            "base": f"{base['value']:.1%}", "after DPO": f"{policy['value']:.1%}",
            "interval": f"{policy['low']:.1%} to {policy['high']:.1%}",
            "only base": test["only_a"], "only DPO": test["only_b"], "McNemar p": f"{test['p_value']:.1e}"}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/build-demo"))
    parser.add_argument("--prompts", type=int, default=1024)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    files = write_files(given.out, {"train": given.prompts, "test": 500})
    lines: list[dict[str, Any]] = []
    found: dict[str, Any] = {"machine": machine()}
    with RichProgress() as progress:
        for judge in JUDGES:
            pairs = prefer(judge, given.out, files["train"], given.samples, progress)
            results = align(judge, given.out, progress)
            lines.append(told(judge, pairs, results))
            found[judge] = {"build": pairs, "results": {k: results[k] for k in ("models", "comparisons")}}
    print_table(f"{given.prompts} prompts, {given.samples} samples each at temperature 1, exact match (strict)", lines)
    for judge in JUDGES:
        print_facts(judge, found[judge]["build"])
    if given.json:
        write_json(given.json, found)


if __name__ == "__main__":
    main()
