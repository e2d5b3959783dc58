"""Progress as a person reads it, with a terminal and without."""

from __future__ import annotations

import io

import pytest

from twofold.cli.progress import RichProgress, shown_metrics
from twofold.cli.terminal import Terminal


def written(*, terminal: bool) -> str:
    console = Terminal(
        file=io.StringIO(), force_terminal=terminal, width=120, color_system="standard" if terminal else None
    )
    with RichProgress(console) as progress:
        progress.begin("train", 4)
        progress.warn("first loss is [not] ln 2")
        for step in range(4):
            progress.advance("train", learning_rate=1e-5, accuracy=0.25 * step, loss=0.5, drafts_per_second=3.0)
        progress.end("train")
        progress.note("saved")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_without_a_terminal_it_is_a_line_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twofold.cli.progress.PLAIN_EVERY_SECONDS", 0.0)
    lines = written(terminal=False).splitlines()
    shares = ("0", "0.25", "0.5", "0.75")
    assert [line.partition("  learning rate")[0] for line in lines] == [
        "warning: first loss is [not] ln 2",
        *(f"train {i}/4  loss 0.5  accuracy {share}  drafts/s 3" for i, share in enumerate(shares, 1)),
        "saved",
    ]


def test_without_a_terminal_short_work_is_no_line() -> None:
    assert written(terminal=False).splitlines() == ["warning: first loss is [not] ln 2", "saved"]


def test_on_a_terminal_it_is_a_bar_and_warnings_are_yellow() -> None:
    text = written(terminal=True)
    assert "\x1b[33mwarning: first loss is [not] ln 2" in text
    assert "saved" in text


def test_the_figures_that_matter_come_first_and_few() -> None:
    figures = {"grad_norm": 1.0, "chosen_reward": 2.0, "a": 1.0, "b": 2.0, "margin": 0.12345, "loss": 0.6931}
    assert shown_metrics(figures) == "loss 0.6931  margin 0.1235  grad norm 1  chosen reward 2  a 1"


def test_tasks_that_nobody_began_are_ignored() -> None:
    console = Terminal(file=io.StringIO())
    progress = RichProgress(console)
    progress.advance("nothing")
    progress.end("nothing")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""
