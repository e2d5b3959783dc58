"""What makes a run this run: it resumes only as what it was, or with a word where a change is allowed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twofold.errors import CheckpointError
from twofold.training import checkpoint

MOST = 5
ABSENT = "nothing"


@dataclass(frozen=True)
class Identity:
    """By name, what decides what a run computes. `adjustable` names what may change while steps are left; a change of
    these applies to the steps that follow."""

    values: Mapping[str, Any]
    adjustable: Collection[str] = field(default_factory=tuple[str, ...])

    def changes(self, state: Mapping[str, Any], where: Path) -> list[str]:
        """What of it was adjusted since `state` was saved, in words. Raises CheckpointError, with what changed, where
        the run would not be the same, and for the layout of an earlier version."""
        marks = state.get("trainer", {}).get("logs", {"none": None}).values()
        if not all(isinstance(mark, dict) for mark in marks):
            what = "this run was begun by an earlier version of twofold, which named settings and state differently"
            remedy = "finish it with that version, or start again in another run folder (or with --no-resume)"
            raise CheckpointError(what, where=str(where), remedy=remedy)
        then, finished = state["identity"], state.get("finished", False)
        changed = {k: _change(then, self.values, k) for k in sorted({*then, *self.values})}
        changed = {k: words for k, words in changed.items() if words}
        fixed = {k: words for k, words in changed.items() if k not in self.adjustable or finished}
        if fixed:
            raise CheckpointError(
                f"the run has changed since its checkpoint: {'; '.join([*fixed.values()][:MOST])}",
                where=str(where),
                remedy=self._remedy(finished=finished),
            )
        return list(changed.values())

    def refuse_changed(self, checkpoints: Path) -> None:
        """Raise as `changes` does, before anything is computed or written: by the newest state that can be read."""
        if saved := checkpoint.newest_state(checkpoints):
            self.changes(saved[1], saved[0])

    def _remedy(self, *, finished: bool) -> str:
        """The ways out, and what else may change."""
        ways = "put it back, choose another run folder, or start over with --no-resume"
        if finished:
            return f"{ways}; all steps are done, so nothing may change any more"
        return f"{ways}; only these may change: {', '.join(self.adjustable)}" if self.adjustable else ways


def _change(then: Mapping[str, Any], now: Mapping[str, Any], key: str) -> str:
    before, after = (repr(x[key]) if key in x else ABSENT for x in (then, now))
    return "" if before == after else f"{key}: {before} → {after}"
