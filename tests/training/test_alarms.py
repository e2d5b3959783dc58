"""Warnings on evaluation samples: repetition and length, once each, also over a resume; the best step by any figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.resumable_runs import loop, stop_after
from twofold.training.alarms import LENGTH, REPETITION, AlarmSettings, alarms, repetition, sample_figures
from twofold.training.trainer import Evaluation


def test_repetition_by_hand() -> None:
    """Six words have three 4-grams; `a b c d a b c d` has five, of which the last occurred before."""
    assert repetition("a b c d e f") == 0
    assert repetition("a b c d a b c d") == pytest.approx(1 / 5)
    assert repetition("no " * 103) == pytest.approx(1 - 1 / 100)
    assert repetition("你好吗啊你好吗啊") == pytest.approx(1 / 5)
    assert repetition("a b c") == repetition("") == 0
    found = sample_figures([{"completion": "a b c d a b c d"}, {"completion": ""}, {"other": 3}])
    assert found == {REPETITION: pytest.approx(0.1), LENGTH: 4.0}
    assert sample_figures([{"other": "x"}]) == {}


def seen(*figures: tuple[float, float], **limits: Any) -> list[list[str]]:
    """The warnings of evaluations with such repetition and length."""
    state: dict[str, Any] = {}
    return [alarms(i, {REPETITION: r, LENGTH: n}, AlarmSettings(**limits), state) for i, (r, n) in enumerate(figures)]


def test_samples_that_begin_to_repeat_themselves_are_named_once() -> None:
    none, none_yet, first, again = seen((0.0, 10), (0.3, 10), (0.35, 10), (0.9, 10))
    assert (none, none_yet, again) == ([], [], [])
    assert first == [
        "step 2: samples repeat themselves (35% of their 4-grams of words, at the start 0%): read samples.jsonl, stop "
        "at an earlier step"
    ]
    assert seen((0.4, 10), (0.49, 10)) == [[], []], "a model that always did is no news"
    assert seen((0.0, 10), (0.35, 10), repetition=0.5) == seen((0.0, 10), (0.9, 10), repetition=None) == [[], []]


@pytest.mark.parametrize(("words", "named"), [(21, True), (20, False), (4, True), (5, False)])
def test_lengths_that_drift_are_named(words: float, named: bool) -> None:
    found = seen((0, 10), (0, words))[1]
    expected = f"step 1: the length of samples went from 10 to {words} words: read samples.jsonl; a reward that favors "
    assert found == ([expected + "length can cause it"] if named else [])
    assert seen((0, 10), (0, words), length=None)[1] == seen((0, 10), (0, words), length=3)[1] == []


@pytest.mark.parametrize("wrong", [{"repetition": 0}, {"repetition": 1.0}, {"length": 1.0}])
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        AlarmSettings(**wrong)


def scripted(run: Path, texts: Sequence[str], **training: Any) -> Any:
    """A run that is evaluated before the first step and after every step, with these samples."""
    made = loop(run, "offline", evaluate_every=1, **training)
    left = iter(texts)
    made.evaluators = [lambda: Evaluation({}, [{"name": "a", "completion": next(left)}])]
    return made


LOOPS = "a b c d " * 10


def test_a_run_warns_and_logs_the_figures(tmp_path: Path) -> None:
    outcome = scripted(tmp_path, ["a b c d e f", *["a b c d e g"] * 2, *[LOOPS] * 4]).train()
    assert [text[:32] for text in outcome.warnings if "repeat" in text] == ["step 3: samples repeat themselve"]
    assert any("from 6 to 40 words" in text for text in outcome.warnings)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    told = [line[REPETITION] for line in lines if line["kind"] == "evaluation"]
    assert told[:3] == [0, 0, 0]
    assert told[3] == pytest.approx(repetition(LOOPS))
    logged = [json.loads(line)["text"] for line in (tmp_path / "warnings.jsonl").read_text().splitlines()]
    assert [text for text in outcome.warnings if "step 3" in text] == [text for text in logged if "step 3" in text]
    quiet = {"alarms": {"repetition": None, "length": None}}
    assert not scripted(tmp_path / "quiet", ["a b c d e f", *[LOOPS] * 6], **quiet).train().warnings


def test_a_resumed_run_remembers_its_first_samples(tmp_path: Path) -> None:
    scripted(tmp_path, ["a b c d e f"] * 7).train(stop=stop_after(2))
    outcome = scripted(tmp_path, [LOOPS] * 7).train()
    assert sum("repeat themselves" in text for text in outcome.warnings) == 1


def test_a_minus_sign_makes_the_lowest_figure_the_best(tmp_path: Path) -> None:
    texts = ["a b c", "a b", "a b c d", "a", "a b", "a b", "a b"]
    assert scripted(tmp_path / "low", texts, best_metric=f"-{LENGTH}").train().best_step == 3
    assert scripted(tmp_path / "high", texts, best_metric=LENGTH).train().best_step == 2
