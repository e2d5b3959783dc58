"""One cell of the arena: a method at a learning rate with a seed, trained and judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from experiments.arena.base import COMMAND, TOKENS, Ground, make_ground, reward_model
from experiments.arena.counts import CountedSampler, Tokens
from experiments.arena.methods import REWARD, Method
from experiments.arena.tasks import Split, Stories
from experiments.harness.cells import Field, Result, Store, digest, digest_of_files, folder_name, run
from experiments.harness.models import Speaker, drift, scorer_of
from experiments.harness.recipes import assemble, recipe_of, replaced
from twofold.config.schema import Recipe
from twofold.data.encode import encode
from twofold.data.formats import read
from twofold.evaluation.exact_match import exact_match
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import with_reference
from twofold.progress import Silent
from twofold.records import Task
from twofold.rewards.verifier import judge
from twofold.sampling.base import Sample, Sampling
from twofold.training.trainer import Trainer

REVISION = 1
"""Raise it when the same cell would come out otherwise."""


@dataclass(frozen=True)
class Protocol:
    """What is the same for every method."""

    ground: Ground = field(default_factory=Ground)
    steps: int = 40
    batch_size: int = 32
    warmup: int = 5
    development: int = 200
    """Problems that choose the learning rate."""
    test: int = 300
    sampled: int = 100
    """Test problems that get `samples` answers at temperature 1."""
    samples: int = 32
    kl_samples: int = 8
    """Of these, the answers that the KL is taken over."""
    best_of: int = 128


@dataclass(frozen=True)
class Cell:
    """`problems` is the split that judges; `looks` at it along the way, the end among them; `many` answers to each at
    temperature 1."""

    method: Method
    learning_rate: float
    seed: int
    problems: Split = "test"
    looks: int = 4
    many: bool = True

    def key(self, protocol: Protocol, ground: str) -> str:
        """A digest of all that decides the cell; what a method is called, and what is noted of it, does not."""
        return digest({
            "sections": self.method.sections, "reads": self.method.reads, "rate": self.learning_rate,
            "seed": self.seed, "problems": self.problems, "looks": self.looks, "many": self.many,
            "protocol": asdict(protocol), "ground": ground, "revision": REVISION,
        })  # fmt: skip


def solved(result: Result) -> float:
    """How many of its problems."""
    return float(sum(result["right"]))


def field_of(bench: Arena, make: Callable[[], Arena], workers: int) -> Field[Cell]:
    """The arena with its workers."""
    return Field(bench, make, lambda r: r.get("failed") or f"{solved(r) / len(r['right']):.3f}", workers)


@dataclass
class Arena:
    """The data and the base model in memory, and a folder of finished cells."""

    root: Path
    protocol: Protocol

    def __post_init__(self) -> None:
        self.here = make_ground(self.root, self.protocol.ground)
        data = (self.here / f"{name}.jsonl" for name in ("pairs", "generator"))
        self.ground = digest_of_files(self.here / "base" / "model.safetensors", *data)
        self.store, self.packing = Store(self.here / "cells"), Packing()
        self.base = Speaker.load(self.here / "base", Sampling(max_new_tokens=TOKENS, batch_size=256))
        groups = encode(list(read(str(self.here / "heldout.jsonl")).records), self.base.encoder, Silent()).groups
        self.heldout = with_reference(groups, self.base.policy.logps(groups, self.packing))

    def name(self, cell: Cell) -> str:
        return folder_name(cell, cell.key(self.protocol, self.ground))

    def recipe(self, cell: Cell) -> Recipe:
        """The cell as a recipe."""
        protocol, method = self.protocol, cell.method
        sections: dict[str, Any] = {
            "model": {"path": str(self.here / "base"), "precision": "float32"},
            "data": {"train": str(self.here / f"{method.reads}.jsonl")},
            "sampling": {"max_new_tokens": TOKENS, "batch_size": 256},
            "optimizer": {"learning_rate": cell.learning_rate, "schedule": "constant", "warmup": protocol.warmup},
            "training": {"steps": protocol.steps, "batch_size": protocol.batch_size},
            "reference": {"cache": str(self.here / "reference-cache")},
            "run": str(self.here / "cells" / self.name(cell)),
            "seed": cell.seed,
        }
        for name, section in method.sections.items():
            sections[name] = {**sections.get(name, {}), **section}
        if sections["objective"]["kind"] == "kto":
            sections["training"]["batch_size"] *= 2
        if sections.get("algorithm", {}).get("kind") == "pdpo":
            sections["data"]["generator"] = {"file": str(self.here / "generator.jsonl")}
        if REWARD in repr(sections):
            sections = replaced(sections, REWARD, str(reward_model(self.here, protocol.ground, cell.seed)))
        return recipe_of(sections, COMMAND)

    def assembled(self, cell: Cell) -> tuple[Trainer, Policy, Tokens]:
        """The cell before its first step; the counter has what its cached reference took, and will count what is
        sampled."""
        recipe, tokens = self.recipe(cell), Tokens()
        loop, policy, context = assemble(recipe)
        cached = recipe.reference.kind == "cached" and "ref_logp" in recipe.objective.requires
        if cached and cell.method.reads == "pairs":
            tokens.judged = sum(g.num_tokens for g in context.groups["train"])
        algorithm = cast("Any", loop.algorithm)
        if hasattr(algorithm, "sampler"):
            algorithm.sampler = CountedSampler(algorithm.sampler, tokens)
        return loop, policy, tokens

    def train(self, cell: Cell) -> Result:
        """Steps, with looks in between. A run that stops being finite has solved nothing."""
        loop, policy, tokens = self.assembled(cell)

        def look(spent: float) -> Result:
            return {"cpu": spent, **tokens.as_dict(), **self._look(cell, policy)}

        done = run(loop, cell.looks, look, tokens.counting)
        result: Result = {"looks": done.looks, "tokens": tokens.as_dict()}
        if done.failed:
            result |= {"failed": done.failed, "right": [False] * len(self.problems(cell))}
        else:
            result |= {"right": done.looks[-1]["right"], "train_cpu": done.spent}
        return {**result, **(self._sampled(cell, policy) if cell.many else {})}

    def problems(self, cell: Cell) -> list[Task]:
        """Those that judge the cell."""
        count = self.protocol.development if cell.problems == "development" else self.protocol.test
        return Stories(self.protocol.ground.task).tasks(cell.problems, count)

    def _speaker(self, policy: Policy, temperature: float) -> Speaker:
        return replace(self.base, policy=policy, sampling=replace(self.base.sampling, temperature=temperature))

    def _look(self, cell: Cell, policy: Policy) -> Result:
        """Greedy answers, and what the policy makes of held-out pairs: the implicit reward's accuracy, and drift."""
        rows = exact_match(self._speaker(policy, 0.0).sampler, self.problems(cell), self.base.encoder).rows
        chosen, rejected = drift(policy, self.heldout, self.packing)
        return {
            "right": [row.strict for row in rows],
            "strict": sum(r.strict for r in rows) / len(rows),
            "worked": sum("=" in r.completion for r in rows) / len(rows),
            "truncated": sum(r.truncated for r in rows) / len(rows),
            "accuracy": ((chosen - rejected).sign() + 1).div(2).mean().item(),
            "chosen": chosen.mean().item(),
            "rejected": rejected.mean().item(),
        }

    def _sampled(self, cell: Cell, policy: Policy) -> Result:
        """Of many answers at temperature 1: how many are right, problem by problem; and the KL to the base."""
        problems = self.problems(cell)[: self.protocol.sampled]
        rows = self._drafts(policy, problems, self.protocol.samples, cell.seed)
        return {
            "passed": [sum(self._right(t, d) for d in drafts) for t, drafts in zip(problems, rows, strict=True)],
            "kl": self._kl(problems, rows),
        }

    def _drafts(self, policy: Policy, problems: Sequence[Task], samples: int, seed: int) -> list[list[Sample]]:
        prompts = [str(t.prompt) for t in problems]
        return self._speaker(policy, 1.0).drafts(prompts, samples=samples, seed=(10_000 + seed, 0))

    def _right(self, task: Task, draft: Sample) -> bool:
        return judge(self.base.encoder.text(draft.tokens), task.answer).strict

    def _kl(self, problems: Sequence[Task], rows: Sequence[Sequence[Sample]]) -> list[float]:
        """Mean of log π/π_ref over own answers, problem by problem: sequence Monte Carlo, unbiased, nats."""
        rows = [drafts[: self.protocol.kl_samples] for drafts in rows]
        groups = self.base.groups([str(t.prompt) for t in problems], rows)
        return [
            sum((d.logp.double() - r.double()).sum().item() for d, r in zip(drafts, row, strict=True)) / len(drafts)
            for drafts, row in zip(rows, self.base.policy.logps(groups, self.packing), strict=True)
        ]

    def _named(self, name: str) -> str:
        return f"{name}-{digest(f'{self.protocol} {self.ground} {REVISION}')}"

    def base_cell(self, problems: Split = "test") -> Result:
        """The base, looked at and sampled as a final cell is."""
        cell = Cell(Method("base", {}), 0.0, 0, problems)

        def make() -> Result:
            look = {"step": 0, "cpu": 0.0, **Tokens().as_dict(), **self._look(cell, self.base.policy)}
            return {"looks": [look], "right": look["right"], **self._sampled(cell, self.base.policy)}

        return self.store.result(self._named(f"base-{problems}"), make)

    def best_of_n(self, seed: int) -> Result:
        """Many answers of the base to each test problem, with a reward model's scores and the verdicts."""
        return self.store.result(self._named(f"best-of-n-{seed}"), lambda: self._best_of_n(seed))

    def _best_of_n(self, seed: int) -> Result:
        problems = Stories(self.protocol.ground.task).tasks("test", self.protocol.sampled)
        tokens = Tokens()
        rows = self._drafts(self.base.policy, problems, self.protocol.best_of, seed)
        groups = self.base.groups([str(t.prompt) for t in problems], rows)
        scorer = scorer_of(reward_model(self.here, self.protocol.ground, seed))
        with tokens.counting():
            scores = scorer(groups)
        tokens.sampled = sum(len(d.tokens) for drafts in rows for d in drafts)
        right = [[float(self._right(t, d)) for d in drafts] for t, drafts in zip(problems, rows, strict=True)]
        return {"scores": scores, "correct": right, "tokens": tokens.as_dict()}
