"""Reward models of tasks: Bradley–Terry with LoRA from the base, and their accuracy on held-out pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.harness.recipes import reward_sections, stage
from experiments.pretrained.tasks import HELDOUT, PAIRS
from twofold.progress import Progress


@dataclass(frozen=True)
class RewardModel:
    """How one is trained, and on which file of the task's folder."""

    pairs: str = PAIRS
    steps: int = 60
    batch_size: int = 16
    rate: float = 2e-4
    rank: int = 16
    max_length: int = 384
    precision: str = "auto"

    def train(self, here: Path, base: str, progress: Progress) -> Mapping[str, Any]:
        """Its accuracy on the held-out pairs, as an `Estimate`. What is trained is not trained again."""
        made = reward_sections(Path(base), here / self.pairs, here / HELDOUT, rate=self.rate, steps=self.steps)
        made["model"] |= {"precision": self.precision, "lora": {"rank": self.rank}}
        made["data"]["tokenize"] = {"max_length": self.max_length}
        made["training"]["batch_size"] = self.batch_size
        results = stage(here / "reward", made, "python -m experiments.pretrained prepare", progress)
        return results["heldout"]["accuracy"]

    def judge(self, here: Path) -> str:
        """Its name as a judge of twofold."""
        return f"reward:{here / 'reward'}"
