"""The page of heat maps: safe whatever it is given, small, and every number where a reader can get at it."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode

import pytest

from support.explained import told
from support.hostile import HOSTILE, Elements
from support.made_up_runs import Make
from twofold.reports.explanation import explanation_page, most_of
from twofold.reports.guide import docs
from twofold.reports.heat import level, rows_of, scale_of, shown
from twofold.reports.pages import clip
from twofold.reports.run import read_run

ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "section", "article", "h1", "h2", "h3", "h4",
    "ul", "li", "p", "b", "i", "div", "span", "small", "table", "thead", "tbody", "tr", "th", "td", "script", "figure",
    "figcaption", "svg", "g", "path", "defs", "use", "text", "clippath", "rect", "button", "dl", "dt", "dd", "a",
}  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_texts_stay_texts(hostile: str) -> None:
    page = explanation_page(told(hostile, hostile), title=hostile, facts=[hostile])
    elements = Elements(page)
    assert elements.tags <= ALLOWED
    assert not [a for a in elements.attributes if a[0].startswith("on")]
    assert {value.startswith(docs()) for name, value in elements.attributes if name in ("href", "src")} == {True}
    assert " ".join(clip(hostile).split()) in elements.text.replace("&#34;", '"')
    assert page.count("<script>") == 1
    assert "1337" not in elements.text


def test_only_the_page_s_own_script_may_run() -> None:
    page = explanation_page(told("a", "b"), title="t", facts=[])
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", page)


def test_every_token_has_its_number_and_can_be_reached() -> None:
    page = explanation_page(told("a", "b", "c\n"), title="t", facts=[])
    found = re.findall(r'<span class="t ?(\w*)" tabindex="0">([^<]*)<small>([^<]*)</small>', page)
    assert found[:3] == [("p5", "a", "+0.5"), ("m3", "b", "−0.25"), ("", "c↵\n", "0")]
    assert "margin +0.125; both begin with the same 1 token; chosen fell 1.5 nats" in page


def test_colours_by_size() -> None:
    assert [level(x, 1.0) for x in (-2.0, -1.0, -0.3, -0.01, 0.0, 0.04, 0.06, 0.5, 1.0, 9.0)] == [
        -5, -5, -2, 0, 0, 0, 1, 3, 5, 5,
    ]  # fmt: skip
    assert level(1.0, 0.0) == 0
    assert level(float("nan"), 1.0) == 0
    many = told(*"x" * 100, credits=tuple(n / 100 for n in range(100)))
    assert scale_of(many["rows"]) == 0.99 if len(many["rows"][0]["completions"]) == 1 else 0.98
    assert scale_of([]) == 0.0
    assert (shown(""), shown("a\x1b\n")) == ("·", "a␛↵\n")


def test_a_page_stays_small_and_says_what_it_left_out() -> None:
    big = told(*["<&" * 10] * 800)
    big["rows"] = big["rows"] * 50
    page = explanation_page(big, title="t", facts=[])
    assert len(page.encode()) < 2_000_000
    assert "710 more tokens" in page
    assert most_of(big["rows"]) == 90
    assert {len(s.tokens) for r in rows_of(big["rows"], 1.0, 90) for s in r.completions} == {90}


def test_the_gradient_weights_of_a_run_are_drawn(make_run: Make) -> None:
    run = read_run(make_run("DPO", extra={"gradient_weight": 0.4, "gradient_weight_std": 0.1}))
    page = explanation_page(told("a"), title="t", facts=[], run=run)
    assert "Gradient weights over training" in page
    assert page.count("<svg") == 2
    assert "<svg" not in explanation_page(told("a"), title="t", facts=[])
