"""A chart is there where its metrics are, small, and without fonts, links or fixed colours."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from support.made_up_runs import Make
from twofold.reports.charts import ALONG, FURTHER, SPEED, TRAINING, draw, looks
from twofold.reports.drawing import LOOKS, Frame, Line, binned, svg
from twofold.reports.run import read_run

SPECS = (*ALONG, *TRAINING, *FURTHER)
LABELS = [("a", "run-0"), ("b", "run-1")]
PLAIN = {
    "Problems solved, strict", "Held-out preference accuracy", "Loss", "Implicit rewards", "Log-probabilities",
    "Margin", "Preference accuracy in training", "Gradient norm",
}  # fmt: skip
EXTRA = [
    ("draft_kl", "KL of samples from the reference"), ("draft_length", "Lengths"), ("gap", "Generator gap"),
    ("active", "Active samples"), ("truncated", "Truncated samples"), ("learning_rate", "Learning rate"),
    ("gradient_weight", "Gradient weight"), ("loss/dpo", "Loss of the discriminator (DPO)"),
    ("loss/pdpo", "Loss of the generator (PDPO)"), ("loss/sft", "Loss of the demonstrations (SFT)"),
]  # fmt: skip


def test_no_chart_without_its_metrics(make_run: Make) -> None:
    assert {c.title for c in draw(SPECS, [read_run(make_run("a"))], [("a", "run-0")])} == PLAIN


@pytest.mark.parametrize(("key", "title"), EXTRA)
def test_a_metric_brings_its_chart(make_run: Make, key: str, title: str) -> None:
    specs = [s for s in SPECS if key in {c.key for c in s.curves}]
    [chart] = draw(specs, [read_run(make_run("a", extra={key: 0.5}))], [("a", "run-0")])
    assert (chart.title, key in chart.keys) == (title, True)
    assert not any(key in c.keys for c in draw(specs, [read_run(make_run("b"))], [("b", "run-0")]))


def test_small_numbers_keep_their_digits_beside_a_curve() -> None:
    drawing = svg([Line(range(5), [0.001, 0.002, 0.003, 0.004, 0.005], "ink")], Frame("a", 4, 0.001, 0.005))
    assert {"0.0016", "0.0024", "0.0048"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", drawing))


def test_draft_and_truth_join_the_rewards(make_run: Make) -> None:
    run = read_run(make_run("a", extra={"draft_reward": 0.1, "truth_reward": 0.2}))
    [chart] = [c for c in draw(TRAINING, [run], [("a", "run-0")]) if c.title == "Implicit rewards"]
    assert [label for label, _ in chart.legend] == ["chosen", "rejected", "samples", "ground truth"]


def test_runs_share_a_chart_or_stand_beside_each_other(make_run: Make) -> None:
    charts = {c.title: c for c in draw(TRAINING, [read_run(make_run(n)) for n in "ab"], LABELS)}
    assert charts["Loss"].legend == (("a", "run-0"), ("b", "run-1"))
    panels = [(c.title, c.run) for c in draw(TRAINING, [read_run(make_run(n)) for n in "cd"], LABELS)]
    assert {("Implicit rewards", "a"), ("Implicit rewards", "b")} <= set(panels)


def test_seeds_of_one_method_share_a_colour_and_one_panel(make_run: Make) -> None:
    labels = list(zip("abc", looks([0, 0, 2]), strict=True))
    assert [look for _, look in labels] == ["run-0", "run-0", "run-1"]
    charts = {c.title: c for c in draw(TRAINING, [read_run(make_run(n)) for n in "abc"], labels)}
    assert charts["Loss"].legend == (("a", "run-0"), ("c", "run-1"))
    drawn = draw(TRAINING, [read_run(make_run(n)) for n in "def"], labels)
    assert [c.run for c in drawn if c.title == "Implicit rewards"] == ["a", "c"]


def test_drawings_are_small_plain_elements(make_run: Make) -> None:
    run = read_run(make_run("a", steps=3000, extra={"draft_reward": 0.1, "draft_logp": -3.0}))
    for chart in draw(SPECS, [run], [("a", "run-0")]):
        assert len(chart.svg) < 40_000
        assert ElementTree.fromstring(chart.svg).tag == "svg"
        assert not re.search(r"https?:|xmlns|font-family|@font-face|<script|<style|#0[ab]000", chart.svg)
        assert set(re.findall(r"var\(--([\w-]+)\)", chart.svg)) <= LOOKS.keys()


def test_the_wilson_band_is_drawn_where_n_is_told(make_run: Make) -> None:
    charts = {c.title: c for c in draw(ALONG, [read_run(make_run("a"))], [("a", "run-0")])}
    assert "fill-opacity: 0.16" in charts["Problems solved, strict"].svg
    assert "fill-opacity" not in charts["Held-out preference accuracy"].svg


def test_drawings_repeat() -> None:
    line = Line([0, 1, 2], [0.0, 0.5, 0.25], "run-0", [0.0, 0.4, 0.2], [0.1, 0.6, 0.3], markers=True)
    frame = Frame("a < b", end=2, low=0, high=1, level=0.5, percent=True)
    drawing = svg([line], frame)
    assert drawing == svg([line], frame)
    assert 'aria-label="a &lt; b"' in drawing
    assert re.findall(r">([\d.%−]+)</text>", drawing) == ["0", "1", "2", "0%", "20%", "40%", "60%", "80%", "100%"]


def test_long_series_are_binned_by_their_means() -> None:
    x, y = binned(list(range(1000)), [float(i % 2) for i in range(1000)], 240)
    assert len(x) == 200
    assert x[0] == 2.0
    assert y[1] == pytest.approx(0.6)
    assert binned([1, 2], [3.0, 4.0], 240) == ([1, 2], [3.0, 4.0])


def test_labels_of_a_fine_scale_keep_their_digits() -> None:
    drawing = svg([Line((0, 1), (0.485, 0.495), "run-0")], Frame("fine", 1, 0.484, 0.496))
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", drawing)
    assert len(labels) == len(set(labels))
    assert "0.4875" in labels
    assert not re.search(r'="[^"<>]*\d\.\d{3}', drawing)


def test_shares_and_dotted_lines_are_those_of_what_is_drawn() -> None:
    """Between 0 and 1 are shares of rows; dotted lines are at guessing, at no difference, and at DPO's ln 2."""
    specs = {spec.title: spec for spec in (*TRAINING, *ALONG, *FURTHER)}
    shares = {title for title, spec in specs.items() if spec.share}
    assert shares == {
        "Problems solved, strict", "Problems solved, flexible", "Held-out preference accuracy",
        "Preference accuracy in training", "Win rate", "Repetition", "Active samples", "Correct samples",
        "Truncated samples",
    }  # fmt: skip
    levels = {title: spec.level for title, spec in specs.items() if spec.level}
    assert levels == {
        "Held-out preference accuracy": 0.5, "Win rate": 0.5, "Loss of the discriminator (DPO)": math.log(2),
    }  # fmt: skip
    even = {title for title, spec in specs.items() if spec.level == 0}
    assert even == {
        "Held-out margin", "Implicit rewards", "Margin", "KL of samples from the reference", "KL of rollouts",
        "Generator gap", "KL estimate (z₀)", "Kendall's τ", "Log-ratios",
    }  # fmt: skip


def test_shares_are_in_percent_and_levels_are_where_nothing_has_happened_yet() -> None:
    every = {spec.title: spec for spec in (*SPECS, *SPEED)}
    assert {t for t, spec in every.items() if spec.share} == {
        t for t, spec in every.items() if spec.note.startswith("Share of")
    }
    zero = {
        "Held-out margin", "Implicit rewards", "Margin", "KL of samples from the reference", "KL of rollouts",
        "Generator gap", "KL estimate (z₀)", "Kendall's τ", "Log-ratios", *(spec.title for spec in SPEED),
    }  # fmt: skip
    guessed = {"Held-out preference accuracy": 0.5, "Win rate": 0.5, "Loss of the discriminator (DPO)": math.log(2)}
    levels = {t: spec.level for t, spec in every.items() if spec.level is not None}
    assert levels == {**dict.fromkeys(zero, 0.0), **guessed}
    assert {t: spec.count for t, spec in every.items() if spec.count} == {
        "Problems solved, strict": "exact_match/n", "Problems solved, flexible": "exact_match/n",
        "Held-out preference accuracy": "heldout/n", "Win rate": "win_rate/n",
    }  # fmt: skip
    assert {spec.kind for spec in ALONG} == {"evaluation"}
    assert {spec.kind for spec in (*TRAINING, *FURTHER)} == {"train"}
    assert {spec.kind for spec in SPEED} == {"timing"}
