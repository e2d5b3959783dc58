"""A build in shards: each takes a stretch of the prompts, with a ledger and rows of its own (`twofold.shards`)."""

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
    """What all shards of a build do together."""
    settings = {name: value for name, value in asdict(how).items() if name not in ("retry", "execution")}
    settings["sampling"].pop("batch_size")
    items = ([shown(q.prompt), q.answer, [c.text for c in q.candidates]] for q in questions.questions)
    inputs = (*how.models, how.judge.partition(":")[2], how.rubric)
    about = {"form": how.form, "judge": how.judge}
    return Work(VERB, "prompts", len(questions.questions), digest(settings, items), about, inputs=inputs)


def make_shard(questions: Questions, how: BuildSettings, open_reward: OpenReward, progress: Progress) -> Make:
    """What builds a shard; it raises as `build` does."""

    def make(own: Path, first: int, end: int) -> Outcome:
        few = replace(questions, questions=questions.questions[first:end])
        built = build(few, how, own, open_reward, progress)
        return Outcome({"rows": built.rows, "used": built.used, **built.left_out})

    return make


def built_of(merged: Merged) -> Built:
    """What the shards built together."""
    left_out = {reason: count for reason, count in merged.counts.items() if reason not in OWN}
    return Built(merged.out, merged.counts["rows"], merged.items, merged.counts["used"], left_out, 0)
