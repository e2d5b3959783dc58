"""Reward models of the sentiment experiment's pairs: Bradley–Terry, from the language model, one pass over them.

A reward model that has learnt too little would be PPO's fault in every figure: so its learning rate is chosen, as the
methods' rates are, by what a trial with a seed of its own makes of pairs that nothing is trained on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.frontier_ground import COMMAND
from benchmarks.scratch import stage

DEVELOPMENT_SEED = 100
"""Of every trial; no figure is taken from it."""


@dataclass(frozen=True)
class Rewards:
    """How they are trained."""

    steps: int = 220
    batch_size: int = 32
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)


@dataclass(frozen=True)
class RewardModels:
    """Those of the pairs in the folder `here`, each made once and kept."""

    here: Path
    settings: Rewards
    device: str = "cpu"

    def tried(self) -> dict[str, float]:
        """By rate, the share of unseen pairs that the trial puts in order."""
        return {f"{rate:g}": self._results(rate, DEVELOPMENT_SEED)["value"] for rate in self.settings.rates}

    def rate(self) -> float:
        """The best of them, the lower one of equals."""
        if len(self.settings.rates) == 1:
            return self.settings.rates[0]
        tried = self.tried()
        return float(min(tried, key=lambda rate: (-tried[rate], float(rate))))

    def model(self, seed: int) -> Path:
        """The folder of the reward model trained with `seed`."""
        self.accuracy(seed)
        return self._run(self.rate(), seed) / "model"

    def accuracy(self, seed: int) -> dict[str, Any]:
        """On unseen pairs, as an `Estimate`."""
        return self._results(self.rate(), seed)

    def prepare(self, seeds: Iterable[int]) -> None:
        """What several workers would otherwise make at once."""
        for seed in (*seeds, DEVELOPMENT_SEED):
            self.accuracy(seed)

    def _run(self, rate: float, seed: int) -> Path:
        return self.here / "rewards" / f"{self.settings.steps}-{rate:g}-{seed}"

    def _results(self, rate: float, seed: int) -> dict[str, Any]:
        settings = self.settings
        sections = {
            "model": {"path": str(self.here / "base" / "model"), "precision": "float32", "device": self.device},
            "data": {
                "train": str(self.here / "pairs.jsonl"),
                "heldout": {"file": str(self.here / "heldout-pairs.jsonl")},
            },
            "objective": {"kind": "bradley_terry", "centring": 0.01},
            "optimizer": {"learning_rate": rate, "warmup": 5},
            "training": {
                "steps": settings.steps, "batch_size": settings.batch_size, "checkpoint_every": settings.steps,
            },
            "seed": seed,
        }  # fmt: skip
        return stage(self._run(rate, seed), sections, COMMAND)["heldout"]["accuracy"]
