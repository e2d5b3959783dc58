"""How reliable judges are, in the terminal: their table, and the lines next to figures that a judge made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from twofold.cli.terminal import results, table
from twofold.client.cost import spend_text

Figures = Mapping[str, Any]


def show(figures: Figures) -> None:
    """The tables of judges on labeled pairs."""
    from twofold.reports.tables import p_value

    out = results()
    rows = table("judge", "#n", "#right", "95% interval", "#ties", "#κ", "95% interval", "#flips", "#Brier", "#ECE")
    for judge in figures["judges"]:
        kappa, calibration = judge["kappa"], judge.get("calibration")
        flips = f"{judge['orders']['flips']['value']:.1%}" if "orders" in judge else ""
        calibrated = (
            ("", "") if calibration is None else (_two(calibration["brier"]["value"]), _two(calibration["ece"]))
        )
        cells = (str(judge["accuracy"]["n"]), *_share(judge["accuracy"]), str(judge["ties"]))
        rows.add_row(judge["name"], *cells, _two(kappa["value"]), _interval(kappa), flips, *calibrated)
    out.print(rows)
    rows = table("judge", "#right if longer", "95% interval", "#if shorter", "95% interval", "#length", "95% interval",
                 "#own answers", "#by people")  # fmt: skip
    for judge in figures["judges"]:
        lengths, own = judge["lengths"], judge.get("self_preference")
        cells = (*_share(lengths["longer_right"]), *_share(lengths["shorter_right"]))
        slope = f"{lengths['slope_low']:+.2f} … {lengths['slope_high']:+.2f}"
        mine = ("", "") if own is None else (f"{own['judge']['value']:.1%}", f"{own['people']['value']:.1%}")
        rows.add_row(judge["name"], *cells, f"{lengths['slope']:+.2f}", slope, *mine)
    out.print(rows)
    if figures["comparisons"]:
        several = "p_holm" in figures["comparisons"][0]
        rows = table("a", "b", "#b − a", "95% interval", "#p", *(["#Holm"] * several))
        for test in figures["comparisons"]:
            d = test["difference"]
            holm = [p_value(test["p_holm"])] if several else []
            cells = (f"{d['value']:+.1%}", f"{d['low']:+.1%} … {d['high']:+.1%}", p_value(test["p_value"]))
            rows.add_row(test["a"], test["b"], *cells, *holm)
        out.print(rows)
    beside(figures)
    out.print(
        "right: the answer that people chose, ties are not; flips: the verdict changes with the order", style="dim"
    )
    out.print(
        "length: its weight in the log-odds of a verdict, 0 is no bias; own answers: their share of wins", style="dim"
    )


def beside(figures: Figures) -> None:
    """The accuracy of the judge, and the agreement of a panel, for figures that they made."""
    out = results()
    if (check := figures.get("judge_check")) is not None:
        value, interval = _share(check["accuracy"])
        out.print(f"judge: right on {value} [{interval}] of {check['accuracy']['n']} labeled pairs{_bias(check)}")
    elif figures.keys() & {"judge", "reward"} and not figures.keys() & {"judges", "people"} and _is_open(figures):
        out.print("judge: its own accuracy is not measured (--judge-pairs FILE)", style="dim")
    for reward in figures.get("rewards", ()):
        of_reward(reward["name"], reward.get("accuracy"))
    for panel in (figures.get("panel"), (check or {}).get("panel")):
        if panel is not None:
            kappa, alpha = panel["fleiss_kappa"], panel["krippendorff_alpha"]
            told = f"panel of {len(panel['judges'])}: Fleiss' κ {_two(kappa['value'])} [{_interval(kappa)}]"
            where = " on the labeled pairs" if panel is not figures.get("panel") else ""
            out.print(f"{told}, Krippendorff's α {_two(alpha['value'])} [{_interval(alpha)}]{where}", soft_wrap=True)
    _spend(figures)


def _is_open(figures: Figures) -> bool:
    """Whether the judge's accuracy is a question that the task can measure on labeled pairs."""
    return figures.get("benchmark") not in ("arena-hard", "mt-bench") and is_fallible(figures)


def of_reward(name: str, accuracy: Figures | None) -> None:
    """The accuracy of a judge that chose answers."""
    if accuracy is None:
        results().print(f"{name}: its own accuracy is not measured (--judge-pairs FILE)", style="dim", soft_wrap=True)
        return
    value, interval = _share(accuracy)
    results().print(f"{name}: right on {value} [{interval}] of {accuracy['n']} labeled pairs", soft_wrap=True)


def is_fallible(figures: Figures) -> bool:
    """Whether the judge is neither a person nor a program that checks the reference answer."""
    return (figures.get("judge") or figures["reward"])["kind"] not in ("human", "verifier", "code")


def _spend(figures: Figures) -> None:
    for spend in figures.get("spend", ()):
        results().print(spend_text(spend), soft_wrap=True, style="dim")


def _bias(check: Figures) -> str:
    flips = f", {check['orders']['flips']['value']:.1%} flip with the order" if "orders" in check else ""
    longer, shorter = check["lengths"]["longer_right"], check["lengths"]["shorter_right"]
    both = f"; {longer['value']:.1%} where the longer is right, {shorter['value']:.1%} where it is not"
    return flips + (both if longer["n"] and shorter["n"] else "")


def _two(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "–"


def _interval(figure: Figures) -> str:
    return f"{figure['low']:.2f}, {figure['high']:.2f}"


def _share(figure: Figures) -> tuple[str, str]:
    """The value and its interval."""
    from twofold.reports.tables import interval, percent
    from twofold.statistics import Estimate

    return percent(figure["value"]), interval(Estimate.from_dict(figure))
