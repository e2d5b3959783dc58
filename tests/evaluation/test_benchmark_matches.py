"""Figures of judged matches: shares, counts, subsets, and two models on the same items."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.heard import Heard
from twofold.errors import DataError
from twofold.evaluation.benchmark_matches import (
    NOTE,
    BenchmarkSettings,
    MeanScore,
    _put_published,
    counts_of,
    lengths_of,
    share_of,
    split_lines,
    subsets_of,
    written,
)
from twofold.evaluation.figures import Evaluation
from twofold.evaluation.judging import SPEND_LINE
from twofold.evaluation.parts import Line
from twofold.evaluation.players import parse_players
from twofold.records import Candidate
from twofold.statistics import bootstrap_ratio, mean_by_cluster, sign_flips


def row(share: float | None, **more: Any) -> dict[str, Any]:
    return {"share": share, "cut": False, "other_cut": False, "subset": "a", "index": 0, **more}


def test_a_mean_is_over_what_was_judged() -> None:
    """Answers to one prompt are a cluster."""
    found = MeanScore([1.0, None, 0.5, 0.0, 1.0], [0, 0, 1, 1, 2]).estimate()
    assert found == mean_by_cluster([1.0, 0.5, 0.0, 1.0], [0, 1, 1, 2])
    assert (found.value, found.n, found.clusters) == (0.625, 4, 3)


def test_two_models_are_compared_where_both_have_a_verdict() -> None:
    """By prompt: b − a is −1 of one item, 0.5 + 0.5 of two, and 0.25 of one."""
    first = MeanScore([1.0, 0.0, 0.5, None, 0.25, 0.5], [0, 1, 1, 2, 3, 4])
    second = MeanScore([0.0, 0.5, 1.0, 1.0, 0.5, None], [0, 1, 1, 2, 3, 4])
    found = first.against(second)
    assert found is not None
    assert found.difference == bootstrap_ratio([-1.0, 1.0, 0.25], [1.0, 2.0, 1.0])
    assert found.difference.value == 0.0625
    assert found.test == sign_flips([1.0, 0.5, 0.25], [0.0, 1.5, 0.5])
    back = second.against(first)
    assert back is not None
    assert back.difference.value == -0.0625
    assert MeanScore([None, 1.0], [0, 1]).against(MeanScore([1.0, None], [0, 1])) is None


def test_a_longer_run_is_compared_on_what_both_have() -> None:
    found = MeanScore([1.0], [0]).against(MeanScore([0.5, 0.0], [0, 1]))
    assert found is not None
    assert (found.difference.value, found.difference.n) == (-0.5, 1)


def test_a_probability_goes_before_a_share() -> None:
    assert [share_of(each) for each in (row(1.0), row(1.0, probability=0.75), row(None))] == [1.0, 0.75, None]


def test_verdicts_are_counted() -> None:
    rows = [
        row(1.0, cut=True), row(0.5), row(0.5, other_cut=True), row(0.0, cut=True), row(None), row(1.0), row(1.0),
        row(1.0, probability=0.25), row(0.0, probability=0.51), row(0.0),
    ]  # fmt: skip
    assert counts_of(rows) == {
        "wins": 4, "ties": 2, "losses": 3, "missing": 1, "truncated": 2, "baseline_truncated": 1,
    }  # fmt: skip
    assert counts_of([]) == {
        "wins": 0, "ties": 0, "losses": 0, "missing": 0, "truncated": 0, "baseline_truncated": 0,
    }  # fmt: skip


def test_lengths_are_characters_of_either_side() -> None:
    rows = [{"own": "abc", "other": "é"}, {"own": "", "other": "ab"}]
    assert (lengths_of(rows, "own"), lengths_of(rows, "other")) == ([3, 0], [1, 2])


def test_subsets_have_figures_of_their_own() -> None:
    rows = [row(1.0, index=0), row(0.0, index=1), row(0.5, subset="b", index=2), row(None, subset="c", index=3)]
    found = subsets_of(rows)
    assert list(found) == ["a", "b"]
    assert found["a"] == {"win_rate": mean_by_cluster([1.0, 0.0], [0, 1]).as_dict()}
    assert found["b"]["win_rate"]["value"] == 0.5
    assert subsets_of(rows[:2]) == {}, "one subset is the whole"
    assert subsets_of([]) == {}


def settings(heard: Heard | None = None, **more: Any) -> BenchmarkSettings:
    return BenchmarkSettings(judge="reward:x", progress=heard or Heard(), **more)


ABOUT = {"judge": {"kind": "reward"}, "against": "b", "sampling": {}}


def test_contests_without_a_verdict_are_told() -> None:
    heard = Heard()
    lines = {"m": Line([row(1.0), row(None)], ABOUT), "n": Line([row(0.5), row(None)], ABOUT)}
    found, about = split_lines({**lines, SPEND_LINE: Line([], {})}, settings(heard))
    assert (found, about["judge"], about["against"]) == (lines, {"kind": "reward"}, "b")
    assert SPEND_LINE in about
    assert heard.warnings == ["2 contests without a verdict are left out of n"]
    heard = Heard()
    assert split_lines({"m": Line([row(1.0)], ABOUT)}, settings(heard)) == (
        {"m": Line([row(1.0)], ABOUT)}, {"judge": {"kind": "reward"}, "against": "b"},
    )  # fmt: skip
    assert heard.warnings == []


def test_a_player_without_any_verdict_is_refused() -> None:
    with pytest.raises(DataError) as error:
        split_lines({"m": Line([row(1.0)], ABOUT), "n": Line([row(None)], ABOUT)}, settings())
    assert (error.value.what, error.value.where) == ("has no verdict", "n")
    assert error.value.remedy == "label some of OUT/comparisons.jsonl first, or check the judge's server"


def test_what_was_measured_is_written_with_its_settings() -> None:
    how = settings(samples=3, seed=7, max_new_tokens=11, rubric="r.txt")
    made = written("bench", Evaluation({"models": []}, [{"a": 1}]), {"against": "b"}, how)
    assert made.rows == [{"a": 1}]
    assert made.figures == {
        "benchmark": "bench", "against": "b", "samples": 3, "seed": 7, "max_new_tokens": 11, "rubric": "r.txt",
        "note": NOTE, "models": [],
    }  # fmt: skip


def test_the_baseline_is_greedy_and_may_be_of_the_rows(tmp_path: Path) -> None:
    assert (settings().baseline.kind, settings().baseline.temperature) == ("reference", None)
    assert settings(against=str(tmp_path)).baseline.temperature == 0.0
    own = settings(against=f"{tmp_path}@temperature:0.5").baseline
    assert (own.kind, own.model, own.temperature) == ("model", str(tmp_path), 0.5)


def test_answers_of_a_published_file_have_its_name_and_the_start_of_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "answers.json"
    path.write_text("published")
    monkeypatch.setattr("twofold.evaluation.benchmark_matches.published_answers", lambda model, items: ["a", "b"])
    put: dict[str, Any] = {}
    book: Any = SimpleNamespace(put=lambda player, answers: put.update({player.model: answers}))
    _put_published(book, parse_players([str(path)]), [])
    origin = {"file": str(path), "weights": sha256(b"published").hexdigest()[:12]}
    assert put == {str(path): [[Candidate(text, origin)] for text in ("a", "b")]}
