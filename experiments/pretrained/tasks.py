"""The interface of a task, and what tasks share: rows with their clusters, scores of texts, samples of the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from experiments.harness.files import read_rows, write_rows
from twofold.judges.base import JudgeResources
from twofold.judges.questions import Question
from twofold.judges.registry import BEST_OF, parse_judge
from twofold.ledger import Ledger
from twofold.progress import Progress, Silent
from twofold.records import Candidate, Source
from twofold.rewards.model import open_reward
from twofold.sampling.base import Sampling
from twofold.sampling.named_model import open_model

Texts = Sequence[Sequence[str]]
PAIRS, HELDOUT, TRUTHS, PROBLEMS = "pairs.jsonl", "heldout.jsonl", "truths.jsonl", "problems.jsonl"
"""Pairs to learn from, pairs to order, one good answer for each prompt of the pairs, and prompts to answer."""
DRAFTED_EVERY = 5
"""Of the prompts with pairs, one in this many is drafted for by the gated forms."""


@dataclass(frozen=True)
class TaskRow:
    """A prompt to answer. Rows of one `cluster` are alike; `part` is the figure that a row belongs to."""

    prompt: str
    answer: str | None
    cluster: str
    part: str = "test"


class Task(Protocol):
    """Makes its files in a folder, and values texts. `prepare` returns facts about the data, such as the accuracy of
    the judge. `reward` is a judge of twofold that training, best of N and tuning use. `values` are in [0, 1]."""

    @property
    def name(self) -> str: ...

    def prepare(self, here: Path, base: str, progress: Progress) -> Mapping[str, Any]: ...

    def reward(self, here: Path) -> str: ...

    def values(self, here: Path, rows: Sequence[TaskRow], texts: Texts) -> list[list[float]]: ...


def rows_of(here: Path, split: str) -> list[TaskRow]:
    """The rows of a split."""
    return [
        TaskRow(row["prompt"], row.get("answer"), row["cluster"], row.get("part", "test"))
        for row in read_rows(here / f"{split}.jsonl")
    ]


def scores(judge: str, rows: Sequence[TaskRow], texts: Texts) -> list[list[float]]:
    """The scores of texts by a judge of twofold."""
    questions = [
        Question(row.prompt, Source("row", i), row.answer, tuple(Candidate(text, {}) for text in several))
        for i, (row, several) in enumerate(zip(rows, texts, strict=True), 1)
    ]
    with ExitStack() as resources:
        how = JudgeResources(BEST_OF, partial(_no_ledger, judge), open_reward)
        found = parse_judge(judge, BEST_OF).open(how, resources).scores(questions, Silent())
    return [row for row in found if row is not None]


def _no_ledger(judge: str) -> Ledger:
    raise ValueError(f"{judge} would ask a server")


def sampled(base: str, prompts: Sequence[str], samples: int, how: Sampling, seed: int) -> list[list[str]]:
    """Different whole answers of the base to each prompt."""
    model = open_model(base)
    rows = model.sampler(how).sample([model.encoder.prompt(p) for p in prompts], samples=samples, seed=(seed, 0))
    texts = [[model.encoder.text(d.tokens) for d in drafts if not d.truncated] for drafts in rows]
    return [list(dict.fromkeys(text for text in several if text.strip())) for several in texts]


def truths_of(pairs: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The first chosen answer of each prompt."""
    found: dict[str, str] = {}
    for pair in pairs:
        found.setdefault(pair["prompt"], pair["chosen"])
    return [{"prompt": prompt, "answer": answer} for prompt, answer in found.items()]


def write_drafted(here: Path) -> Path:
    """Write `drafted.jsonl` and `rest.jsonl` if they are missing. One in five prompts of the pairs is drafted for: its
    good answer, and what the judge checks where that is known. The pairs of the others are the rest."""
    path = here / "drafted.jsonl"
    if not path.is_file():
        truths, checked = read_rows(here / TRUTHS), {row["prompt"]: row for row in read_rows(here / PROBLEMS)}
        drafted = {row["prompt"]: row["answer"] for row in truths[::DRAFTED_EVERY]}
        rest = [row for row in read_rows(here / PAIRS) if row["prompt"] not in drafted]
        write_rows(here / "rest.jsonl", rest)
        rules = {p: {"answer": row["answer"]} for p, row in checked.items() if row.get("answer")}
        write_rows(path, ({"prompt": p, "completion": c, **rules.get(p, {})} for p, c in drafted.items()))
    return path
