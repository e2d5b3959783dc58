"""The registry of objectives: the union below, over which recipes, tests and docs iterate."""

from __future__ import annotations

from typing import TypeAlias

from twofold.objectives.alpha_po import AlphaPO as AlphaPO
from twofold.objectives.anchored_po import AnchoredPO as AnchoredPO
from twofold.objectives.aot import AOT as AOT
from twofold.objectives.bco import BCO as BCO
from twofold.objectives.bco_pair import BCOPair as BCOPair
from twofold.objectives.beta_dpo import BetaDPO as BetaDPO
from twofold.objectives.bradley_terry import BradleyTerry as BradleyTerry
from twofold.objectives.cal_dpo import CalDPO as CalDPO
from twofold.objectives.cpo import CPO as CPO
from twofold.objectives.dft import DFT as DFT
from twofold.objectives.discopop import DiscoPOP as DiscoPOP
from twofold.objectives.dpo import DPO as DPO
from twofold.objectives.dpo_shift import DPOShift as DPOShift
from twofold.objectives.dpop import DPOP as DPOP
from twofold.objectives.eaft import EAFT as EAFT
from twofold.objectives.exo import EXO as EXO
from twofold.objectives.f_dpo import FDPO as FDPO
from twofold.objectives.grpo import GRPO as GRPO
from twofold.objectives.infonca import InfoNCA as InfoNCA
from twofold.objectives.ipo import IPO as IPO
from twofold.objectives.kto import KTO as KTO
from twofold.objectives.ld_dpo import LDDPO as LDDPO
from twofold.objectives.ln_dpo import LNDPO as LNDPO
from twofold.objectives.nca import NCA as NCA
from twofold.objectives.nca_k import NCAK as NCAK
from twofold.objectives.orpo import ORPO as ORPO
from twofold.objectives.pdpo import PDPOGenerator as PDPOGenerator
from twofold.objectives.plackett_luce import PlackettLuce as PlackettLuce
from twofold.objectives.ppo import PPO as PPO
from twofold.objectives.process_reward import ProcessReward as ProcessReward
from twofold.objectives.reinforce import Reinforce as Reinforce
from twofold.objectives.reward_plackett_luce import RewardPlackettLuce as RewardPlackettLuce
from twofold.objectives.rloo import RLOO as RLOO
from twofold.objectives.robust_dpo import RobustDPO as RobustDPO
from twofold.objectives.rpo import RPO as RPO
from twofold.objectives.rso import RSO as RSO
from twofold.objectives.sft import SFT as SFT
from twofold.objectives.simpo import SimPO as SimPO
from twofold.objectives.slic import SLiC as SLiC
from twofold.objectives.sppo import SPPO as SPPO
from twofold.objectives.tpo import TPO as TPO
from twofold.objectives.unlikelihood import Unlikelihood as Unlikelihood
from twofold.objectives.wpo import WPO as WPO

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
"""Objectives on the policy's own samples, with advantages as columns."""

OnDemonstrations: TypeAlias = SFT | DFT | EAFT
"""Objectives on one completion that is worth imitating."""

AnyObjective: TypeAlias = (
    OnDemonstrations
    | OnPairs
    | BetaDPO
    | TPO
    | PlackettLuce
    | InfoNCA
    | NCAK
    | KTO
    | BCO
    | PDPOGenerator
    | OnScores
    | ProcessReward
    | OnRollouts
)
