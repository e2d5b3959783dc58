"""Task `sentiment`: the base goes on with IMDb reviews; a classifier of whole reviews is the judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.commands import shared_data
from experiments.frontier.ground import pairs_of
from experiments.frontier.imdb import Review, Sentiment, fit, pieces, reviews
from experiments.harness.files import cached, write_rows
from experiments.pretrained.reward_models import RewardModel
from experiments.pretrained.tasks import HELDOUT, PAIRS, PROBLEMS, TRUTHS, TaskRow, Texts, sampled, truths_of
from twofold.progress import Progress
from twofold.sampling.base import Sampling

INSTRUCTION = "Go on with this film review, in one or two sentences: "
CLASSIFIER = "classifier.safetensors"


@dataclass(frozen=True)
class Openings:
    """The first `words` words of reviews by split; `fitted` reviews train the classifier (None: all)."""

    train: int = 240
    development: int = 72
    test: int = 200
    words: int = 8
    fitted: int | None = None


@dataclass(frozen=True)
class SentimentTask:
    """`samples` of the base for each opening make the pairs: the more positive one over the other."""

    source: Path = field(default_factory=lambda: shared_data("imdb"))
    openings: Openings = field(default_factory=Openings)
    samples: int = 4
    reward_model: RewardModel = field(default_factory=RewardModel)
    tokens: int = 64
    name: str = "sentiment"

    def prepare(self, here: Path, base: str, progress: Progress) -> Mapping[str, Any]:
        how = self.openings
        train, test = (reviews(self.source, split, how.fitted) for split in ("train", "test"))
        progress.note("the classifier")
        facts: dict[str, Any] = cached(here / "classifier.json", lambda: self._classifier(here, train, test))
        taken = list(self._opened(train, how.train))
        fresh = list(self._opened(test, how.development + how.test))
        parts = {"development": fresh[: how.development], "test": fresh[how.development :]}
        for split, rows in parts.items():
            write_rows(here / f"{split}.jsonl", [{"prompt": row, "cluster": row} for row in rows])
        write_rows(here / PROBLEMS, [{"prompt": row} for row in taken])
        for name, rows in ((PAIRS, taken), (HELDOUT, parts["development"])):
            progress.note(f"samples for {name}")
            cached(here / name, lambda rows=rows: self._pairs(here, base, rows))
        pairs = cached(here / PAIRS, list)
        write_rows(here / TRUTHS, truths_of(pairs))
        progress.note("the reward model")
        return {**facts, "pairs": len(pairs), "reward model": self.reward_model.train(here, base, progress)}

    def reward(self, here: Path) -> str:
        return self.reward_model.judge(here)

    def values(self, here: Path, rows: Sequence[TaskRow], texts: Texts) -> list[list[float]]:
        truth = Sentiment.load(here / CLASSIFIER)
        return [
            [truth(f"{row.prompt.removeprefix(INSTRUCTION)} {text}") for text in several]
            for row, several in zip(rows, texts, strict=True)
        ]

    def _classifier(self, here: Path, train: Sequence[Review], test: Sequence[Review]) -> dict[str, Any]:
        """Fit it; its accuracy on unseen reviews, and on their short pieces by the label of the whole review."""
        made = fit(train)
        made.save(here / CLASSIFIER)
        short = [Review(p, r.positive) for r in test[:1000] for p in pieces(r.text, 60)]
        return {"classifier, reviews": made.accuracy(test).as_dict(), "pieces": made.accuracy(short).as_dict()}

    def _opened(self, some: Sequence[Review], number: int) -> Iterator[str]:
        """Prompts of as many different openings."""
        words = (review.text.split()[: self.openings.words] for review in Random(1).sample(some, len(some)))
        every = dict.fromkeys(" ".join(each) for each in words if len(each) == self.openings.words)
        yield from (INSTRUCTION + opening for opening in list(every)[:number])

    def _pairs(self, here: Path, base: str, prompts: Sequence[str]) -> list[dict[str, str]]:
        texts = sampled(base, prompts, self.samples, Sampling(max_new_tokens=self.tokens, batch_size=64), 7)
        rows = [TaskRow(prompt, None, prompt) for prompt in prompts]
        found = zip(prompts, texts, self.values(here, rows, texts), strict=True)
        return pairs_of([{"prompt": p, "completions": several, "rewards": values} for p, several, values in found])
