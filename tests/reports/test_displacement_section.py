"""The section on why chosen fell: what results.json holds of it, and nothing where it holds nothing or rubbish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.made_up_runs import Make
from twofold.analysis.displacement import split
from twofold.batch import Branch, Group, Role
from twofold.reports.card import render_card
from twofold.reports.displacement import fall_of
from twofold.reports.html import render
from twofold.reports.run import read_run


def fallen() -> dict[str, Any]:
    """Twenty pairs that share all but their first token, whose shared tokens fell; the text of a token is markup."""
    noise = np.random.default_rng(0)
    groups, changes = [], []
    for i in range(20):
        body = [int(t) for t in noise.integers(10, 50, size=8)]
        sides = ([1, *body], Role.CHOSEN), ([2, *body], Role.REJECTED)
        branches = tuple(Branch(torch.tensor(t), role) for t, role in sides)
        groups.append(Group(f"row {i}", torch.tensor([0]), branches))
        changes.append((np.array([0.5, *-noise.random(8)]), -2 * noise.random(9)))
    return split(groups, changes, text=lambda tokens: "<b>").as_dict()


@pytest.fixture
def run(make_run: Make) -> Path:
    folder = make_run("fell")
    found = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**found, "displacement": fallen()}))
    return folder


def test_the_page_and_the_card_say_why(run: Path) -> None:
    read = read_run(run)
    page, card = render([read], "title"), render_card(read)
    assert "Why chosen fell" in page
    assert "100% (100% to 100%) of what it lost is on tokens that are also in rejected" in page
    assert "token of the completion" in page
    assert "why chosen fell: chosen fell" in card
    assert "hold chosen up with objective.nll=1" in page


def test_rows_name_the_cause_and_the_chart_has_both_sides(run: Path) -> None:
    fall = fall_of(read_run(run), "fell")
    assert fall is not None
    assert [row.words for row in fall.causes if row.named] == ["also in rejected"]
    assert [row.nats.value for row in fall.causes] == [0, 1, 0, 0]
    (chart,) = fall.charts
    assert [look for _, look in chart.legend] == ["chosen", "rejected"]
    assert fall.sides[0][1].value < 0


def test_nothing_is_said_of_a_run_that_did_not_fall(make_run: Make) -> None:
    read = read_run(make_run("fine"))
    assert fall_of(read, "fine") is None
    assert "Why chosen fell" not in render([read], "title")


@pytest.mark.parametrize(
    "broken",
    [
        {"verdict": "<script>x</script>"},
        {"verdict": "v", "causes": 3, "positions": [1], "patterns": [{"text": 1}], "chosen": "x"},
        {"verdict": "v", "causes": {"shared": {"nats": {}, "tokens": "many"}}, "positions": {"chosen": [{"value": 1}]}},
        [1, 2],
    ],
)
def test_what_is_broken_is_left_out(make_run: Make, broken: Any) -> None:
    folder = make_run("broken")
    (folder / "results.json").write_text(json.dumps({"displacement": broken, "models": []}))
    page = render([read_run(folder)], "title")
    assert page.count("<script>") == 1  # the page's own
    fall = fall_of(read_run(folder), "broken")
    assert fall is None or (fall.causes, fall.sides, fall.patterns, fall.charts) == ([], [], [], [])
