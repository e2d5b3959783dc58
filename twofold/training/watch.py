"""Live warnings: what a person who watched the curves would say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

LN2 = math.log(2)
_MEMORY = 0.9  # of a running mean: about the last ten steps
_DRIFT = 1.5  # times the first drafts' length


class Watch:
    """Looks at each step's metrics and says at most once what is wrong; its state is the caller's to keep."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state
        self.state.setdefault("said", [])
        self.state.setdefault("means", {})

    def look(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """New warnings after `step`."""
        found = [
            *self._first_loss(step, metrics),
            *self._chosen_falls(step, metrics),
            *self._length_drifts(step, metrics),
        ]
        fresh = [(key, text) for key, text in found if key not in self.state["said"]]
        self.state["said"] += [key for key, _ in fresh]
        return [text for _, text in fresh]

    def _mean(self, name: str, value: float) -> tuple[float, int]:
        """The running mean of a metric and how many values it has seen."""
        mean, seen = self.state["means"].get(name, (value, 0))
        mean = _MEMORY * mean + (1 - _MEMORY) * value
        self.state["means"][name] = (mean, seen + 1)
        return mean, seen + 1

    def _first_loss(self, step: int, metrics: Mapping[str, float]) -> list[tuple[str, str]]:
        loss = metrics.get("loss/dpo")
        if step != 0 or loss is None or abs(loss - LN2) < 1e-3:
            return []
        text = f"the first DPO loss is {loss:.4f}, not ln 2 = 0.6931: the policy does not start at its reference"
        return [("first loss", text)]

    def _chosen_falls(self, step: int, metrics: Mapping[str, float]) -> list[tuple[str, str]]:
        if "chosen_reward" not in metrics:
            return []
        mean, seen = self._mean("chosen_reward", metrics["chosen_reward"])
        if seen < 10 or mean > -0.05:
            return []
        text = (
            f"step {step}: chosen completions have become less likely than under the reference "
            f"(implicit reward {mean:+.2f}); if accuracy falls with it, train less or lower the learning rate"
        )
        return [("chosen falls", text)]

    def _length_drifts(self, step: int, metrics: Mapping[str, float]) -> list[tuple[str, str]]:
        length = metrics.get("draft_length")
        if length is None:
            return []
        first = self.state.setdefault("first_draft_length", length)
        mean, seen = self._mean("draft_length", length)
        if seen < 10 or 1 / _DRIFT < mean / max(first, 1.0) < _DRIFT:
            return []
        return [("length drifts", f"step {step}: drafts have drifted from {first:.0f} to {mean:.0f} tokens")]
