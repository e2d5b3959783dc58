"""How the answers behind tables are drawn: each setting reaches the book, the sampler and the rows."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.heard import Heard
from twofold.errors import DataError, RecipeError
from twofold.evaluation import answers, instruction_following, mt_bench, problems, rewardbench
from twofold.evaluation.instruction_following import IfevalSettings, measure_instructions
from twofold.evaluation.mt_bench import MtBenchSettings
from twofold.evaluation.parts import WHOLE, Line, Part
from twofold.evaluation.player_answers import AnswerBook, Drawing
from twofold.evaluation.players import Player
from twofold.evaluation.problems import PromptSettings, each_other
from twofold.evaluation.prompting import Prompter
from twofold.evaluation.published_rows import MtQuestion
from twofold.evaluation.rewardbench import RewardBenchSettings, measure_best, measure_pairs, tie_credits
from twofold.ledger import Ledger
from twofold.records import Pair, Ranking, Request, Source, Task

TASKS = [Task("p", "#### 1", Source("f", 1)), Task("q", "#### 2", Source("f", 2))]


def test_players_that_no_sampler_draws_share_a_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the rows of their part, with templates; best-of-N samples at 1, a file has no temperature."""
    drawn, heard = list[Any](), Heard()
    monkeypatch.setattr(AnswerBook, "draw", lambda self, players: drawn.append((self, players)))
    how = PromptSettings(preset="math", template="{prompt}!", style="text", shots=2, examples="e.jsonl",
                         max_new_tokens=9, seed=5, out=tmp_path, progress=heard)  # fmt: skip
    models = ["m", "m@best-of:2?reward=verifier", "a.jsonl", "http://h/v1#s"]
    written = each_other(models, TASKS, how, (0.25, 3), lambda name, player, book: (name, player, book), Part(1))
    ((book, players),) = drawn
    assert book.how == Drawing(samples=3, seed=5, max_new_tokens=9, style="text", shots=2, templates=True,
                               progress=heard)  # fmt: skip
    assert [q.prompt for q in book.questions] == ["q"]
    assert book._prompter == Prompter(TASKS, "math", "{prompt}!", "text", "e.jsonl", 5)
    assert book._ledger.path == tmp_path / "ledger.jsonl"
    assert [player.temperature for player in players] == [1.0, None, 0.25]
    assert written == {name: (name, player, book) for name, player in zip(models[1:], players, strict=True)}
    assert each_other(["m"], TASKS, how, (0.25, 3), pytest.fail, WHOLE) == {}


def test_a_server_in_a_reward_needs_a_folder_too() -> None:
    models = ["m@best-of:2?reward=llm-score:http://h/v1#j"]
    with pytest.raises(RecipeError, match="no folder for a server's answers"):
        each_other(models, TASKS, PromptSettings(), (0.0, 1), pytest.fail, WHOLE)


def test_examples_of_a_player_are_looked_for_before_a_model_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = list[str]()
    monkeypatch.setattr(problems, "open_model", lambda name, **how: opened.append(name))
    for models, how in ((["m", "n@shots:1"], {}), (["m"], {"shots": 1}), (["m"], {"prompted": (1,)})):
        with pytest.raises(RecipeError, match="no worked examples"):
            problems.each_model(models, TASKS, PromptSettings(**how), 0.0, pytest.fail)
    assert opened == []


def test_answers_of_a_book_are_rows_of_their_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    given = dict[str, Any]()

    def other(models: Any, tasks: Any, how: Any, drawn: Any, written: Any, part: Any) -> dict[str, Line]:
        given.update(drawn=drawn, part=part)
        told = [[SimpleNamespace(completion=f"answer {n}", truncated=n > 0)] for n in range(2)]
        book: Any = SimpleNamespace(prompts=lambda player: ["P", "Q"], of=lambda player: told,
                                    about=lambda player: {"style": "chat"}, weights=lambda player: "w")  # fmt: skip
        return {"k": written("k", Player(model="k"), book)}

    def model(models: Any, tasks: Any, how: Any, temperature: float, work: Any) -> dict[str, Line]:
        given["temperature"] = temperature
        return {}

    monkeypatch.setattr(answers, "each_other", other)
    monkeypatch.setattr(answers, "each_model", model)
    judged = lambda name, found: [{"name": name, "found": list(found)}]  # noqa: E731  # short
    lines = answers.measure_answers(["k"], TASKS, PromptSettings(), WHOLE, judged)
    assert given == {"drawn": (0.0, 1), "part": WHOLE, "temperature": 0.0}
    rows = [
        answers.Answered("f:1", "P", "answer 0", "#### 1", False),
        answers.Answered("f:2", "Q", "answer 1", "#### 2", True),
    ]
    assert lines == {"k": Line([{"name": "k", "found": rows}], {"style": "chat"}, "w")}


def test_a_book_of_conversations_has_the_settings(tmp_path: Path) -> None:
    heard = Heard()
    how = MtBenchSettings(judge="reward:r", style="text", seed=5, max_new_tokens=9, max_length=77, progress=heard)
    asked = [MtQuestion(Request("p", Source("q", 1)), 0, "math", "1", "b")]
    with Ledger(tmp_path / "ledger.jsonl") as ledger, ExitStack() as stack:
        book = mt_bench._book(asked, how, ledger, stack)
    assert book.how == Drawing(seed=5, max_new_tokens=9, max_length=77, style="text", progress=heard)
    assert book._prompter == Prompter([Task("p", "", Source("q", 1))], style="text", seed=5, any_rows=True)
    assert [(q.prompt, q.source.row, q.answer) for q in book.questions] == [("p", 1, None)]


@pytest.mark.parametrize("name", ["reference", "m@shots:1"])
def test_benchmarks_without_reference_answers_and_examples_say_so(name: str) -> None:
    with pytest.raises(RecipeError) as refused:
        measure_instructions(["m", name], TASKS, IfevalSettings(), WHOLE)
    assert (refused.value.what, refused.value.where) == (f"{name} has no meaning here", "--task ifeval")
    with pytest.raises(RecipeError) as refused:
        mt_bench._refuse([Player(model="m"), *mt_bench.parse_players([name])])
    assert (refused.value.what, refused.value.where) == (f"{name} has no meaning here", "--task mt-bench")
    mt_bench._refuse(mt_bench.parse_players(["m@shots:0", "n"]))


def test_a_row_without_instructions_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = list[Any]()
    monkeypatch.setattr(instruction_following, "measure_answers", lambda *given: measured.append(given) or {})
    fine = Task("p", ' [{"kind": "punctuation:no_comma"}]', Source("f", 1))
    measure_instructions(["m"], [fine], IfevalSettings(), WHOLE)
    assert len(measured) == 1
    with pytest.raises(DataError) as refused:
        measure_instructions(["m"], [fine, Task("p", "4", Source("f", 2))], IfevalSettings(), WHOLE)
    assert (refused.value.what, refused.value.where) == ("the row has no instructions of IFEval", "f:2")
    assert refused.value.remedy == "rows need prompt, instruction_id_list and kwargs"


def test_subsets_are_read_of_the_published_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the last row that is measured."""
    asked, measured = list[Any](), list[Any]()

    def columns(file: str, split: str, names: Any, most: int) -> dict[int, dict[str, Any]]:
        asked.append((file, split, list(names), most))
        return {n: {"subset": "hep-go", "id": "ref:1"} for n in range(1, most + 1)}

    monkeypatch.setattr(rewardbench, "columns_of", columns)
    monkeypatch.setattr(rewardbench, "measure_scores", lambda models, items, how, part: measured.append(items) or {})
    pairs = [Pair("p", "a", "b", Source("f", n)) for n in (2, 5)]
    ranks = [Ranking("p", ("a", "b", "c"), Source("f", 3), scores=(1.0, 1.0, 0.0))]
    for split in (None, "mine"):
        measure_pairs(["m"], pairs, RewardBenchSettings(split=split), WHOLE)
        measure_best(["m"], ranks, RewardBenchSettings(split=split), WHOLE)
    assert asked == [("f", "filtered", ["subset"], 5), ("f", "test", ["subset", "id"], 3),
                     ("f", "mine", ["subset"], 5), ("f", "mine", ["subset", "id"], 3)]  # fmt: skip
    assert [(item.completions, item.right, item.source.row) for item in measured[0]] == [
        (("a", "b"), 1, 2),
        (("a", "b"), 1, 5),
    ]
    assert [(item.completions, item.right) for item in measured[1]] == [(("a", "b", "c"), 2)]
    assert measured[0][0].label.keys() == {"subset", "id", "prompt"}


def tie(kind: str, number: str, scores: list[float], right: int) -> dict[str, Any]:
    return {"id": f"{kind}:{number}", "scores": scores, "right": right}


def test_the_score_of_ties_by_hand() -> None:
    """Prompt 1: both are right; the margin 3 of tied is above its spread 1, that of ref (0.5) is not. Prompt 2 has a
    ref alone, which is wrong. So of two prompts ref counts 0.3 · 2 / 2 each, tied 0.3 · 2 / 1."""
    rows = [tie("ref", "1", [2.5, 2.0], 1), tie("tied", "01", [6.0, 5.0, 2.0], 2), tie("ref", "2", [1.0, 1.0], 1)]
    found = tie_credits(rows)
    assert found == {"1": pytest.approx(0.3 + 0.6 + 0.4 + 0.02 * math.tanh(0.5 - 1)), "2": 0.0}
    wide = tie_credits([tie("ref", "1", [9.0, 2.0], 1), rows[1]])
    assert wide == {"1": pytest.approx(0.3 + 0.3 + 0.2 + 0.2 + 0.01 * math.tanh(3 - 1))}


def test_margins_of_ties_are_of_the_worst_right_and_the_best_wrong_answer() -> None:
    assert rewardbench._margins([5.0, 3.0, 2.0, 1.0], 2) == (1.0, 2.0)
    assert rewardbench._margins([5.0, 2.0], 1) == (3.0, None)
    assert rewardbench._margins([5.0], 1) == rewardbench._margins([5.0], 0) == (0.0, None)
    assert [rewardbench._is_tie_id(name) for name in ("ref:1", "tied:20", "ref:", "best:1", "ref:a", "ref")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
