"""The registry of objectives is the union below: explicit, greppable, and what recipes, tests and docs run over."""

from __future__ import annotations

from typing import TypeAlias

from twofold.objectives.alpha_po import AlphaPO
from twofold.objectives.anchored_po import AnchoredPO
from twofold.objectives.aot import AOT
from twofold.objectives.bco import BCO
from twofold.objectives.bco_pair import BCOPair
from twofold.objectives.bradley_terry import BradleyTerry
from twofold.objectives.cal_dpo import CalDPO
from twofold.objectives.cpo import CPO
from twofold.objectives.discopop import DiscoPOP
from twofold.objectives.dpo import DPO
from twofold.objectives.dpo_shift import DPOShift
from twofold.objectives.dpop import DPOP
from twofold.objectives.exo import EXO
from twofold.objectives.f_dpo import FDPO
from twofold.objectives.grpo import GRPO
from twofold.objectives.infonca import InfoNCA
from twofold.objectives.ipo import IPO
from twofold.objectives.kto import KTO
from twofold.objectives.ld_dpo import LDDPO
from twofold.objectives.ln_dpo import LNDPO
from twofold.objectives.nca import NCA
from twofold.objectives.nca_k import NCAK
from twofold.objectives.orpo import ORPO
from twofold.objectives.pdpo import PDPOGenerator
from twofold.objectives.plackett_luce import PlackettLuce
from twofold.objectives.ppo import PPO
from twofold.objectives.reinforce import Reinforce
from twofold.objectives.reward_plackett_luce import RewardPlackettLuce
from twofold.objectives.rloo import RLOO
from twofold.objectives.robust_dpo import RobustDPO
from twofold.objectives.rpo import RPO
from twofold.objectives.rso import RSO
from twofold.objectives.sft import SFT
from twofold.objectives.simpo import SimPO
from twofold.objectives.slic import SLiC
from twofold.objectives.sppo import SPPO
from twofold.objectives.tpo import TPO
from twofold.objectives.unlikelihood import Unlikelihood
from twofold.objectives.wpo import WPO

OnPairs: TypeAlias = (
    DPO
    | RobustDPO
    | RSO
    | IPO
    | FDPO
    | LNDPO
    | LDDPO
    | DPOShift
    | DPOP
    | CalDPO
    | RPO
    | EXO
    | NCA
    | BCOPair
    | AnchoredPO
    | AOT
    | SPPO
    | DiscoPOP
    | WPO
    | SLiC
    | SimPO
    | AlphaPO
    | ORPO
    | CPO
    | Unlikelihood
)
"""Objectives on a chosen and a rejected completion of one prompt."""

OnScores: TypeAlias = BradleyTerry | RewardPlackettLuce
"""Objectives of a reward model."""

OnRollouts: TypeAlias = PPO | GRPO | RLOO | Reinforce
"""Objectives on what the policy itself has said, with advantages as columns."""

AnyObjective: TypeAlias = (
    SFT | OnPairs | TPO | PlackettLuce | InfoNCA | NCAK | KTO | BCO | PDPOGenerator | OnScores | OnRollouts
)
