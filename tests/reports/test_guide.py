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


def test_an_explanation_leads_to_numbers_styles_and_the_run() -> None:
    def lines(**how: bool) -> list[list[str]]:
        return [shlex.split(step.command) for step in guide.after_explanation("runs/a b", "p q.jsonl", **how)]

    explain = ["twofold", "explain", "runs/a b", "p q.jsonl"]
    numbers, styles = [*explain, "--json", "all.json"], [*explain, "--drift", "100", "--html", "explain.html"]
    report = ["twofold", "report", "runs/a b"]
    answers = ["twofold", "sample", "runs/a b", "--prompt", "YOUR PROMPT"]
    assert lines(is_run=True, drift=False) == [numbers, styles, report, answers]
    assert lines(is_run=False, drift=True) == [numbers, answers]
    assert [line[1] for line in lines(is_run=True, drift=True)] == ["explain", "report", "sample"]


def test_data_without_errors_are_shown_and_trained_on() -> None:
    check = ["twofold", "data", "check", "a b.jsonl", "--json"]
    found = [shlex.split(step.command) for step in guide.after_data_report("a b.jsonl", ok=True)]
    assert found == [
        check,
        ["twofold", "data", "show", "a b.jsonl", "--model", "MODEL"],
        ["twofold", "train", "RECIPE", "data.train=a b.jsonl", "--dry-run"],
    ]
    assert [shlex.split(step.command) for step in guide.after_data_report("a b.jsonl", ok=False)] == [check]


@pytest.mark.parametrize(("seed", "again"), [({}, 1), ({"seed": 7}, 8), ({"seed": "x"}, 1)])
def test_the_next_seed_is_one_more(seed: dict[str, object], again: int) -> None:
    run = replace(DONE, settings={**DONE.settings, "seed": 0} | seed)
    assert commands(run)[-2][-2:] == [f"seed={again}", f"run=runs/a b-seed-{again}"]
    if not seed:
        unnamed = {name: value for name, value in DONE.settings.items() if name != "seed"}
        assert commands(replace(DONE, settings=unnamed))[-2][-2] == "seed=1"


def test_explanations_use_held_out_pairs_where_there_are_any() -> None:
    for data, file in (({"heldout": "h.jsonl", "train": "p.jsonl"}, "h.jsonl"), ({"train": ["x"]}, "PAIRS.jsonl")):
        (line,) = [x for x in commands(replace(DONE, settings={"data": data})) if x[1] == "explain"]
        assert line[3] == file


def test_a_glossary_has_the_terms_that_are_asked_for() -> None:
    assert [term["term"] for term in guide.glossary()] == [term for term, *_ in guide.GLOSSARY]
    assert guide.glossary(["margin", "credit"]) == [
        {
            "term": "margin",
            "meaning": "The implicit reward of chosen minus that of rejected.",
            "page": "dpo-in-pictures.md",
        },
        {"term": "credit", "meaning": guide.FURTHER_TERMS[0][1], "page": "explain.md"},
    ]  # fmt: skip
    known = {term for term, *_ in (*guide.GLOSSARY, *guide.FURTHER_TERMS)}
    assert {*guide.EXPLAIN_TERMS, *guide.DATA_TERMS} <= known


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
