"""Rows that are rare: few for five folds, chats as worked examples, several reference answers, pairs made in memory."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from support.heard import Heard
from twofold.errors import DataError, RecipeError
from twofold.evaluation import length_control, mt_bench, player_answers, problems, reward_scores, rewardbench
from twofold.evaluation.conversations import Conversation
from twofold.evaluation.judging import LabeledPair, labeled_pairs
from twofold.evaluation.mt_bench import MtBenchSettings
from twofold.evaluation.parts import Line
from twofold.evaluation.players import Player
from twofold.evaluation.problems import PromptSettings, each_model
from twofold.evaluation.prompting import Prompter, Prompting, drawn
from twofold.evaluation.published_rows import BenchmarkItem, MtQuestion, fields_of, items_of, load, published_answers
from twofold.evaluation.reward_scores import Scored, ScoreSettings, measure_scores
from twofold.judges.matchups import Matchup
from twofold.judges.questions import Question
from twofold.records import Candidate, Message, Pair, Request, Source, Task
from twofold.sampling.base import Sampling


@pytest.mark.parametrize("rows", [2, 4])
def test_fewer_rows_than_folds_are_enough(rows: int) -> None:
    """Folds without a row say nothing. All rows are won, so that a weight is better the larger it is."""
    x, share, weight = np.ones((rows, 1)), np.ones(rows), np.ones(rows)
    assert length_control.cross_validated(x, share, weight, "exact") == length_control.STRENGTHS[-1]


def test_a_chat_as_a_worked_example_is_its_last_question() -> None:
    chat = (Message("system", "brief"), Message("user", "1+1?"))
    put = Prompting("{prompt} Think.", chat=True, examples=(Task(chat, "2", Source("e", 1)),))
    assert put.of(Task("3+4?", "7", Source("t", 1))).prompt == (
        Message("user", "1+1? Think."), Message("assistant", "2"), Message("user", "3+4? Think."),
    )  # fmt: skip


def test_too_few_examples_are_named_by_the_first_file() -> None:
    pool = [Task("a", "1", Source("one.jsonl", 1)), Task("b", "1", Source("two.jsonl", 1))]
    with pytest.raises(DataError) as refused:
        drawn(pool, [], 3, 0)
    assert refused.value.where == "one.jsonl"
    assert drawn(pool, [], 0, 0) == ()


def test_worked_examples_of_any_rows_have_their_best_answers(tmp_path: Path) -> None:
    """Of a conversation its text; rows without an answer are left out."""
    path = tmp_path / "rows.jsonl"
    turns = [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in [
        {"prompt": "a", "chosen": "b", "rejected": "x"}, {"prompt": turns[:1], "chosen": turns[1:], "rejected": "y"},
    ]))  # fmt: skip
    one, two = Prompter([], examples=str(path), any_rows=True).pool
    assert (one.prompt, one.answer, one.completion, one.source) == ("a", "b", "b", Source(str(path), 1))
    assert (two.prompt, two.answer, two.completion) == ((Message("user", "c"),), "d", "d")
    path.write_text('{"prompt": "a"}\n')
    with pytest.raises(DataError) as refused:
        _ = Prompter([], examples=str(path), any_rows=True).pool
    assert (refused.value.what, refused.value.where) == ("holds no worked examples", str(path))


def test_a_row_with_several_answers_plays_with_the_first() -> None:
    question = Question("p", Source("f", 1), None, (Candidate("a", {}), Candidate("b", {})))
    assert player_answers._own(question) == Candidate("a", {})


def test_a_judge_scores_the_answer_of_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first score is that of the only answer; one without a score stays without."""
    questions = [MtQuestion(Request(f"p{n}", Source("q", n)), n, "math", str(n), f"s{n}") for n in (1, 2)]
    talks = [Conversation((Candidate("x", {}), Candidate("y", {}, True)), 0.5) for _ in questions]
    judge: Any = SimpleNamespace(scores=lambda asked, progress: [[7.0, 1.0], None, [3.0, 2.0], [4.0, 9.0]])
    rows = mt_bench._scored(Player(model="m"), questions, talks, judge, MtBenchSettings(judge="reward:r"))
    assert [(row["scores"], row["truncated"], row["temperature"]) for row in rows] == [
        ([7.0, None], [False, True], 0.5), ([3.0, 4.0], [False, True], 0.5),
    ]  # fmt: skip


def test_pairs_made_in_memory_have_no_authors(tmp_path: Path) -> None:
    """Each file is read for its own rows."""
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for file in files:
        file.write_text(json.dumps({"answer": file.stem, "chosen_model": "m", "rejected_model": "n"}) + "\n")
    pairs = [Pair("p", "c", "r", Source(str(file), 1)) for file in files] + [Pair("q", "c", "r", Source("memory", 1))]
    assert labeled_pairs(pairs) == [
        LabeledPair(Matchup("p", "c", "r", Source(str(files[0]), 1), "a"), ("m", "n")),
        LabeledPair(Matchup("p", "c", "r", Source(str(files[1]), 1), "b"), ("m", "n")),
        LabeledPair(Matchup("q", "c", "r", Source("memory", 1), None), None),
    ]


def test_judges_and_models_have_scores_next_to_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference is for the models among them; where there are only judges it is refused."""
    heard, refused = Heard(), list[Any]()
    kind = SimpleNamespace(refuse=lambda truth, where: refused.append((truth, where)))
    turns = SimpleNamespace(choice="text", renders=False)
    monkeypatch.setattr(reward_scores, "is_judge", lambda name: name.startswith("k:"))
    monkeypatch.setattr(reward_scores, "parse_judge", lambda name, place: kind)
    monkeypatch.setattr(reward_scores, "_by_judge", lambda name, *_: Line([{"by": name}]))
    monkeypatch.setattr(reward_scores, "_by_model", lambda name, items, how, part: (turns, [[3.0]], f"w-{name}"))
    items = [Scored("p", ("a",), 1, Source("f", 1), {})]
    part: Any = SimpleNamespace(of=lambda rows: rows, ledger=nullcontext())
    how = ScoreSettings(reference="r", progress=heard)
    found = measure_scores(["k:a", "m", "k:a", "m"], items, how, part)
    assert (list(found), found["k:a"].rows, found["m"].rows[0]["scores"]) == (["k:a", "m"], [{"by": "k:a"}], [0.0])
    assert (heard.notes, refused) == (["k:a: 1 row", "m: 1 row"], [(None, "f:1")])
    with pytest.raises(RecipeError) as error:
        measure_scores(["k:a", "k:b", "k:a"], items, how, part)
    assert (error.value.what, error.value.remedy) == (
        "only models have implicit rewards",
        "leave it out, or name a model",
    )
    assert list(measure_scores(["k:a"], items, ScoreSettings(), part)) == ["k:a"]


def test_players_of_one_model_follow_the_first_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model is opened once; examples are put before the problems of those who have shots."""
    heard, opened = Heard(), list[Any]()

    def open_one(name: str, **how: Any) -> Any:
        opened.append((name, how))
        turns = SimpleNamespace(renders=False, has_template=False)
        return SimpleNamespace(name=name, encoder=SimpleNamespace(turns=turns),
                               sampler=lambda sampling, note: (sampling, note.__func__))  # fmt: skip

    pool = [Task(f"e{n}", "1", Source("e", n)) for n in range(3)]
    monkeypatch.setattr(problems, "open_model", open_one)
    monkeypatch.setattr(Prompter, "pool", pool)
    tasks = [Task("p", "#### 1", Source("t", 1))]
    how = PromptSettings(style="text", max_new_tokens=9, template="Q: {prompt}", prompted=(2,), progress=heard)
    models = ["m", "n@temperature:0.5", "m@shots:1", "m@beam:2"]
    found = each_model(models, tasks, how, 0.25, lambda name, sampler, model, prompting: (  # type: ignore[arg-type]
        name, sampler, model.name, len(prompting.examples)))  # fmt: skip
    plain: dict[str, Any] = {"max_new_tokens": 9}
    after, note = {"stop": ("\n\nQ:",), **plain}, Heard.note
    assert found == {
        "m": ("m", (Sampling(temperature=0.25, **plain), note), "m", 0),
        "m, 2-shot": ("m, 2-shot", (Sampling(temperature=0.25, **after), note), "m", 2),
        "m@shots:1": ("m@shots:1", (Sampling(temperature=0.25, **after), note), "m", 1),
        "n@temperature:0.5": ("n@temperature:0.5", (Sampling(temperature=0.5, **plain), note), "n", 0),
    }  # fmt: skip
    assert opened == [("m", {"chat": "text"}), ("n", {"chat": "text"})]
    assert heard.notes == [f"{name}: 1 problem" for name in ("m", "m, 2-shot", "m@shots:1", "n@temperature:0.5")]


def test_ties_whose_right_answers_are_equal_have_no_ratio() -> None:
    """Of prompt 1 the spread is 0: the margin is above it, and counts in no tanh."""
    rows = [{"id": "ref:1", "scores": [2.0, 1.0], "right": 1}, {"id": "tied:1", "scores": [3.0, 3.0, 1.0], "right": 2}]
    assert rewardbench.tie_credits(rows) == {"1": pytest.approx(0.3 + 0.3 + 0.2 + 0.2)}
    level = [{"id": "tied:2", "scores": [1.0, 1.0, 1.0], "right": 2}]
    assert rewardbench.tie_credits(level) == {"2": 0.0}
    apart = [*rows, {"id": "tied:2", "scores": [9.0, 8.0, 0.0], "right": 2}]
    assert rewardbench.tie_credits(apart)["2"] == pytest.approx(0.3)


def test_lines_that_are_empty_are_no_rows_of_a_benchmark(tmp_path: Path) -> None:
    """Neither for items, nor for fields or answers."""
    path = tmp_path / "q.jsonl"
    rows = [{"uid": f"u{n}", "category": f"c{n}", "prompt": f"p{n}", "metadata": n} for n in (1, 2)]
    path.write_text("\n".join(["", json.dumps(rows[0]), "", json.dumps(rows[1])]) + "\n")
    records = load("arena-hard", str(path)).records
    items = items_of("arena-hard", records)
    assert [(item.index, item.subset, item.name, item.record.source.row) for item in items] == [
        (0, "c1", "u1", 2), (1, "c2", "u2", 4),
    ]  # fmt: skip
    assert fields_of(str(path), items, "metadata") == {0: (f"{path}:2", 1), 1: (f"{path}:4", 2)}
    assert published_answers(str(path), items) is None


def test_an_answer_by_an_id_goes_before_one_by_its_prompt(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"instruction": "p", "output": "by prompt"}, {"uid": "u", "choices": [{"turns": ["by id"]}]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    several = [BenchmarkItem(Request("p", Source("q", n)), n, "s", name) for n, name in ((1, "u"), (2, "v"), (3, ""))]
    assert published_answers(str(path), several) == ["by id", "by prompt", "by prompt"]
