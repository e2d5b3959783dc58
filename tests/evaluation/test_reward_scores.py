"""Scorers by name: which are judges, which are models, and the columns of published rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from twofold.errors import DataError, RecipeError
from twofold.evaluation.parts import WHOLE, Line
from twofold.evaluation.players import Player, files_of, parse_players
from twofold.evaluation.reward_scores import (
    Scored,
    ScoreSettings,
    _by_judge,
    columns_of,
    is_judge,
    measure_scores,
    models_in,
)
from twofold.judges.base import JudgeNameError
from twofold.ledger import Ledger
from twofold.records import Source


def test_a_name_is_a_judge_unless_it_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_judge("reward:m")
    assert is_judge("llm:http://h/v1#m")
    assert not is_judge("m")
    assert not is_judge("nobody:m")
    (tmp_path / "reward:m").mkdir()
    assert not is_judge("reward:m")
    assert models_in(["reward:m", "reward:n"]) == ["reward:m", "n"]


def test_models_of_scorers_are_listed_once() -> None:
    names = ["m", "reward:m", "reward:n", "llm-score:http://h/v1#j", "m", "org/p"]
    assert models_in(names) == ["m", "n", "org/p"]
    assert models_in([]) == []
    with pytest.raises(JudgeNameError, match="human"):
        models_in(["m", "human:f"])


def test_columns_are_read_up_to_a_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    made = [{"subset": f"s{n}", "id": n, "x": 1} for n in range(1, 5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in (made[0], [1], *made[1:])))
    found = {1: {"subset": "s1", "id": 1}, 3: {"subset": "s2", "id": 2}}
    assert columns_of(str(path), "train", ("subset", "id"), 3) == found
    assert len(columns_of(str(path), "train", ("subset",), 99)) == 4


@pytest.mark.parametrize("value", [None, ""])
def test_a_row_without_a_column_is_named(tmp_path: Path, value: object) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"subset": "s", "id": 0}}\n{{"id": 1, "subset": {json.dumps(value)}}}\n')
    assert columns_of(str(path), "train", ("subset", "id"), 1) == {1: {"subset": "s", "id": 0}}
    with pytest.raises(DataError, match="lacks the field `subset`") as refused:
        columns_of(str(path), "train", ("subset", "id"), 2)
    assert refused.value.where == f"{path}:2"
    assert refused.value.remedy == "the published data have subset, id in each row"


def test_files_of_players_are_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    players = [*parse_players(["a.jsonl", "m", "b.csv", "reference"]), Player(model="a.jsonl", shots=1)]
    assert files_of(players) == ["a.jsonl", "b.csv"]


def scored(number: int) -> list[Scored]:
    return [Scored("p", ("a", "b"), 1, Source("f", n + 1), {"subset": f"s{n}"}) for n in range(number)]


class Judging:
    """A kind of judge whose judge gives these scores; it records how it was opened and asked."""

    asks_server, gives = False, "scores"
    provenance = {"kind": "k"}  # noqa: RUF012  # of one judge

    def __init__(self, *given: list[float] | None) -> None:
        self.given, self.asked, self.opened = given, list[Any](), list[Any]()
        self.looked_at = list[str]()

    def help(self) -> str:
        return "the score"

    def refuse(self, truth: str | None, where: str) -> None:
        assert truth is None
        self.looked_at.append(where)

    def open(self, resources: Any, stack: Any) -> Any:
        self.opened.append(resources)
        return self

    def scores(self, questions: Any, progress: Any) -> Any:
        at = len(self.asked)
        self.asked += questions
        return self.given[at : len(self.asked)]


def judged(kind: Any, number: int, tmp_path: Path, **how: Any) -> Line:
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        return _by_judge("k:m", kind, scored(number), ScoreSettings(**how), WHOLE, ledger)


def test_a_judges_scores_are_rows(tmp_path: Path) -> None:
    kind = Judging([1.0, 2.0], [3.0, 4.0])
    line = judged(kind, 2, tmp_path)
    assert line.rows == [
        {"model": "k:m", "name": f"f:{n}", "subset": f"s{n - 1}", "right": 1, "scores": scores}
        for n, scores in ((1, [1.0, 2.0]), (2, [3.0, 4.0]))
    ]
    assert line.about == {"score": "the score", "judge": {"kind": "k"}, "compares": False}
    assert [[c.completion for c in q.candidates] for q in kind.asked] == [["a", "b"]] * 2
    kind.gives = "shares"
    kind.asked.clear()
    assert judged(kind, 2, tmp_path).about["compares"]


@pytest.mark.parametrize(
    ("given", "what", "where"),
    [
        ([[1.0, 2.0], None, [1.0, 2.0]], "1 row without a verdict", "f:2"),
        ([None, [1.0, 2.0], [1.0, 2.0]], "1 row without a verdict", "f:1"),
    ],
)
def test_a_row_without_a_verdict_is_named(given: list[Any], what: str, where: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=what) as refused:
        judged(Judging(*given), 3, tmp_path)
    assert refused.value.where == where


def test_every_judge_has_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"k:a": Judging([1.0, 2.0]), "k:b": Judging([3.0, 4.0])}
    monkeypatch.setattr("twofold.evaluation.reward_scores.is_judge", kinds.__contains__)
    monkeypatch.setattr("twofold.evaluation.reward_scores.parse_judge", lambda name, place: kinds[name])
    found = measure_scores(["k:a", "k:b", "k:a"], scored(1), ScoreSettings(out=tmp_path), WHOLE)
    assert {name: line.rows[0]["scores"] for name, line in found.items()} == {"k:a": [1.0, 2.0], "k:b": [3.0, 4.0]}
    assert [kind.looked_at for kind in kinds.values()] == [["f:1"], ["f:1"]], "each row, before anything is paid for"


def test_rows_without_a_verdict_are_counted_by_batch(tmp_path: Path) -> None:
    """Of 48 rows three at once: two of them have none."""
    given = [[1.0, 2.0]] * 4 + [None] * 2 + [[1.0, 2.0]] * 42
    with pytest.raises(DataError, match="2 rows without a verdict") as refused:
        judged(Judging(*given), 48, tmp_path)
    assert refused.value.where == "f:5"


def test_rubrics_and_references_are_for_those_who_read_them(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="a rubric goes with llm and llm-score"):
        judged(Judging([1.0, 2.0]), 1, tmp_path, rubric="r")
    with pytest.raises(RecipeError, match="only models have implicit rewards") as refused:
        measure_scores(["reward:m", "reward:m"], scored(1), ScoreSettings(reference="m"), WHOLE)
    assert refused.value.where == "--reference"
