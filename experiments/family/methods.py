"""Who is compared: every member of the union that the demo's pairs can train, and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from twofold.objectives import NCA, RPO, SPPO, AnyObjective, CalDPO, OnPairs
from twofold.objectives.base import Objective

COLUMNS = frozenset({"ref_logp", "z0"})
"""What the demo's pairs can have beside their tokens."""
KNOBS: Mapping[type, tuple[dict[str, Any], str]] = {
    CalDPO: (
        {"beta": 0.1},
        "targets of ±5 nats: ±500, as 0.001 has it, is for hundreds of tokens, and these answers have 10 to 25",
    ),
    SPPO: ({"eta": 10.0}, "targets ±5 nats, for the same reason (1000 makes them ±500)"),
    NCA: ({"beta": 0.1}, "as DPO here; its 0.01 is for long answers"),
    RPO: ({"beta": 0.1, "eta": 0.05}, "β as DPO here, η/β as in the paper"),
}
"""Settings that are not the class's own defaults (its paper's), and why."""


@dataclass(frozen=True)
class Method:
    """An objective under the name of its kind."""

    objective: Objective

    @property
    def name(self) -> str:
        return str(self.objective.kind)  # type: ignore[attr-defined]  # of the union


def applies(objective: Objective) -> bool:
    """Whether the demo's pairs, and the reference, are all that `objective` asks for: the rule for being here. Drafts,
    reward heads, moving averages and third answers are other comparisons."""
    enough = set(objective.requires) <= COLUMNS
    return enough and objective.reads == "logps" and objective.data_kind != "triples"


def methods() -> dict[str, Method]:
    """Every member of the union to which the comparison applies, by kind; those on pairs first."""
    members = [*get_args(OnPairs), *(m for m in get_args(AnyObjective) if m not in get_args(OnPairs))]
    every = [Method(m(**KNOBS.get(m, ({}, ""))[0])) for m in members]
    return {method.name: method for method in every if applies(method.objective)}
