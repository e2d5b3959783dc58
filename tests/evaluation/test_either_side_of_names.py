"""Names, kinds and numbers on either side of the one that counts: players, subsets, judges, judged pairs and tables."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.heard import Heard
from twofold.errors import DataError, RecipeError
from twofold.evaluation import arena_hard, contest, instruction_following, mt_bench, mt_bench_pairs, problems, win_rate
from twofold.evaluation.answer_style import TokenCounter, styled
from twofold.evaluation.arena_hard import ArenaHardSettings, measure_arena_hard
from twofold.evaluation.benchmark_matches import BenchmarkSettings
from twofold.evaluation.earlier import earlier
from twofold.evaluation.figures import Entry, Ratio, comparisons
from twofold.evaluation.games import Game
from twofold.evaluation.hull import Point, areas
from twofold.evaluation.instruction_following import IfevalSettings, measure_instructions
from twofold.evaluation.judging import JudgeSettings, LabeledPair, judge_figures, verdict_rows
from twofold.evaluation.mt_bench import MtBenchSettings
from twofold.evaluation.parts import WHOLE, Line
from twofold.evaluation.players import Player, parse_player
from twofold.evaluation.problems import PromptSettings, each_model
from twofold.evaluation.published_rows import items_of, load, mt_questions
from twofold.evaluation.rewardbench import RewardBenchSettings, best_figures
from twofold.evaluation.truthfulqa import targets_of
from twofold.evaluation.win_rate import WinRateSettings
from twofold.judges.base import MatchResult
from twofold.judges.matchups import Matchup, Referee
from twofold.progress import Silent
from twofold.records import Source, Task

URL = "http://127.0.0.1:9/v1#m"


def refused(call: Any, *given: Any, **how: Any) -> str:
    with pytest.raises((RecipeError, DataError)) as error:
        call(*given, **how)
    return error.value.what


@pytest.mark.parametrize("name", ["m", "answers.jsonl", URL])
def test_whoever_answers_can_follow_instructions_and_talk(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the rows' own answers, which there are not."""
    measured = list[Any]()
    monkeypatch.setattr(instruction_following, "measure_answers", lambda models, *rest: measured.append(models) or {})
    task = Task("p", '[{"kind": "punctuation:no_comma"}]', Source("f", 1))
    measure_instructions([name], [task], IfevalSettings(), WHOLE)
    assert measured == [[name]]
    mt_bench._refuse([parse_player(name)])
    for whole in ("reference", f"{name}@shots:1"):
        if name.endswith("jsonl") and "@" in whole:
            continue
        assert refused(measure_instructions, [whole], [task], IfevalSettings(), WHOLE).endswith("has no meaning here")
        assert refused(mt_bench._refuse, [parse_player(whole)]).endswith("has no meaning here")


@pytest.mark.parametrize("name", ["/a/b/m", "/a/b/answers.jsonl", URL])
def test_an_opponent_is_named_by_its_kind(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the rows' own answers by their file."""
    monkeypatch.setattr(arena_hard, "measure_matches", lambda *_: {})
    assert measure_arena_hard([], [], ArenaHardSettings(judge="llm:http://h/v1#j", against=name), WHOLE) == {}
    assert BenchmarkSettings(judge="reward:r", against=name).baseline.model == name
    assert WinRateSettings(judge="reward:r", against=name).opponent == Player(model=name)
    book: Any = SimpleNamespace(questions=[SimpleNamespace(source=Source("/x/y/rows.jsonl", 1))], check=lambda _: None,
                                draw=lambda _: None)  # fmt: skip
    referee: Any = Referee({}, lambda matchups, progress: [])
    monkeypatch.setattr(win_rate, "open_book", lambda *_: book)
    monkeypatch.setattr(win_rate, "open_judge", lambda *_: referee)
    monkeypatch.setattr(win_rate, "meet", lambda book, own, other, judges: win_rate.Drawn(own, [], []))
    part: Any = SimpleNamespace(ledger=object())
    monkeypatch.setattr(win_rate, "is_by_people", lambda how, part: False)
    monkeypatch.setattr(win_rate, "check_line", lambda *_: {})
    for against, shown in ((name, name if name == URL else name[3:]), (None, "the answers of y/rows.jsonl")):
        how = WinRateSettings(judge="reward:r", against=against, temperatures=[0.0], canary="")
        (line,) = win_rate.measure_win_rate(["k"], [], how, part).values()
        assert line.about["against"] == shown


@pytest.mark.parametrize(
    "judge", [(), "human:f", "llm-prob:http://h/v1#j", "reward:r", ("llm:http://h/v1#j", "reward:r")]
)
def test_grades_are_of_one_judge_that_grades(judge: Any) -> None:
    how = ArenaHardSettings(judge=judge, against="m")
    assert refused(measure_arena_hard, [], [], how, WHOLE) == "requires one judge that grades two answers"


@pytest.mark.parametrize("judge", [(), "human:f", "reward:r", ("llm:http://h/v1#j", "llm:http://h/v1#k")])
def test_conversations_are_judged_by_one(judge: Any) -> None:
    how = MtBenchSettings(judge=judge, against="m")
    assert refused(mt_bench_pairs.check_pair_judge, how) == "requires one judge that compares two answers"
    if judge != "reward:r" and judge != "human:f":
        want = "requires one judge: scores of a panel have no majority"
        assert refused(mt_bench._judge_kind, how) == want


def test_an_at_sign_in_the_name_of_a_file_is_no_setting() -> None:
    assert parse_player("me@home.jsonl").kind == "file"
    assert parse_player("me@home.jsonl").model == "me@home.jsonl"
    assert refused(parse_player, "me@home") == "`@home` is no setting, and no such folder"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("m@best-of:2?guide=verifier", "`?guide=verifier` is not reward=REWARD"),
        ("m@best-of:2?rewards=verifier", "`?rewards=verifier` is not reward=REWARD"),
        ("m@best-of:2?reward", "`?reward` is not reward=REWARD"),
        ("m@beam:2?a=reward:rm", "`?a=reward:rm` is not guide=REWARD"),
        ("m@beam:2?guides=reward:rm", "`?guides=reward:rm` is not guide=REWARD"),
        ("m@shots:2?x", "`?x` means nothing to shots"),
    ],
)
def test_options_of_other_names_are_refused(text: str, what: str) -> None:
    assert refused(parse_player, text) == what


def test_players_are_opened_in_the_order_of_their_models(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = list[str]()
    turns = SimpleNamespace(renders=False, has_template=False)

    def open_one(name: str, chat: str) -> Any:
        opened.append(name)
        return SimpleNamespace(name=name, encoder=SimpleNamespace(turns=turns), sampler=lambda *_: None)

    monkeypatch.setattr(problems, "open_model", open_one)
    models = ["b", "a", "b@temperature:1", "c", "a@temperature:1"]
    found = each_model(models, [], PromptSettings(), 0.0, lambda name, *_: name)
    assert list(found) == ["b", "b@temperature:1", "a", "a@temperature:1", "c"]
    assert opened == ["b", "a", "c"]


def test_subsets_after_ties_in_the_alphabet_are_no_ties() -> None:
    rows = [{"model": "m", "name": "r", "prompt": subset, "right": 1, "subset": subset, "scores": [2.0, 1.0]}
            for subset in ("Zeta", "Alpha")]  # fmt: skip
    (model,) = best_figures({"m": Line(rows)}, RewardBenchSettings()).figures["models"]
    assert {name: figures["accuracy"]["value"] for name, figures in model["subsets"].items()} == {"Zeta": 1, "Alpha": 1}


def test_a_table_of_players_in_any_order() -> None:
    """The first is z: it won one of two against a, and lost to m."""
    games = {("z", "a"): [Game(0, "p", 1.0, 8, 2), Game(1, "q", 0.0, 8, 2)], ("m", "z"): [Game(2, "p", 1.0, 6, 10)]}
    scores: Any = SimpleNamespace(estimates=[SimpleNamespace(as_dict=lambda: {"value": 0.0})] * 3, groups=(0, 0, 0))
    table = {t["name"]: t for t in contest._table(games, scores, ["z", "a", "m"], dict.fromkeys("zam", 0))}
    assert {name: (t["wins"], t["losses"], t["length"]) for name, t in table.items()} == {
        "z": (1, 2, 26 / 3), "a": (1, 1, 2.0), "m": (1, 0, 6.0),
    }  # fmt: skip
    assert [t["name"] for t in contest._table(games, scores, ["z", "a", "m"], dict.fromkeys("zam", 0))] == [
        "z",
        "a",
        "m",
    ]


def test_missing_verdicts_are_counted_of_judges_before_and_after_majority() -> None:
    results: dict[str, list[MatchResult | None]] = {
        "a": [MatchResult(1.0), MatchResult(1.0), None], "z": [MatchResult(1.0), None, None],
    }  # fmt: skip
    lines = dict[str, Line]()
    for name, several in results.items():
        pairs = [LabeledPair(Matchup(f"q{n}", "aa", "b", Source("f", n))) for n in range(3)]
        referee = Referee({}, lambda matchups, progress, several=several: several)
        lines[name] = Line(verdict_rows(pairs, referee, Silent()), {"judge": {"kind": name}})
    heard = Heard()
    judge_figures(lines, JudgeSettings(progress=heard))
    assert heard.warnings == ["3 verdicts missing: left out of n"]


def test_ratios_of_other_tokens_are_compared_in_neither_direction() -> None:
    a, b = (Ratio([1.0, 2.0], [1.0, 1.0], True, tokens) for tokens in ([1.0, 2.0], [1.0, 3.0]))
    assert a.against(b) is b.against(a) is None
    entries = [Entry(name, {"x": each}) for name, each in (("b", b), ("a", a))]
    assert comparisons(entries) == comparisons(entries[::-1]) == []


@pytest.mark.parametrize("kl", [0.0, -0.5])
def test_a_method_that_did_not_move_has_no_area(kl: float) -> None:
    base = Point([0.0], [0.0], [0.0])
    assert areas(base, {"m": [[Point([kl], [kl], [1.0])]]}, resamples=2) is None
    moved = areas(base, {"m": [[Point([kl], [kl], [1.0]), Point([0.5], [0.5], [1.0])]]}, resamples=2)
    assert moved is not None
    assert moved.limit == 0.5


def test_three_models_of_one_file_are_not_two(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"model": model, "name": str(n), "strict": True} for model in "abc" for n in range(10)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert refused(earlier, [path]) == "has 3 models, not two"
    assert refused(earlier, [path] * 3) == "has 3 models, not two"
    assert earlier([path] * 2).models == ("a", "a")


def test_counts_of_nothing_are_counts(tmp_path: Path) -> None:
    data, file = tmp_path / "q.jsonl", tmp_path / "m.jsonl"
    data.write_text('{"uid": "q0", "category": "c", "prompt": "p"}\n')
    metadata = {"token_len": 0, "header_count": {"h1": 0}, "list_count": 0, "bold_count": {"**": 2, "__": 1}}
    file.write_text(json.dumps({"uid": "q0", "metadata": metadata}) + "\n")
    rows = [{"index": 0, "own": "# A\n- b", "other": "c"}]
    items = items_of("arena-hard", load("arena-hard", str(data)).records)
    assert styled(rows, items, (str(file), str(file)), TokenCounter())[0]["style"] == [0, 0, 0, 3]


def test_references_may_have_further_turns(tmp_path: Path) -> None:
    data, folder = tmp_path / "question.jsonl", tmp_path / "reference_answer"
    folder.mkdir()
    data.write_text('{"question_id": 1, "category": "math", "turns": ["a", "b"]}\n')
    (folder / "gpt-4.jsonl").write_text('{"question_id": 1, "choices": [{"turns": ["x", "y", "z"]}]}\n')
    (question,) = mt_questions(load("mt-bench", str(data)).records)
    assert question.references == ("x", "y")


@pytest.mark.parametrize(
    "answer", ["no json", "4", "[]", "{}", '{"mc1": [["a", "x"]], "mc2": []}', '{"mc1": [3], "mc2": []}']
)
def test_answers_that_are_none_of_truthfulqa_are_named(answer: str) -> None:
    assert refused(targets_of, Task("q", answer, Source("t", 3))) == "the row has no answers of TruthfulQA"
    fine = '{"mc1": [["a", "1"], [2, 0]], "mc2": [["a", 1]]}'
    assert targets_of(Task("q", fine, Source("t", 3))) == {"mc1": [("a", 1), ("2", 0)], "mc2": [("a", 1)]}
