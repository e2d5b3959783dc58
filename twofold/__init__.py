"""twofold: preference optimization in which one model is both the discriminator and the generator.

Public names are loaded when first used, so that `import twofold` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from twofold.version import __version__ as __version__

_HOMES = {
    "AnchoredPO": "twofold.objectives",
    "BCOPair": "twofold.objectives",
    "Batch": "twofold.batch",
    "BradleyTerry": "twofold.objectives",
    "CPO": "twofold.objectives",
    "CalDPO": "twofold.objectives",
    "RunOptions": "twofold.runs.train",
    "DPO": "twofold.objectives",
    "DPOP": "twofold.objectives",
    "DPOShift": "twofold.objectives",
    "Demonstration": "twofold.records",
    "DiscoPOP": "twofold.objectives",
    "EXO": "twofold.objectives",
    "Encoder": "twofold.data.tokenize",
    "FDPO": "twofold.objectives",
    "GRPO": "twofold.objectives",
    "Group": "twofold.batch",
    "IPO": "twofold.objectives",
    "KTO": "twofold.objectives",
    "LDDPO": "twofold.objectives",
    "LNDPO": "twofold.objectives",
    "Labelled": "twofold.records",
    "LocalSampler": "twofold.sampling.local",
    "Loss": "twofold.objectives.base",
    "Message": "twofold.records",
    "ModelSettings": "twofold.models.load",
    "NCA": "twofold.objectives",
    "ORPO": "twofold.objectives",
    "Objective": "twofold.objectives.base",
    "Online": "twofold.algorithms",
    "Outputs": "twofold.batch",
    "PDPO": "twofold.algorithms",
    "PDPOGenerator": "twofold.objectives",
    "PPO": "twofold.objectives",
    "Pair": "twofold.records",
    "PlackettLuce": "twofold.objectives",
    "Policy": "twofold.models.policy",
    "RLOO": "twofold.objectives",
    "RPO": "twofold.objectives",
    "RSO": "twofold.objectives",
    "Ranking": "twofold.records",
    "Recipe": "twofold.config.schema",
    "Reinforce": "twofold.objectives",
    "Request": "twofold.records",
    "RewardModel": "twofold.models.heads",
    "RewardPlackettLuce": "twofold.objectives",
    "RobustDPO": "twofold.objectives",
    "SFT": "twofold.objectives",
    "SLiC": "twofold.objectives",
    "SPPO": "twofold.objectives",
    "Sampling": "twofold.sampling.base",
    "SimPO": "twofold.objectives",
    "Source": "twofold.records",
    "Task": "twofold.records",
    "Term": "twofold.objectives.base",
    "TrainResult": "twofold.runs.train",
    "TwofoldError": "twofold.errors",
    "Unlikelihood": "twofold.objectives",
    "WPO": "twofold.objectives",
    "check_objective": "twofold.objectives.checks",
    "displacement": "twofold.analysis.displacement",
    "drift": "twofold.analysis.drift",
    "exact_match": "twofold.evaluation.exact_match",
    "explain": "twofold.analysis.explanation",
    "load_model": "twofold.models.load",
    "load_policy": "twofold.models.load",
    "load_reward_model": "twofold.models.heads",
    "mcnemar": "twofold.statistics",
    "paired_bootstrap": "twofold.statistics",
    "read": "twofold.data.formats",
    "token_rewards": "twofold.analysis.credit",
    "train": "twofold.runs.train",
    "train_recipe": "twofold.runs.train",
    "wilson": "twofold.statistics",
    "write_explanation": "twofold.reports.explanation",
    "write_report": "twofold.reports.html",
}

__all__ = sorted([*_HOMES, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]  # loaded on first use

if TYPE_CHECKING:
    from twofold.algorithms import PDPO as PDPO
    from twofold.algorithms import Online as Online
    from twofold.analysis.credit import token_rewards as token_rewards
    from twofold.analysis.displacement import displacement as displacement
    from twofold.analysis.drift import drift as drift
    from twofold.analysis.explanation import explain as explain
    from twofold.batch import Batch as Batch
    from twofold.batch import Group as Group
    from twofold.batch import Outputs as Outputs
    from twofold.config.schema import Recipe as Recipe
    from twofold.data.formats import read as read
    from twofold.data.tokenize import Encoder as Encoder
    from twofold.errors import TwofoldError as TwofoldError
    from twofold.evaluation.exact_match import exact_match as exact_match
    from twofold.models.heads import RewardModel as RewardModel
    from twofold.models.heads import load_reward_model as load_reward_model
    from twofold.models.load import ModelSettings as ModelSettings
    from twofold.models.load import load_model as load_model
    from twofold.models.load import load_policy as load_policy
    from twofold.models.policy import Policy as Policy
    from twofold.objectives import CPO as CPO
    from twofold.objectives import DPO as DPO
    from twofold.objectives import DPOP as DPOP
    from twofold.objectives import EXO as EXO
    from twofold.objectives import FDPO as FDPO
    from twofold.objectives import GRPO as GRPO
    from twofold.objectives import IPO as IPO
    from twofold.objectives import KTO as KTO
    from twofold.objectives import LDDPO as LDDPO
    from twofold.objectives import LNDPO as LNDPO
    from twofold.objectives import NCA as NCA
    from twofold.objectives import ORPO as ORPO
    from twofold.objectives import PPO as PPO
    from twofold.objectives import RLOO as RLOO
    from twofold.objectives import RPO as RPO
    from twofold.objectives import RSO as RSO
    from twofold.objectives import SFT as SFT
    from twofold.objectives import SPPO as SPPO
    from twofold.objectives import WPO as WPO
    from twofold.objectives import AnchoredPO as AnchoredPO
    from twofold.objectives import BCOPair as BCOPair
    from twofold.objectives import BradleyTerry as BradleyTerry
    from twofold.objectives import CalDPO as CalDPO
    from twofold.objectives import DiscoPOP as DiscoPOP
    from twofold.objectives import DPOShift as DPOShift
    from twofold.objectives import PDPOGenerator as PDPOGenerator
    from twofold.objectives import PlackettLuce as PlackettLuce
    from twofold.objectives import Reinforce as Reinforce
    from twofold.objectives import RewardPlackettLuce as RewardPlackettLuce
    from twofold.objectives import RobustDPO as RobustDPO
    from twofold.objectives import SimPO as SimPO
    from twofold.objectives import SLiC as SLiC
    from twofold.objectives import Unlikelihood as Unlikelihood
    from twofold.objectives.base import Loss as Loss
    from twofold.objectives.base import Objective as Objective
    from twofold.objectives.base import Term as Term
    from twofold.objectives.checks import check_objective as check_objective
    from twofold.records import Demonstration as Demonstration
    from twofold.records import Labelled as Labelled
    from twofold.records import Message as Message
    from twofold.records import Pair as Pair
    from twofold.records import Ranking as Ranking
    from twofold.records import Request as Request
    from twofold.records import Source as Source
    from twofold.records import Task as Task
    from twofold.reports.explanation import write_explanation as write_explanation
    from twofold.reports.html import write_report as write_report
    from twofold.runs.train import RunOptions as RunOptions
    from twofold.runs.train import TrainResult as TrainResult
    from twofold.runs.train import train as train
    from twofold.runs.train import train_recipe as train_recipe
    from twofold.sampling.base import Sampling as Sampling
    from twofold.sampling.local import LocalSampler as LocalSampler
    from twofold.statistics import mcnemar as mcnemar
    from twofold.statistics import paired_bootstrap as paired_bootstrap
    from twofold.statistics import wilson as wilson


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'twofold' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
