"""Which objective on pairs each golden vector speaks of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twofold.objectives import (
    CPO,
    DPO,
    DPOP,
    EXO,
    FDPO,
    IPO,
    LNDPO,
    NCA,
    ORPO,
    RSO,
    SPPO,
    AnchoredPO,
    BCOPair,
    CalDPO,
    DiscoPOP,
    DPOShift,
    RobustDPO,
    SimPO,
    Unlikelihood,
)
from twofold.objectives.base import Objective

MADE: dict[str, Callable[[dict[str, Any]], Objective]] = {
    "dpo.reference_free": lambda c: DPO(beta=c["beta"], reference_free=True),
    "dpo.cdpo_label_smoothing": lambda c: DPO(beta=c["beta"], label_smoothing=c["eps"]),
    "dpo.robust": lambda c: RobustDPO(beta=c["beta"], epsilon=c["eps"]),
    "dpo.ipo_sum": lambda c: IPO(tau=c["tau"]),
    "dpo.ipo_avg": lambda c: IPO(tau=c["tau"], logratio="mean"),
    "dpo.hinge": lambda c: RSO(gamma=c["beta"]),
    "dpo.sigmoid_norm": lambda c: LNDPO(beta=c["beta"]),
    "dpo.dpo_shift_fixed": lambda c: DPOShift(beta=c["beta"], f=c["f"]),
    "dpo.dpop_lambda5": lambda c: DPOP(beta=c["beta"], lam=c["lam"]),
    "dpo.dpop_lambda50": lambda c: DPOP(beta=c["beta"], lam=c["lam"]),
    "dpo.cal_dpo_coef1.0": lambda c: CalDPO(beta=c["beta"], coefficient=c["coef"]),
    "dpo.cal_dpo_coef0.5": lambda c: CalDPO(beta=c["beta"], coefficient=c["coef"]),
    "dpo.nca_pair": lambda c: NCA(beta=c["beta"]),
    "dpo.bco_pair": lambda c: BCOPair(beta=c["beta"]),
    "dpo.exo_pair": lambda c: EXO(beta=c["beta"], epsilon=c["eps"]),
    "dpo.sppo_hard": lambda c: SPPO(eta=1 / c["beta"]),
    "dpo.apo_zero": lambda c: AnchoredPO(beta=c["beta"]),
    "dpo.apo_down": lambda c: AnchoredPO(beta=c["beta"], anchor="down"),
    "dpo.discopop": lambda c: DiscoPOP(beta=c["beta"], tau=c["tau"]),
    "dpo.f_forward_kl": lambda c: FDPO(beta=c["beta"], divergence="forward_kl"),
    "dpo.f_js": lambda c: FDPO(beta=c["beta"], divergence="js"),
    "dpo.f_alpha0.5": lambda c: FDPO(beta=c["beta"], divergence="alpha", alpha=0.5),
    "dpo.rpo_sft": lambda c: DPO(beta=c["beta"], nll=c["a"]),
    "unlikelihood.dpo_paper": lambda c: Unlikelihood(alpha=c["alpha"]),
    "simpo": lambda c: SimPO(beta=c["beta"], gamma=c["gamma"]),
    "orpo": lambda c: ORPO(lam=c["lam"]),
    "cpo": lambda c: CPO(beta=c["beta"], nll=c["a"]),
}
"""The objective that each vector speaks of, from the vector's settings."""
