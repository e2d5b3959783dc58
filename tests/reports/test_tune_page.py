"""The page of `twofold tune`: its sentence, the notes on trials, and that texts are escaped."""

from __future__ import annotations

from typing import Any

import pytest

from twofold.reports.tune import LINES, lead, note_of, rung_chart, tune_page
from twofold.statistics import wilson


def rung(count: int, step: int, **about: Any) -> dict[str, Any]:
    return {"step": step, "on": False, **wilson(count, 100).as_dict(), "tied": False, **about}


def method(name: str, confirmed: int) -> dict[str, Any]:
    first = {"number": 0, "values": {}, "words": "beta 0.1", "rungs": [rung(60, 5, on=True), rung(90, 10, on=True)]}
    second = {"number": 1, "values": {}, "words": "beta <b>", "rungs": [rung(60, 5, p=0.2, within_noise=True)]}
    broken = {"number": 2, "values": {}, "words": "beta 9", "rungs": [{"step": 5, "on": False, "value": None}]}
    return {
        "name": name, "recipe": "a.yaml", "grid": 3, "size": 3, "steps": 10, "winner": 0,
        "spent": {"steps": 20, "tokens": 2000, "seconds": 1.0}, "dropped": 2, "dropped_within_noise": 1,
        "trials": [first, second, broken], "development": first["rungs"][-1],
        "confirmed": wilson(confirmed, 200).as_dict(),
    }  # fmt: skip


def figures(within: list[str], worse: list[str]) -> dict[str, Any]:
    test = {"a": "DPO", "b": "<script>", "difference": {**wilson(5, 10).as_dict(), "value": -0.05}}
    return {
        "command": "twofold tune x.yaml", "eta": 2, "seeds": [0],
        "methods": [method("DPO", 180), method("<script>", 170)],
        "figure": {"task": "answers", "metric": "strict"}, "budget": {"unit": "steps", "each": 20},
        "development": {"file": "d.jsonl", "n": 100}, "confirm": {"file": "c.jsonl", "n": 200},
        "comparisons": [{**test, "p_value": 0.01, "p_holm": 0.03, "test": "McNemar exact"}],
        "verdict": {"best": "DPO", "within_noise": within, "worse": worse},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("within", "worse", "end"),
    [
        (["IPO"], ["KTO"], "Within noise: IPO. Worse: KTO."),
        (["IPO", "KTO"], [], "It is within noise of IPO, KTO."),
        ([], ["IPO"], "It is better than IPO, beyond noise."),
    ],
)
def test_the_lead_names_what_is_within_noise(within: list[str], worse: list[str], end: str) -> None:
    sentence = lead(figures(within, worse))
    assert sentence == f"DPO has the best confirmed figure, 90.0% (85.1 – 93.4%). {end}"
    assert sentence.zh.startswith("DPO 的确认结果最好：90.0%（85.1 – 93.4%）")


def test_methods_of_one_figure_share_the_lead() -> None:
    some = figures(["<script>", "IPO"], ["KTO"])
    some["methods"][1] = method("<script>", 180)
    assert lead(some) == (
        "The best confirmed figure, 90.0% (85.1 – 93.4%), is shared by DPO, <script>. Within noise: IPO. Worse: KTO."
    )
    assert lead(some).zh.endswith("在噪声之内：IPO。较差：KTO。")


def test_a_trial_has_a_note_on_its_test_and_on_a_tie() -> None:
    assert note_of(rung(1, 5)) == "best"
    assert note_of(rung(1, 5, p=0.2, within_noise=True)) == "within noise of the best, p = 0.200"
    assert note_of(rung(1, 5, p=0.01, within_noise=False)) == "worse than the best, p = 0.010"
    tied = note_of(rung(1, 5, p=1.0, within_noise=True, tied=True))
    assert (
        tied == "within noise of the best, p = 1.000; tied with a trial that continued: the order of the grid decided"
    )
    assert note_of({"value": None}) == "numbers were not finite"


def test_the_page_has_every_trial_and_escapes_names() -> None:
    page = tune_page(figures([], ["<script>"]), "mine")
    assert page.count("&lt;script&gt;") >= 4
    assert page.count("<script>") == 1
    assert "beta &lt;b&gt;" in page
    assert page.count("numbers were not finite") == 2
    assert page.count("<figure data-figure=") == 2


def test_a_chart_of_many_trials_has_the_winner_on_top() -> None:
    one = method("DPO", 180)
    others = [{**one["trials"][1], "number": number, "words": f"beta {number}"} for number in range(1, LINES + 5)]
    chart = rung_chart({**one, "trials": [*others, one["trials"][0]]}, 0)
    assert chart is not None
    assert chart.svg.rindex("var(--run-0)") > chart.svg.rindex("var(--run-5)")
