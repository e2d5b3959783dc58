"""The grammar of players: what each text is, which names win over settings, and what a mistake costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from twofold.errors import RecipeError
from twofold.evaluation.players import Player, models_of, parse_player, parse_players, refuse_players

URL = "http://127.0.0.1:9/v1#org/m@v2"
BEST = "verifier:flexible"


@pytest.mark.parametrize(
    ("text", "kind", "player"),
    [
        ("m", "model", Player(model="m")),
        ("org/m@temperature:0.70", "model", Player(model="org/m", temperature=0.7)),
        ("m@temperature:0.3@shots:2", "model", Player(model="m", shots=2, temperature=0.3)),
        (f"m@best-of:16?reward={BEST}", "model", Player(model="m", best_of=16, reward=BEST)),
        (
            "m@best-of:4?reward=llm-score:http://me@h/v1#j@v1@temperature:2@shots:1", "model",
            Player(model="m", best_of=4, reward="llm-score:http://me@h/v1#j@v1", temperature=2.0, shots=1),
        ),
        ("m@beam:5@shots:0", "model", Player(model="m", beams=5, shots=0)),
        ("m@beam:5?guide=reward:rm", "model", Player(model="m", beams=5, guide="reward:rm")),
        ("m@beam:5?guide=process:p?steps=last@shots:0", "model",
         Player(model="m", beams=5, guide="process:p?steps=last", shots=0)),
        (URL, "server", Player(model=URL)),
        (f"{URL}@temperature:1", "server", Player(model=URL, temperature=1.0)),
        ("reference", "reference", Player(model="reference")),
        ("answers.jsonl", "file", Player(model="answers.jsonl")),
    ],
)  # fmt: skip
def test_a_text_is_a_player(text: str, kind: str, player: Player) -> None:
    found = parse_player(text)
    assert (found, found.kind) == (player, kind)
    assert parse_player(found.name) == found


def test_several_values_are_several_players_each_once() -> None:
    names = [p.name for p in parse_players(["m@temperature:0,0.25,1", "m@shots:0,2@temperature:1,0", "m", "m"])]
    heat = ["m@temperature:0", "m@temperature:0.25", "m@temperature:1"]
    shots = [f"m@shots:{k}@temperature:{t}" for k in (0, 2) for t in (1, 0)]
    assert names == [*heat, *shots, "m"]
    with pytest.raises(RecipeError, match="is 2 players"):
        parse_player("m@beam:1,5")


def test_a_path_that_exists_is_a_name_whatever_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("run@home", "run@temperature:1", "rm@temperature:2", "sp ace?"):
        Path(name).mkdir()
    Path("said@shots:1").write_text("")
    assert parse_player("run@home@temperature:1") == Player(model="run@home", temperature=1.0)
    assert parse_player("run@temperature:1") == Player(model="run@temperature:1")
    assert parse_player("run@temperature:1@shots:2") == Player(model="run@temperature:1", shots=2)
    assert parse_player("sp ace?@shots:2") == Player(model="sp ace?", shots=2)
    assert parse_player("said@shots:1").kind == "file"
    best = parse_player("run@home@best-of:2?reward=reward:rm@temperature:2@temperature:0.5")
    assert (best.reward, best.temperature) == ("reward:rm@temperature:2", 0.5)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("m@temprature:1", "no setting is called 'temprature': did you mean `temperature`?"),
        ("m@temperature", "temperature has no value"),
        ("m@temperature:hot", "'hot' is not a number for temperature"),
        ("m@temperature:nan", "temperature must be ≥ 0"),
        ("m@shots:1.5", "'1.5' is not a whole number for shots"),
        ("m@best-of:1?reward=verifier", "best-of must be ≥ 2"),
        ("m@best-of:4", "best-of has no reward"),
        ("m@best-of:4?rewrd=verifier", "`?rewrd=verifier` is not reward=REWARD"),
        ("m@best-of:4?reward=verifer", "no judge is called 'verifer': did you mean `verifier`?"),
        ("m@best-of:4?reward=llm:http://h/v1#j", "llm compares answers and gives no reward"),
        ("m@best-of:4?reward=verifier@temperature:0", "at temperature 0 all samples are the same"),
        ("m@beam:5@temperature:1", "beam search does not sample"),
        ("m@beam:5?reward=verifier", "`?reward=verifier` is not guide=REWARD"),
        ("m@beam:5?guide=verifier", "verifier cannot guide a search"),
        ("m@beam:5?guide=nobody", "no judge is called 'nobody'"),
        ("m@shots:1@shots:2", "has shots twice"),
        ("m@0.7", "`@0.7` is no setting, and no such folder"),
        ("@shots:1", "no model before the settings"),
        (f"{URL}@beam:2", "a server has no beam search"),
        ("reference@shots:1", "the rows' own answers have no settings"),
        ("a.jsonl@temperature:1", "a file of answers has no settings"),
    ],
)
def test_a_mistake_names_the_player_what_is_wrong_and_what_is_possible(text: str, wrong: str) -> None:
    with pytest.raises(RecipeError) as refused:
        parse_players(["fine", text])
    assert str(refused.value).startswith(f"player {text}: {wrong}")
    assert len(refused.value.remedy) > 10
    assert len(str(refused.value).splitlines()) == 2


def test_a_temperature_goes_to_who_samples_and_has_none() -> None:
    plain, beam, best = (parse_player(t) for t in ("m", "m@beam:2", f"m@best-of:2?reward={BEST}"))
    assert (plain.at(0.0).name, plain.at(0.5).at(1.0).name) == ("m@temperature:0", "m@temperature:0.5")
    assert (beam.at(1.0), best.at(0.0).temperature, best.at(0.5).temperature) == (beam, 1.0, 1.0)


def test_what_reads_probabilities_takes_plain_models_alone() -> None:
    players = parse_players(["m", "reference", URL, "m@shots:1", "n@beam:2"])
    assert models_of(players) == ["m", "n"]
    refuse_players(players[:1], "--task preference")
    for player in players[1:]:
        with pytest.raises(
            RecipeError, match=f"^--task preference: {player.name} is no plain model".replace("?", r"\?")
        ):
            refuse_players([player], "--task preference")
