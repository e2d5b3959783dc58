"""Every public name of twofold; `__init__.py` loads them by this list, type checkers and editors read it."""

from twofold.algorithms import *
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
from twofold.objectives import *
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
from twofold.version import __version__ as __version__
