"""The sweep of the DPO paper's section 6.1 as sections of recipes, PDPO's γ beside it, and a control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

REWARD = "reward model"
"""Stands for the folder of a reward model of the pairs, trained with the cell's seed."""
TRUTH = "python:truth"
"""The classifier, as a reward."""


@dataclass(frozen=True)
class Method:
    """A run of the sweep. Those of one `family` make one frontier, and take one learning rate, tuned on `trial`."""

    family: str
    knob: str
    value: float
    sections: Mapping[str, Mapping[str, Any]]
    reads: Literal["pairs", "pdpo-pairs", "prompts"] = "pairs"

    @property
    def name(self) -> str:
        return f"{self.family}, {self.knob} {self.value:g}" if self.knob else self.family


def _dpo(beta: float) -> Method:
    return Method("DPO", "β", beta, {"objective": {"kind": "dpo", "beta": beta}})


def _unlikelihood(alpha: float) -> Method:
    return Method("unlikelihood", "α", alpha, {"objective": {"kind": "unlikelihood", "alpha": alpha}})


def _pdpo(gamma: float) -> Method:
    algorithm = {"kind": "pdpo", "gamma": gamma, "prompts": 8, "samples": 1}
    return Method("PDPO", "γ", gamma, {"objective": {"kind": "dpo"}, "algorithm": algorithm}, "pdpo-pairs")


def _online_dpo(beta: float) -> Method:
    """What PPO has, its own policy's completions and a reward model of the pairs, under DPO's loss; two to a prompt, so
    that both draw and judge equally many."""
    algorithm = {"kind": "online", "judge": f"reward:{REWARD}", "samples": 2, "epochs": 2}
    return Method(
        "online DPO", "β", beta, {"objective": {"kind": "dpo", "beta": beta}, "algorithm": algorithm}, "prompts"
    )


def _ppo(family: str, reward: str, target: float) -> Method:
    """The KL coefficient begins at TRL's 0.2 and is led to the target; rewards are normalized, so that it has a scale;
    rollout and horizon are the protocol's."""
    algorithm = {
        "kind": "policy_gradient", "reward": reward, "samples": 1, "epochs": 2, "normalize": True,
        "kl": {"coefficient": 0.2, "target": target},
        "value": {"start": "policy" if reward == TRUTH else REWARD},
    }  # fmt: skip
    return Method(family, "target", target, {"objective": {"kind": "ppo"}, "algorithm": algorithm}, "prompts")


SWEEP: tuple[Method, ...] = (
    *(_dpo(beta) for beta in (0.05, 0.1, 1.0, 5.0)),
    *(_pdpo(gamma) for gamma in (0.05, 0.1, 0.3, 1.0)),
    *(_ppo("PPO", f"reward:{REWARD}", target) for target in (3.0, 6.0, 9.0, 12.0)),
    *(_ppo("PPO-GT", TRUTH, target) for target in (3.0, 6.0, 9.0, 12.0)),
    *(_unlikelihood(alpha) for alpha in (0.05, 0.1, 0.5, 1.0)),
    Method("preferred-FT", "", 0.0, {"objective": {"kind": "sft"}}),
)
FAMILIES = tuple(dict.fromkeys(m.family for m in SWEEP))
CONTROL: tuple[Method, ...] = tuple(_online_dpo(beta) for beta in (0.05, 0.1, 1.0, 5.0))
"""Tells whether a lead of PPO's on DPO is that of the completions it draws or of what it does with them."""
BASELINE = "DPO"
RATES = (1e-4, 3e-4, 1e-3, 3e-3)
LOWER = (3e-5, *RATES[:3])
TRIALS: Mapping[str, tuple[Method, tuple[float, ...]]] = {
    "DPO": (_dpo(0.1), RATES), "PPO": (_ppo("PPO", f"reward:{REWARD}", 6.0), RATES),
    "PPO-GT": (_ppo("PPO-GT", TRUTH, 6.0), RATES),
    "unlikelihood": (_unlikelihood(0.1), RATES), "preferred-FT": (SWEEP[-1], RATES),
    "online DPO": (_online_dpo(0.1), LOWER),
}  # fmt: skip
"""What chooses a family's learning rate: one run per rate, at one setting. PDPO takes DPO's; online DPO's best of the
others' rates was the lowest, so that its own begin below."""
