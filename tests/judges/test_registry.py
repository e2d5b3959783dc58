"""No judge joins by halves: each kind has a section on the page, a line of help, an answer wherever it is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from twofold.algorithms import Online, PolicyGradient
from twofold.datagen.build import BuildSettings
from twofold.datagen.score import ScoreSettings
from twofold.errors import RecipeError
from twofold.judges.base import JudgeKind, Place
from twofold.judges.gates import GateSettings
from twofold.judges.registry import (
    BEST_OF,
    BUILD,
    FRONTIER,
    GATE,
    KINDS,
    ONLINE,
    PLACES,
    REWARD,
    SCORE,
    WIN_RATE,
    parse_judge,
    usages,
)

EVERY = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
ARGUMENT = {"URL#MODEL": "http://127.0.0.1:9/v1#m", "HOW:JUDGE,JUDGE": "min:reward:x,reward:y"}
USED = {
    REWARD: "verifier code reward process classifier ensemble python llm-score",
    ONLINE: "verifier code reward process classifier ensemble python implicit llm-score llm llm-prob truth",
    GATE: "verifier reward process classifier ensemble python llm-score llm llm-prob",
    SCORE: "verifier code reward process classifier ensemble llm-score llm llm-prob",
    BUILD: "verifier code reward process classifier ensemble llm-score llm llm-prob truth stronger human",
    WIN_RATE: "verifier reward process classifier ensemble llm-score llm llm-prob human",
    FRONTIER: "verifier reward process classifier ensemble llm-score",
    BEST_OF: "verifier reward process classifier ensemble llm-score",
}


def written(kind: type[JudgeKind]) -> str:
    """A name of the kind, with an argument where it takes one."""
    name, colon, argument = kind.usage.partition("[")[0].partition(":")
    return f"{name}:{ARGUMENT.get(argument, 'x')}" if colon else name


@EVERY
def test_its_page_has_a_section_that_says_how_it_is_written_and_what_its_score_means(
    kind: type[JudgeKind], root: Path
) -> None:
    page = (root / "docs" / "judges.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `([\w-]+)[^\n]*`\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    assert kind.name in sections, f"docs/judges.md lacks a section: ## `{kind.usage}`"
    assert f"## `{kind.usage}`\n" in page
    assert kind.help() in " ".join(sections[kind.name].split())


@EVERY
def test_its_help_is_one_line(kind: type[JudgeKind]) -> None:
    assert kind.__doc__ is not None
    assert 10 < len(kind.help()) < 120
    assert kind.usage.startswith(kind.name)


@EVERY
def test_it_is_used_or_refused_by_name_with_what_can_be_used(kind: type[JudgeKind]) -> None:
    refusing = [place for place in PLACES if not place.can_use(kind)]
    assert bool(kind.refusal) == bool(refusing)
    for place in PLACES:
        if place.can_use(kind):
            assert type(parse_judge(written(kind), place)) is kind
            continue
        with pytest.raises(ValueError) as error:
            parse_judge(written(kind), place)
        assert str(error.value) == f"{kind.name} {kind.refusal} ({place.where} takes {usages(place)})"


@EVERY
def test_a_name_that_is_half_written_says_how_it_is_written(kind: type[JudgeKind]) -> None:
    place = next(place for place in PLACES if place.can_use(kind))
    wrong = [f"{kind.name}:", kind.name if ":" in kind.usage else f"{kind.name}:x"]
    for name in wrong[: 1 if "[" in kind.usage else 2]:
        with pytest.raises(ValueError, match="the judge is written") as error:
            parse_judge(name, place)
        assert kind.usage in str(error.value)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.where)
def test_a_setting_takes(place: Place) -> None:
    assert [name for name, kind in KINDS.items() if place.can_use(kind)] == USED[place].split()


def test_each_kind_judges_somewhere_and_every_setting_asks_the_registry() -> None:
    assert {name for used in USED.values() for name in used.split()} == set(KINDS)
    for settings in (
        lambda name: PolicyGradient(reward=name),
        lambda name: Online(judge=name),
        lambda name: GateSettings(source=name),
        lambda name: ScoreSettings(judge=name),
        lambda name: BuildSettings(judge=name),
    ):
        with pytest.raises(ValueError, match="no judge is called 'verifer': did you mean `verifier`"):
            settings("verifer")
        with pytest.raises(ValueError, match="no judge is called 'runs/rm': a reward model is written reward:runs/rm"):
            settings("runs/rm")


def test_a_name_is_guessed_at() -> None:
    with pytest.raises(ValueError, match=r"no judge is called 'http': a language model .* llm:http://host/v1#m"):
        parse_judge("http://host/v1#m", SCORE)
    with pytest.raises(RecipeError, match=r"no judge is called 'nobody' \(score --judge takes verifier\["):
        parse_judge("nobody", SCORE)
