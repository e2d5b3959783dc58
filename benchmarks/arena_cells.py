"""One cell of the arena: a method at a learning rate with a seed, trained, watched and judged.

A cell is a folder of its own, named after a digest of all that decides it: what is there is not done again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import torch

from benchmarks.arena_base import TOKENS, Ground, digest, make_ground, reward_model
from benchmarks.arena_counts import CountedSampler, Tokens
from benchmarks.arena_methods import REWARD, Method
from benchmarks.arena_tasks import Split, Stories
from benchmarks.cells import drift, naming, run, timed
from benchmarks.scratch import kept
from twofold.batch import Branch, Group, Role
from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.data.encode import encode
from twofold.data.formats import read
from twofold.data.tokenize import Encoder
from twofold.evaluation.exact_match import exact_match
from twofold.models.heads import load_reward_model
from twofold.models.load import ModelSettings, load_policy
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import with_reference
from twofold.progress import Silent
from twofold.records import Task
from twofold.rewards.verifier import judge
from twofold.runs.build import build_trainer
from twofold.runs.context import RunContext
from twofold.runs.dataset import read_dataset
from twofold.sampling.base import Draft, Sampling
from twofold.sampling.local import LocalSampler
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
        decides = {
            "sections": self.method.sections, "reads": self.method.reads, "rate": self.learning_rate,
            "seed": self.seed, "problems": self.problems, "looks": self.looks, "many": self.many,
            "protocol": asdict(protocol), "ground": ground, "revision": REVISION,
        }  # fmt: skip
        return sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]

    def folder(self, protocol: Protocol, ground: str) -> str:
        slug = re.sub(r"\W+", "-", self.method.name.replace("γ", "gamma").replace("×", "x")).strip("-").lower()
        return f"{slug}-{self.learning_rate:g}-{self.seed}-{self.key(protocol, ground)}"


@dataclass
class Arena:
    """The data and the base model in memory, and a folder of finished cells."""

    root: Path
    protocol: Protocol

    def __post_init__(self) -> None:
        self.here = make_ground(self.root, self.protocol.ground)
        self.ground = digest(self.here)
        base, loaded = load_policy(ModelSettings(path=str(self.here / "base"), precision="float32"), 0)
        assert isinstance(base, Policy)
        self.base, self.loaded, self.packing = base.requires_grad_(False), loaded, Packing()
        self.encoder = Encoder(loaded.tokenizer, loaded.stop_tokens)
        pairs = read(str(self.here / "heldout.jsonl")).records
        groups = encode(list(pairs), self.encoder, Silent()).groups
        self.heldout = with_reference(groups, self.base.logps(groups, self.packing))

    def cell(self, cell: Cell) -> dict[str, Any]:
        """What came of the cell; trains it where nobody has."""
        return self.kept(cell.folder(self.protocol, self.ground), lambda: self._play(cell), asdict(cell))

    def known(self, cell: Cell) -> bool:
        return self.path(cell.folder(self.protocol, self.ground)).is_file()

    def path(self, name: str) -> Path:
        return self.here / "cells" / name / "result.json"

    def kept(self, name: str, make: Callable[[], dict[str, Any]], about: Mapping[str, Any]) -> dict[str, Any]:
        """The result called `name`, made where it is missing; beside it what it is `about`."""
        kept(self.path(name).with_name("cell.json"), lambda: about)
        return kept(self.path(name), lambda: timed(make))

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
            "run": str(self.here / "cells" / cell.folder(protocol, self.ground)),
            "seed": cell.seed,
        }
        for name, section in method.sections.items():
            sections[name] = {**sections.get(name, {}), **section}
        if sections["objective"]["kind"] == "kto":
            sections["training"]["batch_size"] *= 2
        if sections.get("algorithm", {}).get("kind") == "pdpo":
            sections["data"]["generator"] = {"file": str(self.here / "generator.jsonl")}
        if REWARD in repr(sections):
            sections = naming(sections, REWARD, str(reward_model(self.here, protocol.ground, cell.seed)))
        return validate(Recipe, Document("arena", sections, {}))

    def assembled(self, cell: Cell) -> tuple[Trainer, Policy, Tokens]:
        """The cell before its first step; the counter holds what its cached reference was asked, and will count what
        is sampled."""
        recipe, tokens = self.recipe(cell), Tokens()
        records = read_dataset(recipe, recipe.objective)
        policy, loaded = load_policy(recipe.model, recipe.seed)
        assert isinstance(policy, Policy)
        assembly = RunContext(recipe, recipe.objective, policy, loaded, records, Silent())
        run = Path(recipe.run)
        run.mkdir(parents=True, exist_ok=True)
        loop = build_trainer(assembly, run)
        cached = recipe.reference.kind == "cached" and "ref_logp" in recipe.objective.requires
        if cached and cell.method.reads == "pairs":
            tokens.judged = sum(g.num_tokens for g in assembly.groups["train"])
        algorithm = cast("Any", loop.algorithm)
        if hasattr(algorithm, "sampler"):
            algorithm.sampler = CountedSampler(algorithm.sampler, tokens)
        return loop, policy, tokens

    def _play(self, cell: Cell) -> dict[str, Any]:
        loop, policy, tokens = self.assembled(cell)
        found = self._train(cell, loop, policy, tokens)
        return {**found, **(self._sampled(cell, policy) if cell.many else {})}

    def _train(self, cell: Cell, loop: Trainer, policy: Policy, tokens: Tokens) -> dict[str, Any]:
        """Steps, with looks in between. A run that stops being finite has solved nothing."""

        def look(spent: float) -> dict[str, Any]:
            return {"cpu": spent, **tokens.as_dict(), **self._look(cell, policy)}

        done = run(loop, cell.looks, look, tokens.counting)
        found = {"looks": done.looks, "tokens": tokens.as_dict()}
        if done.failed:
            return {"failed": done.failed, **found, "right": [False] * len(self.problems(cell))}
        return {**found, "right": done.looks[-1]["right"], "train_cpu": done.spent, "watched": done.watched}

    def problems(self, cell: Cell) -> list[Task]:
        """Those that judge the cell."""
        count = self.protocol.development if cell.problems == "development" else self.protocol.test
        return Stories(self.protocol.ground.task).tasks(cell.problems, count)

    def sampler(self, policy: Policy, temperature: float) -> LocalSampler:
        how = Sampling(temperature=temperature, max_new_tokens=TOKENS, batch_size=256)
        return LocalSampler(policy.model, self.loaded.tokenizer, self.loaded.stop_tokens, how)

    def _look(self, cell: Cell, policy: Policy) -> dict[str, Any]:
        """Greedy answers, and what the policy makes of held-out pairs: the implicit reward's accuracy, and drift."""
        rows = exact_match(self.sampler(policy, 0.0), self.problems(cell), self.encoder).rows
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

    def _sampled(self, cell: Cell, policy: Policy) -> dict[str, Any]:
        """Of many answers at temperature 1: how many are right, problem by problem; and the KL to the base."""
        problems = self.problems(cell)[: self.protocol.sampled]
        rows = self._drafts(policy, problems, self.protocol.samples, cell.seed)
        return {
            "passed": [sum(self._right(t, d) for d in drafts) for t, drafts in zip(problems, rows, strict=True)],
            "kl": self._kl(problems, rows),
        }

    def _drafts(self, policy: Policy, problems: Sequence[Task], samples: int, seed: int) -> list[list[Draft]]:
        prompts = [self.encoder.prompt(t.prompt) for t in problems]
        return self.sampler(policy, 1.0).sample(prompts, samples=samples, seed=(10_000 + seed, 0))

    def _right(self, task: Task, draft: Draft) -> bool:
        return judge(self.encoder.text(draft.tokens), task.answer).strict

    def _kl(self, problems: Sequence[Task], rows: Sequence[Sequence[Draft]]) -> list[float]:
        """Mean of log π/π_ref over own answers, problem by problem: sequence Monte Carlo, unbiased, nats."""
        rows = [drafts[: self.protocol.kl_samples] for drafts in rows]
        said = self.base.logps(self._groups(problems, rows), self.packing)
        return [
            sum((d.logp.double() - r.double()).sum().item() for d, r in zip(drafts, row, strict=True)) / len(drafts)
            for drafts, row in zip(rows, said, strict=True)
        ]

    def _groups(self, problems: Sequence[Task], rows: Sequence[Sequence[Draft]]) -> list[Group]:
        return [
            Group(str(t.source), self.encoder.prompt(t.prompt), tuple(Branch(d.tokens, Role.DRAFT) for d in drafts))
            for t, drafts in zip(problems, rows, strict=True)
        ]

    def base_cell(self, problems: Split = "test") -> dict[str, Any]:
        """The base, looked at and sampled as a final cell is."""
        name = f"base-{problems}-{sha256(f'{self.protocol} {self.ground} {REVISION}'.encode()).hexdigest()[:12]}"
        cell = Cell(Method("base", {}), 0.0, 0, problems)

        def make() -> dict[str, Any]:
            look = {"step": 0, "cpu": 0.0, **Tokens().as_dict(), **self._look(cell, self.base)}
            return {"looks": [look], "right": look["right"], **self._sampled(cell, self.base)}

        return self.kept(name, make, {"base": self.ground})

    def best_of_n(self, seed: int) -> dict[str, Any]:
        """Many answers of the base to each test problem, with a reward model's scores and the verdicts."""
        name = f"best-of-n-{seed}-{sha256(f'{self.protocol} {self.ground} {REVISION}'.encode()).hexdigest()[:12]}"
        return self.kept(name, lambda: self._best_of_n(seed), {"seed": seed})

    def _best_of_n(self, seed: int) -> dict[str, Any]:
        problems = Stories(self.protocol.ground.task).tasks("test", self.protocol.sampled)
        tokens = Tokens()
        rows = self._drafts(self.base, problems, self.protocol.best_of, seed)
        folder = reward_model(self.here, self.protocol.ground, seed)
        scorer, _ = load_reward_model(ModelSettings(path=str(folder), precision="float32"))
        with tokens.counting(), torch.no_grad():
            scores = scorer.scores(self._groups(problems, rows), self.packing)
        tokens.sampled = sum(len(d.tokens) for drafts in rows for d in drafts)
        right = [[float(self._right(t, d)) for d in drafts] for t, drafts in zip(problems, rows, strict=True)]
        return {"scores": scores, "correct": right, "tokens": tokens.as_dict()}
