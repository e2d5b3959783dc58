"""IMDb reviews (Maas et al. 2011) for the sentiment experiment: pieces of whole sentences, and a classifier that is the
truth: logistic regression on TF-IDF of words and pairs of words.

Its own forty lines instead of scikit-learn: the fitted one is two vectors in a safetensors file, and no pickle.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from zlib import crc32

import pyarrow.parquet
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, embedding_bag

from twofold.statistics import Estimate, wilson

FEATURES = 2**18
"""Places that words and pairs of words are hashed to."""
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
SENTENCE = re.compile(r"(?<=[.!?])\s+")
SHORTEST = 5
"""Words of a piece at least."""


@dataclass(frozen=True)
class Review:
    """A text, and whether its writer liked the film."""

    text: str
    positive: bool


def reviews(folder: Path, split: str, limit: int | None = None) -> list[Review]:
    """The reviews of `train` or `test` in an order of their own (the files have all the negative ones first)."""
    path = folder / f"{split}.parquet"
    if not path.is_file():
        raise SystemExit(
            f"skipped: no IMDb at {path}. Bring train.parquet and test.parquet with the columns text and label (pos, "
            "neg; the Large Movie Review Dataset), and name their folder with --data or in TWOFOLD_SHARED/data/imdb"
        )
    rows = pyarrow.parquet.read_table(path, columns=["text", "label"]).to_pylist()
    Random(0).shuffle(rows)
    return [Review(" ".join(row["text"].split()), row["label"] == "pos") for row in rows[:limit]]


def pieces(text: str, words: int) -> Iterator[str]:
    """Runs of whole sentences of at most `words` words; longer sentences, and runs not in plain ASCII, are left out."""
    held: list[str] = []
    for sentence in (*SENTENCE.split(text), ""):
        longer = [*held, sentence]
        if sentence and sum(len(s.split()) for s in longer) <= words:
            held = longer
            continue
        piece = " ".join(held)
        if len(piece.split()) >= SHORTEST and piece.isascii():
            yield piece
        held = [sentence] if len(sentence.split()) <= words else []


def features(text: str) -> Counter[int]:
    """How often each hashed word, and pair of neighbouring words, occurs."""
    words = WORD.findall(text.lower())
    terms = words + [f"{a} {b}" for a, b in pairwise(words)]
    return Counter(crc32(term.encode()) % FEATURES for term in terms)


@dataclass(frozen=True)
class Sentiment:
    """P(positive | text). `weight` and `idf` are [FEATURES]; a text's features have norm 1, however long it is."""

    weight: Tensor
    idf: Tensor
    bias: float

    def __call__(self, text: str) -> float:
        place, value = _vector(features(text), self.idf)
        return 1 / (1 + math.exp(-self.bias - float(self.weight[place] @ value)))

    def accuracy(self, texts: Sequence[Review]) -> Estimate:
        return wilson(sum((self(r.text) > 0.5) == r.positive for r in texts), len(texts))

    def save(self, path: Path) -> None:
        save_file({"weight": self.weight, "idf": self.idf, "bias": torch.tensor([self.bias])}, path)

    @classmethod
    def load(cls, path: Path) -> Sentiment:
        held = load_file(path)
        return cls(held["weight"], held["idf"], float(held["bias"]))


def _vector(counts: Counter[int], idf: Tensor) -> tuple[Tensor, Tensor]:
    """Places and values of (1 + log count)·idf, scaled to norm 1."""
    place = torch.tensor(list(counts), dtype=torch.int64)
    value = (1 + torch.tensor(list(counts.values()), dtype=torch.float32).log()) * idf[place]
    return place, value / value.norm().clamp_min(1e-12)


def fit(texts: Sequence[Review], penalty: float = 1e-5, rounds: int = 60) -> Sentiment:
    """The regression of `texts`, with `penalty` on the squared weights, by L-BFGS on all of them at once."""
    counted = [features(r.text) for r in texts]
    seen = torch.zeros(FEATURES)
    for counts in counted:
        seen[torch.tensor(list(counts), dtype=torch.int64)] += 1
    idf = ((1 + len(texts)) / (1 + seen)).log() + 1
    vectors = [_vector(counts, idf) for counts in counted]
    place, value = (torch.cat(list(part)) for part in zip(*vectors, strict=True))
    start = torch.tensor([0, *(len(p) for p, _ in vectors[:-1])]).cumsum(0)
    label = torch.tensor([float(r.positive) for r in texts])
    weight, bias = torch.zeros(FEATURES, 1, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=rounds, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        told = embedding_bag(place, weight, start, mode="sum", per_sample_weights=value).squeeze(1) + bias
        loss = binary_cross_entropy_with_logits(told, label) + penalty * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return Sentiment(weight.detach().squeeze(1).contiguous(), idf, float(bias.detach()))
