"""Online preference optimization: sample completions, judge them into pairs, and train on the pairs for one or more
steps.

Online DPO (Guo et al. 2024, arXiv:2402.04792), iterative DPO and IRPO (arXiv:2404.19733), SPIN (arXiv:2401.01335), SPPO
(arXiv:2405.00675), DICE (arXiv:2406.09760) and XPO (arXiv:2405.21046) differ in the judge, the length of a round,
whether the reference model changes with each round, and the objective. Each of these is a setting (docs/online.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from twofold.algorithms.base import Algorithm, AlgorithmSettings, Run, Sections, refuse_fixed_rows
from twofold.algorithms.draft_serialization import dump_drafts, load_drafts
from twofold.algorithms.preference_pairs import Labels, Which, compared, decided, sides, tied, win_rates, wins
from twofold.algorithms.schedules import Ramp, refuse_bad_ramps, scheduled
from twofold.batch import Branch, DataKind, Group, Role
from twofold.data.order import Order
from twofold.errors import DataError, RecipeError
from twofold.judges.base import JudgeKind
from twofold.judges.drafts import PairJudge
from twofold.judges.registry import ONLINE, RewardSource, parse_sources
from twofold.objectives.base import Objective
from twofold.objectives.importance import OF_DRAFT, weighted_pairs
from twofold.objectives.pdpo import PDPOGenerator
from twofold.objectives.xpo import OF_REFERENCE, XPO
from twofold.rewards.execution import Execution
from twofold.rewards.implicit import Implicit
from twofold.sampling.base import Sample, Sampler, SampleRequest, sampler_metrics
from twofold.settings import require, settings
from twofold.training.step import Part, Round


@settings
class Online(AlgorithmSettings):
    """Online preference optimization: how samples are judged into pairs, and how long a round of pairs is used. Any
    objective on pairs works. training.batch_size counts prompts."""

    kind: Literal["online"] = "online"
    judge: str | tuple[RewardSource, ...] = "verifier"
    """A judge, KIND[:ARGUMENT] (docs/judges.md): verifier, reward:FOLDER, implicit …, or a list of these with weights;
    or llm:URL#MODEL, llm-score:URL#MODEL; or `truth`: the row's reference answer is chosen and the sample is rejected
    (SPIN). In Python also a function of (prompt, completion, reference answer)."""
    samples: int = 2
    """Samples of the policy per prompt."""
    reference_samples: int = 0
    """Additional samples per prompt from the reference model (XPO: 1 and `samples: 1`)."""
    pairs: Which = "best_worst"
    """The best sample of a prompt with the worst, or every two."""
    most: int | None = None
    """For every two: maximum number of pairs per prompt, chosen at random."""
    labels: Labels = "hard"
    """hard prefers the higher reward. bradley_terry samples the winner with probability σ(scale·(r − r'))."""
    scale: float = 1.0
    """Scale of the rewards for bradley_terry."""
    stop_penalty: float = 0.0
    """Subtracted from the reward of a sample that did not stop."""
    prompts: int | Literal["all"] | None = None
    """Prompts per round, a multiple of training.batch_size. The default is training.batch_size: new samples in every
    step. all uses as many rows as fill whole steps."""
    epochs: int = 1
    """Passes over the pairs of a round before the next round."""
    reference: Literal["recipe", "fresh"] = "recipe"
    """fresh: the policy becomes the reference model at the start of each round. recipe: as the section `reference`
    defines."""
    alpha: float = 0.0
    """XPO's optimism: weight of log π of the reference model's samples."""
    alpha_decay: Literal["none", "linear"] = "none"
    """linear decreases alpha from round to round, to 0 in the last one."""
    implicit: Implicit = field(default_factory=Implicit)
    rubric: str | None = None
    """File with the instructions for a language model as judge. The default is the package's own
    (docs/data-building.md)."""
    execution: Execution = field(default_factory=Execution)
    """Limits for a judge that runs the model's programs. By default running them is not allowed."""
    ramp: Mapping[str, Ramp] = field(default_factory=dict[str, Ramp])
    """Schedules for settings of the objective."""

    def __post_init__(self) -> None:
        require(self.samples > 0 and self.reference_samples >= 0, "samples must be ≥ 1, reference_samples ≥ 0")
        require(self.prompts in (None, "all") or self.prompts > 0, "prompts must be ≥ 1")  # type: ignore[operator]  # a number here
        require(self.epochs > 0 and self.scale > 0, "epochs must be ≥ 1 and scale > 0")
        require(self.stop_penalty >= 0 and self.alpha >= 0, "stop_penalty and alpha must be ≥ 0")
        require(self.most is None or (self.most > 0 and self.pairs == "all"), "most (≥ 1) goes with pairs all")
        kinds = self.judges
        alone = any(kind.asks_server or kind.gives == "order" for kind in kinds)
        require(not alone or len(kinds) == 1, "judge: `truth` and language models cannot be combined with other judges")
        require(self.rubric is None or kinds[0].asks_server, "rubric needs a language model as judge")
        own = self.implicit_judge is not None
        require(self.implicit.reference is not None or not own, "implicit.reference: name what the model came from")
        require(own or self.implicit == Implicit(), "implicit needs judge implicit")
        require(self.alpha > 0 or self.alpha_decay == "none", "alpha_decay needs an alpha > 0")
        require(self.alpha == 0 or self.reference_samples > 0, "alpha needs reference_samples ≥ 1: what it pushes down")
        rated = self.labels == "hard" and self.stop_penalty == 0
        require(
            rated or kinds[0].gives == "scores",
            "labels bradley_terry and stop_penalty need rewards: `truth` and `llm:` have none",
        )
        if kinds[0].gives == "order":
            alone = self.reference_samples == 0 and self.pairs == "best_worst"
            require(
                alone, "`judge: truth` pairs each sample with the reference answer: reference_samples, pairs: no effect"
            )
        else:
            require(self.samples + self.reference_samples > 1, "samples must be ≥ 2, to compare samples of a prompt")

    @property
    def rewards(self) -> tuple[RewardSource, ...]:
        """The judges, with their weights."""
        return (RewardSource(source=self.judge),) if isinstance(self.judge, str) else self.judge

    draws_drafts = True
    answers_rows = True
    judge_place = ONLINE

    @property
    def judges(self) -> list[JudgeKind]:
        return parse_sources(self.rewards, "judge", ONLINE)

    @property
    def implicit_judge(self) -> Implicit | None:
        return self.implicit if any("policy" in kind.needs for kind in self.judges) else None

    @property
    def passes(self) -> int:
        return self.epochs

    @property
    def needs_reference(self) -> bool:
        return bool(self.reference_samples)

    @property
    def imitates_answers(self) -> bool:
        return any(kind.gives == "order" for kind in self.judges)

    def data_kind(self, objective: Objective) -> DataKind:
        return "prompts"

    def reference_interval(self, batch_size: int, num: int) -> int | None:
        return self.steps_per_round(batch_size, num) if self.reference == "fresh" else None

    def refuse_misfit(self, recipe: Sections) -> None:
        super().refuse_misfit(recipe)
        objective = recipe.objective
        paired = objective.data_kind == "pairs" and objective.reads == "logps"
        require(paired and not isinstance(objective, PDPOGenerator), "algorithm online needs an objective on pairs")
        if self.prompts != "all":
            self.size(recipe.training.batch_size, recipe.training.batch_size)
        several = self.samples + self.reference_samples > 1
        require(
            recipe.sampling.temperature > 0 or not several,
            "sampling.temperature 0 generates the same sample every time",
        )
        moved = recipe.reference.kind == "moving" and self.reference == "fresh"
        require(not moved, "algorithm.reference fresh moves the reference already: leave reference.kind out")
        judged = recipe.data.heldout is None or self.is_rewarded
        require(judged, "data.heldout needs a judge that gives rewards: measure with evaluation.tasks instead")
        refuse_fixed_rows(recipe, "online")

    def build(self, run: Run) -> OnlineAlgorithm:
        kind = self.judges[0]
        judge = run.server_judge(kind, self.rubric) if kind.asks_server else run.rewards if self.is_rewarded else None
        return OnlineAlgorithm(
            settings=self,
            tasks=run.groups["train"],
            objective=run.objective,
            sampler=run.sampler(),
            judge=judge,
            reference_sampler=run.reference_sampler() if self.reference_samples else None,
            batch_size=run.batch_size,
            seed=run.seed,
            steps=run.steps,
        )

    @property
    def is_rewarded(self) -> bool:
        """Whether the judge gives rewards, which are defined for a single sample."""
        return all(kind.gives == "scores" and not kind.asks_server for kind in self.judges)

    def size(self, batch_size: int, num: int) -> int:
        """Prompts per round with `num` rows. Raises ValueError if steps do not divide it evenly."""
        size = num // batch_size * batch_size if self.prompts == "all" else self.prompts or batch_size
        require(size > 0, f"training.batch_size ({batch_size}) is more than there are rows ({num})")
        require(size % batch_size == 0, f"algorithm.prompts must be a multiple of training.batch_size ({batch_size})")
        return size

    def steps_per_round(self, batch_size: int, num: int) -> int:
        """Optimizer steps per round."""
        return self.epochs * self.size(batch_size, num) // batch_size


Pairs = list[list[Group]]
"""Pairs of each prompt of a round: groups of a chosen and a rejected branch."""


@dataclass(kw_only=True)
class OnlineAlgorithm(Algorithm):
    """`tasks` are groups without branches. Without a `judge` their reference answer is chosen. The reference model's
    log-probabilities are a column that the step provides."""

    settings: Online
    tasks: Sequence[Group]
    objective: Objective
    sampler: Sampler
    judge: PairJudge | None
    reference_sampler: Sampler | None = None
    batch_size: int
    seed: int
    steps: int

    def __post_init__(self) -> None:
        refuse_bad_ramps(self.objective, self.settings.ramp)
        self.size = self.settings.size(self.batch_size, len(self.tasks))
        if self.size > len(self.tasks):
            raise RecipeError(
                f"a round of {self.size} prompts would ask some of the {len(self.tasks)} twice, and hear the same",
                where="training.batch_size" if self.settings.prompts is None else "algorithm.prompts",
                remedy="ask for fewer prompts and more samples",
            )
        if self.judge is None and (lacking := next((t for t in self.tasks if t.truth is None), None)):
            remedy = "add its reference answer, or use another judge to compare samples"
            raise DataError(
                "this prompt has no reference answer to pair with its samples", where=lacking.name, remedy=remedy
            )
        self.steps_per_round = self.settings.steps_per_round(self.batch_size, len(self.tasks))
        self.order = Order(len(self.tasks), self.seed)

    def round(self, step: int, state: dict[str, Any]) -> Round:
        """Sample, judge and pair once per round; train on the pairs of one batch of prompts per step."""
        number, age = divmod(step, self.steps_per_round)
        tasks = self._tasks(number)
        if age:
            pairs, figures = _recalled(tasks, state["pairs"]), {}
        else:
            pairs, figures = self.prefer(tasks, step)
            if self.steps_per_round > 1:
                state["pairs"] = dump_drafts([tuple(b for g in groups for b in g.branches) for groups in pairs])
        batch = Order(self.size, self.seed + 1 + number).at(age, self.batch_size)
        batch_pairs = [g for i in batch for g in pairs[i]]
        objective = scheduled(self.objective, self.settings.ramp, step, self.steps)
        led = {name: getattr(objective, name) for name in self.settings.ramp}
        objective = weighted_pairs(objective, batch_pairs)
        if self.settings.alpha:
            objective = XPO(objective, self.alpha(number))
            led["alpha"] = objective.alpha
        return Round(step, [Part(batch_pairs, objective)], {**figures, "age": float(age), **led})

    def request(self, step: int) -> SampleRequest | None:
        number, age = divmod(step, self.steps_per_round)
        return None if age else self._request(self._tasks(number), step)

    def _tasks(self, number: int) -> list[Group]:
        return [self.tasks[i] for i in self.order.at(number, self.size)]

    def _request(self, tasks: Sequence[Group], step: int) -> SampleRequest:
        return SampleRequest([t.prompt for t in tasks], self.settings.samples, (self.seed, step))

    def prefer(self, tasks: Sequence[Group], step: int) -> tuple[Pairs, dict[str, float]]:
        """The preferences among the current policy's samples of each task, and metrics."""
        asked, figures = self.draft(tasks, step)
        chance = self._chance(step)
        if self.judge is None:
            every, found = [_against_truth(group) for group in asked], dict[str, float]()
        else:
            verdicts = self.judge.verdicts(asked)
            every = [([], 0) if said is None else self.pairs(group, said, chance)
                     for group, said in zip(asked, verdicts.scores, strict=True)]  # fmt: skip
            found = {**_of_scores(verdicts.scores, self.judge.shares), **verdicts.figures}
        pairs, ties = [groups for groups, _ in every], sum(count for _, count in every)
        made = [g for groups in pairs for g in groups]
        counts = {
            "pairs": float(len(made)),
            "ties": float(ties),
            "no_pair": sum(not p for p in pairs) / len(pairs),
        }
        return pairs, {**figures, **found, **counts, **_lengths(made), **sampler_metrics(self.sampler)}

    def draft(self, tasks: Sequence[Group], step: int) -> tuple[list[Group], dict[str, float]]:
        """Each task with its samples: first the policy's, then the reference model's with separate random numbers."""
        prompts, settings = [t.prompt for t in tasks], self.settings
        rows = self._request(tasks, step).drawn_by(self.sampler)
        others = [[] for _ in tasks]
        if self.reference_sampler is not None:
            others = self.reference_sampler.sample(
                prompts, samples=settings.reference_samples, seed=(self.seed + 1, step)
            )
        asked: list[Group] = []
        for task, mine, theirs in zip(tasks, rows, others, strict=True):
            drawn = [(d, 0.0) for d in mine] + [(d, 1.0) for d in theirs]
            weighted = OF_DRAFT in mine[0].columns  # the reference model's samples come from this process: weight 1
            branches = tuple(Branch(d.tokens, Role.DRAFT, {}, _columns(d, of, weighted=weighted)) for d, of in drawn)
            asked.append(replace(task, branches=branches))
        cut = [b.columns["truncated"] for g in asked for b in g.branches]
        return asked, {"drafts": float(len(cut)), "truncated": sum(cut) / len(cut)}

    def pairs(self, group: Group, said: Sequence[float], chance: Iterator[float]) -> tuple[list[Group], int]:
        """The pairs among a group's samples from one number per sample, and the number of ties."""
        how, tokens = self.settings, [b.tokens for b in group.branches]
        cut_N = torch.tensor([b.columns["truncated"] for b in group.branches], dtype=torch.float64)
        score_N = torch.tensor(said, dtype=torch.float64) - how.stop_penalty * cut_N
        win_NN = wins(score_N, how.labels, how.scale)
        shares = self.judge is not None and self.judge.shares
        rate_N = (score_N if shares else win_rates(win_NN)).tolist()
        asked = compared(score_N, how.pairs)
        told = [pair for pair in asked if not tied(pair, win_NN, tokens, how.labels)]
        made: list[Group] = []
        for i, j in decided(_some(told, how.most, chance), win_NN, chance):
            margin = float(score_N[i] - score_N[j])
            two = (group.branches[k].with_columns({"win_rate": rate_N[k], "margin": margin}) for k in (i, j))
            made.append(replace(group, branches=sides(*two)))
        return made, len(asked) - len(told)

    def alpha(self, number: int) -> float:
        """XPO's weight in a round. With decay it is full in the first round and 0 in the last."""
        rounds = -(-self.steps // self.steps_per_round)
        falling = self.settings.alpha_decay == "linear" and rounds > 1
        return self.settings.alpha * (1 - number / (rounds - 1) if falling else 1.0)

    def _chance(self, step: int) -> Iterator[float]:
        """Random numbers in [0, 1) of a round, a function of (seed, step)."""
        noise = torch.Generator().manual_seed(1_000_003 * self.seed + step)
        while True:
            yield from torch.rand(1024, generator=noise, dtype=torch.float64).tolist()


def _columns(sample: Sample, of_reference: float, *, weighted: bool) -> dict[str, float]:
    """The columns of a sample that a pair needs."""
    weight = {OF_DRAFT: float(sample.columns.get(OF_DRAFT, 1.0))} if weighted else {}
    return {"truncated": float(sample.truncated), OF_REFERENCE: of_reference, **weight}


def _against_truth(group: Group) -> tuple[list[Group], int]:
    """Each sample loses to its task's reference answer. An identical sample is a tie."""
    assert group.truth is not None, "looked for before step 0"
    truth = Branch(group.truth, Role.TRUTH)
    others = [b for b in group.branches if not torch.equal(b.tokens, group.truth)]
    weights = [{k: v for k, v in sample.columns.items() if k == OF_DRAFT} for sample in others]
    pairs = [
        replace(group, branches=sides(replace(truth, columns=dict.fromkeys(w, 1.0)), replace(sample, columns=w)))
        for sample, w in zip(others, weights, strict=True)
    ]
    return pairs, len(group.branches) - len(others)


def _some(pairs: Sequence[tuple[int, int]], most: int | None, chance: Iterator[float]) -> Sequence[tuple[int, int]]:
    """A uniformly random subset of at most `most` pairs, in their order."""
    if most is None or len(pairs) <= most:
        return pairs
    drawn = sorted(range(len(pairs)), key=[next(chance) for _ in pairs].__getitem__)[:most]
    return [pairs[i] for i in sorted(drawn)]


def _recalled(tasks: Sequence[Group], told: Any) -> Pairs:
    """The round's pairs from the state."""
    rows = load_drafts(told)
    return [[replace(task, branches=sides(*two)) for two in zip(row[::2], row[1::2], strict=True)]
            for task, row in zip(tasks, rows, strict=True)]  # fmt: skip


def _of_scores(scores: Sequence[Sequence[float] | None], shares: bool) -> dict[str, float]:
    """Reward metrics, and the share of prompts without a verdict of the judge."""
    known = [row for row in scores if row is not None]
    figures = {"unjudged": 1 - len(known) / len(scores)} if len(known) < len(scores) else {}
    if shares or not known:
        return figures
    every = torch.tensor([r for row in known for r in row], dtype=torch.float64)
    return {"reward": every.mean().item(), "reward_std": every.std(correction=0).item(), **figures}


def _lengths(pairs: Sequence[Group]) -> dict[str, float]:
    """Mean length of preferred minus other samples, in tokens. It shows a length bias of the judge."""
    longer = [len(g.branches[0].tokens) - len(g.branches[1].tokens) for g in pairs]
    return {"chosen_length_excess": sum(longer) / len(longer)} if longer else {}
