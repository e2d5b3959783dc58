"""Portions of resamples by their bounds, the first of several rows, and places that only rare inputs reach."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from support.heard import Heard
from twofold.errors import DataError
from twofold.evaluation import bradley_terry, games, harness, judging, length_control, math_problems, mt_bench
from twofold.evaluation import mt_bench_pairs as pairs_module
from twofold.evaluation import rate_in_training as training
from twofold.evaluation.arena_hard import Battles
from twofold.evaluation.benchmark_matches import BenchmarkSettings
from twofold.evaluation.bradley_terry import Match
from twofold.evaluation.conversations import Conversation
from twofold.evaluation.games import Game, length_controlled
from twofold.evaluation.harness import HarnessRequest
from twofold.evaluation.math_problems import MathPassAtKSettings, MathSettings, measure_math, measure_math_samples
from twofold.evaluation.mt_bench import MtBenchSettings, measure_mt_bench
from twofold.evaluation.mt_bench_pairs import compared
from twofold.evaluation.parts import WHOLE, Line
from twofold.evaluation.players import Player
from twofold.evaluation.published_rows import MtQuestion, gamed_rows, items_of, load, mt_questions, text_of
from twofold.evaluation.rate_in_training import RateInTraining, WinRateInTraining
from twofold.evaluation.rows import rows_of
from twofold.evaluation.style_control import StyleControl, StyleScore
from twofold.judges.base import MatchResult
from twofold.judges.matchups import Matchup, Referee
from twofold.records import Candidate, Message, Pair, Request, Source, Task


@pytest.mark.parametrize(
    ("most", "sizes"), [(1, [1] * 5), (7, [1] * 5), (8, [2, 2, 1]), (19, [4, 1]), (20, [5]), (99, [5])]
)
def test_scores_of_two_players_are_fitted_in_portions(
    most: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two prompts and four cells each: as many entries as the larger of both."""
    portions = list[int]()
    monkeypatch.setattr(bradley_terry, "HELD", most)
    monkeypatch.setattr(bradley_terry, "_fitted", lambda won: portions.append(len(won)) or np.zeros(won.shape[:2]))
    bradley_terry.bradley_terry([Match(0, 1, n % 2, 1.0) for n in range(9)], 2, resamples=5)
    assert portions == [1, *sizes]
    portions.clear()
    bradley_terry.bradley_terry([Match(0, 1, n, 1.0) for n in range(9)], 2, resamples=2)
    assert portions == ([1, 1, 1] if most < 18 else [1, 2])
    portions.clear()
    bradley_terry.bradley_terry([Match(0, 1, "p", 1.0), Match(1, 2, "p", 1.0)], 3, resamples=2)
    assert portions == ([1, 1, 1] if most < 18 else [1, 2]), "nine cells each"


@pytest.mark.parametrize(("most", "drawn", "left_out"), [
    (2, [1] * 5, [1] * 3), (6, [2, 2, 1], [2, 1]), (11, [3, 2], [3]), (15, [5], [3]),
])  # fmt: skip
def test_lengths_are_controlled_in_portions(
    most: int, drawn: list[int], left_out: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    portions = list[int]()

    def fitted(x: Any, share: Any, weight: Any) -> Any:
        portions.append(len(weight))
        return np.zeros((2, len(weight)))

    monkeypatch.setattr(games, "HELD", most)
    monkeypatch.setattr(games, "_fitted", fitted)
    length_controlled([Game(n, n, 1.0, n, 4) for n in range(3)], resamples=5)
    assert portions == [1, *drawn, *left_out]


@pytest.mark.parametrize(("most", "sizes"), [(4, [1] * 5), (9, [1] * 5), (10, [2, 2, 1]), (24, [4, 1]), (25, [5])])
def test_controlled_rates_are_fitted_in_portions(most: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five rows, one of them gamed, one without a verdict and not counted."""
    portions = list[Any]()

    def fits(x: Any, y: Any, weight: Any, strength: float) -> Any:
        portions.append((weight.shape, strength))
        return np.zeros((len(weight), 3))

    gamed = length_control.GamedRows(np.array([[0.5, 0.5, 0.0]]), np.array([0.75]), dict.fromkeys(range(5), 1.0))
    one = length_control.LengthControl(
        [1.0, 0.0, None, 0.5, 1.0], [3, 4, 5, 6, 7], [5] * 5, range(5), gamed, resamples=5
    )
    one.__dict__["strength"] = 4.0
    monkeypatch.setattr(length_control, "PARTS", most)
    monkeypatch.setattr(length_control, "exact_fits", fits)
    assert one._draws.tolist() == [0.5] * 5
    assert portions == [((size, 5), 4.0) for size in sizes]


def test_one_prompt_has_no_interval() -> None:
    found = Battles([1.0], [2], [7]).against(Battles([2.0], [2], [7]))
    assert found is not None
    assert (found.difference.value, found.difference.low, found.difference.high) == (0.5, 0.5, 0.5)
    assert found.difference.method == "paired bootstrap over items 95%, one only"
    assert (found.test.p_value, found.test.n) == (1.0, 1)


def test_where_no_style_varies_scores_are_those_of_battles() -> None:
    """3 of 4 points, and the penalty of a ridge is nothing."""
    one = StyleControl(1, [0, 0], [1.0, 2.0], [2, 2], [[5, 0, 0, 0]] * 2, [[5, 0, 0, 0]] * 2, [1, 2], 8)
    assert one.is_finite
    assert StyleScore(one, 0, equal=True).estimate().value == pytest.approx(0.75)
    assert {name: style["weight"] for name, style in one.about().items()} == dict.fromkeys(
        ("tokens", "headers", "lists", "bold"), 0.0
    )


def test_a_harness_runs_on_this_machine_unless_a_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "resolve_device", lambda name: {"auto": "cuda:1"}.get(name, name))
    monkeypatch.setattr(harness, "resolve_precision", lambda name, device: f"{name} on {device}")
    auto, named = HarnessRequest(("t",), shots=2), HarnessRequest(("t",), device="mps", dtype="float16")
    assert auto.resolved() == HarnessRequest(("t",), shots=2, device="cuda:1", dtype="auto on cuda:1")
    assert named.resolved() == HarnessRequest(("t",), device="mps", dtype="float16 on mps")


def test_rows_of_another_kind_are_named_by_the_first_of_them() -> None:
    rows = [Request("p", Source("a", 1)), Request("q", Source("b", 1)), Request("r", Source("c", 1))]
    with pytest.raises(DataError) as refused:
        rows_of(rows, "preference")
    assert (refused.value.where, refused.value.remedy) == ("a", "rows need chosen and rejected")


def test_lines_of_any_end_are_read_of_a_gamed_file(tmp_path: Path) -> None:
    head = "index,instruction_difficulty,std_delta_len,preference"
    for end in ("\r", "\r\n", "\n"):
        (tmp_path / "df_gamed.csv").write_bytes((end.join([head, "0,0.5,0,0.25", "3,1.5,0,1"]) + end).encode())
        found = gamed_rows(str(tmp_path / "data.json"))
        assert found is not None
        assert (found.difficulty, found.share_G.tolist()) == ({0: 0.5, 3: 1.5}, [0.25, 1.0])


@pytest.mark.parametrize(
    ("task", "row", "what"),
    [
        ("mt-bench", {"question_id": 1, "category": "c", "turns": ["a", "b", "c"]}, "`turns` are not two texts"),
        ("arena-hard", {"uid": "u", "category": "c", "turns": []}, "lacks the key `prompt`"),
        ("arena-hard", {"uid": "u", "category": "c", "turns": {"content": "a"}}, "lacks the key `prompt`"),
        ("arena-hard", {"uid": "u", "category": "c", "turns": [{"content": " "}]}, "`content` is empty"),
        ("arena-hard", {"uid": "", "category": "c", "prompt": "p"}, "lacks the key `uid`"),
        ("alpaca-eval", {"instruction": "p", "output": None}, "lacks the key `output`"),
    ],
)  # fmt: skip
def test_a_published_row_of_a_wrong_shape_is_named(task: str, row: dict[str, Any], what: str, tmp_path: Path) -> None:
    file = tmp_path / "q.json"
    file.write_text(f"[{json.dumps(row)}]")
    with pytest.raises(DataError) as refused:
        load(task, str(file))
    assert refused.value.what == what


def test_values_that_json_has_not_are_shown_as_texts() -> None:
    with pytest.raises(DataError) as refused:
        text_of({"k": Decimal("1.50")}, "k", "f:1", "fix it")
    assert refused.value.what == 'has "1.50" as `k`, not a text'


def test_references_of_rows_have_two_texts(tmp_path: Path) -> None:
    rows = [[], ["a"], ["a", "b"], [1, 2.5], "ab", {"0": "a", "1": "b"}]
    file = tmp_path / "question.jsonl"
    made = [{"question_id": n, "category": "math", "turns": ["p", "q"], "reference": r} for n, r in enumerate(rows)]
    file.write_text("".join(json.dumps(row) + "\n" for row in made))
    records = load("mt-bench", str(file)).records
    expected = [None, None, ("a", "b"), ("1", "2.5"), None, None]
    assert [question.references for question in mt_questions(records)] == expected
    assert [item.subset for item in items_of("arena-hard", records)] == ["math"] * 6


def test_a_rate_in_training_is_opened_by_its_settings() -> None:
    assert WinRateInTraining(prompts="f", judge="j", max_length=2, limit=1).max_length == 2
    rows = [Pair("p", "chosen", "rejected", Source("f", 1)), Task("q", "4", Source("f", 2))]
    how = WinRateInTraining(prompts="f", judge="j", against="answers")
    made = RateInTraining(how, rows, None, Path("none"))  # type: ignore[arg-type]  # nobody judges
    assert made._others(["x", "y"]) == ["chosen", "4"]
    for hidden in ("_start", "_accuracy", "_noted"):
        with pytest.raises(TypeError):
            RateInTraining(how, rows, None, Path("none"), **{hidden: ["a"]})  # type: ignore[arg-type]
    other = RateInTraining(how, rows, None, Path("none"))  # type: ignore[arg-type]  # nobody judges
    made._start.append("a")
    assert (other._start, other._accuracy, other._noted) == ([], {}, [])


def test_samples_are_read_as_they_are_written() -> None:
    calls = list[Any]()

    class Lines(list[str]):
        def __enter__(self) -> Lines:
            return self

        def __exit__(self, *_: object) -> None:
            calls.append("closed")

    row = '{"kind": "win_rate", "step": 0, "completion": "é"}'
    samples: Any = SimpleNamespace(is_file=lambda: True, open=lambda **how: calls.append(how) or Lines([row]))
    assert training._started(samples) == ["é"]
    assert calls == [{"encoding": "utf-8", "newline": "\n"}, "closed"]


def test_a_judges_name_has_its_server_and_model() -> None:
    for judge, name in (
        ({"kind": "llm", "server": "s", "model": "m"}, "llm:s#m"), ({"kind": "reward", "model": "m"}, "reward"),
        ({"model": "m"}, "m"), ({"kind": "verifier"}, "verifier"), ({}, "None"),
    ):  # fmt: skip
        assert judging._judge_name(judge) == name


@pytest.mark.parametrize(("split", "want"), [(None, "test"), ("train", "train")])
def test_levels_are_read_of_the_split(split: str | None, want: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For answers and for samples; each row has its labels."""
    calls = list[Any]()
    task = Task("p", "7", Source("f", 3))
    monkeypatch.setattr(math_problems, "require_math_verify", lambda place: None)
    monkeypatch.setattr(math_problems, "labels_of", lambda problems, of: calls.append((problems, of)) or {
        "f:3": {"level": "level 2"}})  # fmt: skip
    monkeypatch.setattr(math_problems, "measure_counts", lambda models, problems, how, part, count: {
        "m": Line([{"name": "f:3"}, {"name": "f:4"}], {"a": 1}, "w")})  # fmt: skip
    monkeypatch.setattr(math_problems, "measure_answers", lambda *given: {})
    assert measure_math(["m"], [task], MathSettings(split=split), WHOLE) == {}
    found = measure_math_samples(["m"], [task], MathPassAtKSettings(split=split), WHOLE)
    assert calls == [([task], want)] * 2
    assert found == {"m": Line([{"name": "f:3", "level": "level 2"}, {"name": "f:4"}], {"a": 1}, "w")}


QUESTION = MtQuestion(Request("first?", Source("q.jsonl", 3)), 4, "math", "81", "second?", ("r1", "r2"))


def talk(first: str, second: str, **about: Any) -> Conversation:
    return Conversation((Candidate(first, {}), Candidate(second, {}, True)), 0.0, about)


def test_both_turns_are_compared_with_the_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge reads the reference answers up to the turn; the second request has both questions."""
    calls, heard = list[Any](), Heard()

    def decide(matchups: Any, progress: Any) -> Any:
        calls.append((list(matchups), progress))
        return [MatchResult(1.0, ("A", "B")), None]

    referee = Referee({"kind": "llm"}, decide, lambda: [{"server": "s"}])
    monkeypatch.setattr(pairs_module, "open_judge", lambda how, ledger, stack: calls.append(ledger) or referee)
    how = BenchmarkSettings(judge="llm:http://h/v1#j", progress=heard)
    player, base, ledger = Player(model="/a/b/m", temperature=0.0), Player(model="/a/b/base"), object()
    talks = {player: [talk("a", "b", kind="model", weights="w")], Player(model="k"): []}
    with pytest.raises(ValueError):
        compared([QUESTION], talks, (base, [talk("x", "y")]), how, ledger)  # type: ignore[arg-type]  # k has no talk
    calls.clear()
    found = compared([QUESTION], {player: talks[player]}, (base, [talk("x", "y")]), how, ledger)  # type: ignore[arg-type]
    line = found["/a/b/m@temperature:0"]
    assert line.about == {"judge": {"kind": "llm"}, "against": "b/base", "sampling": {"kind": "model", "weights": "w"}}
    assert (line.weights, found["spend"].rows, calls[0], calls[1][1]) == ("w", [{"server": "s"}], ledger, heard)
    own, other = ((Message("assistant", one), Message("user", "second?"), Message("assistant", two))
                  for one, two in (("a", "b"), ("x", "y")))  # fmt: skip
    request = ("The first question:\nfirst?\n\nThe second question:\nsecond?\n\nJudge which answer to the second "
               "question is better.")  # fmt: skip
    assert calls[1][0] == [
        Matchup("first?", "a", "x", Source("q.jsonl", 3), "r1"),
        Matchup(request, own, other, Source("q.jsonl", 3), "To the first question:\nr1\n\nTo the second question:\nr2"),
    ]  # fmt: skip
    common = {
        "model": "/a/b/m@temperature:0",
        "name": "q.jsonl:3",
        "source": ["q.jsonl", 3],
        "index": 4,
        "subset": "math",
    }
    assert line.rows == [
        {**common, "turn": 1, "prompt": "first?", "own": "a", "other": "x", "cut": False, "other_cut": False,
         "share": 1.0, "orders": ["A", "B"]},
        {**common, "turn": 2, "prompt": request, "own": "b", "other": "y", "cut": True, "other_cut": True,
         "share": None, "orders": None},
    ]  # fmt: skip
    empty = compared([], {Player(model="k"): []}, (base, []), how, ledger)["k"]  # type: ignore[arg-type]
    assert (empty.rows, empty.about["sampling"], empty.weights) == ([], {}, "")


def test_both_turns_are_scored_with_what_is_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, heard = list[Any](), Heard()

    class Kind:
        asks_server, gives = True, "scores"
        model = SimpleNamespace(spend={"server": "s"})
        provenance = {"kind": "k"}  # noqa: RUF012  # of one judge

        def check(self, how: Any) -> None:
            calls.append(how.place.where)

        def refuse(self, truth: Any, where: str) -> None:
            calls.append((truth, where))

        def open(self, how: Any, resources: Any) -> Any:
            return self

        def scores(self, questions: Any, progress: Any) -> Any:
            calls.append(([(q.prompt, q.answer, q.candidates[0].completion) for q in questions], progress))
            return [[8.0], None]

    monkeypatch.setattr(mt_bench, "_judge_kind", lambda how: Kind())
    monkeypatch.setattr(mt_bench, "_talks", lambda book, some, players: {
        player: [talk("a", "b", kind="model", weights="w")] for player in players})  # fmt: skip
    monkeypatch.setattr(mt_bench, "_book", lambda *_: None)
    part: Any = SimpleNamespace(of=lambda rows: rows, ledger=object())
    how = MtBenchSettings(judge="k:j", progress=heard)
    found = measure_mt_bench(["m"], [QUESTION], how, part)
    asked = (Message("user", "first?"), Message("assistant", "a"), Message("user", "second?"))
    both = "To the first question:\nr1\n\nTo the second question:\nr2"
    assert calls == [
        "evaluate --task mt-bench --judge", ("r1", "q.jsonl:3"), ([("first?", "r1", "a"), (asked, both, "b")], heard),
    ]  # fmt: skip
    assert found["m"].about == {"judge": {"kind": "k"}, "sampling": {"kind": "model", "weights": "w"}}
    assert (found["m"].weights, found["spend"].rows) == ("w", [{"server": "s"}])
    assert found["m"].rows == [
        {"model": "m", "name": "q.jsonl:3", "prompt": "first?", "second": "second?", "index": 4, "subset": "math",
         "completions": ["a", "b"], "scores": [8.0, None], "temperature": 0.0, "truncated": [False, True]},
    ]  # fmt: skip
