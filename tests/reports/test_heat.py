"""Tokens are coloured by their share of the strongest credit; what is broken in explain.json is left out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.made_up_runs import Make
from twofold.reports.heat import explained
from twofold.reports.html import render
from twofold.reports.run import read_run


def told(*credits: float) -> dict[str, Any]:
    tokens = [{"text": f"t{i}", "credit": c} for i, c in enumerate(credits)]
    said = {"label": "chosen", "reward": sum(credits), "length": 400, "tokens": tokens}
    return {"n": 9, "rows": [{"name": "row", "prompt": "p", "completions": [said]}]}


def test_shades_and_sums(make_run: Make) -> None:
    run = make_run("a")
    (run / "explain.json").write_text(json.dumps(told(1.0, -2.0, 0.0, 0.41)))
    found = explained(read_run(run), "a")
    assert found is not None
    [said] = found.rows[0].completions
    assert [t.look for t in said.tokens] == ["p3", "m5", "", "p1"]
    assert (found.n, found.scale, said.reward, said.hidden) == (9, 2.0, pytest.approx(-0.59), 396)
    page = render([read_run(run)], "title")
    assert '<span class="t m5" tabindex="0">t1<small>−2</small></span>' in page
    assert "Token by token" in page


NUMBERLESS = {"completions": [{"tokens": [{"text": "a", "credit": "x"}]}]}


@pytest.mark.parametrize(
    "broken",
    [{}, {"rows": 3}, {"rows": [3]}, {"rows": [{"completions": [{"tokens": [1]}]}]}, {"rows": [NUMBERLESS]}],
)
def test_what_is_broken_is_left_out(make_run: Make, broken: dict[str, Any]) -> None:
    run = make_run("a")
    (run / "explain.json").write_text(json.dumps(broken))
    assert explained(read_run(run), "a") is None
    assert "Token by token" not in render([read_run(run)], "title")
