"""What a search comes to: figures with intervals, differences within noise, the recipes of the winners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twofold import disk
from twofold.config.load import dump
from twofold.evaluation.figures import Entry, comparisons, corrected
from twofold.reports.tables import interval, p_is, percent, points
from twofold.reports.tune import tune_page
from twofold.runs.tuning.confirm import Confirmed
from twofold.runs.tuning.grid import slug
from twofold.runs.tuning.measure import measure_of
from twofold.runs.tuning.plan import Plan, Trial
from twofold.runs.tuning.search import Rung, Standing, spent
from twofold.statistics import Estimate

ALPHA = 0.05
"""Differences with a larger p-value (Holm's, within a table) are within noise."""


def outcome(plan: Plan, standings: Sequence[Standing], confirmed: Confirmed, command: str) -> dict[str, Any]:
    """All figures, as in results.json."""
    figure, settings = plan.settings.evaluate, plan.settings
    measures = {name: measure_of(figure, values, plan.confirm) for name, values in confirmed.items()}
    entries = [Entry(name, {figure.name: measure}) for name, measure in measures.items()]
    tests = comparisons(entries)
    methods = [_method(plan, standing) for standing in standings]
    for method in methods:
        if measure := measures.get(method["name"]):
            method["confirmed"] = measure.estimate().as_dict()
    unit = "steps" if settings.budget.tokens is None else "tokens"
    return {
        "command": command,
        "figure": {
            "task": figure.task,
            "metric": figure.name,
            "judge": figure.judge,
            "reference": plan.reference,
            "max_kl": figure.max_kl,
        },
        "development": {"file": settings.development.file, "n": len(plan.development.records)},
        "confirm": {"file": settings.confirm.file, "n": len(plan.confirm.records)},
        "budget": {"unit": unit, "each": plan.budget if unit == "steps" else settings.budget.tokens},
        "seeds": list(settings.seeds),
        "rungs": settings.rungs,
        "eta": settings.eta,
        "methods": methods,
        "comparisons": tests,
        "verdict": verdict({m["name"]: m["confirmed"]["value"] for m in methods if "confirmed" in m}, tests),
    }


def verdict(values: Mapping[str, float], tests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The method with the best confirmed figure, the methods within noise of it, and those that are worse."""
    if not values:
        return {"best": None, "within_noise": [], "worse": []}
    best = max(values, key=lambda name: values[name])
    p_values = {
        (t["b"] if t["a"] == best else t["a"]): t.get("p_holm", t["p_value"]) for t in tests if best in (t["a"], t["b"])
    }
    within = [name for name, p in p_values.items() if p >= ALPHA]
    return {"best": best, "within_noise": within, "worse": [name for name in p_values if name not in within]}


def write_outcome(plan: Plan, standings: Sequence[Standing], figures: Mapping[str, Any]) -> Path | None:
    """Write results.json, the winners' recipes and the page. Returns the recipe of the best method's winner, if a
    method has one."""
    disk.write(plan.out / "results.json", disk.json_text(figures, indent=2))
    page = tune_page(figures, plan.out.name)
    disk.write(plan.out / "tune.html", page)
    disk.make_folder(plan.out / "recipes")
    best: Path | None = None
    for standing, method in zip(standings, figures["methods"], strict=True):
        if "confirmed" not in method:
            continue
        text = _recipe(plan, standing.winner, method, figures)
        disk.write(plan.out / "recipes" / f"{slug(method['name'])}.yaml", text)
        if method["name"] == figures["verdict"]["best"]:
            best = plan.out / "winner.yaml"
            disk.write(best, text)
    return best


def _method(plan: Plan, standing: Standing) -> dict[str, Any]:
    method = standing.method
    trials: dict[int, dict[str, Any]] = {}
    for rung in standing.rungs:
        for number, row in _rung(plan, rung).items():
            trial = next(trial for trial in rung.trials if trial.number == number)
            about: dict[str, Any] = {
                "number": number,
                "values": trial.point.values,
                "words": trial.point.words,
                "rungs": [],
            }
            trials.setdefault(number, about)["rungs"].append(row)
    told: dict[str, Any] = {
        "name": method.name,
        "recipe": method.recipe,
        "grid": len(method.trials),
        "size": standing.size,
        "steps": standing.winner.steps[-1],
        "spent": spent(standing),
        "winner": standing.winner.number,
        "dropped": len(dropped := [t["rungs"][-1] for t in trials.values() if not t["rungs"][-1]["on"]]),
        "dropped_within_noise": sum(row.get("within_noise", False) for row in dropped),
        "trials": [trials[number] for number in sorted(trials)],
    }
    last = trials[standing.winner.number]["rungs"][-1]
    return told if last["value"] is None else {**told, "development": last}


def _rung(plan: Plan, rung: Rung) -> dict[int, dict[str, Any]]:
    """Each trial of a rung by its number: its figure, and its difference from the best one, tested."""
    figure, rows = plan.settings.evaluate, plan.development
    values = {number: [r.values for r in results if r.values] for number, results in rung.results.items()}
    sound = [number for number in rung.results if rung.score(number) is not None]
    measures = {number: measure_of(figure, values[number], rows) for number in sound}
    best = rung.on[0]
    tests = [(number, measures[best].against(measures[number])) for number in sound if number != best]
    rows_of_tests = corrected([{"number": n, **t.as_dict()} for n, t in tests if t is not None])
    tested = {test["number"]: test for test in rows_of_tests}
    cut = rung.score(rung.on[-1])
    made: dict[int, dict[str, Any]] = {}
    for trial in rung.trials:
        number, score = trial.number, rung.score(trial.number)
        row: dict[str, Any] = {"step": trial.steps[rung.place], "on": number in rung.on, "value": score}
        results = rung.results[number]
        out = [result for result in results if result.values is None]
        if out:
            row["failure"] = out[0].failure
        else:
            row |= measures[number].estimate().as_dict()
            row["tied"] = number not in rung.on and score == cut
        if kls := [result.kl for result in out[:1] or results if result.kl is not None]:
            row["kl"] = max(kls)
        if test := tested.get(number):
            row["p"] = test.get("p_holm", test["p_value"])
            row["within_noise"] = row["p"] >= ALPHA
        made[number] = row
    return made


def _recipe(plan: Plan, trial: Trial, method: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """The winner as a recipe of `twofold train`, with its figures as comments."""
    name, metric, cost = method["name"], figures["figure"]["metric"], method["spent"]
    development, fresh = (Estimate.from_dict(method[key]) for key in ("development", "confirmed"))
    lines = [
        f"{name}: the winner of {method['size']} of {method['grid']} points of {method['recipe']}: {trial.point.words}",
        f"chosen on {figures['development']['n']} development rows: {metric} {percent(development.value)}, best of"
        f" {method['size']} (too high on average, so no interval)",
        f"confirmed once on {figures['confirm']['n']} fresh rows: {metric} {percent(fresh.value)}, 95% interval"
        f" {interval(fresh)}",
        *_against(name, figures),
        f"spent on the choice: {cost['steps']:,} steps, {cost['tokens']:,} tokens; seeds {figures['seeds']}",
        f"again: {figures['command']}",
    ]
    data = {**trial.point.document.data, "run": f"runs/{slug(name)}", "seed": plan.settings.seeds[0]}
    comments = "".join(f"# {' '.join(line.split())}\n" for line in lines)
    return f"{comments}{dump(data)}"


def _against(name: str, figures: Mapping[str, Any]) -> list[str]:
    """The paired tests of a method on the fresh rows, as text."""
    lines: list[str] = []
    for test in figures["comparisons"]:
        if name not in (test["a"], test["b"]):
            continue
        other = test["b"] if test["a"] == name else test["a"]
        gain = test["difference"]["value"] * (1 if test["b"] == name else -1)
        p = test.get("p_holm", test["p_value"])
        words = "within noise" if p >= ALPHA else "better" if gain > 0 else "worse"
        lines.append(f"against {other}: {points(gain + 0.0)} points, {words} ({p_is(p)}, {test['test']}, Holm)")
    return lines
