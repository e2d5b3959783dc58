"""Win rate while a model trains: its answers to a few prompts against those of its start, or against the rows' own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from twofold.errors import DataError, RecipeError
from twofold.evaluation.exact_match import Codec
from twofold.evaluation.games import Game, Shares
from twofold.evaluation.judging import LabeledPair, figures_of, labeled_pairs, verdict_rows
from twofold.evaluation.rows import rows_of
from twofold.judges.base import JudgeResources
from twofold.judges.matchups import Matchup, Referee, open_referee
from twofold.judges.registry import WIN_RATE, parse_judge
from twofold.progress import Progress
from twofold.records import Completion, Record, Task, completion_fields, transcript_of
from twofold.rewards.model import open_reward
from twofold.sampling.base import Sampler
from twofold.settings import require, settings

KIND = "win_rate"
"""Of its rows in samples.jsonl."""
_OF_JUDGE = {"accuracy": "value", "low": "low", "high": "high", "n": "n"}


@settings
class WinRateInTraining:
    """A win rate at each evaluation (`training.evaluate_every`), with completions sampled by `evaluation.sampling`."""

    prompts: str
    """File of prompts; with answers, if `against` is answers or the judge is a verifier."""
    judge: str
    """reward:FOLDER or a verifier, as for `twofold evaluate --judge` (docs/judges.md). Servers are not asked."""
    against: Literal["start", "answers"] = "start"
    """start: the model's own answers before the first step. answers: those of the rows."""
    limit: int = 32
    """Number of prompts: the first ones of the file."""
    max_length: int = 4096
    """A reward model's tokens of a prompt and one completion."""
    judge_pairs: str | None = None
    """File of labeled pairs: the judge's own accuracy on them is logged next to the win rate."""

    def __post_init__(self) -> None:
        require(self.limit >= 1, "limit must be ≥ 1")
        require(self.max_length >= 2, "max_length must be ≥ 2")


@dataclass(frozen=True)
class RateInTraining:
    """The prompts and their judge, opened once."""

    how: WinRateInTraining
    records: Sequence[Record]
    referee: Referee
    samples: Path
    """samples.jsonl of the run, with the answers of its start."""
    pairs: Sequence[LabeledPair] = ()
    _start: list[str] = field(default_factory=list[str], init=False)
    _accuracy: dict[str, float] = field(default_factory=dict[str, float], init=False)
    _noted: list[bool] = field(default_factory=list[bool], init=False)

    @classmethod
    def open(cls, how: WinRateInTraining, samples: Path, stack: ExitStack) -> RateInTraining:
        """Raises RecipeError for a judge that cannot be used here, DataError for rows without what it needs."""
        kind = parse_judge(how.judge, WIN_RATE)
        if kind.asks_server or kind.gives == "verdicts":
            remedy = "choose reward:FOLDER or a verifier; `twofold evaluate` asks servers and people"
            raise RecipeError(f"{how.judge} does not judge during training", where="evaluation.win_rate", remedy=remedy)
        records = rows_of(how.prompts, "win-rate")[: how.limit]
        for record in records:
            if how.against == "answers" and not completion_fields(record):
                remedy = "rows need an answer, or set evaluation.win_rate.against=start"
                raise DataError("has no answer to compare with", where=str(record.source), remedy=remedy)
            if kind.needs_truth and not isinstance(record, Task):
                raise DataError("has no reference answer", where=str(record.source), remedy=f"{how.judge} needs one")
        resources = JudgeResources(WIN_RATE, _no_ledger, partial(open_reward, max_length=how.max_length))
        pairs = [] if how.judge_pairs is None else labeled_pairs(rows_of(how.judge_pairs, "judge"))
        return cls(how, records, open_referee(how.judge, resources, stack), samples, pairs)

    def __call__(
        self, sampler: Sampler, codec: Codec, seed: int, progress: Progress
    ) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Figures, and a row for each prompt."""
        drawn = sampler.sample([codec.prompt(r.prompt) for r in self.records], samples=1, seed=(seed, 0))
        parts = [codec.parted(r.prompt, d.tokens) for r, (d,) in zip(self.records, drawn, strict=True)]
        own, cut = [each.answer for each in parts], [d.truncated for (d,) in drawn]
        other = self._others(own)
        truths = [r.answer if isinstance(r, Task) else None for r in self.records]
        sides = zip(self.records, own, other, truths, strict=True)
        matchups = [Matchup(r.prompt, mine, theirs, r.source, truth) for r, mine, theirs, truth in sides]
        results = self.referee.outcomes(matchups, progress)
        games = [
            Game(i, str(m.prompt), r.share, len(transcript_of(m.own)), len(transcript_of(m.other)))
            for i, (m, r) in enumerate(zip(matchups, results, strict=True))
            if r is not None
        ]
        rate = Shares(games).estimate()
        figures = {"rate": rate.value, "low": rate.low, "high": rate.high, "n": float(len(games))}
        figures |= self._judge_accuracy(progress)
        rows = [
            {"kind": KIND, "name": str(m.source), "prompt": _plain(m.prompt), "completion": m.own,
             "other": transcript_of(m.other), "share": None if r is None else r.share, "truncated": t,
             **({"reasoning": p.reasoning} if p.reasoning else {})}
            for m, r, t, p in zip(matchups, results, cut, parts, strict=True)
        ]  # fmt: skip
        return {f"{KIND}/{name}": value for name, value in figures.items()}, rows

    def _judge_accuracy(self, progress: Progress) -> dict[str, float]:
        """The judge's own accuracy on labeled pairs, measured at the first evaluation of a process."""
        if not self._accuracy and self.pairs:
            verdicts = verdict_rows(self.pairs, self.referee, progress)
            right = figures_of(verdicts, dict(self.referee.provenance))["accuracy"]
            self._accuracy.update({f"judge_{name}": float(right[key]) for name, key in _OF_JUDGE.items()})
            said = f"{right['value']:.1%} [{right['low']:.1%}, {right['high']:.1%}] of {right['n']} labeled pairs"
            progress.note(f"win rate: {self.how.judge} is right on {said}")
        elif not self.pairs and not self._noted and not parse_judge(self.how.judge, WIN_RATE).needs_truth:
            self._noted.append(True)
            progress.note(
                f"win rate: the accuracy of {self.how.judge} is not measured (evaluation.win_rate.judge_pairs)"
            )
        return dict(self._accuracy)

    def _others(self, own: list[str]) -> Sequence[Completion]:
        """The opposing answers; the first ones of the run are its start's."""
        if self.how.against == "answers":
            return [completion_fields(record)[0][1] for record in self.records]
        if not self._start:
            self._start.extend(_started(self.samples) or own)
        return self._start


def _started(samples: Path) -> list[str]:
    """The completions of step 0 in a run's samples."""
    if not samples.is_file():
        return []
    with samples.open(encoding="utf-8", newline="\n") as file:
        rows = map(json.loads, file)
        return [row["completion"] for row in rows if row.get("kind") == KIND and row["step"] == 0]


def _plain(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(f"{turn.role}: {turn.text}" for turn in prompt)


def _no_ledger() -> Any:
    raise AssertionError("judges that need a ledger ask servers, which are refused")
