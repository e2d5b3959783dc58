"""One cell: a method at a point with a seed, trained until its tokens are spent, then measured on prompts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, cast

from torch import Tensor

from experiments.arena.counts import CountedSampler, Tokens
from experiments.harness.cells import digest_of_files, run
from experiments.harness.recipes import assemble, recipe_of, replaced
from experiments.pretrained import ledger
from experiments.pretrained.measure import look, of_policy, of_texts
from experiments.pretrained.methods import ALL, DRAFTED, JUDGE, Method, Point
from experiments.pretrained.protocol import SCREENING_SEED, Protocol, Split
from experiments.pretrained.tasks import HELDOUT, PAIRS, PROBLEMS, Task, rows_of, write_drafted
from twofold.config.schema import Recipe
from twofold.evaluation.player_answers import AnswerBook, Drawing, questions_for
from twofold.evaluation.players import parse_player
from twofold.evaluation.prompting import Prompter
from twofold.ledger import Ledger
from twofold.models.policy import Policy
from twofold.progress import Progress
from twofold.records import Source, final_text
from twofold.records import Task as Problem
from twofold.sampling.base import Sample, Sampler

COMMAND = "python -m experiments.pretrained"
BASE = "base"
BY_JUDGE = ", the best by the judge"
"""Of as many samples as of the best by the reward, which is another one where the reward is a model."""
LOOKS = 4
"""The screening is also measured along training, when one, two and three parts of this many of the tokens are spent."""
Reply = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """A method by its name, at a point, with a seed, measured on a split."""

    method: str
    point: Point
    seed: int
    split: Split = "test"


@dataclass(frozen=True)
class ReferenceSampler:
    """Samples of the policy without its adapter, which is the reference."""

    sampler: Sampler
    policy: Policy

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Sample]]:
        with self.policy.as_reference():
            return self.sampler.sample(prompts, samples=samples, seed=seed)


@dataclass(frozen=True)
class Bench:
    """A task with its base model, its folder under `out`, and the ledger of all tasks."""

    out: Path
    task: Task
    base: str
    protocol: Protocol
    progress: Progress
    heldout: list[list[Tensor]] = field(default_factory=list)
    """Log-probabilities of held-out pairs by the base, once a cell needed them."""

    @property
    def here(self) -> Path:
        return self.out / self.task.name

    @property
    def ledger(self) -> Path:
        return self.out / "ledger.jsonl"

    @cached_property
    def data(self) -> str:
        """A digest of the base and of all rows."""
        names = (PAIRS, HELDOUT, PROBLEMS, "development.jsonl", "test.jsonl")
        return digest_of_files(Path(self.base) / "model.safetensors", *(self.here / name for name in names))

    def sections(self, method: Method, point: Point, seed: int) -> dict[str, Any]:
        """The recipe of a method at a point."""
        protocol = self.protocol
        sections: dict[str, Any] = {
            "model": {"path": self.base, "precision": protocol.precision, "lora": {"rank": protocol.rank}},
            "data": {
                "train": str(self.here / f"{method.reads}.jsonl"),
                "tokenize": {"max_length": protocol.max_length},
            },
            "sampling": {"max_new_tokens": protocol.max_new_tokens, "batch_size": 64},
            "evaluation": {
                "sampling": {"temperature": 1.0, "max_new_tokens": protocol.max_new_tokens, "batch_size": 64}
            },
            "reference": {"kind": "live"},
            "optimizer": {"schedule": "constant", "warmup": protocol.warmup},
            "training": {"steps": protocol.most_steps, "batch_size": protocol.batch_size},
            "run": str(self.here / "runs" / f"{method.name}-{seed}"),
            "seed": seed,
        }
        for name, section in method.sections.items():
            sections[name] = {**sections.get(name, {}), **section}
        if sections["objective"]["kind"] == "sft":
            del sections["reference"]
        for key, value in point.items():
            *path, last = key.split(".")
            place = sections
            for name in path:
                place[name] = dict(place.get(name, {}))
                place = place[name]
            place[last] = value
        if method.reads == "rest":
            sections = replaced(sections, DRAFTED, str(write_drafted(self.here)))
        return replaced(sections, JUDGE, self.task.reward(self.here))

    def recipe(self, cell: Cell) -> Recipe:
        """The cell as a recipe."""
        return recipe_of(self.sections(ALL[cell.method], cell.point, cell.seed), COMMAND)

    def request(self, cell: Cell) -> dict[str, Any]:
        """All that decides the cell."""
        what = {"task": self.task.name, "data": self.data, "protocol": self.protocol.as_dict()}
        return {**what, "method": cell.method, "point": dict(cell.point), "seed": cell.seed, "split": cell.split}

    def result(self, cell: Cell) -> Reply:
        """The cell's line of the ledger. It is trained if there is none."""
        ledger.finished(self.ledger, self.protocol)
        request = self.request(cell)
        reply = ledger.known(self.ledger, request)
        if reply is None:
            made = self._trained(cell) if cell.method in ALL else self._player(cell)
            ledger.add(self.ledger, request, made)
            reply = made
        return reply

    def _trained(self, cell: Cell) -> Reply:
        """Steps until the budget is spent. A run that stops being finite is measured as it was before that step."""
        loop, policy, context = assemble(self.recipe(cell))
        tokens, algorithm = Tokens(), cast("Any", loop.algorithm)
        if hasattr(algorithm, "sampler"):
            own = ALL[cell.method].drafts == "policy"
            algorithm.sampler = CountedSampler(
                algorithm.sampler if own else ReferenceSampler(algorithm.sampler, policy), tokens
            )
        along: list[Reply] = []
        looks = [self.protocol.tokens * part / LOOKS for part in range(1, LOOKS)]
        if (cell.seed, cell.split) != (SCREENING_SEED, "development"):
            looks = []

        def spent() -> bool:
            if looks and looks[0] <= tokens.all < self.protocol.tokens:
                looks[:] = [at for at in looks if at > tokens.all]
                along.append({"tokens": tokens.all, **look(self, cell, policy, context)})
            return tokens.all >= self.protocol.tokens

        with context.resources:
            done = run(loop, 0, lambda _: {}, tokens.counting, spent)
            began = time.process_time()
            measured = of_policy(self, cell, policy, context)
        cost = {"tokens": tokens.as_dict(), "steps": done.steps, "train_cpu": round(done.spent, 2)}
        cost["measure_cpu"] = round(time.process_time() - began, 2)
        late = mean_metrics(done.metrics[len(done.metrics) // 2 :])
        return {
            **measured,
            **cost,
            "metrics": late,
            **({"along": along} if along else {}),
            **({"failed": done.failed} if done.failed else {}),
        }

    def _player(self, cell: Cell) -> Reply:
        """A player of docs/evaluation.md that needs no training: `base`, `base@shots:4`, `base@best-of:16` …"""
        rows, began = rows_of(self.here, cell.split), time.process_time()
        name = self.base + cell.method.removeprefix(BASE).removesuffix(BY_JUDGE)
        player = parse_player(name + (f"?reward={self.task.reward(self.here)}" if "best-of" in name else "")).at(1.0)
        problems = [Problem(row.prompt, row.answer or "", Source("row", i)) for i, row in enumerate(rows, 1)]
        single = player.best_of is not None or player.beams is not None
        judged = cell.method.endswith(BY_JUDGE)
        drawing = Drawing(
            samples=self.protocol.best_of if judged else 1 if single else self.protocol.samples,
            seed=cell.seed, progress=self.progress,
            max_new_tokens=self.protocol.max_new_tokens, max_length=self.protocol.max_length,
        )  # fmt: skip
        prompter = Prompter(problems, examples=str(self.here / PAIRS), any_rows=True)
        with ExitStack() as resources:
            folder = resources.enter_context(TemporaryDirectory())
            answers = resources.enter_context(Ledger(Path(folder) / "answers.jsonl"))
            book = AnswerBook(questions_for(problems), prompter, drawing, answers, resources)
            found = book.of(player)
        texts = [[final_text(c.completion) for c in several] for several in found]
        cut = sum(c.truncated for several in found for c in several)
        values = self.task.values(self.here, rows, texts)
        if judged:
            best = [max(range(len(row)), key=row.__getitem__) for row in values]
            cut = sum(several[i].truncated for several, i in zip(found, best, strict=True))
            texts = [[several[i]] for several, i in zip(texts, best, strict=True)]
            values = [[row[i]] for row, i in zip(values, best, strict=True)]
        measured = of_texts(rows, texts, values, cut)
        return {**measured, "measure_cpu": round(time.process_time() - began, 2)}


def mean_metrics(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over the steps that have it, to four significant digits."""
    names = dict.fromkeys(name for metrics in steps for name in metrics)
    return {n: float(f"{fmean(metrics[n] for metrics in steps if n in metrics):.4g}") for n in names}


def players(protocol: Protocol) -> Sequence[str]:
    """What needs no training, with its settings."""
    return (
        BASE,
        f"{BASE}@shots:{protocol.shots}",
        f"{BASE}@best-of:{protocol.best_of}",
        f"{BASE}{BY_JUDGE}",
        f"{BASE}@beam:{protocol.beams}",
    )
