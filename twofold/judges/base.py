"""What every kind of judge declares, what it is opened with, and what it gives."""

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
from twofold.rewards.base import Reward, RewardFunction, Scorer
from twofold.rewards.execution import Execution, Sandbox

if TYPE_CHECKING:
    from torch import Tensor

    OpenReward = Callable[[str], Scorer]

T = TypeVar("T")
PromptOf = Callable[[str], Prompt | None]
Gives = Literal["scores", "shares", "order", "verdicts"]
"""A score of each completion alone, the share of its matches with others that it wins, an order by where completions
come from, what people decided about pairs."""
Need = Literal["programs", "policy", "function", "answers"]
"""What only some settings offer: a sandbox for programs, a policy in training with its reference, functions of the
calling program, answers of another model."""
Scores = list[list[float] | None]
TASK = "judged"


def decoded(name: str) -> Prompt | None:
    """Of a group whose row nobody knows: its tokens are all there is."""
    return None


class JudgeNameError(RecipeError, ValueError):
    """A name of no judge, or of one that cannot be used here; in a recipe a fault of the section that has it."""

    def __init__(self, what: str) -> None:
        super().__init__(what, where="", remedy="")


class Judge(Protocol):
    """`scores` has a number for each candidate of each question, more is better; None for a question that stayed
    without a verdict."""

    @property
    def provenance(self) -> Mapping[str, Any]: ...

    def scores(self, questions: Sequence[Question], progress: Progress) -> Scores: ...


@dataclass(frozen=True)
class Place:
    """A setting that names a judge: what errors call it, what it can use, and whether a judge's warnings are shown."""

    where: str
    takes: tuple[Gives, ...]
    offers: tuple[Need, ...] = ()
    warns: bool = True

    def can_use(self, kind: type[JudgeKind]) -> bool:
        return kind.gives in self.takes and set(kind.needs) <= set(self.offers)


@dataclass(frozen=True)
class JudgeResources:
    """What judges of texts are opened with, for `place`; a reward model needs `open_reward`, a language model a
    ledger."""

    place: Place
    open_ledger: Callable[[], Ledger]
    open_reward: OpenReward | None = None
    rubric: str | None = None
    retry: RetrySettings = field(default_factory=RetrySettings)
    execution: Execution = field(default_factory=Execution)
    functions: Mapping[str, RewardFunction] = field(default_factory=dict[str, RewardFunction])

    def sandbox(self) -> Sandbox:
        """Raises RecipeError unless the user allows programs of a model."""
        if "programs" not in self.place.offers:
            what, remedy = "no programs of the model are run here", "choose a judge that runs none"
            raise RecipeError(what, where=self.place.where, remedy=remedy)
        section = self.place.where.rpartition(".")[0]
        return Sandbox(self.execution, self.place.where, f"{section}.execution" if section else "execution")


@dataclass(frozen=True)
class DraftResources:
    """What judges of a policy's own drafts are opened with: `text` turns tokens [n] into text without special tokens,
    `open_reward` loads a reward model that reads the policy's tokens, `prompt_of` knows a group's row by its name, so
    that texts are judged as they were written and not as they were rendered."""

    of_texts: JudgeResources
    text: Callable[[Tensor], str]
    stop_tokens: frozenset[int]
    open_reward: Callable[[str], Reward]
    implicit: Reward | None = None
    prompt_of: PromptOf = decoded


@dataclass(frozen=True)
class JudgeKind:
    """A judge by its name `KIND[:ARGUMENT]`. The docstring of a kind says what its score means, in one line.

    `usage` is how it is written (`[…]` may be left out), `middle` the score above which a completion is good, if there
    is one, and `refusal` why some settings cannot use it: what follows its name in the error. Raises JudgeNameError
    for an argument that it does not take.
    """

    argument: str = ""

    name: ClassVar[str]
    usage: ClassVar[str]
    gives: ClassVar[Gives] = "scores"
    needs: ClassVar[tuple[Need, ...]] = ()
    needs_truth: ClassVar[bool] = False
    asks_server: ClassVar[bool] = False
    middle: ClassVar[float | None] = None
    refusal: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if "[" not in self.usage and (":" in self.usage) != bool(self.argument):
            raise JudgeNameError(f"the judge is written {self.usage}")

    @classmethod
    def help(cls) -> str:
        return " ".join(cleandoc(cls.__doc__ or "").split())

    def requests(self, candidates: int) -> int:
        """How often a server is asked about a question of so many candidates, at most."""
        return 0

    def refuse(self, truth: str | None, where: str) -> None:
        """Raise DataError for a question that it cannot judge, by its ground truth."""
        if self.needs_truth and truth is None:
            remedy = "rows need an `answer`; or judge with llm:, reward: or human"
            raise DataError("has no answer to compare with", where=where, remedy=remedy)

    def check(self, resources: JudgeResources) -> None:
        """Raise RecipeError for an address or a rubric that cannot be used, before anything is asked."""

    def open(self, resources: JudgeResources, stack: ExitStack) -> Judge:
        """The judge of texts; `stack` closes what it opens."""
        raise TypeError(f"{self.name} does not judge texts")

    def of_tokens(self, drafts: DraftResources) -> Reward | None:
        """The judge of a policy's own tokens, of a kind that reads them; None for one that reads texts."""
        return None


def collected(replies: Iterable[tuple[int, T]], count: int, progress: Progress) -> list[T | None]:
    """`count` replies by their places, as they come; None for those that do not."""
    found: list[T | None] = [None] * count
    progress.begin(TASK, count)
    for place, reply in replies:
        found[place] = reply
        progress.advance(TASK)
    progress.end(TASK)
    return found
