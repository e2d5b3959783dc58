"""Runs of DPO with and without NLL on the demo's pairs, and their table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.commands import command_line
from benchmarks.reporting import print_facts, print_table, write_json
from experiments import displacement
from experiments.harness.files import read_rows
from experiments.harness.recipes import demo_run
from twofold.cli.progress import RichProgress
from twofold.errors import DataError
from twofold.statistics import mean_interval

MODULE, OUT = "experiments.displacement", Path("runs/displacement")
METHODS = {"dpo": "{kind: dpo, beta: 0.1}", "dpo, nll=1": "{kind: dpo, beta: 0.1, nll: 1}"}
STEPS, PROBLEMS = 16, 200


def run(name: str, seed: int, data: Path, out: Path, rate: float) -> Mapping[str, Any]:
    """Train one method with one seed (or take it up), and its results."""
    folder = out / f"{name.replace(', ', '-').replace('=', '-')}-{rate:g}-seed-{seed}"
    paths = {
        "data.train": data / "pairs.jsonl",
        "evaluation.tasks.file": data / "test.jsonl",
        "reference.cache": out / "reference-cache",
    }
    overrides = [
        f"objective={METHODS[name]}", f"optimizer.learning_rate={rate}", f"seed={seed}", f"training.steps={STEPS}",
        f"training.evaluate_every={STEPS}", f"evaluation.tasks.limit={PROBLEMS}",
    ]  # fmt: skip
    with RichProgress() as progress:
        found = demo_run(folder, "dpo", paths, overrides, f"python -m {MODULE}", progress)
    return {**found, "end": [line for line in read_rows(folder / "metrics.jsonl") if line["kind"] == "evaluation"][-1]}


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
    parser = command_line(MODULE, displacement.__doc__, OUT)
    parser.add_argument("--data", type=Path, default=Path("runs/demo/data"), help="folder that `twofold demo` made")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate (the demo's own is 1e-5)")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    data, rate = options.data, options.rate
    if not (data / "pairs.jsonl").is_file():
        raise DataError("no pairs", where=str(data), remedy="run `twofold demo` first, or name its data folder")
    found = {name: [run(name, seed, data, options.out, rate) for seed in range(options.seeds)] for name in METHODS}
    print_table(f"learning rate {rate:g}, {STEPS} steps; means over seeds [95%]", table(found))
    for name, runs in found.items():
        why = [r.get("displacement", {}).get("verdict", "no fall") for r in runs]
        print_facts(name, {f"seed {seed}": verdict for seed, verdict in enumerate(why)})
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
