"""The interface of judges: what each kind declares, what it needs to open, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from twofold.client.http import RetrySettings
from twofold.errors import DataError, RecipeError
from twofold.judges.questions import Question
from twofold.ledger import Ledger
from twofold.progress import Progress
from twofold.records import Prompt
from twofold.rewards.base import Reward, RewardFunction
from twofold.rewards.execution import Execution, Sandbox

if TYPE_CHECKING:
    from torch import Tensor

    OpenReward = Callable[..., Any]

T = TypeVar("T")
PromptOf = Callable[[str], Prompt | None]
AnswerOf = Callable[[str], str | None]
Gives = Literal["scores", "shares", "order", "verdicts"]
"""A score of each completion, the share of matches that it wins against others, an order by the source of completions,
or people's decisions about pairs."""
Need = Literal["programs", "policy", "function", "answers"]
"""What only some settings have: a sandbox for programs, a policy in training with its reference model, functions of the
calling program, completions of another model."""
Scores = list[list[float] | None]
TASK = "judged"


def decoded(name: str) -> Prompt | None:
    """For a group without a known row: only its tokens exist."""
    return None


def same(name: str) -> str | None:
    """For a group whose reference completion is also what is checked."""
    return None


class JudgeNameError(RecipeError, ValueError):
    """An unknown judge, or one that cannot be used here. In a recipe it is an error of its section."""

    def __init__(self, what: str) -> None:
        super().__init__(what, where="", remedy="")


@dataclass(frozen=True, slots=True)
class MatchResult:
    """The share of the first of two completions: 1, ½ or 0. `orders` are a judge's verdicts with it as A and then as B,
    `probability` is that of it being better, by a judge that has probabilities. `votes` are the shares by the judges of
    a panel, None without a verdict."""

    share: float
    orders: tuple[str, str] | None = None
    probability: float | None = None
    votes: tuple[float | None, ...] = ()


class Judge(Protocol):
    """`scores` has a number for each candidate of each question, higher is better; None for a question without a
    verdict."""

    @property
    def provenance(self) -> Mapping[str, Any]: ...

    def scores(self, questions: Sequence[Question], progress: Progress) -> Scores: ...


@dataclass(frozen=True)
class Place:
    """A setting that names a judge: its name in errors, what it can use, whether a judge's warnings are shown, and
    whether it chooses if a judge reads the reasoning of answers."""

    where: str
    takes: tuple[Gives, ...]
    offers: tuple[Need, ...] = ()
    warns: bool = True
    parts_reasoning: bool = False

    def can_use(self, kind: type[JudgeKind]) -> bool:
        return kind.gives in self.takes and set(kind.needs) <= set(self.offers)


@dataclass(frozen=True)
class JudgeResources:
    """The parts that open a judge of texts for `place`. A reward model needs `open_reward`, a language model a
    ledger."""

    place: Place
    open_ledger: Callable[[], Ledger]
    open_reward: OpenReward | None = None
    rubric: str | None = None
    retry: RetrySettings = field(default_factory=RetrySettings)
    execution: Execution = field(default_factory=Execution)
    functions: Mapping[str, RewardFunction] = field(default_factory=dict[str, RewardFunction])

    def sandbox(self) -> Sandbox:
        """Raises RecipeError unless the user allows programs of a model to run."""
        if "programs" not in self.place.offers:
            what, remedy = "no programs of the model are run here", "choose a judge that runs none"
            raise RecipeError(what, where=self.place.where, remedy=remedy)
        section = self.place.where.rpartition(".")[0]
        return Sandbox(self.execution, self.place.where, f"{section}.execution" if section else "execution")


@dataclass(frozen=True)
class DraftResources:
    """The parts that open a judge of a policy's own samples: `text` turns tokens [n] into text without special tokens,
    `open_reward` loads a reward model that reads the policy's tokens, `prompt_of` returns a group's prompt by its name,
    so that the judge reads the original text and not the rendered one. `answer_of` returns what a verifier checks where
    that is not the reference completion, by a group's name; None elsewhere."""

    of_texts: JudgeResources
    text: Callable[[Tensor], str]
    stop_tokens: frozenset[int]
    open_reward: Callable[[str], Reward]
    implicit: Reward | None = None
    prompt_of: PromptOf = decoded
    answer_of: AnswerOf = same


@dataclass(frozen=True)
class JudgeKind:
    """A judge by its name `KIND[:ARGUMENT]`. The docstring of a kind states in one line what its score means.

    `members` are the judges that `parts` of its argument name. A judge `with_reasoning` reads the reasoning of sampled
    answers, too, if its kind `can_read_reasoning`. `rates_steps`: it scores the steps of a completion too. `guides`: it
    can guide a beam search. `usage` is how it is written (`[…]` may be left out), `middle` the score above which a
    completion is good, if there is one, `is_log_odds` whether differences of scores are log-odds of a preference, and
    `refusal` why some settings cannot use it: what follows its name in the error.
    Raises JudgeNameError for an argument that it does not take.
    """

    argument: str = ""
    members: tuple[JudgeKind, ...] = ()
    with_reasoning: bool = False

    name: ClassVar[str]
    usage: ClassVar[str]
    gives: ClassVar[Gives] = "scores"
    needs: ClassVar[tuple[Need, ...]] = ()
    needs_truth: ClassVar[bool] = False
    asks_server: ClassVar[bool] = False
    can_read_reasoning: ClassVar[bool] = False
    rates_steps: ClassVar[bool] = False
    guides: ClassVar[bool] = False
    middle: ClassVar[float | None] = None
    is_log_odds: ClassVar[bool] = False
    refusal: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if "[" not in self.usage and (":" in self.usage) != bool(self.argument):
            raise JudgeNameError(f"the judge is written {self.usage}")

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of other judges in its argument."""
        return ()

    @classmethod
    def help(cls) -> str:
        return " ".join(cleandoc(cls.__doc__ or "").split())

    def requests(self, candidates: int) -> int:
        """Maximum number of server requests for a question with this number of candidates."""
        return 0

    def refuse(self, truth: str | None, where: str) -> None:
        """Raise DataError for a question that it cannot judge, from its reference answer."""
        if self.needs_truth and truth is None:
            remedy = "rows need an `answer`; or judge with llm:, reward: or human"
            raise DataError("has no answer to compare with", where=where, remedy=remedy)

    def check(self, resources: JudgeResources) -> None:
        """Raise RecipeError for an invalid address or rubric, before any request."""

    def open(self, resources: JudgeResources, stack: ExitStack) -> Judge:
        """The judge of texts. `stack` closes its resources."""
        raise TypeError(f"{self.name} does not judge texts")

    def of_tokens(self, drafts: DraftResources) -> Reward | None:
        """The judge of a policy's own tokens; None for a kind that reads texts."""
        return None

    def guide(self, tokenizer: Any) -> tuple[str, Callable[[Tensor, Tensor], Tensor]]:
        """A digest of the guide's weights, and the guide of a beam search by a policy with this tokenizer
        (`sampling/beam.py`). Raises ModelError for a model of another vocabulary."""
        raise TypeError(f"{self.name} does not guide a search")

    def of_members(self, rewards: Sequence[Reward]) -> Reward:
        """The rewards of its members as one."""
        raise TypeError(f"{self.name} has no members")


def collected(replies: Iterable[tuple[int, T]], count: int, progress: Progress) -> list[T | None]:
    """`count` replies with their indices, in order of arrival; None for missing ones."""
    found: list[T | None] = [None] * count
    progress.begin(TASK, count)
    for place, reply in replies:
        found[place] = reply
        progress.advance(TASK)
    progress.end(TASK)
    return found
