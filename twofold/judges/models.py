"""Local models as judges: a trained reward model, and the policy's own implicit reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twofold.judges.base import DraftResources, Judge, JudgeKind, JudgeResources, Scores
from twofold.judges.questions import Question
from twofold.progress import Progress
from twofold.records import Demonstration, Ranking
from twofold.rewards.base import Reward, Scorer

if TYPE_CHECKING:  # imported where a model is opened: names are checked without torch
    from twofold.sampling.beam import Guide


@dataclass(frozen=True)
class RewardModelJudge:
    """A reward model's score of completions, which its own template renders. The candidates of a question are one row,
    in arbitrary order."""

    scorer: Scorer
    provenance: Mapping[str, Any]

    def scores(self, questions: Sequence[Question], progress: Progress) -> Scores:
        several = [(q, tuple(c.completion for c in q.candidates)) for q in questions]
        rows = [
            Demonstration(q.prompt, c[0], q.source) if len(c) == 1 else Ranking(q.prompt, c, q.source)
            for q, c in several
        ]
        return [[*scores] for scores in self.scorer.score(rows, progress)]


class RewardModelKind(JudgeKind):
    """the score of a trained reward model"""

    name, usage = "reward", "reward:FOLDER"
    is_log_odds = can_read_reasoning = guides = True

    def open(self, resources: JudgeResources, stack: ExitStack) -> Judge:
        assert resources.open_reward is not None, "a judge of texts needs a function that loads a reward model"
        return RewardModelJudge(resources.open_reward(self.argument), {"kind": self.name, "model": self.argument})

    def of_tokens(self, drafts: DraftResources) -> Reward | None:
        return drafts.open_reward(self.argument)

    def guide(self, tokenizer: Any) -> tuple[str, Guide]:
        from twofold.rewards.guides import load_guide

        made = load_guide(self.argument, tokenizer)
        return made.digest, made


class ImplicitKind(JudgeKind):
    """the policy's own implicit reward β·log π/π_ref, minus a penalty per token (`algorithm.implicit`)"""

    name = usage = "implicit"
    needs = ("policy",)
    refusal = "is the reward of a policy in training against its reference: only algorithm online has both"

    def of_tokens(self, drafts: DraftResources) -> Reward | None:
        return drafts.implicit
