"""What all templates share: escaping, undefined names, white space, filters; and pages on one subject."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from twofold.data.preview import Line, RowView, Span
from twofold.reports import pages
from twofold.reports.charts import Chart
from twofold.reports.guide import Step, address
from twofold.reports.languages import Phrase
from twofold.reports.pages import clip, environment, page_of, script_of, write_page, write_rows
from twofold.statistics import Estimate, wilson

HALF = wilson(5, 10)


def written(text: str, *, escape: bool = True, **values: Any) -> str:
    return environment(escape=escape).from_string(text).render(**values)


def test_html_is_escaped_and_markdown_is_not() -> None:
    assert written("{{ a }}", a="<b> & 'c'") == "&lt;b&gt; &amp; &#39;c&#39;"
    assert written("{{ a }}", escape=False, a="<b> & 'c'") == "<b> & 'c'"
    assert environment() is environment()
    assert (environment().autoescape, environment(escape=False).autoescape) == (True, False)


@pytest.mark.parametrize("escape", [True, False])
def test_a_name_that_is_not_there_is_an_error(escape: bool) -> None:
    with pytest.raises(UndefinedError):
        written("{{ nothing }}", escape=escape)


@pytest.mark.parametrize("escape", [True, False])
def test_lines_of_statements_leave_no_white_space(escape: bool) -> None:
    assert written("a\n  {% if x %}\nb\n  {% endif %}\nc", escape=escape, x=1) == "a\nb\nc"


def test_a_phrase_is_written_in_both_languages_in_html_alone() -> None:
    words = Phrase("one <", "一 <")
    assert written("{{ a }}", a=words) == '<span data-zh="一 &lt;">one &lt;</span>'
    assert written("{{ a }}", escape=False, a=words) == "one <"
    assert written('{{ _("KL") }}') == '<span data-zh="KL 散度">KL</span>'
    assert written('{{ _("no such text") }}') == "no such text"


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("{{ v | clip(2) }}", "abc", "ab … (1 more characters)"), ("{{ v | interval }}", HALF, "23.7 – 76.3%"),
        ("{{ v | interval(signed=true) }}", Estimate(0.0, -0.1, 0.1, 9, None, ""), "−10.0 … +10.0"),
        ("{{ v | number }}", 1234.5, "1,234"), ("{{ v | p }}", 0.0004, "&lt; 0.001"),
        ("{{ v | points }}", 0.5, "+50.0"),
        ("{{ v | p_is }}", 0.25, "p = 0.250"), ("{{ v | percent }}", 0.125, "12.5%"), ("{{ v | signed }}", 2.5, "+2.5"),
        ("{{ v | address }}", "pdpo.md", address("pdpo.md")), ("{{ (v | turns)[0].role }}", "user: a", "user"),
        ("{{ is_share('strict', v) }}", HALF, "True"),
        ("{{ is_share('x', v) }}", Estimate(0, 0, 0, 1, None, ""), "False"),
        ("{{ v | drawing }}", Chart("t", "n", "<svg>", (), ()), "<svg>"),
    ],
)  # fmt: skip
def test_filters_by_value(text: str, value: Any, expected: str) -> None:
    assert written(text, v=value) == expected


def test_scripts_are_one_text_with_its_hash() -> None:
    folder = files("twofold.reports").joinpath("templates")
    parts = [folder.joinpath(name).read_text(encoding="utf-8").strip() for name in ("heat.js", "tables.js")]
    script, digest = script_of("heat.js", "tables.js")
    assert (type(script), str(script)) == (Markup, f"{parts[0]}\n{parts[1]}")
    assert digest == b64encode(hashlib.sha256(str(script).encode()).digest()).decode()


def test_a_text_is_cut_in_both_languages_and_control_characters_go() -> None:
    words = clip(Phrase("abcd", "一二三"), 2)
    assert (words, words.zh) == ("ab … (2 more characters)", "一二 … (1 more characters)")  # type: ignore[attr-defined]  # a phrase
    assert clip("x" * 1200) == "x" * 1200
    assert clip("x" * 2401) == "x" * 1200 + " … (1,201 more characters)"
    assert clip("a\x00\x1b\x7f\ud800\r\n\tb\u202e") == "a\n\tb\u202e"
    assert clip("\x00" * 3 + "b", 3) == " … (1 more characters)"


SPANS = (Span("shared", "Yes", 1), Span("supervised", " <b>", 2), Span("stop", "</s>", 1))
ROWS = [
    RowView("f:1", Span("prompt", "Hi?", 3), (Line("chosen", SPANS), Line("rejected", SPANS[:2])), {"weight": 2.0}),
    RowView("f:2", Span("prompt", "Ho?", 4), ()),
]


def test_rows_of_a_data_set_are_one_page(tmp_path: Path) -> None:
    file = tmp_path / "new" / "rows.html"
    write_rows(file, "data <x>", ["2 rows", "a fact"], ROWS)
    page = file.read_text(encoding="utf-8")
    for part in (
        "<title>data &lt;x&gt;</title>", "<h1>data &lt;x&gt;</h1>", "<li>2 rows</li>", "<li>a fact</li>",
        "<h2>f:1</h2>", "<h2>f:2</h2>", "weight 2", '<dd class="prompt">Hi?</dd>',
        '<span class="supervised" title="2 tokens"> &lt;b&gt;',
        '<span class="stop" title="1 tokens">&lt;/s&gt;</span>', "<b>chosen</b>",
    ):  # fmt: skip
        assert part in page, part
    assert page.count(", no stop token") == 1
    assert '<section id="next">' not in page
    assert '<section id="glossary">' not in page


def test_a_page_has_steps_terms_and_clocks_where_they_are_handed_to_it() -> None:
    bare = page_of("rows.html.jinja", title="t", facts=[], rows=[])
    assert '<main data-clocks="[]">' in bare
    steps = [Step("twofold x", "do it", "pdpo.md")]
    terms = [{"term": "a term", "meaning": "its meaning", "page": "pdpo.md"}]
    full = page_of("rows.html.jinja", title="t", facts=["f"], rows=[], steps=steps, glossary=terms, clocks="[{}]")
    for part in ('<main data-clocks="[{}]">', "twofold x", "do it", "a term", "its meaning", "<li>f</li>"):
        assert part in full, part
        assert part not in bare
    scripts = script_of("tables.js", "report.js", "figures.js", "heat.js")
    assert f"'sha256-{scripts[1]}'" in bare
    assert f"<script>{scripts[0]}</script>" in bare


def test_a_page_is_written_into_a_new_folder_and_over_an_old_one(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "page.html"
    assert write_page(file, "é") == file
    assert write_page(file, "two") == file
    assert file.read_text(encoding="utf-8") == "two"
    assert pages.TEXT == 1200
