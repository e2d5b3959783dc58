"""A build in shards: each has a range of the prompts, its own ledger and its own rows (`twofold.shards`)."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from twofold.datagen.build import BuildSettings, Built, build
from twofold.judges.questions import Questions
from twofold.progress import Progress
from twofold.records import shown
from twofold.shards import Make, Merged, Outcome, Work, digest

if TYPE_CHECKING:
    from twofold.judges.base import OpenReward

VERB = "build"
OWN = ("rows", "used")


def build_work(questions: Questions, how: BuildSettings) -> Work:
    """The work of all shards of a build."""
    settings = {name: value for name, value in asdict(how).items() if name not in ("retry", "execution")}
    settings["sampling"].pop("batch_size")
    items = ([shown(q.prompt), q.answer, [shown(c.completion) for c in q.candidates]] for q in questions.questions)
    inputs = (*how.models, how.judge.partition(":")[2], how.rubric)
    about = {"form": how.form, "judge": how.judge}
    return Work(VERB, "prompts", len(questions.questions), digest(settings, items), about, inputs=inputs)


def make_shard(questions: Questions, how: BuildSettings, open_reward: OpenReward, progress: Progress) -> Make:
    """The function that builds a shard. It raises the errors of `build`."""

    def make(own: Path, first: int, end: int) -> Outcome:
        few = replace(questions, questions=questions.questions[first:end])
        built = build(few, how, own, open_reward, progress)
        return Outcome({"rows": built.rows, "used": built.used, **built.left_out})

    return make


def built_of(merged: Merged) -> Built:
    """The result of all shards."""
    left_out = {reason: count for reason, count in merged.counts.items() if reason not in OWN}
    return Built(merged.out, merged.counts["rows"], merged.items, merged.counts["used"], left_out, 0)
