"""Of several the first: rows, references, choices, judges whose ends differ; and a majority without probabilities."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from support.heard import Heard
from twofold.errors import ModelError
from twofold.evaluation import (
    arena_hard,
    bradley_terry,
    frontier,
    games,
    hull,
    judging,
    length_control,
    mt_bench,
    rewardbench,
    style_control,
)
from twofold.evaluation import mt_bench_pairs as pairs_module
from twofold.evaluation.bradley_terry import Match
from twofold.evaluation.conversations import Conversation, conversations
from twofold.evaluation.earlier import earlier
from twofold.evaluation.frontier import ModelCheckpoint
from twofold.evaluation.games import Game, length_controlled
from twofold.evaluation.judging import JudgeSettings, LabeledPair, judge_figures, verdict_rows
from twofold.evaluation.mt_bench import MtBenchSettings, measure_mt_bench
from twofold.evaluation.parts import WHOLE, Line
from twofold.evaluation.player_answers import AnswerBook, Drawing, questions_for
from twofold.evaluation.players import Player
from twofold.evaluation.prompting import Prompter
from twofold.evaluation.published_rows import BenchmarkItem, MtQuestion, published_answers, turns_in
from twofold.evaluation.rewardbench import RewardBenchSettings, measure_best
from twofold.judges.base import MatchResult
from twofold.judges.matchups import Matchup, Referee
from twofold.progress import Silent
from twofold.records import Candidate, Ranking, Request, Source
from twofold.statistics import bca_bounds

GAMED = length_control.GamedRows(np.array([[0.5, 0.5, 0.0]]), np.array([0.75]), {0: 1.0})


def lines(**results: list[MatchResult | None]) -> dict[str, Line]:
    found = dict[str, Line]()
    for name, several in results.items():
        referee = Referee({"kind": name}, lambda matchups, progress, several=several: several)
        pairs = [LabeledPair(Matchup(f"q{n}", "aa", "b", Source("f", n + 1)), ("x", "y")) for n in range(len(several))]
        found[name] = Line(verdict_rows(pairs, referee, Silent()), {"judge": {"kind": name}})
    return found


def test_a_majority_has_no_probabilities() -> None:
    """Those of the first judge are its own, also where the others have none."""
    sure: list[MatchResult | None] = [
        MatchResult(1.0, None, 0.9),
        MatchResult(1.0, ("A", "B"), 0.8),
        MatchResult(0.0, None, 0.2),
    ]
    plain: list[MatchResult | None] = [MatchResult(1.0), MatchResult(0.0), MatchResult(0.0)]
    for judges in ({"a": sure, "b": plain}, {"b": plain, "a": sure}):
        found = judge_figures(lines(**judges), JudgeSettings())
        table = {line["name"]: line for line in found.figures["judges"]}
        assert {name: "calibration" in line for name, line in table.items()} == {
            "a": True, "b": False, "majority": False,
        }  # fmt: skip
        rows = [row for row in found.rows if row["judge"] == "majority"]
        assert rows[0] == {
            "judge": "majority", "source": "f:1", "prompt": "q0", "chosen": "aa", "rejected": "b",
            "authors": ["x", "y"], "share": 1.0, "orders": None, "votes": [1.0, 1.0],
        }  # fmt: skip
        assert [(row["share"], row["votes"]) for row in rows[1:]] == [
            (0.5, [v[1].share for v in judges.values() if v[1]]), (0.0, [0.0, 0.0]),
        ]  # fmt: skip
        assert table["majority"]["judge"] == {}


def test_the_bias_for_lengths_has_an_interval_over_prompts() -> None:
    """The slope's own, of the same resamples."""
    several = [Game(n, n // 2, s, 50 + g, 50) for n, (s, g) in enumerate([(1, 9), (0, -5), (0.5, 3), (1, -2), (0, 6)])]
    found = length_controlled(several, resamples=15, level=0.8)
    gap = np.array([9, -5, 3, -2, 6], dtype=np.float64)
    x, share, prompt = np.tanh(gap / gap.std(ddof=1)), np.array([1, 0, 0.5, 1, 0]), np.array([0, 0, 1, 1, 2])
    draws = np.random.default_rng(0).multinomial(3, [1 / 3] * 3, size=15).astype(float)
    _, phi = games._fitted(x, share, np.ones((1, 5)))
    _, drawn = games._fitted(x, share, draws[:, prompt])
    _, left_out = games._fitted(x, share, (1 - np.eye(3))[:, prompt])
    low, high, _ = bca_bounds(float(phi[0]), drawn, left_out, 0.8)
    assert found.slope_bounds == pytest.approx((low, high))
    assert len(found.slope_bounds) == 2
    assert found.slope == pytest.approx(float(phi[0]))


def test_newtons_steps_are_taken_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none is longer than one, a few are enough for ten digits; halves of them would be 3e-8 away."""
    rng = np.random.default_rng(1)
    x, share, weight = rng.normal(size=(40, 3)), rng.random(40), rng.random((2, 40))
    several = [Match(*[(0, 1), (1, 2), (2, 0)][n % 3], n, 0.5 * (n // 3 % 3)) for n in range(27)]
    several += [Match(0, 1, "p", 1.0), Match(1, 2, "p", 1.0)]
    calls: list[tuple[Any, Any]] = [
        (games, lambda: games._fitted(x[:, 0], share, weight)),
        (bradley_terry, lambda: [e.value for e in bradley_terry.bradley_terry(several, 3, resamples=1).estimates]),
        (length_control, lambda: length_control.exact_fits(x, share, weight, 3.0)),
        (style_control, lambda: style_control.logistic_fits(x, 2 * share, np.full(40, 2.0), weight)),
    ]
    for module, call in calls:
        whole = np.asarray(call())
        monkeypatch.setattr(module, "STEPS", 25)
        np.testing.assert_allclose(np.asarray(call()), whole, atol=1e-10)
        assert np.abs(whole).max() > 0.05


def test_the_first_choice_is_the_answer(tmp_path: Path) -> None:
    row = {"question_id": 3, "choices": [{"turns": ["x", "y"]}, {"turns": ["z", "u"]}]}
    assert turns_in(row) == ["x", "y"]
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(row) + "\n")
    items = [BenchmarkItem(Request("p", Source("q", 1)), 0, "s", "3")]
    assert published_answers(str(file), items) == ["x"]


def test_the_metric_is_that_of_the_first_row_of_the_first_file(tmp_path: Path) -> None:
    files = [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
    for file, first, second in zip(files, ("right", "loose"), ("loose", "right"), strict=True):
        rows = [{"model": file.stem, "name": str(n), first: True, second: n > 2} for n in range(10)]
        rows[-1] = {"model": file.stem, "name": "9", second: True, first: True}
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [earlier(pair).metric for pair in (files, files[::-1])] == ["right", "loose"]
    assert earlier(files).models == ("1", "2")


def test_weights_that_a_model_has_not_are_named_by_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = list[Any]()
    stray = ["odd", "other"]
    loaded = SimpleNamespace(load_state_dict=lambda weights, **how: calls.append((weights, how)) or SimpleNamespace(
        unexpected_keys=stray))  # fmt: skip
    opened: Any = SimpleNamespace(loaded=SimpleNamespace(model=loaded))
    monkeypatch.setattr(frontier, "open_model", lambda name, **how: calls.append((name, how)) or opened)
    monkeypatch.setattr(frontier.Checkpoint, "open", lambda folder: SimpleNamespace(
        tensors=lambda part: calls.append((str(folder), part)) or {"w": 1}))  # fmt: skip
    with pytest.raises(ModelError) as refused:
        ModelCheckpoint("run", 7).open("text")
    assert (refused.value.what, refused.value.where, refused.value.remedy) == (
        "holds weights that the run's model has not (odd)", "run/checkpoints/step-7", "choose another step of this run",
    )  # fmt: skip
    assert calls == [
        ("run", {"chat": "text"}), ("run/checkpoints/step-7", "policy"), ({"w": 1}, {"strict": False}),
    ]  # fmt: skip
    stray.clear()
    assert ModelCheckpoint("run", 7).open("text") is opened
    calls.clear()
    assert ModelCheckpoint("run").open("auto") is opened
    assert calls == [("run", {"chat": "auto"})]


def test_rows_of_the_best_of_several_are_read_up_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = list[Any]()
    monkeypatch.setattr(rewardbench, "columns_of", lambda *given: calls.append(given) or {
        n: {"subset": "Math", "id": "1"} for n in (3, 7)})  # fmt: skip
    monkeypatch.setattr(rewardbench, "measure_scores", lambda models, items, how, part: {"items": items})
    rows = [Ranking("p", ("a", "b"), Source("f", n), scores=(1.0, 0.0)) for n in (3, 7)]
    items: Any = measure_best(["m"], rows, RewardBenchSettings(), WHOLE)["items"]
    assert calls == [("f", "test", ["subset", "id"], 7)]
    assert [(item.source.row, item.right) for item in items] == [(3, 1), (7, 1)]


def test_a_missing_style_is_of_the_first_row_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena_hard, "TokenCounter", lambda: SimpleNamespace(lacks="none"))
    own, other = {"style": None, "other_style": [1]}, {"style": [1], "other_style": None}
    for rows, whose in (([own, other], "m"), ([other, own], "the baseline")):
        assert arena_hard._why_not({"m": Line(rows)}).startswith(f"the tokens of answers of {whose} are not")


QUESTIONS = [
    MtQuestion(Request(f"p{n}", Source("q", n)), n, "math", str(n), f"s{n}", (f"a{n}", f"b{n}")) for n in (1, 2)
]


def talk(**about: Any) -> Conversation:
    return Conversation((Candidate("x", {}), Candidate("y", {})), 0.0, about)


def test_a_line_is_described_by_its_first_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = SimpleNamespace(provenance={"kind": "k"}, scores=lambda questions, progress: [[7.0]] * len(questions))
    refused = list[Any]()
    kind = SimpleNamespace(asks_server=False, check=lambda how: None, open=lambda how, stack: judge,
                           refuse=lambda *given: refused.append(given))  # fmt: skip
    several = [talk(kind="model", weights="w"), talk(kind="file", weights="v")]
    monkeypatch.setattr(mt_bench, "_judge_kind", lambda how: kind)
    monkeypatch.setattr(mt_bench, "_talks", lambda book, some, players: dict.fromkeys(players, several))
    monkeypatch.setattr(mt_bench, "_book", lambda *_: None)
    part: Any = SimpleNamespace(of=lambda rows: rows, ledger=object())
    found = measure_mt_bench(["m"], QUESTIONS, MtBenchSettings(judge="k:j"), part)
    assert (found["m"].about["sampling"], found["m"].weights) == ({"kind": "model", "weights": "w"}, "w")
    assert (refused, list(found)) == ([("a1", "q:1"), ("a2", "q:2")], ["m"])
    referee = Referee({"kind": "k"}, lambda matchups, progress: [MatchResult(1.0)] * len(matchups))
    monkeypatch.setattr(pairs_module, "open_judge", lambda *_: referee)
    how, ledger, base = MtBenchSettings(judge="llm:http://h/v1#j", progress=Heard()), object(), Player(model="b")
    line = pairs_module.compared(QUESTIONS, {Player(model="m"): several}, (base, several), how, ledger)["m"]  # type: ignore[arg-type]
    assert (line.about["sampling"], line.weights) == ({"kind": "model", "weights": "w"}, "w")


def test_the_first_sample_is_the_turn() -> None:
    """A book with further samples has them for others."""
    book: Any = SimpleNamespace()
    book.on = lambda questions: SimpleNamespace(of=lambda player: [
        [Candidate(f"{q.prompt[-1].content}!", {"weights": "w"}), Candidate("no", {})] for q in questions])  # fmt: skip
    found = conversations(book, QUESTIONS, Player(model="m"))
    assert [[a.completion for a in each.answers] for each in found] == [["p1!", "s1!"], ["p2!", "s2!"]]


def test_weights_of_a_player_are_those_of_its_first_answer() -> None:
    made = AnswerBook(questions_for([Request("p", Source("f", 1))]), Prompter([]), Drawing(), None, None)  # type: ignore[arg-type]
    player = Player(model="m")
    made.put(player, [[Candidate("a", {"weights": "w"}), Candidate("b", {"weights": "v"})], [Candidate("c", {})]])
    assert made.weights(player) == "w"
    assert judging.AUTHOR == "_model"


def test_shares_of_resamples_on_one_side_are_doubled() -> None:
    """One of seven is not above 0: 2 · (1 + 1) / (7 + 1). With two of six: 2 · 3 / 7."""
    for moved, p_value in (([-1.0, 1, 2, 3, 1, 2, 1], 0.5), ([0.0, -1, 2, 3, 1, 2], 6 / 7), ([1.0, 2, 3], 0.5)):
        draws = np.array(moved)
        drawn = {"a": np.zeros(len(moved)), "b": draws}
        found = hull._compared(("a", "b"), {"a": 1.0, "b": 2.5}, drawn, (0.8, "by hand"))
        assert found["p_value"] == pytest.approx(p_value)
        ends = np.quantile(draws, 0.1), np.quantile(draws, 0.9)
        assert (found["difference"]["low"], found["difference"]["high"]) == pytest.approx(ends)
        assert (found["difference"]["value"], found["difference"]["n"], found["difference"]["method"]) == (
            1.5,
            1,
            "by hand",
        )
        sides = [length_control.LengthControl([1.0], [1], [1], [0], GAMED, len(moved)) for _ in "ab"]
        for side, own in zip(sides, (drawn["a"], draws), strict=True):
            side.__dict__.update(_draws=own, _left_out=own[:3], predicted_N=np.array([0.5]))
        controlled = sides[0].against(sides[1])
        assert controlled is not None
        assert controlled.test.p_value == pytest.approx(p_value)
        styles = style_control.StyleControl(
            2, [0, 1], [1.0] * 2, [1] * 2, [[1, 0, 0, 0]] * 2, [[1, 0, 0, 0]] * 2, [0, 0]
        )
        rows = np.stack([np.zeros(len(moved)), draws], axis=1)
        styles.__dict__.update(draws_RK=rows, left_out_QK=rows[:3], weight_K=rows[-1])
        a, b = (style_control.StyleScore(styles, player, equal=False) for player in (0, 1))
        scored = a.against(b)
        assert scored is not None
        assert scored.test.p_value == pytest.approx(p_value)
