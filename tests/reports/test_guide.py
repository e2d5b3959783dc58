"""What a page offers next: commands that exist, terms, and links to pages of the docs that are there."""

from __future__ import annotations

import shlex
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from support.made_up_runs import Make, run_data
from twofold.cli.main import VERBS
from twofold.reports import guide
from twofold.reports.html import render
from twofold.reports.run import ModelResult, Results, RunData, read_run
from twofold.statistics import wilson

DONE = run_data(
    path=Path("runs/a b"), results=Results(models=(ModelResult("policy", {"strict": wilson(1, 2)}),), step=9),
    settings={"seed": 3, "data": {"train": "p.jsonl"}, "model": {"path": "acme/base"}},
)  # fmt: skip


def commands(*runs: RunData) -> list[list[str]]:
    return [shlex.split(step.command) for step in guide.next_steps(runs)]


def test_a_finished_run_is_explained_sampled_published_and_repeated() -> None:
    found = commands(DONE)
    assert found[0] == ["twofold", "explain", "runs/a b", "p.jsonl", "--json", "runs/a b/explain.json"]
    assert [line[1] for line in found] == ["explain", "sample", "export", "push", "train", "compare"]
    assert found[-2] == ["twofold", "train", "runs/a b/resolved.yaml", "seed=4", "run=runs/a b-seed-4"]
    assert {line[1] for line in found} <= VERBS.keys()


def test_steps_are_those_that_are_left() -> None:
    running = replace(DONE, results=Results())
    assert [line[1] for line in commands(running)] == ["watch", "train", "train", "compare"]
    assert "compare" not in [line[1] for line in commands(DONE, DONE)]
    assert "explain" not in [line[1] for line in commands(replace(DONE, extra={"explain": {"rows": []}}))]
    unmeasured = replace(DONE, results=Results(step=9))
    assert commands(unmeasured)[0] == ["twofold", "evaluate", "acme/base", "runs/a b", "--task", "TASK"]


def test_pages_that_are_named_exist(root: Path) -> None:
    steps = [*guide.next_steps([DONE]), *guide.next_steps([replace(DONE, results=Results())])]
    pages = {*(page for *_, page in guide.GLOSSARY), *(step.page for step in steps)}
    assert sorted(page for page in pages if not (root / "docs" / page).is_file()) == []
    terms = [term for term, *_ in guide.GLOSSARY]
    assert len(terms) == len(set(terms))


def test_links_lead_to_the_published_docs_or_to_a_checkout(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    assert guide.address("pdpo.md") == (root / "docs" / "pdpo.md").resolve().as_uri()

    class Metadata:
        def get_all(self, name: str) -> list[str]:
            return (
                ["Source, https://a.example", "Documentation, https://docs.example/"] if name == "Project-URL" else []
            )

    monkeypatch.setattr(metadata, "metadata", lambda name: Metadata())
    guide.docs.cache_clear()
    assert guide.address("pdpo.md") == "https://docs.example/pdpo.html"
    guide.docs.cache_clear()


def test_a_page_has_steps_and_a_glossary_with_links(make_run: Make) -> None:
    page = render([read_run(make_run("a"))], "a")
    assert page.count(f'href="{guide.address("evaluation.md")}"') > 3
    assert page.index('id="next"') < page.index('id="settings"') < page.index('id="glossary"')
    assert "--json" in page[page.index('id="next"') : page.index('id="settings"')]
