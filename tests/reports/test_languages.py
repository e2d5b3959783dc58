"""Both languages of a page have every text, with the same fields; English is what a reader sees without the script."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

from support.made_up_runs import Make
from twofold.reports import (
    charts,
    checks,
    dataset,
    displacement,
    explanation,
    frontier,
    guide,
    heat,
    html,
    samples,
    tables,
)
from twofold.reports.html import render
from twofold.reports.languages import Phrase, both, catalog, phrase
from twofold.reports.run import read_run

REPORTS = Path(html.__file__).parent
_CALL = re.compile(r'\b_\("([^"]+)"')
SPECS = (*charts.ALONG, *charts.TRAINING, *charts.FURTHER, *charts.SPEED)


def texts() -> Iterator[str]:
    """Every text of the interface: those of the templates, of calls of `phrase`, and of the tables that both name."""
    for template in (REPORTS / "templates").glob("*.jinja"):
        yield from _CALL.findall(template.read_text(encoding="utf-8"))
    for module in (*REPORTS.glob("*.py"), *(REPORTS.parent / "cli").glob("*.py")):
        if "phrase(" in (text := module.read_text(encoding="utf-8")):
            yield from _written(ast.parse(text))
    for spec in SPECS:
        yield from (spec.title, spec.note, *(curve.label for curve in spec.curves))
    yield from (*html.VERDICTS.values(), *tables.SEED_COLUMNS, *tables.WATCHED.values(), *samples.TELLS.values())
    yield from (check.name for check in checks.CHECKS)
    yield from (f"{gain[0].upper()}{gain[1:]}" for gain in frontier.GAINS.values())
    yield from (text for term, meaning, _ in (*guide.GLOSSARY, *guide.FURTHER_TERMS) for text in (term, meaning))
    yield from (*explanation.PARTS.values(), *heat.LIKELY.values(), *dataset.BIAS, *dataset.LOOKS)
    yield from (*displacement.WORDS.values(), *displacement.SIDES.values(), "error", "warning")


def _written(module: ast.Module) -> Iterator[str]:
    """Texts in calls of `phrase`, those with fields in functions that call it, and those of charts."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("phrase", "Chart"):
            yield from (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))
            axes = (k.value.value for k in node.keywords if k.arg == "axis" and isinstance(k.value, ast.Constant))
            yield from (axis for axis in axes if isinstance(axis, str))
        if isinstance(node, ast.FunctionDef) and node.name != "phrase" and "phrase(" in ast.unparse(node):
            inside = (c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str))
            yield from (text for text in inside if re.search(r"{\w+}", text))


def untranslated(template: str) -> list[str]:
    """Texts of a template that its switch of languages cannot reach: words outside of tags and expressions."""
    text = re.sub(r"<(style|script|title|code)\b[^>]*>.*?</\1>|{#.*?#}", "", template, flags=re.DOTALL)
    text = re.sub(r"{%.*?%}|{{.*?}}", "\0", text, flags=re.DOTALL)
    pieces = re.sub(r"<[^<>]*>|^\0*style=.*", "\n", text, flags=re.MULTILINE).split("\n")
    return [piece.strip("\0 ") for piece in pieces if re.search("[A-Za-z]{2}", piece)]


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_every_text_is_in_both_languages() -> None:
    wanted = {text for text in texts() if text}
    assert len(wanted) > 150
    assert sorted(wanted - catalog().keys()) == []


NEITHER = {"English", "docs/"}
"""The name of a language in itself, and a folder."""


@pytest.mark.parametrize("template", sorted((REPORTS / "templates").glob("*.html.jinja")), ids=lambda p: p.name)
def test_no_text_of_a_template_is_in_one_language(template: Path) -> None:
    assert set(untranslated(template.read_text(encoding="utf-8"))) <= NEITHER


def test_a_text_in_one_language_is_noticed() -> None:
    assert untranslated('<p class="note">Two words{% if a %} and <b>{{ b }}</b>{% endif %}.</p>') == ["Two words\0 and"]
    assert untranslated('<p class="note">{{ _("Two words") }}: {{ n }}</p>') == []


@pytest.mark.parametrize("english", catalog())
def test_a_translation_has_the_fields_of_its_text(english: str) -> None:
    zh = catalog()[english]
    assert isinstance(zh, str)
    assert zh.strip()
    assert fields(zh) == fields(english)


def test_a_phrase_is_english_and_carries_chinese() -> None:
    made = phrase("of {n} problems solved ({metric})", n="40", metric="strict")
    assert made == "of 40 problems solved (strict)"
    assert made.zh == catalog()["of {n} problems solved ({metric})"].format(n="40", metric="strict")
    inner = phrase("{n} more", n=phrase("steps"))
    assert inner.zh == catalog()["{n} more"].format(n=catalog()["steps"])
    assert (made + " x").zh == made.zh + " x"
    assert phrase(made) is made
    assert phrase("no such text").zh == "no such text"
    assert both(Phrase("<", '"')) == '<span data-zh="&#34;">&lt;</span>'
    assert (both(Phrase("a", "a")), both(3)) == ("a", 3)


def test_headings_of_a_page_are_in_both(make_run: Make) -> None:
    page = render([read_run(make_run("a", extra={"draft_kl": 0.1}))], "a")
    heads = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    assert len(heads) > 8
    assert [head for head in heads if "data-zh" not in head] == []
