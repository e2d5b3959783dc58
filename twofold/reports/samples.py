"""Selects the completions that a report shows before and after training: some of each outcome, in file order, none
selected by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from twofold.data.differences import Pieces, differences
from twofold.reports.pages import clip
from twofold.reports.run import RunData, SampleRow

Outcome = Literal["gained", "lost", "right", "wrong"]
SHOWN: dict[Outcome, int] = {"gained": 4, "lost": 4, "wrong": 3, "right": 2}
TELLS: dict[Outcome, str] = {
    "gained": "wrong before, right after", "lost": "right before, wrong after",
    "wrong": "wrong before and after", "right": "right before and after",
}  # fmt: skip
COLUMNS = 5
MOST = 200
BUDGET = 900_000  # characters of the page, markup included, for all examples together
MARKUP = 700  # characters of markup around one example


@dataclass(frozen=True, slots=True)
class Side:
    """One problem with its completions: one (or None) per column, and its `pieces`. Each piece is marked if it differs
    from the completion before training (first column: from the one after)."""

    name: str
    prompt: str
    answer: str
    outcome: Outcome
    completions: tuple[SampleRow | None, ...]
    pieces: tuple[Pieces, ...] = ()

    @property
    def size(self) -> int:
        """About how many characters of the page it takes."""
        texts = [clip(self.prompt), clip(self.answer), self.name, *(piece for p in self.pieces for piece, _ in p)]
        return MARKUP + sum(len(escape(text)) for text in texts) + sum(14 * len(p) for p in self.pieces)


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Columns (before, then each run's last step), how many problems had each outcome, some of each, and `more`."""

    columns: tuple[str, ...]
    counts: tuple[tuple[str, int], ...]
    sides: tuple[Side, ...]
    more: tuple[Side, ...] = ()


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
    outcomes: dict[str, Outcome] = {name: _outcome(before[name], afters[-1][name], metric) for name in common}
    chosen = [n for kind, limit in SHOWN.items() for n in [c for c in common if outcomes[c] == kind][:limit]]
    left = [n for n in common if n not in set(chosen)][: MOST - len(chosen)]

    def sides(picked: Sequence[str]) -> Iterator[Side]:
        for n in picked:
            said = (before[n], *(after.get(n) for after in afters))
            yield Side(n, before[n].prompt, before[n].answer, outcomes[n], said, _pieces(said))

    shown = _within(BUDGET, sides(chosen))
    spent = sum(side.size for side in shown)
    more = _within(BUDGET - spent, sides(left)) if len(shown) == len(chosen) else ()
    counts = tuple((TELLS[kind], sum(o == kind for o in outcomes.values())) for kind in SHOWN)
    columns = ("before", *(names[-COLUMNS:] if len(runs) > 1 else ["after"]))
    return SideBySide(columns, counts, shown, more)


def _within(budget: int, sides: Iterable[Side]) -> tuple[Side, ...]:
    """As many as the budget has room for."""
    kept: list[Side] = []
    for side in sides:
        budget -= side.size
        if budget < 0:
            break
        kept.append(side)
    return tuple(kept)


def _pieces(said: Sequence[SampleRow | None]) -> tuple[Pieces, ...]:
    """Each completion in pieces: those after against the one before, and that one against the last."""
    texts = [clip(sample.completion) if sample else "" for sample in said]
    after = [differences(texts[0], text)[1] for text in texts[1:]]
    return (differences(texts[0], texts[-1])[0], *after)


def _outcome(before: SampleRow, after: SampleRow, metric: str) -> Outcome:
    was, now = bool(getattr(before, metric, False)), bool(getattr(after, metric, False))
    return "right" if was and now else "gained" if now else "lost" if was else "wrong"
