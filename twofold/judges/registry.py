"""All judges and all settings that name one. A judge is written `KIND[:ARGUMENT]`, with the same meaning everywhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from twofold.judges.base import JudgeKind, JudgeNameError, Place
from twofold.judges.completions import CodeKind, FunctionKind, VerifierKind
from twofold.judges.ensembles import ClassifierKind, EnsembleKind
from twofold.judges.models import ImplicitKind, RewardModelKind
from twofold.judges.origins import HumanKind, StrongerKind, TruthKind
from twofold.judges.servers import PairwiseKind, ProbabilityKind, ScoringKind
from twofold.judges.steps import ProcessKind
from twofold.settings import require, settings

KINDS: dict[str, type[JudgeKind]] = {
    kind.name: kind
    for kind in (
        VerifierKind,
        CodeKind,
        RewardModelKind,
        ProcessKind,
        ClassifierKind,
        EnsembleKind,
        FunctionKind,
        ImplicitKind,
        ScoringKind,
        PairwiseKind,
        ProbabilityKind,
        TruthKind,
        StrongerKind,
        HumanKind,
    )
}

REWARD = Place("algorithm.reward", ("scores",), ("programs", "function"), warns=False)
ONLINE = Place("algorithm.judge", ("scores", "shares", "order"), ("programs", "function", "policy"), warns=False)
GATE = Place("algorithm.judge.source", ("scores", "shares"), ("function",), warns=False)
SCORE = Place("score --judge", ("scores", "shares"), ("programs",))
BUILD = Place("data build --judge", ("scores", "shares", "order", "verdicts"), ("programs", "answers"))
WIN_RATE = Place("win-rate --judge", ("scores", "shares", "verdicts"), parts_reasoning=True)
FRONTIER = Place("frontier --reward", ("scores",))
BEST_OF = Place("best-of:N?reward=", ("scores",), parts_reasoning=True)
PLACES = (REWARD, ONLINE, GATE, SCORE, BUILD, WIN_RATE, FRONTIER, BEST_OF)


_OPTION = re.compile(r"([?&])with_reasoning=([^&,]*)(&?)")


def usages(place: Place) -> str:
    """The judges that `place` can use, with their syntax."""
    return ", ".join(kind.usage for kind in KINDS.values() if place.can_use(kind))


def parse_judge(text: str, place: Place) -> JudgeKind:
    """The judge of this name; raises JudgeNameError for one that there is not, or that `place` cannot use."""
    name, colon, argument = text.partition(":")
    kind = KINDS.get(name)
    if kind is None:
        raise JudgeNameError(f"no judge is called {name!r}{_meant(text, place)} ({place.where} takes {usages(place)})")
    if not place.can_use(kind):
        raise JudgeNameError(f"{name} {kind.refusal} ({place.where} takes {usages(place)})")
    if colon and not argument:
        raise JudgeNameError(f"the judge is written {kind.usage}")
    argument, with_reasoning = _without_option(argument)
    if with_reasoning is not None and not (place.parts_reasoning and kind.can_read_reasoning):
        able = ", ".join(name for name, each in KINDS.items() if each.can_read_reasoning)
        who = f"{name} reads no reasoning" if place.parts_reasoning else f"{place.where} does not choose it"
        raise JudgeNameError(f"with_reasoning is for {able} that judge sampled answers; {who}")
    made = kind(argument, with_reasoning=bool(with_reasoning))
    return replace(made, members=tuple(parse_judge(part, place) for part in made.parts)) if made.parts else made


@settings
class RewardSource:
    """One of several scoring judges, with its weight."""

    source: str
    """A judge, KIND[:ARGUMENT] (docs/judges.md)."""
    weight: float = 1.0


def parse_sources(sources: Sequence[RewardSource], name: str, place: Place) -> list[JudgeKind]:
    """The judges of setting `name`. Raises ValueError for none, for one twice, and for one that `place` cannot use."""
    names = [each.source for each in sources]
    require(len(names) > 0, f"{name} needs at least one source")
    require(len(set(names)) == len(names), f"{name} names a source twice: give it once, with the weight of both")
    return [parse_judge(source, place) for source in names]


def ledger_path(out: Path) -> Path:
    """The ledger of all requests for `out`."""
    return out.with_name(f"{out.name.removesuffix('.jsonl')}.ledger.jsonl")


def _without_option(argument: str) -> tuple[str, bool | None]:
    """The argument without `with_reasoning=true`, and its value, which ends a name or is between fields of requests."""
    found = _OPTION.search(argument)
    if found is None:
        return argument, None
    if found[2] not in ("true", "false"):
        raise JudgeNameError(f"with_reasoning is true or false, not {found[2]!r}")
    rest = f"{found[1]}{argument[found.end() :]}" if found[3] else argument[found.end() :]
    return argument[: found.start()] + rest, found[2] == "true"


def _meant(text: str, place: Place) -> str:
    near = get_close_matches(text.partition(":")[0], [name for name, kind in KINDS.items() if place.can_use(kind)], n=1)
    if near:
        return f": did you mean `{near[0]}`?"
    if "://" in text:
        return f": a language model behind a server is written llm:{text}"
    return f": a reward model is written reward:{text}" if "/" in text or Path(text).is_dir() else ""
