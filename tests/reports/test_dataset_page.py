"""The figures of a data set's page by value: bins, notes, cards and rulers."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from twofold.data.issues import Issue
from twofold.data.lengths import LengthBias
from twofold.data.profile import Profile
from twofold.data.report import Kind, Report
from twofold.data.values import Values
from twofold.records import Demonstration, Pair, Source
from twofold.reports import dataset
from twofold.statistics import wilson


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would be drawn: lines and frame of each figure."""
    figures: list[Any] = []
    monkeypatch.setattr(dataset, "svg", lambda lines, frame: figures.append((lines, frame)) or "")
    return figures


def test_a_histogram_has_the_share_of_rows_in_each_bin(drawn: list[Any]) -> None:
    values = Values.of([0] * 30 + [10] * 60 + [24] * 10)
    chart = dataset.histogram("t", [("a", "chosen", values)], "characters")
    ((line,), frame) = drawn[0]
    assert chart is not None
    assert (line.edges[0], line.edges[-1], len(line.edges), frame.end) == (0, 24, 25, 24)
    assert {place: share for place, share in enumerate(line.y) if share} == {0: 0.3, 10: 0.6, 23: 0.1}
    assert (chart.note, chart.axis, chart.legend, chart.keys) == ("Share of rows. Median: a 10.", "characters", (), ())
    assert json.loads(chart.data)["lines"][0]["edges"] == [*range(25)]
    assert json.loads(chart.data)["lines"][0]["label"] == "a"
    assert (frame.title, frame.begin, frame.low, frame.high) == ("t", 0, 0, pytest.approx(0.636))
    assert (frame.percent, frame.whole, line.look) == (True, True, "chosen")
    assert dataset.histogram("t", [("a", "chosen", Values.of(range(60)))], "x") is not None
    assert drawn[1][0][0].edges[:3] == [0, 3, 6]
    assert {round(60 * share) for share in drawn[1][0][0].y[:-1]} == {3}  # as many whole numbers in every bin
    assert dataset.histogram("t", [("a", "chosen", Values())], "x") is None


@pytest.mark.parametrize(
    ("numbers", "whole", "edges", "beyond"),
    [
        ([0] * 3, True, (0, 1, 2), ""),
        ([5] * 3, True, (0, 5, 6), ""),
        ([1] * 199 + [1000], True, (0, 1, 2), " 0.5% are beyond the axis."),
        ([-1] * 99 + [-1000], True, (-11, -1, 11), " 1.0% are beyond the axis."),
        ([*range(-24, 25)], True, (-24, 24, 25), ""),
        ([*range(-25, 26)], True, (-25, 26, 18), ""),
        ([0.0] * 50 + [1.2] * 50, False, (0.0, 1.2, 25), ""),
        ([-0.6] * 50 + [0.6] * 50, False, (-0.6, 0.6, 25), ""),
        ([-3.0] * 50, False, (-3.0, -2.0, 25), ""),
    ],
)  # fmt: skip
def test_the_axis_ends_at_the_99th_percentile(
    numbers: list[float], whole: bool, edges: tuple[float, float, int], beyond: str, drawn: list[Any]
) -> None:
    values = Values.of(numbers, np.int64 if whole else np.float64)
    chart = dataset.histogram("t", [("", "run-0", values)], "x", whole=whole)
    ((line,), frame) = drawn[0]
    assert chart is not None
    assert (line.edges[0], line.edges[-1], len(line.edges)) == (*map(pytest.approx, edges[:2]), edges[2])
    assert (frame.begin, frame.end, frame.whole) == (line.edges[0], line.edges[-1], whole)
    assert chart.note.partition(".")[2].partition(".")[2].endswith(beyond)
    assert ("beyond" in chart.note) == bool(beyond)
    assert sum(line.y) == pytest.approx(1.0 if not beyond else 1 - float(beyond.split("%")[0]) / 100)
    assert json.loads(chart.data)["lines"][0]["label"] == "t"


def test_two_series_share_their_axis_and_have_a_legend(drawn: list[Any]) -> None:
    several = [("a", "chosen", Values.of([1, 2, 3])), ("b", "rejected", Values.of([7])), ("c", "draft", Values())]
    chart = dataset.histogram("t", several, "x")
    (lines, _) = drawn[0]
    assert chart is not None
    assert chart.legend == (("a", "chosen"), ("b", "rejected"))
    assert chart.note == "Share of rows. Median: a 2, b 7."
    assert chart.note.zh.endswith("a 2，b 7。")  # type: ignore[attr-defined]  # a phrase
    assert [line.edges for line in lines] == [[*map(float, range(8))]] * 2
    assert [sum(line.y) for line in lines] == pytest.approx([1, 1])


def seen(*records: Any, rows: list[dict[str, Any]] | None = None) -> Profile:
    profile = Profile()
    for number, record in enumerate(records):
        profile.see(record, {} if rows is None else rows[number])
    return profile


def pair(chosen: str, rejected: str, prompt: str = "p") -> Pair:
    return Pair(prompt, chosen, rejected, Source("", 1))


def test_charts_are_those_of_what_the_rows_have(drawn: list[Any]) -> None:
    profile = seen(pair("abc", "d"), pair("ab", "c"), rows=[{"score_chosen": 1.5, "score_rejected": 1}] * 2)
    found = dataset.charts(profile)
    assert [chart.title for chart in found] == [
        "Length of prompts", "Length of answers", "Length, chosen minus rejected", "Score margin",
    ]  # fmt: skip
    assert [chart.axis for chart in found] == ["characters"] * 3 + ["score, chosen minus rejected"]
    assert [[line.look for line in lines] for lines, _ in drawn] == [
        ["run-0"],
        ["chosen", "rejected"],
        *[["run-0"]] * 2,
    ]
    assert [frame.whole for _, frame in drawn] == [True, True, True, False]
    assert found[1].legend == (("chosen", "chosen"), ("rejected", "rejected"))
    demonstrations = dataset.charts(seen(Demonstration("p", "ab", Source("", 1))))
    assert [chart.title for chart in demonstrations] == ["Length of prompts", "Length of answers"]
    assert drawn[-1][0][0].look == "draft"
    assert dataset.charts(Profile()) == []


@pytest.mark.parametrize(
    ("chosen", "pairs", "words"),
    [
        (80, 100, "80.0% of 100 pairs; 95% interval 71.1 – 86.7%. Longer answers are preferred."),
        (20, 100, "20.0% of 100 pairs; 95% interval 13.3 – 28.9%. Shorter answers are preferred."),
        (55, 100, "55.0% of 100 pairs; 95% interval 45.2 – 64.4%. The interval contains 50%: there is no evidence of "
         "a bias."),
        (1200, 2000, "60.0% of 2,000 pairs; 95% interval 57.8 – 62.1%. Longer answers are preferred."),
    ],
)  # fmt: skip
def test_a_length_bias_is_one_where_its_interval_excludes_a_half(chosen: int, pairs: int, words: str) -> None:
    assert dataset._bias(wilson(chosen, pairs)) == f"The longer answer is chosen in {words}"


def page(report: Report, profile: Profile, kinds: tuple[Kind, ...] = ()) -> str:
    text = dataset.dataset_page(report, profile, kinds, "My rows", ["near-duplicates: not checked"])
    return re.sub(r'<span data-zh="[^"]*">([^<]*)</span>', r"\1", text)


def test_the_page_has_facts_cards_origins_and_rulers() -> None:
    pairs = [pair("abc", "d"), pair("ab", "c"), pair("a", "bc"), pair("a", "b")]
    rows = [
        {"source": "ours" if n else "theirs", "chosen_model": "big", "rejected_model": "small", "score_chosen": n,
         "score_rejected": 1} for n in range(4)
    ]  # fmt: skip
    profile = seen(*pairs, rows=rows)
    faults = (Issue("f", 3, "prompt", "is empty", "fill it", "error", "empty field"),
              *(Issue("f", n, "", "repeats row 1", "remove it", "warning", "duplicate") for n in (4, 5)))  # fmt: skip
    kinds = (Kind("empty field", "error", 1, ((faults[0], (("row", "text of it"),)),)),
             Kind("duplicate", "warning", 1200, ((faults[1], ()),)))  # fmt: skip
    told = page(Report("f.jsonl", "pairs", 1234, 1100, faults, LengthBias(2, 1, 1)), profile, kinds)
    cards = re.findall(r'<h3>([^<]*)</h3><p class="big">([^<]*)</p><p class="note">([^<]*)</p>', told)
    assert cards == [
        ("Faults", "1 / 2", "Errors / warnings. Training would stop at the first error."),
        ("Length bias", "66.7%", "The longer answer is chosen in 66.7% of 3 pairs; 95% interval 20.8 – 93.9%. The "
         "interval contains 50%: there is no evidence of a bias."),
        ("Preferences against the scores", "50.0%", "of 4 scored pairs: the rejected answer scores at least as high as "
         "the chosen one; 95% interval 15.0 – 85.0%"),
    ]  # fmt: skip
    for part in (
        "My rows", "1,234 rows, 1,100 usable", "format: pairs", "near-duplicates: not checked", "column source",
        "prompt", "is empty: fill it.", "text of it", "1,199 more",
    ):  # fmt: skip
        assert part in told, part
    cells = re.findall(r'<tr><td>([^<]*)</td><td class="num">([^<]*)</td><td class="num">([^<]*)</td>', told)
    assert cells[:3] == [("ours", "3", "75.0%"), ("theirs", "1", "25.0%"), ("Latin", "4", "100.0%")]
    rungs = re.findall(r'<span>(\w+)</span><span class="track"><i style="left: ([\d.]+)%; width: ([\d.]+)%"></i>', told)
    share = wilson(1, 2)
    width = f"{100 * (share.high - share.low):.2f}"
    assert rungs[0] == ("ours", f"{100 * share.low:.2f}", width)
    assert [name for name, *_ in rungs] == ["ours", "theirs", "big", "small"]
    assert "twofold data check f.jsonl --json" in told
    assert "twofold data show" not in told


def test_the_page_of_rows_without_faults_says_what_is_next() -> None:
    told = page(Report("f.jsonl", "prompt", 1, 1, (), LengthBias(0, 0, 4)), Profile())
    assert re.findall(r'<p class="big">([^<]*)</p>', told) == ["0 / 0"]
    assert "Errors / warnings. Training would accept this source." in told
    assert "No faults." in told
    for command in ("twofold data show f.jsonl --model MODEL", "data.train=f.jsonl --dry-run"):
        assert command in told
    for absent in ("Distributions", "Origins and scripts", "Length bias", "Preference rate by model"):
        assert f"<h2>{absent}" not in told
