"""A frontier has the gain of each evaluation at the KL of the drafts then; win rates stand by their temperature."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.made_up_runs import Make, lines
from twofold.reports import frontier
from twofold.reports.frontier import frontier_charts, win_rate_charts
from twofold.reports.run import read_run

LABEL = [("a", "run-0")]


def test_each_evaluation_is_a_point_at_the_kl_of_the_drafts_before_it(make_run: Make) -> None:
    run = make_run("a")
    train = [{"kind": "train", "step": s, "loss": 0.5, "draft_kl": float(s)} for s in range(40)]
    told = [{"kind": "evaluation", "step": s, "exact_match/strict": v, "exact_match/n": 40}
            for s, v in ((0, 0.25), (20, 0.5), (40, 0.75))]  # fmt: skip
    lines(run / "metrics.jsonl", [*train, *told])
    [(words, points)] = frontier._frontiers(read_run(run))
    assert words == "problems solved"
    assert [(x, e.value) for x, e in points] == [(0.0, 0.25), (14.5, 0.5), (34.5, 0.75)]
    assert (points[1][1].low, points[1][1].high) == pytest.approx((0.352, 0.648), abs=1e-3)
    [chart] = frontier_charts([read_run(run)], LABEL)
    assert (chart.title, chart.axis) == ("Problems solved against KL", "KL from the reference, nats")


def test_a_reward_stands_for_problems_and_its_own_kl_for_that_of_drafts(make_run: Make) -> None:
    run = make_run("a")
    rows = [{"kind": "evaluation", "step": s, "heldout/reward": float(s), "heldout/kl": s / 10} for s in (0, 5)]
    lines(run / "metrics.jsonl", rows)
    [(words, points)] = frontier._frontiers(read_run(run))
    assert (words, [(x, e.value) for x, e in points]) == ("held-out reward", [(0.0, 0.0), (0.5, 5.0)])


def test_a_measured_frontier_comes_first(make_run: Make) -> None:
    run = make_run("a", extra={"draft_kl": 0.1})
    assert len(frontier_charts([read_run(run)], LABEL)) == 1
    reward = {"value": 0.7, "low": 0.6, "high": 0.8, "n": 100}
    points = [{"of": "sentiment", "kl": {"value": k}, "reward": reward} for k in (0.1, 2.0)]
    (run / "frontier.json").write_text(json.dumps(points))
    [(words, found)] = frontier._frontiers(read_run(run))
    assert (words, [x for x, _ in found], found[0][1].high) == ("sentiment", [0.1, 2.0], 0.8)


def test_without_a_kl_there_is_no_frontier(make_run: Make) -> None:
    assert frontier_charts([read_run(make_run("a"))], LABEL) == []
    assert frontier_charts([read_run(make_run("b", extra={"draft_kl": 0.0}))], LABEL) == []


def test_win_rates_by_temperature(make_run: Make) -> None:
    runs = [make_run("a"), make_run("b")]
    for run in runs:
        rates = [{"against": "chosen", "temperature": t, "value": 0.5 + t / 10, "low": 0.4, "high": 0.7, "n": 99}
                 for t in (1.0, 0.0, 0.5)]  # fmt: skip
        (run / "win_rates.json").write_text(json.dumps(rates))
    [chart] = win_rate_charts([read_run(r) for r in runs], [("a", "run-0"), ("b", "run-1")])
    assert (chart.title, chart.axis, chart.legend) == (
        "Win rate by temperature", "temperature", (("a", "run-0"), ("b", "run-1")),
    )  # fmt: skip
    assert "against chosen" in chart.note
    assert "labeled pairs" not in chart.note
    accuracy = {"value": 0.81, "low": 0.72, "high": 0.87, "n": 1100, "pairs": "labels.jsonl"}
    rates = [{"against": "chosen", "temperature": 0.0, "value": 0.5, "low": 0.4, "high": 0.7, "n": 99,
              "judge_accuracy": accuracy}]  # fmt: skip
    (runs[0] / "win_rates.json").write_text(json.dumps(rates))
    [chart] = win_rate_charts([read_run(r) for r in runs], [("a", "run-0"), ("b", "run-1")])
    assert chart.note.endswith("The judge is right on 81.0% (72.0 – 87.0%) of 1,100 labeled pairs.")


@pytest.mark.parametrize("broken", ['[{"temperature": "warm"}]', "{}", "[1]", "nonsense", '[{"temperature": 1}]'])
def test_what_is_broken_is_left_out(make_run: Make, broken: str) -> None:
    run: Path = make_run("a")
    for name in ("win_rates", "frontier"):
        (run / f"{name}.json").write_text(broken)
    read = read_run(run)
    assert win_rate_charts([read], LABEL) == frontier_charts([read], LABEL) == []
    assert bool(read.faults) == (broken == "nonsense")
