"""Pages whose runs vanish, whose files cannot be opened, or which have nothing to lead with."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from support.made_up_runs import Make, run_data
from twofold.reports import board, findings, guide, heat, tune
from twofold.reports.board import Board
from twofold.reports.board_server import BoardServer
from twofold.reports.live import BeforeAndNow
from twofold.reports.run import ModelResult, Results, read_run
from twofold.statistics import Estimate


@pytest.mark.parametrize("name", ["resolved.yaml", "environment.json", "metrics.jsonl"])
def test_a_file_that_cannot_be_opened_is_named(name: str, make_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, read, opened = make_run("a"), Path.read_text, Path.open

    def refuse(path: Path) -> None:
        if path.name == name:
            raise OSError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", lambda path, **how: refuse(path) or read(path, **how))
    monkeypatch.setattr(Path, "open", lambda path, *how, **more: refuse(path) or opened(path, *how, **more))
    run = read_run(folder)
    assert run.faults == (f"{name} cannot be read: Permission denied",)
    assert (run.series("loss")[0] != []) == (name != "metrics.jsonl")


def test_a_run_that_vanishes_is_a_page_that_says_so(make_run: Make, tmp_path: Path) -> None:
    shown = Board(tmp_path, every=7.0)
    page = shown._drawn(["gone"])
    assert str(tmp_path / "gone") in page
    assert shown.page(["gone"]) is None
    assert board._written(tmp_path / "gone") == 0.0
    folder = make_run("a")
    assert board._written(folder) == max(
        (folder / file).stat().st_mtime for file in board.READ if (folder / file).exists()
    )


@pytest.mark.parametrize("error", [OSError(), ValueError(), TypeError(), KeyError("x"), AttributeError()])
def test_a_run_of_odd_content_is_one_that_cannot_be_read(error: Exception) -> None:
    def look() -> None:
        raise error

    assert board._look(cast(Any, SimpleNamespace(look=look))) is None
    row = board._row("a", None)
    assert (row["state"], row["kind"], row["steps"], row["warnings"]) == ("cannot be read", "unread", "–", 0)


@contextmanager
def answering(page: Any) -> Iterator[int]:
    with BoardServer(cast(Any, SimpleNamespace(page=page, runs=lambda: ["a"], every=1.0))) as server:
        yield server.port


def test_a_board_stays_up_whatever_a_run_holds() -> None:
    def fail(names: list[str]) -> None:
        raise RecursionError("deep")

    with answering(fail) as port:
        for _ in range(2):
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
                connection.request("GET", "/")
                answer = connection.getresponse()
                assert answer.status == 500
                assert "this page cannot be drawn now: RecursionError" in answer.read().decode()


def test_a_package_that_is_not_installed_has_the_docs_of_its_checkout(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", absent)
    guide.docs.cache_clear()
    assert guide.docs() == (root / "docs").resolve().as_uri()
    guide.docs.cache_clear()


def test_the_first_prompt_is_followed() -> None:
    samples = BeforeAndNow()
    line = {"kind": "k", "name": "n", "prompt": "p", "completion": "a", "step": 0}
    samples.add({**line, "completion": None})
    assert samples.first == {}
    samples.add(line)
    assert samples.beside() is None
    for other in ({"kind": "x"}, {"name": "x"}, {"prompt": "x"}, {"completion": 3}):
        samples.add({**line, "step": 5, **other})
    assert samples.beside() is None
    samples.add({**line, "completion": "b", "step": 7, "more": 1})
    samples.add({**line, "completion": "c", "step": None})
    told = samples.beside()
    assert told is not None
    assert (told.prompt, told.before, told.now, told.step) == ("p", "a", "c", 0)


@pytest.mark.parametrize(
    ("row", "facts"),
    [
        ({"numbers": {"weight": 2, "x": "y"}}, "in the row: "),
        ({"numbers": {"weight": 2}, "margin": 0.5}, "margin +0.5; in the row: "),
        ({"numbers": {"x": "y"}, "margin": 0.5}, "margin +0.5"),
    ],
)
def test_numbers_of_a_row_are_facts_of_it(row: dict[str, Any], facts: str) -> None:
    told = heat._facts(row)
    assert told.startswith(facts)
    assert ("2" in told) == ("weight" in str(row))
    assert told == facts or facts.endswith(": ")


def test_what_is_no_share_leads_no_page() -> None:
    kl = ModelResult("policy", {"kl": Estimate(1.5, 1.0, 2.0, 10, None, "t")})
    run = run_data(results=Results(models=(ModelResult("base", {}), kl), step=9))
    assert findings.lead([run]) == ""
    assert findings.lead([replace(run, results=Results())]) == ""


def test_methods_without_finite_numbers_have_no_best() -> None:
    figures = {"verdict": {"best": None, "within_noise": [], "worse": []}, "methods": [{"name": "a"}]}
    assert tune.lead(figures) == "Every trial is out."
    method = {"trials": [{"number": 0, "words": "a", "rungs": []}], "winner": 0}
    assert tune.rung_chart(method, 0) is None
