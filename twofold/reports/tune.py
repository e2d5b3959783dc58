"""The HTML page of `twofold tune`: the confirmed winners, the rungs, and every trial. Self-contained, without requests,
every text escaped, its one script allowed by its hash."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from twofold.reports import tables
from twofold.reports.charts import Chart
from twofold.reports.drawing import Frame, Line, svg
from twofold.reports.figure_data import Drawn, encoded
from twofold.reports.languages import Phrase, phrase
from twofold.reports.pages import environment, script_of
from twofold.statistics import Estimate

LINES, COLORS, OTHER = 60, 5, "run-5"
"""Lines of a chart, colors of methods, and the gray of trials that did not win."""
Row = Mapping[str, Any]


def tune_page(figures: Row, title: str) -> str:
    """The page as text, from results.json."""
    methods = [_about(method, i) for i, method in enumerate(figures["methods"])]
    script, digest = script_of("tables.js", "report.js", "figures.js")
    return environment().get_template("tune.html.jinja").render(
        title=title,
        figures=figures,
        lead=lead(figures),
        facts=facts(figures),
        methods=methods,
        confirmed=[method for method in methods if method["confirmed"]],
        tests=[_test(test) for test in figures["comparisons"]],
        charts=[chart for i, method in enumerate(figures["methods"]) if (chart := rung_chart(method, i))],
        place=lambda share: f"{100 * min(1.0, max(0.0, share)):.2f}%",
        script=script,
        digest=digest,
    )  # fmt: skip


def lead(figures: Row) -> Phrase:
    """The result in one sentence."""
    verdict = figures["verdict"]
    best = next((m for m in figures["methods"] if m["name"] == verdict["best"]), None)
    if best is None:
        return phrase("Every trial is out.")
    fresh = Estimate.from_dict(best["confirmed"])
    fields = {"name": best["name"], "share": tables.percent(fresh.value), "interval": tables.interval(fresh)}
    within, worse = (", ".join(verdict[key]) for key in ("within_noise", "worse"))
    level = [m["name"] for m in figures["methods"] if "confirmed" in m and m["confirmed"]["value"] == fresh.value]
    if len(level) > 1:
        text = "The best confirmed figure, {share} ({interval}), is shared by {names}."
        rest = phrase(" Worse: {worse}.", worse=worse) if worse else ""
        others = ", ".join(name for name in verdict["within_noise"] if name not in level)
        near = phrase(" Within noise: {within}.", within=others) if others else ""
        return phrase(text, share=fields["share"], interval=fields["interval"], names=", ".join(level)) + near + rest
    if within and worse:
        text = "{name} has the best confirmed figure, {share} ({interval}). Within noise: {within}. Worse: {worse}."
        return phrase(text, **fields, within=within, worse=worse)
    if within:
        text = "{name} has the best confirmed figure, {share} ({interval}). It is within noise of {within}."
        return phrase(text, **fields, within=within)
    if worse:
        text = "{name} has the best confirmed figure, {share} ({interval}). It is better than {worse}, beyond noise."
        return phrase(text, **fields, worse=worse)
    return phrase("{name} has the confirmed figure {share} ({interval}).", **fields)


def facts(figures: Row) -> list[Phrase]:
    """What was measured, on which rows, and at what cost."""
    figure, budget = figures["figure"], figures["budget"]
    unit = phrase("steps") if budget["unit"] == "steps" else phrase("tokens")
    seeds = ", ".join(map(str, figures["seeds"]))
    text = "A trial is out whose KL from {reference} is more than {limit} nats"
    limit = figure.get("max_kl")
    bounds = [] if limit is None else [phrase(text, reference=figure["reference"], limit=f"{limit:g}")]
    return [
        phrase("Figure: {metric} of task {task}", metric=figure["metric"], task=figure["task"]),
        phrase("Development: {n} rows of {file}", **_rows(figures["development"])),
        phrase("Fresh: {n} rows of {file}, measured once", **_rows(figures["confirm"])),
        phrase("Budget of each method: {each} {unit}; seeds {seeds}", each=f"{budget['each']:,}", unit=unit,
               seeds=seeds),
        *bounds,
    ]  # fmt: skip


def rung_chart(method: Row, index: int) -> Chart | None:
    """The development figure of each trial of a method at its rungs. The winner is on top; the others are gray."""
    trials = sorted(method["trials"], key=lambda trial: trial["number"] != method["winner"])
    measured = [(trial, points) for trial in trials if (points := _points(trial))][:LINES]
    drawn: list[Drawn] = []
    for trial, points in reversed(measured):  # the winner on top
        wins = trial["number"] == method["winner"]
        line = Line(
            [step for step, _ in points], [e.value for _, e in points], _look(index) if wins else OTHER,
            [e.low for _, e in points] if wins else (), [e.high for _, e in points] if wins else (), markers=True,
            whiskers=True,
        )  # fmt: skip
        drawn.append(Drawn(trial["words"], line))
    if not drawn:
        return None
    lines = [each.line for each in drawn]
    values = [v for line in lines for v in (*line.y, *line.low, *line.high)]
    pad = max(0.02, 0.06 * (max(values) - min(values)))
    end = max(x for line in lines for x in line.x)
    frame = Frame(f"Rungs of {method['name']}", end, min(values) - pad, max(values) + pad, percent=True)
    note = "Development figure of each trial at its rungs. The colored line is the winner."
    return Chart("Rungs", note, svg(lines, frame), (), (), run=method["name"], data=encoded(drawn, frame))


def note_of(row: Row) -> Phrase | str:
    """The test of a trial at a rung in words, and whether a tie was decided; the KL where it has a limit."""
    far = phrase("KL {kl} nats", kl=f"{row['kl']:.1f}") if "kl" in row else None
    if row["value"] is None:
        return phrase("numbers were not finite") if far is None else phrase("out: {kl}", kl=far)
    told: Phrase | str = phrase("best")
    if "p" in row:
        test = phrase("within noise of the best") if row["within_noise"] else phrase("worse than the best")
        told = test + f", {tables.p_is(row['p'])}"
    if row.get("tied"):
        told = phrase("{what}; tied with a trial that continued: the order of the grid decided", what=told)
    return told if far is None else phrase("{what}; {kl}", what=told, kl=far)


def _about(method: Row, index: int) -> dict[str, Any]:
    """The texts of a method on the page."""
    winner = next(trial for trial in method["trials"] if trial["number"] == method["winner"])
    confirmed = Estimate.from_dict(method["confirmed"]) if "confirmed" in method else None
    development = Estimate.from_dict(method["development"]) if "development" in method else None
    fall = None
    if confirmed and development:
        fall = tables.points(confirmed.value - development.value)
    return {
        **method, "look": _look(index), "words": winner["words"], "confirmed": confirmed, "fall": fall,
        "development": development, "rows": list(_trial_rows(method)),
    }  # fmt: skip


def _trial_rows(method: Row) -> Iterator[dict[str, Any]]:
    """A row for each trial at each rung, best trials first."""
    for trial in sorted(method["trials"], key=lambda t: (-len(t["rungs"]), -(t["rungs"][-1]["value"] or 0.0))):
        for rung in trial["rungs"]:
            estimate = None if rung["value"] is None else Estimate.from_dict(rung)
            yield {"words": trial["words"], "rung": rung, "estimate": estimate, "note": note_of(rung),
                   "wins": trial["number"] == method["winner"]}  # fmt: skip


def _test(test: Row) -> dict[str, Any]:
    """A paired test of two winners on the fresh rows."""
    difference, p = Estimate.from_dict(test["difference"]), test.get("p_holm", test["p_value"])
    verdict = phrase("within noise") if p >= 0.05 else phrase("beyond noise")
    return {"a": test["a"], "b": test["b"], "difference": difference, "p": p, "verdict": verdict,
            "test": test["test"], "points": tables.points(difference.value)}  # fmt: skip


def _points(trial: Row) -> list[tuple[int, Estimate]]:
    return [(row["step"], Estimate.from_dict(row)) for row in trial["rungs"] if row["value"] is not None]


def _rows(rows: Row) -> dict[str, str]:
    return {"n": f"{rows['n']:,}", "file": str(rows["file"])}


def _look(index: int) -> str:
    return f"run-{index % COLORS}"
