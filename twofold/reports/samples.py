"""Which completions a report shows, before and after: some of each outcome, in file order; none is hand-picked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from twofold.reports.run import RunData, Sample

Outcome = Literal["gained", "lost", "right", "wrong"]
SHOWN: dict[Outcome, int] = {"gained": 4, "lost": 4, "wrong": 3, "right": 2}
TELLS: dict[Outcome, str] = {
    "gained": "wrong before, right after", "lost": "right before, wrong after",
    "wrong": "wrong before and after", "right": "right before and after",
}  # fmt: skip
COLUMNS = 5


@dataclass(frozen=True, slots=True)
class Side:
    """One problem with what was said of it: a completion (or None) per column."""

    name: str
    prompt: str
    answer: str
    outcome: Outcome
    said: tuple[Sample | None, ...]


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Columns (before, then each run's last step), how many problems had each outcome, and those shown."""

    columns: tuple[str, ...]
    counts: tuple[tuple[str, int], ...]
    sides: tuple[Side, ...]


def side_by_side(runs: Sequence[RunData], names: Sequence[str], metric: str = "strict") -> SideBySide | None:
    """Problems before training and after; the outcome is that of the last run. None without samples of two steps."""
    runs, names = [r for r in runs if r.samples][-COLUMNS:], [n for r, n in zip(runs, names, strict=True) if r.samples]
    if not runs:
        return None
    first = min(s.step for s in runs[0].samples)
    before = {s.name: s for s in runs[0].samples if s.step == first}
    afters = [run.final_samples for run in runs]
    common = [n for n in before if n in afters[-1] and afters[-1][n].step > first]
    if not common:
        return None
    outcomes = {name: _outcome(before[name], afters[-1][name], metric) for name in common}
    sides: list[Side] = []
    for kind, limit in SHOWN.items():
        for n in [name for name in common if outcomes[name] == kind][:limit]:
            said = (before[n], *(after.get(n) for after in afters))
            sides.append(Side(n, before[n].prompt, before[n].answer, kind, said))
    counts = tuple((TELLS[kind], sum(o == kind for o in outcomes.values())) for kind in SHOWN)
    return SideBySide(("before", *(names[-COLUMNS:] if len(runs) > 1 else ["after"])), counts, tuple(sides))


def _outcome(before: Sample, after: Sample, metric: str) -> Outcome:
    was, now = bool(getattr(before, metric, False)), bool(getattr(after, metric, False))
    return "right" if was and now else "gained" if now else "lost" if was else "wrong"
