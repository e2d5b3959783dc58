"""The gate of PDPO's drafts: from what a recipe names to who judges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twofold.algorithms import PDPO
from twofold.batch import Group
from twofold.client.server import Endpoint, Server
from twofold.judges.gates import COMPARES, SCORES, TIE, GateSettings, PairwiseJudge, ScoringJudge, ThresholdGate
from twofold.judges.language_model import Judge, Rubric
from twofold.ledger import Ledger
from twofold.rewards.base import Reward
from twofold.rewards.rollouts import VerifierReward
from twofold.rewards.verifier import Verifier
from twofold.runs.context import RunContext
from twofold.runs.rewards import Sources

LEDGER = "judge.ledger.jsonl"
"""In the run's folder: what a language model was asked and said. A run that goes on asks nothing twice."""


def gate_of(run: RunContext, tasks: Sequence[Group]) -> Reward | None:
    """Who judges drafts for `tasks`, if anyone. Raises DataError for a problem that a verifier cannot judge,
    RecipeError and ModelError for a judge that is not there."""
    settings = run.recipe.algorithm
    assert isinstance(settings, PDPO)
    if settings.generator.gate == "verifier":
        verifier = Verifier(run.encoder.text, settings.verdict)
        verifier.check(tasks, run.loaded.stop_tokens)
        return VerifierReward(verifier)
    if settings.judge is None:
        return None
    given = settings.judge
    if given.source.startswith((COMPARES, SCORES)):
        return _spoken(run, given)
    sources = Sources(run.recipe, run.encoder, run.loaded, run.functions, "algorithm.judge.source")
    return ThresholdGate(sources.reward(given.source, [tasks]), given.at_least)


def _spoken(run: RunContext, given: GateSettings) -> Reward:
    """A language model behind a server, which stays open as long as the run."""
    compares, rubric = given.source.startswith(COMPARES), given.rubric and Path(given.rubric)
    how = Rubric.load("compare" if compares else "score", rubric or None)
    server = run.resources.enter_context(Server(Endpoint.of(given.source.partition(":")[2])))
    judge, ledger = Judge(server, how), run.resources.enter_context(Ledger(Path(run.recipe.run) / LEDGER))
    if compares:
        return ThresholdGate(
            PairwiseJudge(judge, ledger, run.encoder.text), TIE if given.at_least is None else given.at_least
        )
    return ThresholdGate(ScoringJudge(judge, ledger, run.encoder.text), given.at_least)
