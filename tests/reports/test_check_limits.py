"""Where each check begins to warn, in which words, and when it has nothing to look at."""

from __future__ import annotations

from typing import Any

import pytest

from support.made_up_runs import run_data
from twofold.reports import checks
from twofold.reports.run import Comparison, ModelResult, Results, RewardResult, SampleRow
from twofold.statistics import Estimate, wilson

NO_RESULTS = "there is nothing to report yet: no metrics and no results"
UNSEEN = "nothing was measured on rows that training has not seen: set data.heldout, or evaluation.tasks"
SHARE = wilson(1, 2)
REWARD = RewardResult(wilson(90, 100), wilson(60, 100), (), 0.1, 0.01, ())


def estimate(width: float, n: int = 7) -> Estimate:
    return Estimate(0.5, 0.5 - width / 2, 0.5 + width / 2, n, None, "")


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({}, [NO_RESULTS]),
        ({"train": {"loss": [1.0]}}, ["no final results: the run has not finished"]),
        ({"evaluations": {"heldout/loss": [1.0]}}, ["no final results: the run has not finished"]),
        ({"train": {"loss": [1.0]}, "results": Results(step=1)}, [UNSEEN]),
        ({"evaluations": {"heldout/loss": [1.0]}, "results": Results(step=0)}, []),
        ({"evaluations": {"exact_match/n": [1.0]}, "results": Results(step=0)}, []),
        ({"evaluations": {"other/n": [1.0]}, "results": Results(step=0)}, [UNSEEN]),
        ({"results": Results(models=(ModelResult("policy", {}),))}, []),
        ({"results": Results(heldout={"accuracy": SHARE})}, []),
        ({"results": Results(reward=REWARD)}, []),
    ],
)
def test_unfinished(parts: dict[str, Any], told: list[str]) -> None:
    assert checks.unfinished(run_data(**parts)) == told


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        ({}, None), ({"train": {"rows": 0, "dropped": 4}}, None), ({"train": "none"}, None),
        ({"train": {"rows": 8}}, []), ({"train": {"rows": 0}, "heldout": {"rows": 4, "dropped": 0}}, []),
        ({"train": {"rows": 1000, "dropped": ["a:1"]}},
         ["1 of 1,000 train rows (0.1%) were left out: longer than data.tokenize.max_length"]),
        ({"train": {"rows": 4, "dropped": 3, "cut_prompt": 1, "stop_cut": 1}},
         ["3 of 4 train rows (75.0%) were left out: longer than data.tokenize.max_length",
          "1 of 4 train rows (25.0%) lost the beginning of their prompt: longer than data.tokenize.max_length",
          "1 completions of 4 train rows were cut and do not end: longer than data.tokenize.max_length"]),
        ({"train": {"rows": 4, "cut_prompt": "many", "stop_cut": -1}, "heldout": {"rows": 2, "dropped": [1]}},
         ["1 of 2 heldout rows (50.0%) were left out: longer than data.tokenize.max_length"]),
    ],
)  # fmt: skip
def test_rows_left_out(tokens: dict[str, Any], told: list[str] | None) -> None:
    assert checks.rows_left_out(run_data(environment={"tokens": tokens})) == told


@pytest.mark.parametrize(
    ("results", "told"),
    [
        (Results(), None), (Results(heldout={"margin": estimate(0.5)}), None),
        (Results(models=(ModelResult("base", {"strict": estimate(0.5)}),)), None),
        (Results(models=(ModelResult("policy", {"other": estimate(0.5)}),)), None),
        (Results(heldout={"accuracy": Estimate(0.05, 0.0, 0.1, 7, None, "")}), []),
        (Results(heldout={"accuracy": estimate(0.11, 1234)}),
         ["1,234 held-out pairs place an accuracy only within ±6 points"]),
        (Results(heldout={"accuracy": estimate(0.3)}, reward=REWARD),
         ["7 held-out comparisons place an accuracy only within ±15 points"]),
        (Results(models=(ModelResult("policy", {"strict": estimate(0.05), "flexible": estimate(0.4, 9)}),),
                 heldout={"accuracy": estimate(0.2)}),
         ["9 problems place an accuracy only within ±20 points", "7 held-out pairs place an accuracy only within ±10 "
                                                                 "points"]),
    ],
)  # fmt: skip
def test_few_items(results: Results, told: list[str] | None) -> None:
    assert checks.few_items(run_data(results=results)) == told


PEAK = "{} peaked at step {} and ended at {}"
CHANCE = "{}: chance may explain it; training.best_metric={} would keep the best step"


@pytest.mark.parametrize(
    ("series", "told"),
    [
        ({}, None), ({"heldout/accuracy": [0.9]}, None), ({"heldout/accuracy": [0.9, 2.0, 0.1]}, None),
        ({"heldout/accuracy": [-0.1, 0.9, 0.1]}, None), ({"heldout/accuracy": [0.0, 1.0, 1.0]}, []),
        ({"heldout/accuracy": [0.5, 0.5, 0.4801]}, []),
        ({"heldout/accuracy": [0.5, 0.52, 0.52, 0.5]},
         [CHANCE.format(PEAK.format("held-out accuracy", "1 (52.0%)", "50.0%"), "heldout/accuracy")]),
        ({"exact_match/strict": [0.52, 0.5], "exact_match/n": [50, 1000]},
         [CHANCE.format(PEAK.format("exact_match/strict", "0 (52.0%)", "50.0% of 50 problems"), "exact_match/strict")]),
        ({"exact_match/flexible": [0.9, 0.5], "exact_match/n": [2000, 2000], "heldout/n": [2, 2]},
         [PEAK.format("exact_match/flexible", "0 (90.0%)", "50.0%: an earlier checkpoint is better")]),
        ({"heldout/accuracy": [0.9, 0.7]},
         [PEAK.format("held-out accuracy", "0 (90.0%)", "70.0%: an earlier checkpoint is better")]),
        ({"heldout/accuracy": [0.9, 0.7], "heldout/n": [20, 1500], "exact_match/strict": [0.9, 0.9]},
         [CHANCE.format(PEAK.format("held-out accuracy", "0 (90.0%)", "70.0% of 20 pairs"), "heldout/accuracy")]),
        ({"exact_match/strict": [0.9, 0.1], "heldout/accuracy": [0.9, 0.1]},
         [PEAK.format("exact_match/strict", "0 (90.0%)", "10.0%: an earlier checkpoint is better")]),
        ({"heldout/loss": [0.5, 0.6]}, None), ({"heldout/loss": [0.7, 0.0, 0.6]}, None),
        ({"heldout/loss": [0.7, 0.5, 0.55]}, []),
        ({"heldout/loss": [0.7, 0.5, 0.5, 0.551]},
         ["the loss on held-out rows rose from 0.500 (step 1) to 0.551: the run was too long"]),
    ],
)  # fmt: skip
def test_falls(series: dict[str, list[float]], told: list[str] | None) -> None:
    assert checks.falls(run_data(evaluations=series)) == told


def half(start: float, end: float, count: int = 20) -> list[float]:
    """`start` for a half, then `end`."""
    return [start] * (count // 2) + [end] * (count - count // 2)


LOST = "chosen completions lost {} nats of log-probability since the start of training"


@pytest.mark.parametrize(
    ("values", "results", "told"),
    [
        ([], Results(), None),
        ([-20.0] * 9, Results(), None),
        ([-20.0] * 10, Results(), []),
        (half(-20.0, -24.0), Results(), []),
        (half(-20.0, -24.5), Results(), [LOST.format("4.5")]),
        (half(-5.0, -7.0), Results(), []),
        (half(-5.0, -7.5), Results(), [LOST.format("2.5")]),
        (half(-5.0, -1.0), Results(), []),
        (half(-5.0, -9.0), Results(warnings=("chosen fell", "x")), []),
        (half(-5.0, -9.0), Results(warnings=("x",)), [LOST.format("4.0")]),
        (
            half(-5.0, -5.0),
            Results(displacement={"verdict": "v", "remedy": "r"}),
            ["why chosen fell: v; what helps: r"],
        ),
        (half(-5.0, -5.0), Results(displacement={"verdict": "v"}), []),
        (half(-5.0, -5.0), Results(displacement={"remedy": "r"}), []),
        ([0.0, 0.0, *[-9.0] * 17, -1.0], Results(), [LOST.format("5.0")]),  # tenths of the run: two steps each
    ],
)
def test_chosen_sinks(values: list[float], results: Results, told: list[str] | None) -> None:
    assert checks.chosen_sinks(run_data(train={"chosen_logp": values}, results=results)) == told


def samples(count: int, cut: int = 0, step: int = 5) -> tuple[SampleRow, ...]:
    return tuple(
        SampleRow(step, f"t:{i}", completion=f"fine {i}", answer=str(i), truncated=i < cut) for i in range(count)
    )


HIT = "{} of the last samples hit the length limit{}: raise sampling.max_new_tokens"
CUT = "{} of the evaluated completions ({}) were cut at the length limit"


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({}, None), ({"train": {"truncated": [1.0, 0.05]}}, []),
        ({"train": {"truncated": [0.0, 0.06]}}, [HIT.format("6.0%", "")]),
        ({"train": {"truncated": [0.0] * 19 + [0.5]}}, [HIT.format("25.0%", "")]),
        ({"train": {"truncated": [1.0]}, "settings": {"algorithm": {"drop_truncated": True}}},
         [HIT.format("100.0%", " and taught nothing")]),
        ({"samples": samples(20, 1)}, []),
        ({"samples": samples(20, 2)}, ["2 of 20 evaluated completions were cut at the length limit"]),
        ({"samples": samples(20), "evaluations": {"exact_match/truncated": [1.0]}}, []),
        ({"samples": samples(20), "evaluations": {"heldout/truncated": [0.1, 0.06]}}, [CUT.format("6.0%", "heldout")]),
        ({"evaluations": {"exact_match/truncated": [0.1, 0.06]}}, [CUT.format("6.0%", "exact_match")]),
        ({"evaluations": {"exact_match/truncated": [0.9, 0.05]}}, []),
    ],
)  # fmt: skip
def test_cut_off(parts: dict[str, Any], told: list[str] | None) -> None:
    assert checks.cut_off(run_data(**parts)) == told


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([20.0] * 9, None),
        (half(20, 30), []),
        (half(30, 20), []),
        (half(0, 9), []),
        (half(20, 31), ["samples went from 20 to 31 tokens: what changed may be length"]),
        (half(31, 20), ["samples went from 31 to 20 tokens: what changed may be length"]),
        (half(1, 0), ["samples went from 1 to 0 tokens: what changed may be length"]),
    ],
)
def test_draft_length(values: list[float], told: list[str] | None) -> None:
    assert checks.draft_length(run_data(train={"draft_length": values})) == told


UP = {"gate": "verifier"}
DOWN = {"gate": "judge", "direction": "down"}
NEVER = "the gate never opened: no sample of any step was {}, so the generator taught nothing"
NEARLY = "the gate was nearly shut: {} of the samples were {} and could teach"
PUSHED = "no sample was ever pushed: the gap to the ground truth was never positive (`active` is 0)"
ALIKE = "in {} of the prompts all completions were rated alike, from which nothing is learned"
APART = "in {} of the prompts no two samples were ranked, so there was no pair to train on"


@pytest.mark.parametrize(
    ("generator", "train", "told"),
    [
        ({}, {}, None), ({}, {"drafts": [4.0]}, []), ({}, {"truncated": [0.0]}, []), ({}, {"right": [0.0]}, []),
        ({"gate": "other"}, {"right": [0.0]}, []), (UP, {"right": [0.0, 0.0]}, [NEVER.format("right")]),
        (DOWN, {"right": [1.0, 1.0]}, [NEVER.format("wrong")]), (DOWN, {"right": [0.0, 0.0]}, []),
        (UP, {"right": [0.0, 0.09]}, [NEARLY.format("4.5%", "right")]), (UP, {"right": [0.0, 0.11]}, []),
        (UP, {"right": [0.25, 0.0]}, []), (UP, {"right": [0.19, 0.0]}, [NEARLY.format("9.5%", "right")]),
        (DOWN, {"right": [1.0, 0.92]}, [NEARLY.format("4.0%", "wrong")]),
        ({}, {"active": [0.0, 0.0]}, [PUSHED]), ({}, {"active": [0.0, 0.01]}, []),
        (UP, {"right": [0.0], "active": [0.0]}, [NEVER.format("right")]),
        ({}, {"zero_variance": [1.0, 0.8], "drafts": [1.0]}, [ALIKE.format("90.0%")]),
        ({}, {"zero_variance": [1.0, 0.7], "drafts": [1.0]}, []),
        ({}, {"no_pair": [1.0], "zero_variance": [0.95], "drafts": [1.0]},
         [ALIKE.format("95.0%"), APART.format("100.0%")]),
    ],
)  # fmt: skip
def test_shut_gates(generator: dict[str, Any], train: dict[str, list[float]], told: list[str] | None) -> None:
    assert checks.shut_gates(run_data(train=train, settings={"algorithm": {"generator": generator}})) == told


def test_completions_of_the_last_step_are_looked_at() -> None:
    def said(*texts: str, step: int = 5) -> tuple[SampleRow, ...]:
        return tuple(SampleRow(step, str(i), completion=t, answer=str(i)) for i, t in enumerate(texts))

    def told(*parts: tuple[SampleRow, ...]) -> Any:
        return checks.repetition(run_data(samples=sum(parts, ())))

    loop, fine = "na " * 20, [f"it is {i}" for i in range(60)]
    assert told() is None
    assert told(said(loop, *fine[:19])) == []
    assert told(said(loop, loop, *fine[:18])) == ["2 of 20 evaluated completions repeat themselves to the end"]
    assert told(said(*[loop] * 3, *fine[:57])) == []
    assert told(said(*[loop] * 4, *fine[:56]), said("", "", *fine[:58], step=0)) == [
        "4 of 60 evaluated completions repeat themselves to the end (0 before training)"
    ]
    assert told(said("", " \n", *fine[:9]), said("", "x", *fine[:9], step=0)) == [
        "2 of 11 evaluated completions are empty (1 before training)"
    ]
    same = "{} of {} evaluated completions are one and the same text"
    assert told(said("a", "a", "a ", "b")) == [same.format(3, 4)]
    assert told(said("a", "a", "a")) == told(said("a", "a", "b", "c")) == []
    one = tuple(SampleRow(5, str(i), completion="a", answer="1") for i in range(5))
    assert told(one) == []  # all problems have one answer


@pytest.mark.parametrize(
    ("text", "round"),
    [
        ("x" * 24, True),
        ("x" * 23, False),
        ("abcdef" * 4, True),
        ("abcdef" * 3 + "abcde", False),
        ("abcdefg" * 4, True),
        ("abcdefg" * 3 + "abcdef", False),
        ("".join(map(chr, range(65, 125))) * 4, True),
        ("".join(map(chr, range(65, 126))) * 5, False),
        ("no " + "x" * 24 + " \n", True),
    ],
)
def test_circles(text: str, round: bool) -> None:
    assert checks.circles(text) is round


@pytest.mark.parametrize(
    ("strict", "flexible", "form"),
    [((1, 2, 0.049), (3, 3, 0.05), True), ((1, 2, 0.05), (3, 3, 0.05), False), ((2, 2, 0.01), (3, 3, 0.5), False),
     ((1, 2, 0.01), (3, 3, 0.049), False)],
)  # fmt: skip
def test_form_only(strict: tuple[int, int, float], flexible: tuple[int, int, float], form: bool) -> None:
    tests = (Comparison("base", "policy", "strict", *strict), Comparison("base", "policy", "flexible", *flexible))
    told = "strict accuracy rose but flexible did not: the model learned the form of the answer, not to solve more"
    assert checks.form_only(run_data(results=Results(comparisons=tests))) == ([told] if form else [])
    assert checks.form_only(run_data(results=Results(comparisons=tests[:1]))) is None
    assert checks.form_only(run_data(results=Results(comparisons=tuple(t.turned for t in tests)))) is None


def test_pairs_too_easy() -> None:
    easy = "held-out preference accuracy is nearly 100%: the form may be enough to distinguish the pairs"
    for values, told in (([], None), ([0.996, 0.995], []), ([0.5, 0.996], [easy])):
        assert checks.too_easy(run_data(evaluations={"heldout/accuracy": values})) == told


@pytest.mark.parametrize(
    ("longer", "low", "told"),
    [
        (0.5, 0.6, []),
        (0.6, 0.6, ["“the longer answer wins” is right in 60.0%"]),
        (0.5, 0.5, ["“the longer answer wins” is right in 50.0%"]),
        (0.3, 0.71, []),
        (0.25, 0.75, ["“the shorter answer wins” is right in 75.0%"]),
    ],
)
def test_length_alone(longer: float, low: float, told: list[str]) -> None:
    accuracy, wins = Estimate(0.8, low, 0.9, 9, None, ""), Estimate(longer, 0, 1, 9, None, "")
    results = Results(reward=RewardResult(accuracy, wins, (), 0.1, 0.1, ()))
    end = " of the comparisons: this may be all it learned"
    assert checks.length_alone(run_data(results=results)) == [t + end for t in told]
    assert checks.length_alone(run_data()) is None
