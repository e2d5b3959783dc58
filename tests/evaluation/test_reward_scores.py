"""Scorers by name: which are judges, which are models, and the columns of published rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from twofold.errors import DataError
from twofold.evaluation.players import Player, files_of, parse_players
from twofold.evaluation.reward_scores import columns_of, is_judge, models_in
from twofold.judges.base import JudgeNameError


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
