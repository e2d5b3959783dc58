"""Warnings during training: what a person who watches the curves would notice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from twofold.objectives.base import Objective

LN2 = math.log(2)
CHOSEN_FALLS = "chosen falls"
_MEMORY = 0.9  # of a running mean: about the last ten steps
_DRIFT = 1.5  # times the length of the first samples

# Chosen falls when two conditions are met: a completion is e times less likely than under the reference, and each of
# its tokens is 1% less likely. Only the first would be true of any long completion, whose nats add up. Only the second
# would be true of a one-token answer that moved by 0.01. The mean over about ten steps covers a few hundred pairs, so
# one unusual batch does not cause a warning.
_FALLEN = 1.0  # nats per completion
_FALLEN_TOKEN = 0.01  # nats per token

# A mean weight of 0.01 lets fewer than one pair in ten weigh 0.1 or more, by Markov's inequality; weights begin at 0.5.
_SPENT = 0.01

_GOOD = {"chosen": "rejected", "best": "worst", "desirable": "undesirable"}
"""The completions whose likelihood should rise, and those that they are compared with."""
_LARGER_WEIGHT = "a larger weight of the likelihood of chosen"
"""The remedy if that likelihood is in the loss already, for any objective."""


class Diagnostics:
    """Checks each step's metrics and gives each warning at most once. The caller saves its state."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state
        self.state.setdefault("said", [])
        self.state.setdefault("means", {})

    def check(self, step: int, metrics: Mapping[str, float], objective: Objective) -> list[str]:
        """New warnings after `step`, which trained the policy with `objective`."""
        found = [
            *self._first_loss(step, metrics),
            *self._chosen_falls(step, metrics, objective),
            *(self._weights_spent(step, metrics) if objective.margin_weighted else ()),
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

    def _chosen_falls(self, step: int, metrics: Mapping[str, float], objective: Objective) -> list[tuple[str, str]]:
        good = next((g for g in _GOOD if f"{g}_logratio" in metrics), None)
        if good is None:
            return []
        mean, seen = self._mean(f"{good}_logratio", metrics[f"{good}_logratio"])
        other = f"{_GOOD[good]}_logratio"
        against = self._mean(other, metrics[other])[0] if other in metrics else None
        if seen < 10 or mean > -max(_FALLEN, _FALLEN_TOKEN * metrics[f"{good}_length"]):
            return []
        beside = "" if against is None else f", {_GOOD[good]} {'rose' if against > 0 else 'fell'} {abs(against):.1f}"
        remedy = _LARGER_WEIGHT if "loss/nll" in metrics else objective.remedy
        text = (
            f"step {step}: {good} fell {-mean:.1f} nats against the reference{beside}: "
            f"see docs/likelihood-displacement.md; try {remedy}"
        )
        return [(CHOSEN_FALLS, text)]

    def _weights_spent(self, step: int, metrics: Mapping[str, float]) -> list[tuple[str, str]]:
        if "gradient_weight" not in metrics:
            return []
        mean, seen = self._mean("gradient_weight", metrics["gradient_weight"])
        if seen < 10 or mean > _SPENT:
            return []
        text = (
            f"step {step}: the mean gradient weight has fallen from 0.5 to {mean:.2g}: the preferences give almost no "
            "gradient any more; stop here, or continue with a lower objective.beta"
        )
        return [("weights spent", text)]

    def _length_drifts(self, step: int, metrics: Mapping[str, float]) -> list[tuple[str, str]]:
        length = metrics.get("draft_length")
        if length is None:
            return []
        first = self.state.setdefault("first_draft_length", length)
        mean, seen = self._mean("draft_length", length)
        if seen < 10 or 1 / _DRIFT < mean / max(first, 1.0) < _DRIFT:
            return []
        return [("length drifts", f"step {step}: the length of samples went from {first:.0f} to {mean:.0f} tokens")]
