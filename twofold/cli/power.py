"""`twofold power`: how many prompts show a difference, and what difference a number of prompts can show."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from twofold.cli.dataclass_options import spread
from twofold.cli.terminal import results, table
from twofold.errors import RecipeError

if TYPE_CHECKING:
    from twofold.evaluation.earlier import Earlier
    from twofold.statistics.power import Design

POINTS = (1.0, 2.0, 3.0, 5.0, 10.0)
"""Differences of the table where none is named; of means, in tenths of a standard deviation."""
MOST_COMPARISONS = 10_000
SMALLEST = 1e-6
"""Of a level, of a chance of a false negative, and of a deviation."""


@dataclass(frozen=True)
class Options:
    """Options of `twofold power`."""

    figure: Annotated[
        Literal["accuracy", "win-rate", "mean"],
        typer.Option(help="accuracy: of two models. win-rate: of one model, against 50%. mean: of scores."),
    ] = "accuracy"
    difference: Annotated[
        float | None, typer.Option(help="To be shown, in points; of means, in their unit. Without it: a table.")
    ] = None
    prompts: Annotated[int | None, typer.Option(help="What can this many prompts show?")] = None
    unpaired: Annotated[bool, typer.Option(help="The two models answer different prompts.")] = False
    discordance: Annotated[
        float | None, typer.Option(help="Share of prompts (0 to 1) on which only one of the models is right.")
    ] = None
    base: Annotated[float, typer.Option(help="Share of the first model (0 to 1).")] = 0.5
    correlation: Annotated[float, typer.Option(help="Of the two models' results on a prompt.")] = 0.5
    deviation: Annotated[float, typer.Option(help="Standard deviation of a score, for means.")] = 1.0
    ties: Annotated[float, typer.Option(help="Share of ties, for win rates.")] = 0.0
    earlier: Annotated[
        list[Path] | None,
        typer.Option("--from", help="rows.jsonl of an earlier evaluation of two models, or of each: what it measured."),
    ] = None
    metric: Annotated[str | None, typer.Option(help="Of --from, as strict. By default the first.")] = None
    power: Annotated[float, typer.Option(help="Chance to show the difference, if there is one.")] = 0.8
    level: Annotated[float, typer.Option(help="Chance of a false positive, over all comparisons.")] = 0.05
    comparisons: Annotated[int, typer.Option(help="Tests in the same table, corrected by Holm.")] = 1
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False


@spread
def power(given: Options) -> None:
    """Count the prompts that show a difference between two models, or find what a number of prompts can show.

    Two models on the same prompts are tested by McNemar's exact test, means by Student's.
    """
    from twofold.evaluation.earlier import earlier
    from twofold.statistics.power import difference_of, prompts_for

    _refuse(given)
    past = earlier(given.earlier, given.metric) if given.earlier else None
    level = given.level / given.comparisons
    rows: list[tuple[float | None, int | None, float]]
    if given.prompts is not None and given.difference is None:
        found = difference_of(_design(given, past, None), given.prompts, power=given.power, level=level)
        rows = [(None if found is None else found / _unit(given), given.prompts, given.power)]
    elif given.prompts is not None and given.difference is not None:
        _possible(given, past, given.difference)
        design, difference = _design(given, past, given.difference), given.difference * _unit(given)
        rows = [(given.difference, given.prompts, design.power(given.prompts, difference, level))]
    else:
        scale = 10 * given.deviation / 100 if given.figure == "mean" else 1.0
        asked = [given.difference] if given.difference is not None else [p * scale for p in POINTS]
        rows = [
            (d, prompts_for(_design(given, past, d), d * _unit(given), power=given.power, level=level), given.power)
            for d in asked
            if _possible(given, past, d)
        ]
    _show(given, past, rows)


def _unit(given: Options) -> float:
    """One of --difference, in units of the design: a point of a win rate is two of its wins less its losses."""
    return {"accuracy": 0.01, "win-rate": 0.02, "mean": 1.0}[given.figure]


def _design(given: Options, past: Earlier | None, difference: float | None) -> Design:
    """What is compared. Without a difference, the discordance is that of two equal models."""
    from twofold.statistics.power import Means, PairedShares, UnpairedShares

    if given.figure == "mean":
        if past is not None:
            return Means(past.deviation)
        return Means(given.deviation, unpaired=True) if given.unpaired else Means.of_correlation(
            given.deviation, given.correlation
        )  # fmt: skip
    if given.figure == "win-rate":
        return PairedShares(1 - given.ties)
    if given.unpaired:
        return UnpairedShares(given.base)
    apart = given.discordance if past is None else past.discordance
    if apart is not None:
        return PairedShares(apart)
    return PairedShares.of_correlation(given.base, (difference or 0.0) / 100, given.correlation)


def _possible(given: Options, past: Earlier | None, difference: float) -> bool:
    """Whether there can be such a difference; raises RecipeError where it was asked for."""
    known = given.unpaired or (given.discordance is None and past is None)
    if given.figure == "accuracy" and known:
        largest = 1 - given.base if difference > 0 else given.base
    else:
        largest = _design(given, past, difference).largest
    if abs(difference) * _unit(given) <= largest + 1e-12:
        return True
    if given.difference is None:
        return False
    what = f"a difference of {difference:g} points is impossible: it is at most {largest / _unit(given):.3g}"
    raise RecipeError(what, where="--difference", remedy="lower it, or raise --discordance (lower --base or --ties)")


def _refuse(given: Options) -> None:
    """Raise RecipeError for a value out of its range, and for options that the figure has no use for."""
    ranges = (
        ("--discordance", given.discordance, 0.0, 1.0), ("--base", given.base, 0.0, 1.0),
        ("--ties", given.ties, 0.0, 1.0), ("--power", given.power, 0.0, 1 - SMALLEST),
        ("--level", given.level, SMALLEST, 1.0), ("--deviation", given.deviation, SMALLEST, 1 / SMALLEST),
    )  # fmt: skip
    for name, value, low, high in ranges:
        closed = (name == "--ties" and value == 0) or (name == "--discordance" and value == 1)
        if value is not None and not (low < value < high or closed):
            raise RecipeError(f"{value:g} is not between {low:g} and {high:g}", where=name, remedy="write it as 0.2")
    if not -1 < given.correlation < 1:
        raise RecipeError(f"{given.correlation:g} is no correlation", where="--correlation", remedy="as 0.5")
    if given.difference is not None and not 0 < abs(given.difference) < math.inf:
        raise RecipeError(f"{given.difference:g} is no difference", where="--difference", remedy="in points, as 2")
    if not 1 <= given.comparisons <= MOST_COMPARISONS:
        raise RecipeError(f"must be 1 … {MOST_COMPARISONS}", where="--comparisons", remedy="count the tests")
    if given.prompts is not None and not 2 <= given.prompts <= 10**9:
        raise RecipeError("must be 2 … 1,000,000,000", where="--prompts", remedy="count the prompts")
    if given.power <= given.level:
        raise RecipeError("must be above --level", where="--power", remedy="write it as 0.8")
    alone = given.figure == "win-rate" and (given.unpaired or given.discordance is not None or given.earlier)
    if alone or (given.unpaired and (given.discordance is not None or given.earlier)):
        remedy = "leave --unpaired, --discordance and --from out of it"
        raise RecipeError("has no use for these options", where=f"--figure {given.figure}", remedy=remedy)
    if given.figure == "accuracy" and given.earlier and given.discordance is not None:
        raise RecipeError("--from measures it", where="--discordance", remedy="give one of them")
    names = ("discordance", "base", "correlation", "deviation", "ties", "metric")
    plain = {field.name: field.default for field in fields(given)}
    if idle := [f"--{name}" for name in names if getattr(given, name) != plain[name] and name not in _read(given)]:
        where = f"--figure {given.figure}"
        raise RecipeError(f"makes no use of {', '.join(idle)} here", where=where, remedy="leave it out")


def _read(given: Options) -> set[str]:
    """The assumptions that the numbers of this command rest on."""
    if given.earlier:
        return {"metric"}
    if given.figure == "win-rate":
        return {"ties"}
    if given.figure == "mean":
        return {"deviation"} if given.unpaired else {"deviation", "correlation"}
    if given.unpaired:
        return {"base"}
    return {"base", "correlation"} if given.discordance is None else {"discordance"}


def _show(given: Options, past: Earlier | None, rows: list[tuple[float | None, int | None, float]]) -> None:
    level = given.level / given.comparisons
    known = [{"difference": d, "prompts": n, "power": p, "level": level} for d, n, p in rows]
    sentence = _sentence(given, rows)
    about = f"Assumed: {_assumed(given, past)}."
    if given.as_json:
        typer.echo(
            json.dumps({"figure": given.figure, "rows": known, "sentence": sentence, "assumed": about}, indent=2)
        )
        return
    unit = "" if given.figure == "mean" else ", points"
    grid = table(f"#difference{unit}", "#prompts" + (" of each model" if given.unpaired else ""), "#power", "#level")
    for d, n, p in rows:
        size = "none" if d is None else f"{d:.3g}"
        grid.add_row(size, "> 1,000,000,000" if n is None else f"{n:,}", f"{p:.1%}", f"{level:.3g}")
    out = results()
    out.print(grid)
    out.print(sentence)
    out.print(about, style="dim")


def _sentence(given: Options, rows: list[tuple[float | None, int | None, float]]) -> str:
    difference, n, chance = rows[-1 if given.difference is None and given.prompts is None else 0]
    size = "no difference at all" if difference is None else f"a difference of {difference:.3g}"
    size += "" if difference is None or given.figure == "mean" else " points"
    many = "more than 1,000,000,000" if n is None else f"{n:,}"
    each = " of each model" if given.unpaired else ""
    holm = f" as the strictest of {given.comparisons} tests under Holm" if given.comparisons > 1 else ""
    if given.prompts is None:
        return f"To show {size} with a chance of {given.power:.0%}{holm}, measure {many} prompts{each}."
    if given.difference is None:
        return (
            f"{many} prompts{each} show {size} with a chance of {given.power:.0%}{holm}; smaller ones are often missed."
        )
    return f"{many} prompts{each} show {size} with a chance of {chance:.0%}{holm}."


def _assumed(given: Options, past: Earlier | None) -> str:
    """What the numbers rest on."""
    tests = {"accuracy": "McNemar's exact test", "win-rate": "the exact test of wins and losses", "mean": "Student's t"}
    test = "a z-test of two shares" if given.unpaired and given.figure == "accuracy" else tests[given.figure]
    if past is not None:
        apart = f"discordance {past.discordance:.3g}" if past.discordance is not None and given.figure != "mean" else (
            f"standard deviation of a difference {past.deviation:.3g}"
        )  # fmt: skip
        return f"{apart}, as {past.models[0]} and {past.models[1]} on {past.n:,} items by {past.metric}; {test}"
    if given.figure == "win-rate":
        return f"{given.ties:.0%} ties; {test}"
    if given.figure == "mean":
        between = "different prompts" if given.unpaired else f"correlation {given.correlation:g} on a prompt"
        return f"standard deviation of a score {given.deviation:g}, {between}; {test}"
    if given.unpaired:
        return f"the first model at {given.base:.0%}; {test}"
    if given.discordance is not None:
        return f"discordance {given.discordance:g}; {test}"
    return f"the first model at {given.base:.0%}, correlation {given.correlation:g} on a prompt; {test}"
