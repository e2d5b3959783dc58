"""The figure of a trial: a value for each row, from a task of `twofold evaluate`, and what two trials differ by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from twofold.errors import DataError, RecipeError
from twofold.evaluation.answers import AccuracySettings, refuse_unanswerable
from twofold.evaluation.exact_match import CHUNK
from twofold.evaluation.figures import BinaryOutcomes, Measure
from twofold.evaluation.frontier import prompts_of
from twofold.evaluation.games import Game, Shares
from twofold.evaluation.hull import measures
from twofold.evaluation.likelihood import PreferenceSettings
from twofold.evaluation.parts import Halves, Part
from twofold.evaluation.tasks import ANSWERS, TASKS
from twofold.evaluation.win_rate import WinRateSettings
from twofold.judges.registry import WIN_RATE, JudgeNameError, parse_judge
from twofold.ledger import Ledger
from twofold.progress import Progress
from twofold.records import completion_fields
from twofold.rewards.mathematics import require_math_verify
from twofold.runs.tuning.rows import Items
from twofold.runs.tuning.settings import Figure
from twofold.sampling.base import Sampling
from twofold.sampling.named_model import open_model
from twofold.shards import digest

Values = Sequence[float]
"""One for each row: 1 or 0, or ½ for a tie of a win rate."""


@dataclass(frozen=True)
class Meter:
    """Measures models by a figure. Answers, log-probabilities and verdicts are recorded in `ledger`, so that those of a
    reference model or an opponent are shared, and none is repeated."""

    figure: Figure
    ledger: Path
    reference: str | None
    progress: Progress

    def values(self, model: str, items: Items) -> list[float]:
        """The figure of each row."""
        halves, how, key = self._task()
        request = digest({"figure": repr(self.figure), "rows": items.digest}, [])
        with Ledger(self.ledger) as ledger:
            measured = halves.measure([model], items.records, how, Part(0, None, ledger, request))
        rows = halves.figures(measured, how).rows
        missing = next((row for row in rows if row[key] is None), None)
        if missing is not None:
            raise DataError("has no verdict", where=str(missing["name"]), remedy="give the same command again")
        return [float(row[key]) for row in rows]

    def kl(self, model: str, items: Items) -> float:
        """Sequence KL from the reference, nats: the mean over the prompts of one sample each, at temperature 1."""
        assert self.reference is not None, "the plan has one"
        figure, policy = self.figure, open_model(model)
        prompts = [policy.encoder.prompt(record.prompt) for record in prompts_of(items.records)]
        sampler = policy.sampler(Sampling(max_new_tokens=figure.max_new_tokens, batch_size=CHUNK))
        rows = measures(
            policy.policy, open_model(self.reference).policy, prompts, sampler.sample(prompts), [[0.0]] * len(prompts)
        )
        return fmean(row["kl"] for row in rows)

    def _task(self) -> tuple[Halves, Any, str]:
        """The task, its settings, and the name of its figure in a row."""
        figure, progress = self.figure, self.progress
        if figure.task == "preference":
            reference = self.reference if figure.name == "reward" else None
            likely = PreferenceSettings(reference=reference, max_length=figure.max_length, progress=progress)
            return TASKS["preference"], likely, figure.name
        if figure.task == "win-rate":
            assert figure.judge is not None, "the settings have checked it"
            played = WinRateSettings(
                judge=figure.judge, against=figure.against, temperatures=(figure.temperature,), canary="",
                max_new_tokens=figure.max_new_tokens, max_length=figure.max_length, progress=progress,
            )  # fmt: skip
            return TASKS["win-rate"], played, "share"
        solved = AccuracySettings(metrics=[figure.name], max_new_tokens=figure.max_new_tokens, progress=progress)
        return ANSWERS, solved, figure.name


def measure_of(figure: Figure, values: Sequence[Values], items: Items) -> Measure:
    """The figure of one trial over its seeds, [seeds][rows]. Values of one prompt may be correlated."""
    prompts = items.prompts * len(values)
    flat = [value for each in values for value in each]
    if figure.task != "win-rate":
        return BinaryOutcomes([value == 1.0 for value in flat], prompts)
    return Shares([Game(i, prompt, value, 0, 0) for i, (value, prompt) in enumerate(zip(flat, prompts, strict=True))])


def refuse_unmeasurable(figure: Figure, items: Items) -> None:
    """Raise TwofoldError for a judge or a row that a figure cannot use, before the first trial."""
    if figure.task == "answers":
        if figure.name == "math":
            require_math_verify("evaluate.metric=math")
        refuse_unanswerable(items.records, [figure.name])
    if figure.judge is None:
        return
    try:
        judge = parse_judge(figure.judge, WIN_RATE)
    except JudgeNameError as error:
        raise RecipeError(str(error), where="evaluate.judge", remedy="docs/judges.md lists judges") from None
    if figure.judge.startswith("human:"):
        remedy = "name a reward model, a verifier or a language model"
        raise RecipeError("people cannot judge each trial", where="evaluate.judge", remedy=remedy)
    needed = judge.needs_truth or figure.against is None
    if empty := next((row for row in items.records if needed and not completion_fields(row)), None):
        raise DataError("has no answer to compare with", where=str(empty.source), remedy="add one, or set `against`")


def reference_of(figure: Figure, models: Sequence[str]) -> str | None:
    """The model that log-ratios are taken to. Raises RecipeError if none is named and the recipes differ."""
    if not figure.needs_reference or figure.reference is not None:
        return figure.reference
    if len(set(models)) > 1:
        what = f"the recipes have different models: {', '.join(dict.fromkeys(models))}"
        raise RecipeError(what, where="evaluate.reference", remedy="name the model that log-ratios are taken to")
    return models[0]
