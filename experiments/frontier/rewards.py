"""Reward models of the sentiment experiment's pairs: Bradley–Terry, from the language model, one pass over them.

A reward model that has learnt too little would be PPO's fault in every figure: so its learning rate is chosen, as the
methods' rates are, by what a trial with a seed of its own makes of pairs that nothing is trained on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.frontier.ground import COMMAND
from experiments.harness.cells import best_rate
from experiments.harness.recipes import reward_sections, stage

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
        return best_rate(self.tried())

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
        pairs, heldout = self.here / "pairs.jsonl", self.here / "heldout-pairs.jsonl"
        base, steps = self.here / "base" / "model", self.settings.steps
        sections = reward_sections(base, pairs, heldout, rate=rate, steps=steps)
        sections["training"]["batch_size"] = self.settings.batch_size
        sections["model"]["device"] = self.device
        return stage(self._run(rate, seed), {**sections, "seed": seed}, COMMAND)["heldout"]["accuracy"]
