"""Task `instructions`: everyday questions with an instruction that a program can check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.harness.files import read_rows, write_rows
from experiments.pretrained.questions import QUESTIONS_OF, SEEN, UNSEEN
from experiments.pretrained.tasks import HELDOUT, PAIRS, PROBLEMS, TRUTHS, TaskRow, Texts, scores, truths_of
from twofold.demo.real import build_pairs
from twofold.progress import Progress

UNSEEN_PART = "unseen kinds"


@dataclass(frozen=True)
class Instructions:
    """`samples` of the base for each prompt make the pairs; `limit` is the number of questions of each split."""

    samples: int = 4
    limit: int | None = None
    name: str = "instructions"

    def rows(self, split: str) -> Iterator[dict[str, str]]:
        """Each question of `split` with each kind; the rule is the answer. Only test has the unseen kinds."""
        kinds = {"test": SEEN, UNSEEN_PART: UNSEEN} if split == "test" else {split: SEEN}
        for part, each in kinds.items():
            for question in QUESTIONS_OF[split][: self.limit]:
                for words, rule in each:
                    prompt = f"{question} {words}"
                    yield {"prompt": prompt, "answer": rule, "cluster": question, "part": part}

    def prepare(self, here: Path, base: str, progress: Progress) -> Mapping[str, Any]:
        for split in ("development", "test"):
            write_rows(here / f"{split}.jsonl", self.rows(split))
        facts: dict[str, Any] = {}
        for split, name, out in (("train", "problems", PAIRS), ("development", "development", HELDOUT)):
            asked = [{"prompt": row["prompt"], "answer": row["answer"]} for row in self.rows(split)]
            folder = here / f"built-{name}"
            write_rows(folder / "prompts.jsonl", asked)
            built = build_pairs(folder, base, self.samples, progress)
            pairs = [{k: row[k] for k in ("prompt", "chosen", "rejected")} for row in read_rows(folder / "pairs.jsonl")]
            write_rows(here / out, pairs)
            facts[name] = {"prompts": built.questions, "with pairs": built.used, "pairs": len(pairs)}
            if split == "train":
                write_rows(here / PROBLEMS, asked)
                write_rows(here / TRUTHS, truths_of(pairs))
        return facts

    def reward(self, here: Path) -> str:
        return "verifier:instructions"

    def values(self, here: Path, rows: Sequence[TaskRow], texts: Texts) -> list[list[float]]:
        return scores(self.reward(here), rows, texts)
