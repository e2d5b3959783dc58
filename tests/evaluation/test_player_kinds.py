"""What a player is by its name: files and folders, short names, temperatures, and names that no file can have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from twofold.errors import RecipeError
from twofold.evaluation.players import (
    Player,
    files_of,
    models_of,
    parse_player,
    parse_players,
    refuse_players,
)

URL = "http://127.0.0.1:9/v1#m"


def test_a_folder_is_a_model_and_a_missing_answer_file_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs.jsonl").mkdir()
    Path("answers").write_text("")
    kinds = {"runs.jsonl": "model", "answers": "file", "a.txt": "model", URL: "server", "reference": "reference"}
    kinds |= dict.fromkeys(("a.jsonl", "b.json", "c.csv", "d.parquet"), "file")
    assert {name: Player(model=name).kind for name in kinds} == kinds


def test_models_and_files_are_listed_apart() -> None:
    players = parse_players(["b.jsonl", "m", "reference", URL, "a.jsonl", "k", "m@shots:2", "org/n"])
    assert models_of(players) == ["m", "k", "org/n"]
    assert files_of(players) == ["b.jsonl", "a.jsonl"]
    assert (models_of([]), files_of([])) == ([], [])


@pytest.mark.parametrize(
    ("player", "short"),
    [
        (Player(model="/a/b/c/d"), "c/d"),
        (Player(model="/a/b/c/d", shots=2, temperature=0.5), "c/d@shots:2@temperature:0.5"),
        (Player(model="org/m", best_of=4, reward="reward:/x/y/z"), "org/m@best-of:4?reward=reward:y/z"),
        (Player(model="/a/b/c", beams=5, guide="process:/x/y/z"), "b/c@beam:5?guide=process:y/z"),
        (Player(model="m", beams=5), "m@beam:5"),
    ],
)
def test_a_short_name_has_the_last_two_parts_of_paths(player: Player, short: str) -> None:
    assert player.short == short


@pytest.mark.parametrize(
    ("player", "samples", "plain"),
    [
        (Player(model="m"), True, True), (Player(model="m", temperature=0.0), True, False),
        (Player(model="m", shots=0), True, False), (Player(model="m", beams=2), False, False),
        (Player(model=URL), True, False), (Player(model="a.jsonl"), False, False),
        (Player(model="reference"), False, False),
    ],
)  # fmt: skip
def test_who_samples_and_who_is_plain(player: Player, samples: bool, plain: bool) -> None:
    """A temperature is for players that sample and have none of their own."""
    assert (player.samples, player.is_plain) == (samples, plain)
    own = player.temperature
    assert player.at(0.25).temperature == (own if own is not None or not samples else 0.25)
    if plain:
        refuse_players([player], "--task x")
    else:
        with pytest.raises(RecipeError, match="is no plain model"):
            refuse_players([Player(model="m"), player], "--task x")


def test_a_server_is_greedy_or_the_best_of_several_at_one() -> None:
    best = parse_player(f"{URL}@best-of:2?reward=verifier")
    assert (best.at(0.0).temperature, best.at(0.5).temperature) == (1.0, 1.0)
    assert parse_player(f"{URL}@best-of:2?reward=verifier@temperature:0.5").at(0.0).temperature == 0.5


@pytest.mark.parametrize(("text", "field", "value"), [
    ("m@best-of:2?reward=verifier", "best_of", 2), ("m@beam:1", "beams", 1), ("m@shots:0", "shots", 0),
    ("m@temperature:0", "temperature", 0.0), ("m@temperature:1e3", "temperature", 1000.0),
])  # fmt: skip
def test_the_least_value_of_a_setting_is_taken(text: str, field: str, value: Any) -> None:
    found = getattr(parse_player(text), field)
    assert (found, type(found)) == (value, type(value))


def test_equal_values_are_one_player_and_settings_are_in_one_order() -> None:
    assert [p.temperature for p in parse_players(["m@temperature:0.5,0.50,0"])] == [0.5, 0.0]
    assert parse_player("m@temperature:0.5@best-of:2?reward=verifier@shots:1").name == (
        "m@shots:1@best-of:2?reward=verifier@temperature:0.5"
    )
    several = parse_players(["m@beam:3,4@shots:1,2"])
    assert [(p.shots, p.beams) for p in several] == [(1, 3), (1, 4), (2, 3), (2, 4)]


@pytest.mark.parametrize("name", ["m\0n", "m" * 300, f"org/{'m' * 5000}"], ids=len)
def test_a_name_that_no_file_can_have_is_a_model(name: str) -> None:
    found = parse_player(f"{name}@shots:1")
    assert (found.model, found.shots, found.kind) == (name, 1, "model")


def test_an_at_sign_that_begins_no_setting_is_shown_from_there() -> None:
    for text, wrong in (("m@0.7@x", "@0.7@x"), ("m@0.7@shots:1", "@0.7")):
        with pytest.raises(RecipeError) as refused:
            parse_player(text)
        assert refused.value.what == f"`{wrong}` is no setting, and no such folder"
    assert parse_player("http://me@h/v1#org@m").model == "http://me@h/v1#org@m"


@pytest.mark.parametrize(
    ("text", "rewards"),
    [
        ("m@best-of:2?reward=verifier@shots:1", ("verifier", None)),
        ("m@best-of:2?reward=reward:rm?with_reasoning=true@shots:1", ("reward:rm?with_reasoning=true", None)),
        ("m@beam:2?guide=reward:rm@shots:1", (None, "reward:rm")),
        ("m@beam:2@shots:1", (None, None)),
    ],
)
def test_an_option_ends_at_the_next_setting(text: str, rewards: tuple[str | None, str | None]) -> None:
    found = parse_player(text)
    assert ((found.reward, found.guide), found.shots) == (rewards, 1)
