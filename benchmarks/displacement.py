"""How far chosen falls under DPO at a high learning rate on the demo's pairs, and what holds it up.

`python -m benchmarks.displacement` (after `twofold demo`, whose pairs and problems it takes): one run per method and
seed into runs/displacement, then a table of means over seeds with Student's t intervals.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from benchmarks.reporting import print_facts, print_table, write_json
from twofold.cli.progress import RichProgress
from twofold.config.load import load_recipe, validate
from twofold.config.schema import Recipe
from twofold.errors import DataError
from twofold.runs.train import RunOptions, train_recipe
from twofold.statistics import mean_interval

METHODS = {
    "dpo": "{kind: dpo, beta: 0.1}",
    "dpo, nll=1": "{kind: dpo, beta: 0.1, nll: 1}",
}
OUT = Path("runs/displacement")
STEPS, PROBLEMS = 16, 200


def run(name: str, seed: int, data: Path, rate: float) -> Mapping[str, Any]:
    """Train one method with one seed (or take it up), and its results."""
    folder = OUT / f"{name.replace(', ', '-').replace('=', '-')}-{rate:g}-seed-{seed}"
    if not (folder / "results.json").is_file():
        with as_file(files("twofold.demo")) as demo:
            overrides = [
                f"model.path={json.dumps(str(demo / 'base'))}",
                f"data.train={json.dumps(str(data / 'pairs.jsonl'))}",
                f"evaluation.tasks.file={json.dumps(str(data / 'test.jsonl'))}",
                f"reference.cache={json.dumps(str(OUT / 'reference-cache'))}",
                f"objective={METHODS[name]}",
                f"optimizer.learning_rate={rate}",
                f"training.steps={STEPS}",
                f"training.evaluate_every={STEPS}",
                f"evaluation.tasks.limit={PROBLEMS}",
                f"run={json.dumps(str(folder))}",
                f"seed={seed}",
            ]
            recipe = validate(Recipe, load_recipe(demo / "recipes" / "dpo.yaml", overrides))
        with RichProgress() as progress:
            train_recipe(recipe, RunOptions(progress=progress, command="python -m benchmarks.displacement"))
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    with (folder / "metrics.jsonl").open(encoding="utf-8") as lines:
        ends = [line for line in map(json.loads, lines) if line["kind"] == "evaluation"][-1]
    return {**found, "end": ends}


def table(found: Mapping[str, list[Mapping[str, Any]]]) -> list[Mapping[str, object]]:
    """Means over seeds at the last step, on held-out pairs and problems."""
    rows: list[Mapping[str, object]] = []
    for name, runs in found.items():
        figures = {
            "chosen, nats": [r["end"]["heldout/chosen_logratio"] for r in runs],
            "rejected, nats": [r["end"]["heldout/rejected_logratio"] for r in runs],
            "pairs in order, %": [100 * r["end"]["heldout/accuracy"] for r in runs],
            "problems solved, %": [100 * r["end"]["exact_match/strict"] for r in runs],
        }
        estimates = {column: mean_interval(values) for column, values in figures.items()}
        rows.append(
            {"method": name, "seeds": len(runs)}
            | {column: f"{e.value:.1f} [{e.low:.1f}, {e.high:.1f}]" for column, e in estimates.items()}
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("runs/demo/data"), help="folder that `twofold demo` made")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate (the demo's own is 1e-5)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    if not (given.data / "pairs.jsonl").is_file():
        raise DataError("no pairs", where=str(given.data), remedy="run `twofold demo` first, or name its data folder")
    found = {name: [run(name, seed, given.data, given.rate) for seed in range(given.seeds)] for name in METHODS}
    print_table(f"learning rate {given.rate:g}, {STEPS} steps; means over seeds [95%]", table(found))
    for name, runs in found.items():
        why = [r.get("displacement", {}).get("verdict", "no fall") for r in runs]
        print_facts(name, {f"seed {seed}": verdict for seed, verdict in enumerate(why)})
    if given.json:
        write_json(given.json, found)


if __name__ == "__main__":
    main()
