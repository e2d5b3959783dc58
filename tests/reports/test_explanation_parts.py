"""What a page of `twofold explain` takes from its arguments: the run, the steps, the clocks, and likely causes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from support.explained import estimate, told
from support.made_up_runs import run_data
from twofold.reports import explanation
from twofold.reports.explanation import PARTS, explanation_page, weights_of, write_explanation
from twofold.reports.guide import EXPLAIN_TERMS, Step

RUN = run_data(
    train={"gradient_weight": [0.5, 0.25], "gradient_weight_std": [0.1, 0.2], "loss": [1.0, 0.5]},
    timings={"seconds": [2.0, 3.0], "tokens": [10.0, 30.0]},
)  # fmt: skip
STEPS = [Step("twofold something", "a purpose", "explain.md")]


def test_all_arguments_are_on_the_page(tmp_path: Path) -> None:
    file = tmp_path / "new" / "explain.html"
    assert write_explanation(told("a"), file, title="My <title>", facts=["one fact"], run=RUN, steps=STEPS) == file
    page = file.read_text(encoding="utf-8")
    bare = explanation_page(told("a"), title="other", facts=[])
    for part in (
        "<title>My &lt;title&gt;</title>", "<li>one fact</li>", "twofold something", "a purpose",
        "Gradient weights over training",
    ):  # fmt: skip
        assert part in page, part
        assert part not in bare, part
    assert page.count("<svg") == 2


def test_the_clock_is_that_of_the_run_as_short_json() -> None:
    def clocks(**how: Any) -> str:
        page = explanation_page(told("a"), title="t", facts=[], **how)
        return re.findall(r'<main data-clocks="([^"]*)">', page)[0].replace("&#34;", '"')

    assert clocks() == "[]"
    assert clocks(run=RUN) == '[{"steps":[0.0,1.0,2.0],"seconds":[0,2,5],"tokens":[0,10,40]}]'
    assert clocks(run=run_data(train={"gradient_weight": [0.5]})) == "[{}]"


@pytest.mark.parametrize(
    ("timings", "axis"), [({"seconds": [2.0]}, False), ({"seconds": [2.0], "tokens": [3.0]}, True)]
)
def test_tokens_are_an_axis_where_the_run_counts_them(timings: dict[str, list[float]], axis: bool) -> None:
    run = run_data(train={"gradient_weight": [0.5, 0.25]}, timings=timings)
    page = explanation_page(told("a"), title="t", facts=[], run=run).split("<script>")[0]
    assert ('value="tokens"' in page) == axis


def test_the_weights_are_two_figures_with_the_name_of_the_run() -> None:
    charts = weights_of(RUN)
    assert [(chart.title, chart.keys) for chart in charts] == [
        ("Gradient weight", ("gradient_weight",)), ("Spread of gradient weights", ("gradient_weight_std",)),
    ]  # fmt: skip
    (line,) = json.loads(charts[0].data)["lines"]
    assert (line["look"], line["y"], line["run"]) == ("run-0", [0.5, 0.25], 0)
    assert weights_of(run_data(train={"loss": [1.0]})) == []


def test_terms_causes_and_parts_are_those_of_explanations() -> None:
    rows = told("a")
    rows["displacement"]["likely"] = {"shared": 3, "opening": 1}
    rows["partings"]["parts"] = {name: {"credit": estimate(0.25), "tokens": 0.125} for name in PARTS}
    page = re.sub(r'<span data-zh="[^"]*">([^<]*)</span>', r"\1", explanation_page(rows, title="t", facts=[]))
    assert re.findall(r"<dt>([^<]*)</dt>", page)[: len(EXPLAIN_TERMS)] == [*EXPLAIN_TERMS]
    for words in ("on tokens that are also in rejected", "on the opening", *PARTS.values()):
        assert words in page, words
    assert "many tokens that lost little each" not in page


@pytest.mark.parametrize(("completions", "most"), [(1, 9000), (2, 4500), (224, 40), (226, 40), (200, 45), (0, 9000)])
def test_nine_thousand_tokens_are_shared_by_all_completions(completions: int, most: int) -> None:
    assert explanation.most_of([{"completions": [0] * completions}]) == most
