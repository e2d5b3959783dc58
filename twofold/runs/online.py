"""Who judges an online run, and what its reference is: from what a recipe names to what compares drafts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedModel

from twofold.algorithms import Online
from twofold.algorithms.online import COMPARING, IMPLICIT, TRUTH
from twofold.algorithms.preference_pairs import balanced
from twofold.batch import Group
from twofold.client.server import Endpoint
from twofold.data.tokenize import Encoder
from twofold.errors import ModelError, RecipeError
from twofold.judges.drafts import ByRewards, DraftScores, PairJudge
from twofold.judges.language_model import Rubric
from twofold.judges.questions import Question
from twofold.judges.registry import JudgeResources, judge_kind, open_judge
from twofold.ledger import Ledger
from twofold.models.load import load_policy
from twofold.models.policy import Policy
from twofold.models.reference import LiveReference, MovingReference
from twofold.progress import Silent
from twofold.records import Candidate, Prompt, Record, Source
from twofold.rewards.base import Reward, Scorer
from twofold.rewards.implicit import ImplicitReward, TrailingReference
from twofold.runs.context import RunContext
from twofold.sampling.local import LocalSampler
from twofold.sampling.reference import ReferenceSampler
from twofold.training.stateful import Stateful

LEDGERS = "judge"
"""Folder of a run that keeps what a language model was asked and said, a file for each round."""


@dataclass(frozen=True)
class ByLanguageModel:
    """A language model as a judge of drafts; `prompts` are the rows' own, by the names of their groups."""

    name: str
    rubric: str | None
    folder: Path
    encoder: Encoder
    prompts: Mapping[str, Prompt]

    @classmethod
    def of(cls, settings: Online, run: Path, encoder: Encoder, records: Sequence[Record]) -> ByLanguageModel:
        """Raises RecipeError for an address or a rubric that cannot be used, before any draft is drawn."""
        name = settings.rewards[0].source
        try:
            kind, address = judge_kind(name)
            Endpoint.of(address)
        except ValueError as error:
            raise RecipeError(str(error), where="algorithm.judge") from None
        Rubric.load("compare" if kind == "llm" else "score", Path(settings.rubric) if settings.rubric else None)
        return cls(name, settings.rubric, run / LEDGERS, encoder, {str(r.source): r.prompt for r in records})

    @property
    def shares(self) -> bool:
        return self.name.startswith(COMPARING)

    def verdicts(self, groups: Sequence[Group]) -> DraftScores:
        """What was asked before, and broken off, is asked no second time."""
        questions: list[Question] = []
        for place, group in enumerate(groups):
            texts = tuple(Candidate(self.encoder.text(b.tokens), {}) for b in group.branches)
            truth = None if group.truth is None else self.encoder.text(group.truth)
            questions.append(Question(self.prompts[group.name], Source(group.name, place), truth, texts))
        said = [(str(q.source), *(c.text for c in q.candidates)) for q in questions]
        digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as resources:
            ledger = resources.enter_context(Ledger(self.folder / f"{digest}.ledger.jsonl"))
            judge = open_judge(self.name, JudgeResources(_no_scorer, lambda: ledger, self.rubric), resources)
            return DraftScores(judge.scores(questions, Silent()))


def _no_scorer(name: str) -> Scorer:
    raise RecipeError(f"{name} is no language model", where="algorithm.judge")


def judge_of(run: RunContext) -> PairJudge | None:
    """Who compares the drafts of `run`; none where the ground truth wins."""
    settings = run.recipe.algorithm
    assert isinstance(settings, Online)
    if settings.is_rewarded:
        return ByRewards(run.rewards)
    if settings.rewards[0].source == TRUTH:
        return None
    return ByLanguageModel.of(settings, Path(run.recipe.run), run.encoder, run.dataset.train)


def implicit_reward(run: RunContext, reference: LiveReference | None) -> tuple[dict[str, Reward], list[Stateful]]:
    """The policy's own reward by its name, if the recipe judges by it, and what of it moves. Raises ModelError for a
    model that cannot be compared with the policy."""
    settings, policy = run.recipe.algorithm, run.policy
    if not isinstance(settings, Online) or IMPLICIT not in [each.source for each in settings.rewards]:
        return {}, []
    assert isinstance(policy, Policy)
    path = settings.implicit.reference
    assert path is not None, "the settings have been checked"
    first, loaded = load_policy(replace(run.recipe.model, path=path, lora=None, adapter=None), run.recipe.seed)
    if loaded.tokenizer.get_vocab() != run.loaded.tokenizer.get_vocab():
        fault = "this model has another vocabulary than the policy, whose tokens it is to score"
        raise ModelError(fault, where=path, remedy="name the model that the policy was trained from")
    first.requires_grad_(False)
    if isinstance(reference, MovingReference) and settings.reference == "fresh":
        if policy.adapter is not None:
            fault = "what an adapter was trained from a round ago is not kept"
            raise RecipeError(fault, where="algorithm.reference", remedy="train without an adapter, or keep it")
        trailing = TrailingReference(first, reference)
        against, keepers = trailing, [trailing]
    else:
        against, keepers = first, list[Stateful]()
    penalty = balanced if settings.implicit.length_penalty == "balanced" else settings.implicit.length_penalty
    made = ImplicitReward(policy, against, run.recipe.training.packing, settings.implicit.beta, penalty)
    return {IMPLICIT: made}, list[Stateful](keepers)


def reference_sampler(run: RunContext) -> ReferenceSampler:
    """What draws from the reference."""
    reference = run.reference
    assert reference is not None, "an algorithm that draws from it needs it"

    def make(model: PreTrainedModel) -> LocalSampler:
        return LocalSampler(model, run.loaded.tokenizer, run.loaded.stop_tokens, run.recipe.sampling)

    return ReferenceSampler(reference, make)
