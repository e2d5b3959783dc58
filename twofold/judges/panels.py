"""Panels: several judges decide the same matches, and the majority counts (Verga et al. 2024, arXiv:2404.18796)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from twofold.judges.base import JudgeResources, MatchResult
from twofold.judges.matchups import Matchup, Referee, Results, open_referee
from twofold.ledger import Ledger
from twofold.progress import Progress

PANEL = "panel"


def open_panel(names: Sequence[str], resources: Sequence[JudgeResources], stack: ExitStack) -> Referee:
    """The referee of one judge, or of several by majority. `resources` are those of each judge, in order; each of
    several judges has its own ledger, next to the common one."""
    if len(names) == 1:
        return open_referee(names[0], resources[0], stack)
    referees = [
        open_referee(name, with_own_ledger(each, name, stack), stack)
        for name, each in zip(names, resources, strict=True)
    ]

    def decide(contests: Sequence[Matchup], progress: Progress) -> Results:
        verdicts = [referee.outcomes(contests, progress) for referee in referees]
        return [majority(results) for results in zip(*verdicts, strict=True)]

    provenance = {"kind": PANEL, "judges": [dict(referee.provenance) for referee in referees]}
    spend = lambda: [each for referee in referees for each in referee.spend()]  # noqa: E731
    return Referee(provenance, decide, spend, with_reasoning=True)  # each judge reads what it is set to


def majority(results: Sequence[MatchResult | None]) -> MatchResult | None:
    """The side that more judges prefer, or a tie; None unless more than half of the judges have a verdict."""
    votes = tuple(None if result is None else result.share for result in results)
    known = [vote for vote in votes if vote is not None]
    if 2 * len(known) <= len(votes):
        return None
    wins, losses = known.count(1.0), known.count(0.0)
    return MatchResult(0.5 + 0.5 * ((wins > losses) - (wins < losses)), votes=votes)


def own_ledger_path(common: Path, name: str) -> Path:
    """The ledger of one judge of a panel."""
    last = re.sub(r"[^A-Za-z0-9.-]+", "-", re.split("[#/]", name.partition("?")[0].rstrip("/"))[-1])[:40]
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return common.with_name(f"{common.name.removesuffix('.jsonl')}.{last}-{digest}.jsonl")


def with_own_ledger(resources: JudgeResources, name: str, stack: ExitStack) -> JudgeResources:
    """The resources with a ledger of this judge only, next to the common one."""

    def open_ledger() -> Ledger:
        return stack.enter_context(Ledger(own_ledger_path(resources.open_ledger().path, name)))

    return replace(resources, open_ledger=open_ledger)
