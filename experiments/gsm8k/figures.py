"""What runs on GSM8K came to: every two of base, DPO and PDPO on the same problems, and beside the papers.

A run's own samples.jsonl has a verdict for each problem; two models are compared by McNemar's exact test, with Holm's
correction over all tests of the table. With several seeds the difference of PDPO and DPO is also told over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.harness.files import read_rows
from experiments.harness.pages import markdown, points
from experiments.headline import papers
from twofold.errors import DataError
from twofold.evaluation.figures import BinaryOutcomes, Entry, comparisons
from twofold.reports.tables import interval, p_value, percent
from twofold.statistics import Estimate, mean_interval

METRICS = ("strict", "flexible")


def verdicts(run: Path) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """By problem what the base and the finished policy of a run said: the first and the last step of samples.jsonl.

    Raises DataError for a run without solved problems.
    """
    path = run / "samples.jsonl"
    rows = [row for row in read_rows(path) if "strict" in row] if path.is_file() else []
    steps = {row["step"] for row in rows}
    if len(steps) < 2:
        remedy = "give a finished run with evaluation.tasks"
        raise DataError("no verdicts of a base and a policy", where=str(path), remedy=remedy)
    first, last = ({f"{r['name']} {r['prompt']}": r for r in rows if r["step"] == s} for s in (min(steps), max(steps)))
    return first, last


def entries(pdpo: Sequence[Path], dpo: Sequence[Path]) -> list[Entry]:
    """The base, and each run's policy, over the problems in one order. Raises DataError where problems differ."""
    named = [*((f"DPO, run {i + 1}", r) for i, r in enumerate(dpo)),
             *((f"PDPO, run {i + 1}", r) for i, r in enumerate(pdpo))]  # fmt: skip
    found: dict[str, Mapping[str, Mapping[str, Any]]] = {}
    for name, run in named:
        base, found[name] = verdicts(run)
        if found.setdefault("base", base).keys() != found[name].keys():
            what, remedy = "was judged on other problems than the runs before it", "judge all runs on one file"
            raise DataError(what, where=str(run), remedy=remedy)
    problems = sorted(found["base"]) if found else []
    return [
        Entry(name, {m: BinaryOutcomes([bool(found[name][p][m]) for p in problems], problems) for m in METRICS})
        for name in ("base", *(name for name, _ in named))
        if name in found
    ]


def over_seeds(made: Sequence[Entry]) -> Estimate | None:
    """PDPO − DPO in strict share, seed by seed, with Student's interval; None without two seeds of both."""
    shares = {
        kind: [e.measures["strict"].estimate().value for e in made if e.name.startswith(f"{kind},")]
        for kind in ("DPO", "PDPO")
    }
    if len(shares["DPO"]) != len(shares["PDPO"]) or len(shares["DPO"]) < 2:
        return None
    return mean_interval([b - a for a, b in zip(shares["DPO"], shares["PDPO"], strict=True)])


def tables(pdpo: Sequence[Path], dpo: Sequence[Path]) -> str:
    """The tables, as markdown."""
    made = entries(pdpo, dpo)
    lines: list[tuple[str, ...]] = [("model", *(f"{m} [Wilson]" for m in METRICS), "n")]
    for entry in made:
        each = [entry.measures[m].estimate() for m in METRICS]
        lines.append((entry.name, *(f"{percent(e.value)} [{interval(e)}]" for e in each), str(each[0].n)))
    tests: list[tuple[str, ...]] = [("pair", "metric", "only the first", "only the second", "p", "p, Holm")]
    for test in comparisons(made):
        p_values = (p_value(test["p_value"]), p_value(test.get("p_holm", test["p_value"])))
        tests.append(
            (f"{test['a']} / {test['b']}", test["metric"], str(test["only_a"]), str(test["only_b"]), *p_values)
        )
    parts = [markdown(lines), markdown(tests)] if made else []
    seeds = over_seeds(made)
    if seeds is not None:
        parts.append(f"PDPO − DPO over {seeds.n} seeds: {points(seeds)} points (Student t).\n")
    ours = papers.of_runs(pdpo[0] if pdpo else None, dpo[0] if dpo else None)
    return "\n".join([*parts, papers.markdown(ours)])
