"""Players: what produces the answers of an evaluation, written as text. One grammar for every task.

    MODEL                                  a folder, a run directory or a hub name
    MODEL@temperature:0.7                  sampled at this temperature
    MODEL@shots:2                          after two worked examples
    MODEL@best-of:16?reward=REWARD         the best of 16 samples by a judge that scores
    MODEL@beam:5                           the best of five beams
    MODEL@beam:5?guide=REWARD              the same, with a reward model's score of each beginning added
    URL#NAME                               a model behind an OpenAI-compatible server
    FILE                                   a file of answers (JSON lines)
    reference                              the rows' own answers

Settings combine: MODEL@shots:2@temperature:0.3. A setting with several values, as temperature:0,0.5,1, is several
players. A folder or file that exists is read as a name, whatever characters it has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Any, Literal

from twofold.client.server import is_url
from twofold.errors import RecipeError
from twofold.judges.base import JudgeNameError
from twofold.judges.registry import BEST_OF, parse_judge
from twofold.records import short_name

REFERENCE = "reference"
Kind = Literal["model", "server", "file", "reference"]
FORMS = "best-of:N?reward=REWARD, beam:N[?guide=REWARD], shots:N, temperature:T"
_NAMES = {"best-of": "best_of", "beam": "beams", "shots": "shots", "temperature": "temperature"}
"""Settings as they are written, and as fields of a player."""
_LEAST: Mapping[str, float] = {"best-of": 2, "beam": 1, "shots": 0, "temperature": 0}
_BOUNDARY = re.compile(rf"@(?=[A-Za-z][\w-]*:|(?:{'|'.join(_NAMES)})(?:[@?]|$))")
_ADDRESS = re.compile(r"(?:(?:reward|guide)=[a-z-]+:)?https?://[^#]*")
_FILES = (".jsonl", ".json", ".csv", ".parquet")


@dataclass(frozen=True, kw_only=True)
class Player:
    """What produces answers: `model` as the user wrote it, and settings; None: the task's own."""

    model: str
    shots: int | None = None
    best_of: int | None = None
    reward: str | None = None
    beams: int | None = None
    guide: str | None = None
    temperature: float | None = None

    @property
    def kind(self) -> Kind:
        if self.model == REFERENCE:
            return "reference"
        if is_url(self.model):
            return "server"
        path = Path(self.model)
        if not _exists(self.model):
            return "file" if path.suffix in _FILES else "model"
        return "file" if path.is_file() else "model"

    @property
    def label(self) -> str:
        """The player without its temperature, as it is written."""
        shots = "" if self.shots is None else f"@shots:{self.shots}"
        best = "" if self.best_of is None else f"@best-of:{self.best_of}?reward={self.reward}"
        guide = "" if self.guide is None else f"?guide={self.guide}"
        return f"{self.model}{shots}{best}" + ("" if self.beams is None else f"@beam:{self.beams}{guide}")

    @property
    def name(self) -> str:
        """The player as it is written, in one order of settings."""
        return self.label + ("" if self.temperature is None else f"@temperature:{self.temperature:g}")

    @property
    def short(self) -> str:
        """The name with short paths."""
        reward, guide = (None if name is None else short_name(name) for name in (self.reward, self.guide))
        return replace(self, model=short_name(self.model), reward=reward, guide=guide).name

    @property
    def is_plain(self) -> bool:
        """Whether it is a model of this machine or of the hub, without settings."""
        return self.kind == "model" and self.label == self.model and self.temperature is None

    @property
    def samples(self) -> bool:
        """Whether it has a temperature."""
        return self.kind in ("model", "server") and self.beams is None

    def at(self, temperature: float) -> Player:
        """The player with its own temperature, else with this one; the best of N with 1."""
        if not self.samples or self.temperature is not None:
            return self
        return replace(self, temperature=1.0 if self.best_of else temperature)


def parse_players(texts: Sequence[str]) -> list[Player]:
    """The players of several texts in order, each once. Raises RecipeError naming the text and its wrong part."""
    return list(dict.fromkeys(player for text in texts for player in _players(text)))


def parse_player(text: str) -> Player:
    """The player of a text. Raises RecipeError also for several."""
    several = _players(text)
    if len(several) > 1:
        raise _refused(text, f"is {len(several)} players", "write one value for each setting here")
    return several[0]


def models_of(players: Sequence[Player]) -> list[str]:
    """The models of this machine or of the hub, each once."""
    return list(dict.fromkeys(player.model for player in players if player.kind == "model"))


def files_of(players: Sequence[Player]) -> list[str]:
    """The files of answers, each once."""
    return list(dict.fromkeys(player.model for player in players if player.kind == "file"))


def refuse_players(players: Sequence[Player], where: str) -> None:
    """Raise RecipeError for a player that is not a plain model, for what reads a model's probabilities."""
    for player in players:
        if not player.is_plain:
            raise RecipeError(
                f"{player.name} is no plain model, and its log-probabilities are required", where=where,
                remedy="name a folder, a run directory or a hub name, without settings",
            )  # fmt: skip


def _players(text: str) -> list[Player]:
    model = _name(text)
    if not model:
        raise _refused(text, "no model before the settings", "write MODEL@temperature:0.7")
    values: dict[str, list[Any]] = {}
    rest = text[len(model) :]
    while rest:
        name, value, option, rest = _setting(text, rest)
        if _NAMES[name] in values:
            raise _refused(text, f"has {name} twice", f"give it once; several values are {name}:1,2")
        values[_NAMES[name]] = _numbers(text, name, value)
        if name == "best-of":
            values["reward"] = [_reward(text, option)]
        elif name == "beam" and option:
            values["guide"] = [_guide(text, option)]
        elif option:
            raise _refused(text, f"`?{option}` means nothing to {name}", f"settings are {FORMS}")
    ordered = {f.name: values[f.name] for f in fields(Player) if f.name in values}
    found = [Player(model=model, **dict(zip(ordered, each, strict=True))) for each in product(*ordered.values())]
    for player in found:
        _check(text, player)
    return found


def _name(text: str, path: Callable[[str], str] = str) -> str:
    """The longest beginning of `text` that ends at a setting and whose `path` exists, else up to the first setting."""
    address = _ADDRESS.match(text)
    ends = [match.start() for match in _BOUNDARY.finditer(text, address.end() if address else 0)]
    names = [text[:end] for end in (*ends, len(text))]
    return next((name for name in reversed(names) if _exists(path(name))), names[0])


def _setting(text: str, rest: str) -> tuple[str, str, str, str]:
    """Name, value and option of the setting with which `rest` begins, and what follows it."""
    end = next((match.start() for match in _BOUNDARY.finditer(rest, 1)), len(rest))
    head, question, _ = rest[:end].partition("?")
    name, _, value = head[1:].partition(":")
    if name not in _NAMES:
        near = get_close_matches(name, _NAMES)
        meant = f": did you mean `{near[0]}`?" if near else ""
        raise _refused(text, f"no setting is called {name!r}{meant}", f"settings are {FORMS}")
    if not value:
        raise _refused(text, f"{name} has no value", f"settings are {FORMS}")
    if not question:
        return name, value, "", rest[end:]
    options = rest[len(head) + 1 :]
    option = _name(options, lambda whole: whole.partition("=")[2].partition(":")[2])
    return name, value, option, options[len(option) :]


def _numbers(text: str, name: str, values: str) -> list[float] | list[int]:
    kind, least = (float, 0) if name == "temperature" else (int, _LEAST[name])
    try:
        numbers = [kind(value) for value in values.split(",")]
    except ValueError:
        what = "a number" if kind is float else "a whole number"
        raise _refused(text, f"{values!r} is not {what} for {name}", f"settings are {FORMS}") from None
    if not all(least <= number < math.inf for number in numbers):
        raise _refused(text, f"{name} must be ≥ {least:g}", f"settings are {FORMS}")
    return list(dict.fromkeys(numbers))


def _reward(text: str, option: str) -> str:
    key, equals, reward = option.partition("=")
    if not equals or key != "reward" or not reward:
        wrong = f"`?{option}` is not reward=REWARD" if option else "best-of has no reward"
        raise _refused(text, wrong, "write best-of:16?reward=reward:FOLDER, or verifier:flexible, llm-score:URL#NAME")
    try:
        parse_judge(reward, BEST_OF)
    except JudgeNameError as error:
        raise _refused(text, error.what, "a reward is a judge that scores: docs/judges.md") from None
    return reward


def _guide(text: str, option: str) -> str:
    key, _, guide = option.partition("=")
    if key != "guide" or not guide:
        raise _refused(text, f"`?{option}` is not guide=REWARD", "write beam:5?guide=reward:FOLDER or process:FOLDER")
    try:
        kind = parse_judge(guide, BEST_OF)
    except JudgeNameError as error:
        raise _refused(text, error.what, "a guide is reward:FOLDER or process:FOLDER") from None
    if not kind.guides:
        raise _refused(text, f"{kind.name} cannot guide a search", "a guide is reward:FOLDER or process:FOLDER")
    return guide


def _check(text: str, player: Player) -> None:
    plain = player.label == player.model and player.temperature is None
    if player.kind in ("reference", "file") and not plain:
        what = "the rows' own answers have" if player.kind == "reference" else "a file of answers has"
        raise _refused(text, f"{what} no settings", f"write only {player.model}")
    if player.kind == "server" and player.beams is not None:
        raise _refused(text, "a server has no beam search", "leave beam out, or name a local model")
    if player.beams is not None and (player.temperature is not None or player.best_of is not None):
        raise _refused(text, "beam search does not sample", "leave temperature and best-of out, or leave beam out")
    if player.best_of is not None and player.temperature == 0:
        raise _refused(text, "at temperature 0 all samples are the same", "choose a temperature above 0 for best-of")
    if player.kind == "model" and "@" in player.model and not _exists(player.model):
        wrong = player.model[player.model.index("@") :]
        raise _refused(text, f"`{wrong}` is no setting, and no such folder", f"settings are {FORMS}")


def _exists(path: str) -> bool:
    try:
        return bool(path) and Path(path).exists()
    except OSError:  # a name that is too long for a file
        return False


def _refused(text: str, what: str, remedy: str) -> RecipeError:
    return RecipeError(what, where=f"player {text}", remedy=remedy)
