"""Rewards of a run: from what a recipe names, or Python hands over, to what rates rollouts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, cast

from twofold.algorithms import Online, PolicyGradient
from twofold.algorithms.online import IMPLICIT, TRUTH
from twofold.batch import Branch, Group, Role
from twofold.config.schema import Recipe
from twofold.data.tokenize import Encoder
from twofold.errors import DataError, RecipeError
from twofold.models.load import LoadedModel
from twofold.rewards.base import Reward, executes
from twofold.rewards.execution import CodeReward, Execution, Sandbox
from twofold.rewards.rollouts import FunctionReward, ModelReward, RewardFunction, Rewards, VerifierReward
from twofold.rewards.verifier import Metric, Verifier
from twofold.runs.context import RunContext
from twofold.sampling.base import Sampler
from twofold.training.trainer import Evaluation

_VERIFIERS: Mapping[str, Metric] = {"verifier": "strict", "verifier:strict": "strict", "verifier:flexible": "flexible"}
_EXECUTING = ("code",)
_OTHERS = {"algorithm.judge": (IMPLICIT, TRUTH)}
"""What else a setting may name."""
_PYTHON = "python:"


def functions_of(given: dict[str, Any]) -> dict[str, RewardFunction]:
    """Takes functions out of `given`'s reward or judge and leaves names in their place, which a recipe can hold."""
    section, found = given.get("algorithm"), dict[str, RewardFunction]()
    if not isinstance(section, Mapping):
        return found
    algorithm = dict(cast("Mapping[str, Any]", section))

    def named(source: Any) -> Any:
        if isinstance(source, Mapping):
            return {k: named(v) for k, v in cast("Mapping[str, Any]", source).items()}
        if not callable(source):
            return source
        name = _PYTHON + getattr(source, "__qualname__", type(source).__qualname__)
        found[name] = cast("RewardFunction", source)
        return name

    for name in ("reward", "judge"):
        source = algorithm.get(name)
        if isinstance(source, Sequence) and not isinstance(source, str):
            algorithm[name] = [named(each) for each in cast("Sequence[Any]", source)]
        elif source is not None:
            algorithm[name] = named(source)
    given["algorithm"] = algorithm
    return found


def build_rewards(run: RunContext, known: Mapping[str, Reward]) -> Rewards:
    """What rates drafts, ready for the rows to train on and to measure; `known` are made already. Raises DataError for
    a problem that a verifier cannot judge, RecipeError and ModelError for a source that is not there."""
    settings = run.recipe.algorithm
    assert isinstance(settings, PolicyGradient | Online)
    sources = Sources(
        run.recipe, run.encoder, run.loaded, run.functions, settings.where_rewards, settings.execution, known
    )
    groups = (run.groups["train"], run.groups["heldout"])
    return Rewards([(each.source, each.weight, sources.reward(each.source, groups)) for each in settings.rewards])


@dataclass(frozen=True)
class Sources:
    """What rewards of a run are made with; `where` is the setting that names them, `known` are made already."""

    recipe: Recipe
    encoder: Encoder
    loaded: LoadedModel
    functions: Mapping[str, RewardFunction]
    where: str
    execution: Execution | None = None
    """What programs of the model may do; None where the algorithm has no such setting."""
    known: Mapping[str, Reward] = field(default_factory=dict[str, Reward])

    def reward(self, source: str, groups: Sequence[Sequence[Group]]) -> Reward:
        """What rates by the name `source`, ready for several lots of groups. Raises as `build_rewards`."""
        if source in self.known:
            return self.known[source]
        if source in _VERIFIERS:
            verifier = Verifier(self.encoder.text, _VERIFIERS[source])
            verifier.check(chain.from_iterable(groups), self.loaded.stop_tokens)
            return VerifierReward(verifier)
        if source.startswith(_PYTHON):
            return FunctionReward(self._function(source), self.encoder.text)
        if source in _EXECUTING:
            sandbox = self._sandbox()
            _refuse_untested(chain.from_iterable(groups))
            return CodeReward(sandbox, self.encoder.text)
        _refuse_slip(source, self.where)
        scorer = replace(self.recipe.model, path=source, lora=None, adapter=None)
        return ModelReward.load(scorer, self.loaded.tokenizer, self.recipe.training.packing)

    def _sandbox(self) -> Sandbox:
        if self.execution is None:
            remedy = "judge drafts by a verifier, a reward model or a language model"
            raise RecipeError("a gate runs no programs of the model", where=self.where, remedy=remedy)
        return Sandbox(self.execution, self.where)

    def _function(self, source: str) -> RewardFunction:
        if source not in self.functions:
            remedy = "hand the function to twofold.train(…, algorithm={…: function}), or name another reward"
            raise RecipeError(f"{source} is a function of a program", where=self.where, remedy=remedy)
        if executes(self.functions[source]):
            self._sandbox()  # refuses what is not allowed; the function brings its own way to run
        return self.functions[source]


def _refuse_untested(problems: Iterable[Group]) -> None:
    """Raise DataError for a problem without a ground truth, whose text is the tests that a program must pass."""
    for problem in problems:
        if problem.truth is None:
            remedy = "bring tests, as Python, as its answer"
            raise DataError("a program without tests cannot be rated", where=problem.name, remedy=remedy)


def _refuse_slip(source: str, where: str) -> None:
    """Refuse what is no folder and nearly a verifier's name, before it is looked for on the hub."""
    near = difflib.get_close_matches(source, (*_VERIFIERS, *_EXECUTING, *_OTHERS.get(where, ())), n=1)
    near = [*_EXECUTING] if source.startswith("exec") else near
    if near and not Path(source).is_dir():
        fault = f"{source!r} is neither a reward's name nor the folder of a reward model"
        raise RecipeError(fault, where=where, remedy=f"did you mean `{near[0]}`?")


def heldout_reward(rewards: Rewards, sampler: Sampler, tasks: Sequence[Group], seed: int) -> Evaluation:
    """The mean reward of one completion for each held-out prompt, drawn as evaluation.sampling says."""
    rows = sampler.sample([t.prompt for t in tasks], seed=(seed, 0))
    said = [
        replace(t, branches=tuple(Branch(d.tokens, Role.DRAFT) for d in drafts))
        for t, drafts in zip(tasks, rows, strict=True)
    ]
    rated = rewards.rate(said)
    total = [reward for row in rewards.total(rated) for reward in row]
    figures = {"reward": sum(total) / len(total), "n": float(len(total))}
    if len(rated) > 1:
        figures |= {f"reward/{name}": sum(map(sum, rows)) / len(total) for name, rows in rated.items()}
    figures["truncated"] = sum(d.truncated for drafts in rows for d in drafts) / len(total)
    return Evaluation({f"heldout/{name}": value for name, value in figures.items()})
