"""Task `gsm8k`, the negative control: problems that the base hardly ever solves, so that its samples teach nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.commands import shared_data
from experiments.gsm8k.files import pairs
from experiments.harness.files import cached, read_rows, write_rows
from experiments.pretrained.tasks import HELDOUT, PAIRS, PROBLEMS, TRUTHS, TaskRow, Texts, sampled, scores, truths_of
from twofold.evaluation.prompting import GSM8K, PLACE
from twofold.progress import Progress
from twofold.rewards.verifier import flexible
from twofold.sampling.base import Sampling
from twofold.sampling.named_model import open_model

CALCULATOR = re.compile(r"<<.*?>>")
"""GSM8K's notes for a calculator, which no model writes by itself."""


@dataclass(frozen=True)
class ShortProblems:
    """Problems whose reference solution has at most `tokens` tokens, so that the protocol's 64 suffice. The reference
    solution over the base's own wrong one makes the pair."""

    source: Path = field(default_factory=lambda: shared_data("gsm8k"))
    train: int = 200
    development: int = 72
    test: int = 200
    tokens: int = 60
    own_tokens: int = 160
    """Of the base's samples for pairs. With 64 only one problem in six has a whole one."""
    name: str = "gsm8k"

    def prepare(self, here: Path, base: str, progress: Progress) -> Mapping[str, Any]:
        for split in ("train", "test"):
            if not (self.source / f"{split}.jsonl").is_file():
                raise SystemExit(f"skipped: no GSM8K at {self.source}; bring train.jsonl and test.jsonl")
        tested = self.development + self.test
        problems, fresh = (list(self._short(base, *part)) for part in (("train", self.train), ("test", tested)))
        parts = {"development": fresh[: self.development], "test": fresh[self.development :]}
        for split, rows in parts.items():
            write_rows(here / f"{split}.jsonl", [{**row, "cluster": row["prompt"]} for row in rows])
        write_rows(here / PROBLEMS, problems)
        solved: dict[str, float] = {}
        for name, rows in ((PAIRS, problems), (HELDOUT, parts["development"])):
            progress.note(f"samples for {name}")
            own = cached(here / f"own-{name}", lambda rows=rows: self._own(base, rows))
            right = {row["prompt"]: flexible(row["answer"]) for row in rows}
            wrong = [row for row in own if flexible(row["completion"]) != right[row["prompt"]]]
            solved[name] = 1 - len(wrong) / max(len(own), 1)
            write_rows(here / name, pairs(rows, wrong))
        made = read_rows(here / PAIRS)
        write_rows(here / TRUTHS, truths_of(made))
        return {"pairs": len(made), "own samples that are right": fmean(solved.values())}

    def reward(self, here: Path) -> str:
        return "verifier:flexible"

    def values(self, here: Path, rows: Sequence[TaskRow], texts: Texts) -> list[list[float]]:
        return scores(self.reward(here), rows, texts)

    def _short(self, base: str, split: str, number: int) -> Iterator[dict[str, str]]:
        """The first problems with a short solution."""
        encoder = open_model(base).encoder
        for row in read_rows(self.source / f"{split}.jsonl"):
            solution = CALCULATOR.sub("", row["answer"])
            if number and len(encoder.tokenizer(solution)["input_ids"]) <= self.tokens:
                number -= 1
                yield {"prompt": GSM8K.chat.replace(PLACE, row["question"]), "answer": solution}

    def _own(self, base: str, rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """A whole answer of the base to each problem that has one."""
        how = Sampling(max_new_tokens=self.own_tokens, batch_size=64)
        texts = sampled(base, [row["prompt"] for row in rows], 1, how, 7)
        return [
            {"prompt": row["prompt"], "completion": text}
            for row, several in zip(rows, texts, strict=True)
            for text in several
        ]
