"""One cell of the sentiment experiment: a method at a learning rate with a seed, and a point for every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch

from experiments.frontier.ground import COMMAND, Ground, make_ground
from experiments.frontier.imdb import Sentiment
from experiments.frontier.methods import REWARD, TRUTH, Method
from experiments.frontier.points import Point, kl_of_rows
from experiments.frontier.rewards import RewardModels, Rewards
from experiments.harness.cells import Result, Store, digest, digest_of_files, folder_name, run
from experiments.harness.files import read_rows
from experiments.harness.models import Speaker, scorer_of
from experiments.harness.recipes import assemble, recipe_of, replaced
from twofold.batch import Branch, Group, Role
from twofold.config.schema import Recipe
from twofold.models.policy import Policy
from twofold.sampling.base import Sample, Sampling

REVISION = 1
"""Raise it when the same cell would come out otherwise."""
ROWS = 64
"""Completions whose whole distributions are held at once."""
HORIZON = 3
"""Rollouts in the horizon of the KL controller: its coefficient moves by 7% a rollout at most, so that a target can be
reached within a run. TRL's 10000 completions are for runs of thousands of rollouts."""
Split = Literal["development", "test"]


@dataclass(frozen=True)
class Protocol:
    """What is the same for every method."""

    ground: Ground = field(default_factory=Ground)
    rewards: Rewards = field(default_factory=Rewards)
    steps: int = 215
    """Of a method on pairs: each pair once, as the reward models see them."""
    batch_size: int = 32
    rollout: int = 128
    """Completions of a rollout; it serves four steps (two passes, half of it a step), of online DPO as of PPO."""
    rollouts: int = 40
    warmup: int = 5
    looks: int = 6
    """Checkpoints along a run, each of which is a point."""
    best_of: int = 64


@dataclass(frozen=True)
class Cell:
    """`split` has the beginnings that are looked at; the learning rate is chosen on those of development."""

    method: Method
    learning_rate: float
    seed: int
    split: Split = "test"

    def key(self, protocol: Protocol, ground: str) -> str:
        """A digest of all that decides the cell: what it is called does not, nor what only others read."""
        online, asks = self.method.reads == "prompts", REWARD in repr(self.method.sections)
        others = {"best_of", *(("steps", "batch_size") if online else ("rollout", "rollouts"))}
        settings = {k: v for k, v in asdict(protocol).items() if k not in others and (asks or k != "rewards")}
        return digest({
            "sections": self.method.sections, "reads": self.method.reads, "rate": self.learning_rate, "seed": self.seed,
            "split": self.split, "protocol": settings, "ground": ground, "revision": REVISION,
        })  # fmt: skip


@dataclass
class Bench:
    """Data, classifier and language model in memory, and a folder of finished cells."""

    root: Path
    protocol: Protocol
    source: Path

    def __post_init__(self) -> None:
        ground = self.protocol.ground
        self.here = make_ground(self.root, ground, self.source)
        models = self.here / "base" / "model" / "model.safetensors", self.here / "classifier.safetensors"
        self.ground, self.store = digest_of_files(*models, self.here / "pairs.jsonl"), Store(self.here / "cells")
        self.rewards = RewardModels(self.here, self.protocol.rewards, ground.device)
        self.truth = Sentiment.load(self.here / "classifier.safetensors")
        self.how = Sampling(max_new_tokens=ground.tokens, batch_size=256)
        self.base = Speaker.load(self.here / "base" / "model", self.how, ground.device)

    def beginnings(self, split: Split) -> list[str]:
        """Those that are looked at, each once."""
        return list(dict.fromkeys(row["prompt"] for row in read_rows(self.here / f"{split}-beginnings.jsonl")))

    def name(self, cell: Cell) -> str:
        return folder_name(cell, cell.key(self.protocol, self.ground))

    def start(self, split: Split = "test") -> Result:
        """The language model itself, looked at as a checkpoint is, with noise of its own."""
        return self.store.result(self._named(f"start-{split}"), lambda: self._look(self.base.policy, split, 99))

    def best_of(self, seed: int) -> Result:
        """Many completions of the language model with a reward model's scores and the true rewards [prompts, N]."""
        return self.store.result(self._named(f"best-of-{seed}"), lambda: self._best_of(seed))

    def _named(self, name: str) -> str:
        return f"{name}-{digest(f'{self.protocol} {self.ground} {REVISION}')}"

    def recipe(self, cell: Cell) -> Recipe:
        """The cell as a recipe."""
        protocol, method, device = self.protocol, cell.method, self.protocol.ground.device
        sections: dict[str, Any] = {
            "model": {"path": str(self.here / "base" / "model"), "precision": "float32", "device": device},
            "data": {"train": str(self.here / f"{method.reads}.jsonl")},
            "sampling": asdict(self.how),
            "optimizer": {"learning_rate": cell.learning_rate, "schedule": "constant", "warmup": protocol.warmup},
            "training": {"steps": protocol.steps, "batch_size": protocol.batch_size},
            "reference": {"cache": str(self.here / "reference-cache")},
            "run": str(self.here / "cells" / self.name(cell)),
            "seed": cell.seed,
            **{name: dict(section) for name, section in method.sections.items()},
        }
        if method.reads == "prompts":
            algorithm, batch_size = sections["algorithm"], protocol.rollout // 2
            if algorithm["kind"] == "online":
                algorithm["prompts"] = protocol.rollout // algorithm["samples"]
                batch_size //= algorithm["samples"]
            else:
                algorithm["rollouts"] = protocol.rollout
                algorithm["kl"] = {**algorithm["kl"], "horizon": HORIZON * protocol.rollout}
            sections["training"] = {"steps": 4 * protocol.rollouts, "batch_size": batch_size}
        if method.reads == "pdpo-pairs":
            sections["data"]["generator"] = {"file": str(self.here / "generator.jsonl")}
        if REWARD in repr(sections):
            sections = replaced(sections, REWARD, str(self.rewards.model(cell.seed)))
        return recipe_of(sections, COMMAND)

    def reward(self, prompt: str, completion: str, truth: str | None) -> float:
        """The classifier as a reward of `twofold`."""
        return self.truth(prompt + completion)

    def train(self, cell: Cell) -> Result:
        """Steps, with looks in between; a run that stops being finite keeps the points it has."""
        loop, policy, _ = assemble(self.recipe(cell), {TRUTH: self.reward})
        done = run(loop, self.protocol.looks, lambda _: self._look(policy, cell.split, cell.seed))
        return {"looks": done.looks, "train_cpu": done.spent, **({"failed": done.failed} if done.failed else {})}

    def _look(self, policy: Policy, split: Split, seed: int) -> dict[str, Any]:
        """One completion to each beginning: its true reward, and how far the policy is from the language model."""
        prompts, speaker = self.beginnings(split), replace(self.base, policy=policy)
        drafts = [d for (d,) in speaker.drafts(prompts, seed=(50_000 + seed, 0))]
        encoded, texts = [speaker.encoder.prompt(p) for p in prompts], speaker.texts(drafts)
        sampled, whole = list[float](), list[float]()
        for first in range(0, len(drafts), ROWS):
            part = slice(first, first + ROWS)
            for kl, more in zip((sampled, whole), self._kl(policy, encoded[part], drafts[part]), strict=True):
                kl += more
        return {
            "reward": [round(self.truth(p + s), 5) for p, s in zip(prompts, texts, strict=True)],
            "kl_drawn": [round(k, 4) for k in sampled],
            "kl": [round(k, 4) for k in whole],
            "tokens": [len(d.tokens) for d in drafts],
            "truncated": sum(d.truncated for d in drafts),
            "said": [f"{p} |{s}" for p, s in zip(prompts[:4], texts, strict=False)],
        }

    def _kl(
        self, policy: Policy, prompts: Sequence[torch.Tensor], drafts: Sequence[Sample]
    ) -> tuple[list[float], list[float]]:
        """By sequence Monte Carlo, and token by token over whole distributions. All texts begin with the same token, so
        they are branches of it, whose first tokens, those of the beginning, are left out."""
        branches = [Branch(torch.cat([p[1:], d.tokens]), Role.DRAFT) for p, d in zip(prompts, drafts, strict=True)]
        group = Group("drafts", prompts[0][:1], tuple(branches))
        own, other = (
            [log[len(p) - 1 :].cpu() for log, p in zip(each.distributions(group), prompts, strict=True)]
            for each in (policy, self.base.policy)
        )
        return cast("Any", kl_of_rows(own, other, [d.tokens for d in drafts]))

    def _best_of(self, seed: int) -> dict[str, Any]:
        prompts = self.beginnings("test")
        drafts = self.base.drafts(prompts, samples=self.protocol.best_of, seed=(60_000 + seed, 0))
        scores = scorer_of(self.rewards.model(seed))(self.base.groups(prompts, drafts))
        texts = [self.base.texts(row) for row in drafts]
        rewards = [[round(self.truth(p + s), 5) for s in row] for p, row in zip(prompts, texts, strict=True)]
        return {"scores": scores, "rewards": rewards}


def points(result: Mapping[str, Any]) -> list[Point]:
    """A cell's checkpoints, by the KL over whole distributions."""
    return [Point(sum(look["kl"]) / len(look["kl"]), tuple(look["reward"])) for look in result["looks"]]
