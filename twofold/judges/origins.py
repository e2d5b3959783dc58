"""Judges that make pairs without scores: by the source of a completion, or from people's verdicts."""

from __future__ import annotations

from twofold.judges.base import JudgeKind


class TruthKind(JudgeKind):
    """the row's ground truth is better than each of a policy's own completions"""

    name = usage = "truth"
    gives = "order"
    needs_truth = True
    middle = 0.5
    refusal = "makes pairs (twofold data build, algorithm online), it gives no scores"


class StrongerKind(JudgeKind):
    """that model's answer is better than each of the other models' answers"""

    name, usage = "stronger", "stronger:MODEL"
    gives = "order"
    needs = ("answers",)
    middle = 0.5
    refusal = "makes pairs (twofold data build), it gives no scores"


class HumanKind(JudgeKind):
    """what people decide in `twofold data label`; FILE is its --out"""

    name, usage = "human", "human[:FILE]"
    gives = "verdicts"
    refusal = "makes pairs (twofold data build), it gives no scores"
