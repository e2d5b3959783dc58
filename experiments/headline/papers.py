"""What papers report, and ours beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from experiments.harness.files import read_json
from twofold.reports.tables import interval, p_value, percent
from twofold.statistics import Estimate, mcnemar, two_proportions

PROBLEMS = 1319
COLUMNS = ("id", "paper", "metric", "paper's figure", "read", "ours", "n", "95% interval", "comparable?")
READ = {"V": "in its text", "S": "in notes that quote it", "M": "recalled"}


@dataclass(frozen=True)
class Setup:
    """What must be alike before two figures are compared."""

    model: str
    data: str
    judge: str


@dataclass(frozen=True)
class Ours:
    """A figure of ours, and what it was measured with."""

    estimate: Estimate
    setup: Setup


@cache
def rows() -> tuple[Mapping[str, Any], ...]:
    """What papers report."""
    return tuple(read_json(Path(__file__).with_name("headline.json"))["rows"])


def comparable(row: Mapping[str, Any], ours: Ours | None) -> str:
    """In words, why not or that it is."""
    if ours is None:
        return "not measured"
    return "yes" if "setup" in row and Setup(**row["setup"]) == ours.setup else "not comparable (scale)"


def table(ours: Mapping[str, Ours]) -> list[tuple[str, ...]]:
    """A line under COLUMNS for each row of the papers; `ours` by the id of the row."""
    lines: list[tuple[str, ...]] = []
    for row in rows():
        mine = ours.get(row["id"])
        told = (percent(mine.estimate.value), str(mine.estimate.n), interval(mine.estimate)) if mine else ("–",) * 3
        theirs = (row["paper"], row.get("metric", ""), _figure(row), READ[row["status"]])
        lines.append((row["id"], *theirs, *told, comparable(row, mine)))
    return lines


def markdown(ours: Mapping[str, Ours]) -> str:
    """The table, and below it what the source's counts allow to say."""
    cells = [COLUMNS, ("---",) * len(COLUMNS), *table(ours)]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells) + "\n\n" + source_gain()


def source_gain() -> str:
    """PDPO over DPO as the source reports it: tested without pairs, and what pairs could have shown."""
    counts = {row["id"]: row["correct"] for row in rows() if "correct" in row}
    dpo, pdpo = counts["pdpo.dpo"], counts["pdpo.pdpo"]
    z, p = two_proportions(dpo, PROBLEMS, pdpo, PROBLEMS)
    return (
        f"The source's own gain, {pdpo} − {dpo} = {pdpo - dpo} of {PROBLEMS} problems, is within noise: z = {z:.2f}, "
        f"p = {p_value(p)} (two shares, unpaired). It publishes no verdicts to pair; McNemar's test would say p < 0.05 "
        f"only if at most {most_changed(pdpo - dpo)} problems had changed sides."
    )


def most_changed(gain: int, level: float = 0.05) -> int:
    """The most problems that may change sides, `gain` more one way than the other, for McNemar's exact p < level."""
    lost = 0
    while mcnemar([True] * lost + [False] * (lost + gain), [False] * lost + [True] * (lost + gain)).p_value < level:
        lost += 1
    return 2 * (lost - 1) + gain if lost else 0


def of_results(pdpo: Mapping[str, Any], dpo: Mapping[str, Any] | None, setup: Setup) -> dict[str, Ours]:
    """The base and both policies from results.json of a PDPO run and of a DPO run, strict."""
    found = {"pdpo.base": (pdpo, "base"), "pdpo.pdpo": (pdpo, "policy")}
    if dpo is not None:
        found["pdpo.dpo"] = (dpo, "policy")
    return {key: Ours(_strict(results, name), setup) for key, (results, name) in found.items()}


def of_runs(pdpo: Path | None, dpo: Path | None) -> dict[str, Ours]:
    """The same from folders of finished runs; nothing without one of PDPO."""
    if pdpo is None:
        return {}
    results = read_json(pdpo / "results.json")
    other = read_json(dpo / "results.json") if dpo else None
    return of_results(results, other, setup_of(pdpo, results))


def setup_of(run: Path, results: Mapping[str, Any]) -> Setup:
    """What a run was measured with, in the words of headline.json where it is the same."""
    recipe = yaml.safe_load((run / "resolved.yaml").read_text(encoding="utf-8"))
    n = _strict(results, "base").n
    return Setup(Path(recipe["model"]["path"]).name, f"GSM8K test, {n} problems", "exact match")


def _strict(results: Mapping[str, Any], name: str) -> Estimate:
    (model,) = (m for m in results["models"] if m["name"] == name)
    return Estimate(**{"count": None, **model["strict"]})


def _figure(row: Mapping[str, Any]) -> str:
    """The value, after that of the base where there is one."""
    value = _text(row["value"])
    return f"{_text(row['base'])} → {value}" if "base" in row else value


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items())
    return " / ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
