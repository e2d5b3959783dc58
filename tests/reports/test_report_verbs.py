"""`twofold report`, `compare` and `watch` as a person meets them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.made_up_runs import Make, train_lines
from twofold.cli.main import main
from twofold.cli.watch import plain_lines
from twofold.reports.live import Live

Verb = Callable[..., tuple[int, str, str]]


@pytest.fixture
def verb(capfd: pytest.CaptureFixture[str]) -> Verb:
    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(a) for a in arguments])
        return int(end.value.code or 0), *capfd.readouterr()

    return run


def test_compare_writes_one_page_and_says_what_its_top_says(make_run: Make, tmp_path: Path, verb: Verb) -> None:
    runs = [make_run("DPO", solved=(10, 20)), make_run("PDPO", extra={"gap": 0.1})]
    code, out, _ = verb("compare", *runs, "--out", tmp_path / "new" / "compare.html")
    assert code == 0
    assert (
        "PDPO but not DPO solves 10 problems, DPO but not PDPO 0 (McNemar p = 0.002, 0.006 by Holm over 3 tests)" in out
    )
    assert "worry: DPO: 40 problems place an accuracy only within" in out
    text = (tmp_path / "new" / "compare.html").read_text()
    assert "<title>DPO and PDPO</title>" in text
    assert "what differs" in text
    verb("compare", *runs, "--out", tmp_path / "named.html", "--title", "A <b>name</b>")
    assert "<title>A &lt;b&gt;name&lt;/b&gt;</title>" in (tmp_path / "named.html").read_text()


def test_report_writes_the_page_again_and_the_card_if_asked(make_run: Make, verb: Verb) -> None:
    run = make_run("mine")
    assert verb("report", run)[0] == 0
    assert (run / "report.html").is_file()
    assert not (run / "README.md").exists()
    assert str(run / "README.md") in verb("report", run, "--card", "--out", run / "other.html")[1]
    assert "# mine" in (run / "README.md").read_text()
    assert (run / "other.html").read_text() == (run / "report.html").read_text()


@pytest.mark.parametrize("verbs", [["report"], ["compare"], ["watch", "--once"]])
def test_a_folder_that_is_no_run_is_a_mistake_in_words(tmp_path: Path, verb: Verb, verbs: list[str]) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        code, _, err = verb(verbs[0], folder, *verbs[1:])
        assert code == 2
        assert err.startswith(f"error: {folder}: no ")
        assert "Traceback" not in err


def test_a_run_named_twice_is_a_mistake(make_run: Make, verb: Verb) -> None:
    run = make_run("mine")
    code, _, err = verb("compare", run, f"{run}/.")
    assert (code, "named twice" in err) == (2, True)


def test_watch_once_tells_state_curves_and_warnings(make_run: Make, verb: Verb) -> None:
    run = make_run("mine")
    warned = {"step": 10, "text": "step 10: chosen fell 3.0 nats against the reference"}
    (run / "warnings.jsonl").write_text(json.dumps(warned) + "\n")
    (run / "environment.json").write_text(json.dumps({"steps": 40}))
    code, out, _ = verb("watch", run, "--once")
    assert code == 0
    first, *rest = out.splitlines()
    assert first == "mine: finished, step 40/40, 0.5 s a step"
    assert any(row.startswith("margin") and "▁" in row and row.split()[-2:] == ["0.1", "4"] for row in rest)
    assert any(row.startswith("warning: step 10: chosen fell 3.0 nats") for row in rest)


def test_watch_follows_a_run_that_is_being_written(tmp_path: Path) -> None:
    run = tmp_path / "mine"
    run.mkdir()
    rows = train_lines(5, {})

    def write() -> None:
        for row in rows:
            with (run / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            time.sleep(0.05)
        (run / "results.json").write_text("{}")

    writer = threading.Thread(target=write)
    writer.start()
    said = list(plain_lines(Live(run), 0.02))
    writer.join()
    assert said[0].startswith(("mine: no step yet", "mine: running, step"))
    assert said[-1].startswith("mine: finished, step 5  loss 0.138")
