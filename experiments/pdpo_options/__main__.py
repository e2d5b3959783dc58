"""Runs of the options from the demo's recipes, and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from statistics import fmean

import torch

from benchmarks.commands import command_line
from benchmarks.reporting import write_json
from experiments import pdpo_options
from experiments.harness.files import read_rows
from experiments.harness.pages import markdown, points
from experiments.harness.recipes import demo_run
from twofold.demo.play import Size, final_rows, make_data, rows_at
from twofold.progress import Silent
from twofold.reports.run import SampleRow
from twofold.statistics import Estimate, mean_interval, paired_bootstrap, wilson

MODULE, OUT = "experiments.pdpo_options", Path("runs/pdpo-options")
METHODS: dict[str, tuple[str, ...]] = {
    "DPO": (),
    "PDPO": (),
    "PDPO, verifier gate": ("generator.gate=verifier",),
    "PDPO, leave-one-out (2 × 4 drafts)": ("generator.baseline=leave_one_out", "prompts=2", "samples=4"),
    "PDPO, clip 0.2, drafts used 4 times": ("generator.clip=0.2", "reuse_steps=4"),
}
"""What is changed of the demo's `algorithm`."""

WATCHED = ("active", "right", "ratio", "gap")


@dataclass(frozen=True)
class Protocol:
    """What all methods share."""

    out: Path
    gamma: float
    steps: int | None
    """None: as the demo's recipes say."""


def train(protocol: Protocol, method: str, seed: int) -> Path:
    """The folder of a finished run of (method, seed)."""
    out, size = protocol.out, Size(steps=protocol.steps)
    strength = "" if method == "DPO" else f"-gamma-{protocol.gamma:g}"
    run = out / f"{method.translate(str.maketrans(' ,', '--', '().×'))}{strength}-seed-{seed}"
    with as_file(files("twofold.demo") / "base") as base:
        make_data(out / "data", base, size, Silent())
    paths = {
        "data.train": out / "data" / "pairs.jsonl", "evaluation.tasks.file": out / "data" / "test.jsonl",
        "reference.cache": out / "reference-cache",
    }  # fmt: skip
    overrides = [f"seed={seed}", "training.evaluate_every=24"]
    overrides += [] if size.steps is None else [f"training.steps={size.steps}"]
    if method != "DPO":
        paths["data.generator.file"] = out / "data" / "generator.jsonl"
        overrides += [f"algorithm.{option}" for option in (f"gamma={protocol.gamma}", *METHODS[method])]
    demo_run(run, "dpo" if method == "DPO" else "pdpo", paths, overrides, f"python -m {MODULE}")
    return run


def halfway(run: Path) -> list[bool]:
    """Verdicts at the evaluation in the middle."""
    steps = [line["step"] for line in read_rows(run / "metrics.jsonl") if line["kind"] == "evaluation"]
    return right(rows_at(run, steps[len(steps) // 2]))


def watched(runs: Sequence[Path]) -> dict[str, float]:
    """Means over all generator steps of all runs."""
    lines = [line for run in runs for line in read_rows(run / "metrics.jsonl")]
    columns = {name: [line[name] for line in lines if name in line] for name in WATCHED}
    return {name: fmean(column) for name, column in columns.items() if column}


def right(rows: Sequence[SampleRow]) -> list[bool]:
    return [row.strict for row in rows]


def table(runs: Mapping[str, Sequence[Path]]) -> list[tuple[str, ...]]:
    """A row per method; differences in points to DPO of the same seed on the same problems."""
    base = right(rows_at(runs["DPO"][0], 0))
    start = wilson(sum(base), len(base))
    rows = [("base", "1", _percent(start.value), _interval(start), *["–"] * 5)]
    final = {method: [right(final_rows(run)) for run in folders] for method, folders in runs.items()}
    early = {method: [halfway(run) for run in folders] for method, folders in runs.items()}
    for method, verdicts in final.items():
        mean, n = fmean(map(fmean, verdicts)), len(verdicts[0])
        whole = points(paired_bootstrap(final["DPO"], verdicts, seed=0))
        told = [whole, _over_seeds(final["DPO"], verdicts), _over_seeds(early["DPO"], early[method])]
        told = ["–"] * 3 if method == "DPO" else told
        told.insert(2, _percent(fmean(map(fmean, early[method]))))
        seen = ", ".join(f"{name} {value:.2f}" for name, value in watched(runs[method]).items())
        interval = _interval(wilson(round(mean * n), n))
        rows.append((method, str(len(verdicts)), _percent(mean), interval, *told, seen or "–"))
    return rows


def _over_seeds(a: Sequence[Sequence[bool]], b: Sequence[Sequence[bool]]) -> str:
    return points(mean_interval([fmean(y) - fmean(x) for x, y in zip(a, b, strict=True)]))


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _interval(estimate: Estimate) -> str:
    return f"{estimate.low:.1%} – {estimate.high:.1%}"


COLUMNS = (
    "model", "seeds", "accuracy", "95% Wilson", "points to DPO [bootstrap]", "[t over seeds]", "halfway", "to DPO [t]",
    "means over the generator's steps",
)  # fmt: skip


def main() -> None:
    """Train what is missing, print the table and write it."""
    parser = command_line(MODULE, pdpo_options.__doc__, OUT)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--gamma", type=float, default=0.1, help="weight of the generator in every PDPO run")
    parser.add_argument("--steps", type=int, help="by default as the demo's recipes say")
    options = parser.parse_args()
    torch.set_num_threads(1)
    protocol = Protocol(options.out, options.gamma, options.steps)
    runs: dict[str, list[Path]] = {method: [] for method in METHODS}
    for seed in range(options.seeds):
        for method in METHODS:
            runs[method].append(train(protocol, method, seed))
            print(f"{method}, seed {seed}: {fmean(right(final_rows(runs[method][-1]))):.3f}", flush=True)
    text = markdown([COLUMNS, *table(runs)])
    (options.out / f"table-gamma-{options.gamma:g}.md").write_text(text, encoding="utf-8")
    if options.json:
        write_json(options.json, {"table": [COLUMNS, *table(runs)]})
    print(text)


if __name__ == "__main__":
    main()
