"""Judges by name (`verifier:flexible`, `reward:FOLDER`, `llm:URL#NAME` …): one way to say and open them everywhere."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from twofold.client.server import Endpoint, RetrySettings, Server
from twofold.judges import scoring
from twofold.judges.language_model import Judge, Rubric
from twofold.ledger import Ledger

if TYPE_CHECKING:
    from twofold.rewards.base import Scorer

    OpenReward = Callable[[str], Scorer]

Kind = Literal["verifier", "reward", "llm", "llm-score", "truth", "stronger", "human"]
KINDS = {
    "verifier": "verifier, verifier:flexible or verifier:math",
    "reward": "reward:FOLDER",
    "llm": "llm:https://host/v1#model",
    "llm-score": "llm-score:https://host/v1#model",
    "truth": "truth",
    "stronger": "stronger:MODEL",
    "human": "human",
}
RULES = ("", "strict", "flexible", "math")
WITH_RUBRIC = ("llm", "llm-score")


@dataclass(frozen=True)
class JudgeResources:
    """What judges are opened with; only a reward model needs the first, only a language model the others."""

    open_reward: OpenReward
    open_ledger: Callable[[], Ledger]
    rubric: str | None = None
    retry: RetrySettings = field(default_factory=RetrySettings)


def judge_kind(text: str) -> tuple[Kind, str]:
    """`llm:URL` as (kind, rest); raises `ValueError` for a judge that there is not."""
    kind, colon, rest = text.partition(":")
    if kind not in KINDS:
        raise ValueError(f"no judge is called {kind!r}; there are {', '.join(KINDS.values())}")
    if kind == "verifier":
        if rest not in RULES:
            raise ValueError(f"a verifier's rule is one of {', '.join(RULES[1:])}")
    elif (":" in KINDS[kind]) != bool(rest) or (colon and not rest):
        raise ValueError(f"the judge is written {KINDS[kind]}")
    return kind, rest  # type: ignore[return-value]  # one of KINDS


def open_judge(name: str, means: JudgeResources, resources: ExitStack) -> scoring.Judge:
    """The judge of this name that scores what it is shown; `resources` close what it opens.

    Raises `ValueError` for truth, stronger and human, which judge by where an answer comes from, or later.
    """
    kind, rest = judge_kind(name)
    match kind:
        case "verifier":
            return scoring.open_verifier(rest, resources)
        case "reward":
            return scoring.ByReward(rest, means.open_reward(rest))
        case "llm" | "llm-score":
            rubric = Rubric.load("compare" if kind == "llm" else "score", Path(means.rubric) if means.rubric else None)
            server = resources.enter_context(Server(Endpoint.of(rest), means.retry))
            make = scoring.ByComparingModel if kind == "llm" else scoring.ByScoringModel
            return make(Judge(server, rubric), means.open_ledger())
        case _:
            raise ValueError(f"{kind} is no judge of single answers")


def ledger_path(out: Path) -> Path:
    """Where everything that was asked for `out` is kept."""
    return out.with_name(f"{out.name.removesuffix('.jsonl')}.ledger.jsonl")
