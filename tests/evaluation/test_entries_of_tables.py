"""Entries of tables from their rows: prompts as units, first prompts, counts, subsets, turns and expected wins."""

from __future__ import annotations

from typing import Any

import pytest

from support.heard import Heard
from twofold.data.reasoning import Parted
from twofold.evaluation import exact_match as exact
from twofold.evaluation import instruction_following, math_problems, mt_bench, mt_bench_pairs, rewardbench
from twofold.evaluation.benchmark_matches import MeanScore
from twofold.evaluation.figures import BinaryOutcomes, Evaluation
from twofold.evaluation.games import Game, summary
from twofold.evaluation.likelihood import grain
from twofold.evaluation.mt_bench import MtBenchSettings, mt_bench_figures
from twofold.evaluation.parts import Line
from twofold.evaluation.rewardbench import RewardBenchSettings, best_figures, pair_figures
from twofold.evaluation.tasks import ANSWERS, PASS_AT_K, SAMPLES, TASKS
from twofold.records import Message, Source, Task
from twofold.statistics import bootstrap_ratio, clustered_share, mean_by_cluster, share_difference, sign_flips


def game(item: int, share: float, probability: float | None, prompt: int) -> Game:
    return Game(item, prompt, share, 5, 4, None, probability)


def test_expected_wins_are_known_where_all_games_have_a_probability() -> None:
    played = [game(0, 1.0, 0.75, 0), game(1, 0.0, 0.25, 0), game(2, 1.0, 1.0, 1)]
    assert summary(played)["expected"] == mean_by_cluster([0.75, 0.25, 1.0], [0, 0, 1]).as_dict()
    assert summary(played)["expected"]["clusters"] == 2
    assert "expected" not in summary([*played, game(3, 1.0, None, 2)])
    assert "expected" not in summary([game(0, 1.0, None, 0)])
    assert "expected" in summary([game(0, 1.0, 0.0, 0)])


def best(subset: str, prompt: str, scores: list[float], **more: Any) -> dict[str, Any]:
    return {"model": "m", "name": "r", "prompt": prompt, "right": 1, "subset": subset, "scores": scores, **more}


BEST = [best("Math", "x", [2.0, 1.0]), best("Math", "y", [1.0, 1.0]), best("Focus", "x", [0.0, 1.0]),
        best("Focus", "z", [3.0, 0.0]), best("Focus", "u", [3.0, 0.0])]  # fmt: skip


def test_the_best_of_several_is_a_share_over_prompts() -> None:
    """Math has 1 and ½ of two rows, Focus 0, 1 and 1 of three; x is in both. Each subset weighs half."""
    (model,) = best_figures({"m": Line(BEST, {"score": "s"})}, RewardBenchSettings()).figures["models"]
    whole, gained = [1 / 4] * 2 + [1 / 6] * 3, [1 / 4, 1 / 8, 0.0, 1 / 6, 1 / 6]
    assert model["overall"] == bootstrap_ratio(gained, whole, clusters=["x", "y", "x", "z", "u"]).as_dict()
    assert model["overall"]["value"] == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert {name: figures["accuracy"]["value"] for name, figures in model["subsets"].items()} == pytest.approx(
        {"Math": 3 / 4, "Focus": 2 / 3}
    )
    assert (model["subsets"]["Focus"]["accuracy"]["n"], model["scoring"]) == (3, {"score": "s"})


def test_two_models_on_the_best_of_several_differ_by_shares() -> None:
    """Where all rows differ alike the difference has a width."""
    rows = [best("Math", prompt, [1.0, 0.0]) for prompt in "xyz"]
    worse = [{**row, "scores": [0.0, 1.0]} for row in rows]
    found = best_figures({"a": Line(worse), "b": Line(rows)}, RewardBenchSettings()).figures["comparisons"]
    whole = [1 / 3] * 3
    assert found[0]["difference"] == share_difference(bootstrap_ratio(whole, whole)).as_dict()
    assert found[0]["difference"]["low"] < found[0]["difference"]["value"] == 1.0
    assert found[0]["p_value"] == sign_flips([0.0] * 3, whole).p_value


def test_rows_of_ties_are_one_subset_with_a_score() -> None:
    tie = [best("Ties", "t", [2.0, 1.0], id="ref:1"), best("Ties", "t", [3.0, 2.5, 1.0], id="tied:1", right=2)]
    found = best_figures({"m": Line([*BEST, *tie])}, RewardBenchSettings())
    (model,) = found.figures["models"]
    score = model["subsets"]["Ties"]["score"]["value"]
    assert list(model["subsets"]) == ["Math", "Focus", "Ties"]
    assert model["overall"]["value"] == pytest.approx((3 / 4 + 2 / 3 + score) / 3)
    assert model["overall"]["n"] == 6
    assert [row.get("credit") for row in found.rows] == [1.0, 0.5, 0.0, 1.0, 1.0, None, None]


def test_sections_are_means_of_subsets_by_their_weights() -> None:
    """Of Chat two subsets are there, of 100 and 40; of Safety one. Each section counts half."""
    rows = [best("alpacaeval-easy", "a", [1.0, 0.0]), best("alpacaeval-easy", "b", [0.0, 1.0]),
            best("mt-bench-med", "a", [1.0, 0.0]), best("donotanswer", "c", [1.0, 1.0])]  # fmt: skip
    found = pair_figures({"m": Line(rows, {"compares": True})}, RewardBenchSettings())
    (model,) = found.figures["models"]
    chat = (100 * 0.5 + 40 * 1.0) / 140
    assert (model["Chat"]["value"], model["Safety"]["value"]) == pytest.approx((chat, 0.5))
    assert model["overall"]["value"] == pytest.approx((chat + 0.5) / 2)
    assert (model["ties"], model["scoring"], list(model["subsets"])) == (
        1, {"compares": True}, ["alpacaeval-easy", "mt-bench-med", "donotanswer"],
    )  # fmt: skip
    assert (model["overall"]["n"], model["Chat"]["n"], model["Safety"]["n"]) == (4, 3, 1)
    weights = [100 / 140 / 2 / 2, 100 / 140 / 2 / 2, 40 / 140 / 2, 1 / 2]
    credit = [1.0, 0.0, 1.0, 0.5]
    made = BinaryOutcomes([c == 1 for c in credit], ["a", "b", "a", "c"], weights, credit)
    assert model["overall"] == made.estimate().as_dict()
    assert [row["credit"] for row in found.rows] == credit
    assert rewardbench.SECTION_OF["xstest-should-refuse"] == "Safety"


MATH = [
    {"prompt": "p", "boxed": True, "math": True, "truncated": True, "level": "level 2"},
    {"prompt": "p", "boxed": False, "math": True, "truncated": False, "level": "level 1", "subject": "A"},
    {"prompt": "q", "boxed": True, "math": False, "truncated": True, "level": "level 2"},
]


def test_an_entry_of_math_by_level_and_subject() -> None:
    made = math_problems._entry("m", MATH, {"style": "text"})
    assert made.measures == {
        "boxed": BinaryOutcomes([True, False, True], ["p", "p", "q"]),
        "math": BinaryOutcomes([True, True, False], ["p", "p", "q"]),
    }  # fmt: skip
    assert made.as_dict()["math"] == clustered_share([2, 0], [2, 1]).as_dict()
    assert (made.counts, made.rows, made.name) == ({"truncated": 2}, MATH, "m")
    assert made.about["prompting"] == {"style": "text", "first prompt": "p"}
    assert {name: {m: f["count"] for m, f in figures.items()} for name, figures in made.about["subsets"].items()} == {
        "level 1": {"boxed": 0, "math": 1}, "level 2": {"boxed": 2, "math": 1}, "A": {"boxed": 0, "math": 1},
    }  # fmt: skip
    empty = math_problems._entry("m", [], {})
    assert (empty.measures, empty.about["prompting"]["first prompt"], empty.counts) == ({}, "", {"truncated": 0})


def test_an_entry_of_instructions_by_group() -> None:
    rows = [
        {"prompt": "p", "instructions": [{"kind": "a:x"}, {"kind": "b:y"}], "strict": [True, False],
         "loose": [True, True], "truncated": False},
        {"prompt": "q", "instructions": [{"kind": "a:z"}], "strict": [True], "loose": [True], "truncated": True},
    ]  # fmt: skip
    made = instruction_following._entry("m", rows, {"style": "chat"})
    assert made.measures == {
        "prompt_strict": BinaryOutcomes([False, True], ["p", "q"]),
        "instruction_strict": BinaryOutcomes([True, False, True], ["p", "p", "q"]),
        "prompt_loose": BinaryOutcomes([True, True], ["p", "q"]),
        "instruction_loose": BinaryOutcomes([True] * 3, ["p", "p", "q"]),
    }  # fmt: skip
    assert made.about["prompting"] == {"style": "chat", "first prompt": "p"}
    subsets = made.about["subsets"]
    assert {g: (f["strict"]["count"], f["loose"]["count"], f["strict"]["n"]) for g, f in subsets.items()} == {
        "a": (2, 2, 2), "b": (0, 1, 1),
    }  # fmt: skip
    assert (made.counts, made.rows) == ({"truncated": 1}, rows)
    assert instruction_following._entry("m", [], {}).about["prompting"] == {"first prompt": ""}


def turn(index: int, share: float | None, number: int, subset: str = "math", **more: Any) -> dict[str, Any]:
    return {"share": share, "turn": number, "index": index, "subset": subset, "own": "abc", "other": "a", "cut": False,
            "other_cut": False, **more}  # fmt: skip


def test_an_entry_of_pairs_by_turn() -> None:
    """A turn without a verdict has no rate."""
    rows = [turn(0, 1.0, 1), turn(0, 0.5, 2, own="abcde"), turn(1, 0.0, 1, "stem", cut=True), turn(1, None, 2, "stem")]
    made = mt_bench_pairs._entry("m", Line(rows, {"sampling": {"kind": "file"}}))
    assert made.measures == {"win_rate": MeanScore([1.0, 0.5, 0.0, None], [0, 0, 1, 1])}
    assert (made.about["length"], made.about["other_length"], made.about["sampling"]) == (3.5, 1.0, {"kind": "file"})
    assert {name: f["win_rate"]["value"] for name, f in made.about["subsets"].items()} == {
        "math": 0.75, "stem": 0.0, "turn 1": 0.5, "turn 2": 0.5,
    }  # fmt: skip
    assert made.about["subsets"]["turn 2"]["win_rate"]["n"] == 1
    assert (made.counts["wins"], made.counts["missing"], made.counts["truncated"], made.rows) == (1, 1, 1, rows)
    silent = mt_bench_pairs._entry("m", Line([*rows[::2], turn(0, None, 2)], {"sampling": {}}))
    assert list(silent.about["subsets"]) == ["math", "stem", "turn 1"]


def test_an_entry_of_scores_by_turn_and_category() -> None:
    rows = [
        {"scores": [8.0, 6.0], "index": 0, "subset": "math", "truncated": [True, True]},
        {"scores": [None, 4.0], "index": 1, "subset": "stem", "truncated": [False, True]},
        {"scores": [None, None], "index": 2, "subset": "coding", "truncated": [False, False]},
    ]
    made = mt_bench._entry("m", Line(rows, {"sampling": {"kind": "file"}}))
    assert made.measures == {
        "turn_1": MeanScore([8.0, None, None], [0, 1, 2]), "turn_2": MeanScore([6.0, 4.0, None], [0, 1, 2]),
        "average": MeanScore([8.0, None, None, 6.0, 4.0, None], [0, 1, 2, 0, 1, 2]),
    }  # fmt: skip
    assert {name: f["average"]["value"] for name, f in made.about["subsets"].items()} == {"math": 7.0, "stem": 4.0}
    assert (made.counts, made.rows) == ({"missing": 3, "truncated": 3}, rows)
    heard = Heard()
    how = MtBenchSettings(judge="reward:r", seed=3, max_new_tokens=9, rubric="r.md", progress=heard)
    lines = {"m": Line(rows, {"sampling": {}, "judge": {"kind": "reward"}}), "spend": Line([])}
    figures = mt_bench_figures(lines, how).figures
    assert heard.warnings == ["3 answers without a score are left out of n"]
    assert {key: figures[key] for key in ("benchmark", "judge", "seed", "max_new_tokens", "rubric")} == {
        "benchmark": "mt-bench", "judge": {"kind": "reward"}, "seed": 3, "max_new_tokens": 9, "rubric": "r.md",
    }  # fmt: skip
    assert [model["name"] for model in figures["models"]] == ["m"]


def test_exact_matches_of_one_prompt_count_once() -> None:
    rows = [exact.Row(f"t:{n}", prompt, "c", "a", n > 1, n > 0, n == 2) for n, prompt in enumerate("xxy")]
    found = exact.summary(rows)
    assert found.strict == clustered_share([0, 1], [2, 1])
    assert found.flexible == clustered_share([1, 1], [2, 1])
    assert (found.rows, found.truncated) == (tuple(rows), 1)
    chat = (Message("user", "a"), Message("assistant", "b"))
    made = exact._row(Task(chat, "#### 4", Source("t", 3)), Parted("#### 4", "2 + 2"), True, "answer")
    assert made == exact.Row("t:3", "user: a\nassistant: b", "#### 4", "#### 4", True, True, True, "2 + 2")
    assert made.as_dict()["reasoning"] == "2 + 2"
    assert "reasoning" not in rows[0].as_dict()


def test_shards_begin_anywhere_unless_batches_decide() -> None:
    """Of tasks whose batches decide the last digits at a sixteenth of the rows."""
    several = [*TASKS.values(), *SAMPLES.values(), ANSWERS, PASS_AT_K]
    assert {half.grain(160) for half in several if half.grain is not grain} == {1}
    assert (grain(160), grain(161), grain(10_000), grain(1)) == (10, 11, 256, 1)
    assert Evaluation.of([]).figures == {"models": [], "comparisons": []}
