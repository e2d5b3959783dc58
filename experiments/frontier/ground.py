"""What every run of the sentiment experiment starts from, made once and kept: the classifier that is the truth, a
language model of the reviews, its samples to beginnings of reviews, the pairs among them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

from experiments.frontier.imdb import Review, Sentiment, fit, pieces, reviews
from experiments.harness.files import cached, read_rows, write_rows
from experiments.harness.models import Size, Speaker, make_scratch
from experiments.harness.recipes import stage
from twofold.progress import Progress, Silent
from twofold.sampling.base import Sampling

COMMAND = "python -m experiments.frontier"
PREFIX = (2, 8)
"""Tokens of a beginning, at least and at most."""
SAMPLES = 4
SPLITS = {"prefixes": "train", "heldout": "train", "development": "test", "test": "test"}
"""Where beginnings come from; no review lends to two of them."""


@dataclass(frozen=True)
class Ground:
    """How the data and the models are made."""

    size: Size = field(default_factory=lambda: Size(positions=128))
    reviews: int | None = None
    """Of either split; all by default."""
    words: int = 24
    """Of a piece at most: what the model learns to say and then to stop."""
    tokens: int = 48
    """Of a completion at most."""
    steps: int = 1600
    batch_size: int = 64
    learning_rate: float = 2e-3
    prefixes: int = 1200
    """Beginnings with samples to learn from; a fifth of them are PDPO's own problems in its runs."""
    heldout: int = 120
    """Beginnings whose pairs tell how good a reward model is."""
    development: int = 128
    test: int = 256
    device: str = "cpu"


def make_ground(root: Path, ground: Ground, source: Path, progress: Progress | None = None) -> Path:
    """The folder with `base/`, the classifier and the data; every stage is kept, so a stopped one goes on."""
    progress = progress or Silent()
    here = root / f"ground-{sha256(json.dumps(asdict(ground), sort_keys=True).encode()).hexdigest()[:8]}"
    if (here / "made.json").is_file():
        return here
    here.mkdir(parents=True, exist_ok=True)
    train, test = (reviews(source, split, ground.reviews) for split in ("train", "test"))
    progress.note("the classifier")
    accuracy = cached(here / "classifier.json", lambda: _classifier(here, train, test, ground.words))
    progress.note("the language model")
    beginnings = _beginnings(here, ground, train, test)
    language = stage(here / "base", _language(here, ground), COMMAND, progress)
    progress.note("samples and pairs")
    truth = Sentiment.load(here / "classifier.safetensors")
    for name in ("prefixes", "heldout"):
        cached(here / f"{name}.jsonl", lambda name=name: _sampled(here, ground, beginnings[name], truth))
    _write_pairs(here)
    made = {**asdict(ground), "classifier": accuracy, "language_model": language["training"].get("loss")}
    (here / "made.json").write_text(json.dumps(made) + "\n", encoding="utf-8")
    return here


def _classifier(here: Path, train: Sequence[Review], test: Sequence[Review], words: int) -> dict[str, Any]:
    """Fit it; accuracy on reviews that it has not seen, and on their pieces by their review's label."""
    made = fit(train)
    made.save(here / "classifier.safetensors")
    short = [Review(p, r.positive) for r in test[:2000] for p in pieces(r.text, words)]
    return {"reviews": made.accuracy(test).as_dict(), "pieces": made.accuracy(short).as_dict()}


def _beginnings(
    here: Path, ground: Ground, train: Sequence[Review], test: Sequence[Review]
) -> dict[str, list[dict[str, str]]]:
    """Beginnings with what follows by split; the language model's own are written beside the untrained model."""
    by_split = {"train": [list(pieces(r.text, ground.words)) for r in train],
                "test": [list(pieces(r.text, ground.words)) for r in test]}  # fmt: skip
    lent = 2 * sum(getattr(ground, name) for name, split in SPLITS.items() if split == "train")
    spoken = [p for found in by_split["train"][lent:] for p in found]
    by_split["train"] = by_split["train"][:lent]
    Random(0).shuffle(spoken)
    make_scratch(here / "scratch", spoken, ground.size)
    tokenizer = Speaker.load(here / "scratch", Sampling()).encoder.tokenizer
    cached(here / "language.jsonl",
         lambda: _begun(tokenizer, spoken, ground.steps * ground.batch_size, Random(1)))  # fmt: skip
    found: dict[str, list[dict[str, str]]] = {}
    firsts = {split: iter([found[0] for found in each if found]) for split, each in by_split.items()}
    for number, (name, split) in enumerate(SPLITS.items()):
        found[name] = _begun(tokenizer, firsts[split], getattr(ground, name), Random(2 + number))
        cached(here / f"{name}-beginnings.jsonl", lambda name=name: found[name])
    return found


def _begun(tokenizer: Any, texts: Any, number: int, random: Random) -> list[dict[str, str]]:
    """The first `number` texts that part into a beginning of 2 to 8 tokens and what follows."""
    found: list[dict[str, str]] = []
    for text in texts:
        if len(found) == number:
            break
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        head = tokenizer.decode(ids[: random.randint(*PREFIX)])
        if text.startswith(head) and len(head) < len(text):
            found.append({"prompt": head, "completion": text[len(head) :]})
    return found


def _language(here: Path, ground: Ground) -> dict[str, Any]:
    """The recipe of the language model."""
    return {
        "model": {"path": str(here / "scratch"), "precision": "float32", "device": ground.device},
        "data": {"train": str(here / "language.jsonl"), "tokenize": {"max_length": ground.size.positions}},
        "objective": {"kind": "sft"},
        "optimizer": {"learning_rate": ground.learning_rate, "schedule": "cosine", "warmup": 0.03, "min_lr_ratio": 0.05,
                      "weight_decay": 0.01},
        "training": {"steps": ground.steps, "batch_size": ground.batch_size, "keep_checkpoints": 1,
                     "checkpoint_every": max(1, ground.steps // 10)},
    }  # fmt: skip


def _sampled(
    here: Path, ground: Ground, beginnings: Sequence[Mapping[str, str]], truth: Sentiment
) -> list[dict[str, Any]]:
    """Each beginning with its four samples of the language model and their true rewards."""
    how = Sampling(max_new_tokens=ground.tokens, batch_size=256)
    speaker = Speaker.load(here / "base" / "model", how)
    prompts = list(dict.fromkeys(row["prompt"] for row in beginnings))
    found: list[dict[str, Any]] = []
    for prompt, drafts in zip(prompts, speaker.drafts(prompts, samples=SAMPLES, seed=(7, 0)), strict=True):
        texts = [text for text in speaker.texts(d for d in drafts if not d.truncated) if text.strip()]
        found.append({"prompt": prompt, "completions": texts, "rewards": [truth(prompt + text) for text in texts]})
    return found


def _write_pairs(here: Path) -> None:
    """Pairs of every two samples that differ in reward; PDPO's share of the same samples; the beginnings alone."""
    sampled = read_rows(here / "prefixes.jsonl")
    cut = len(sampled) * 4 // 5
    write_rows(here / "pairs.jsonl", pairs_of(sampled))
    write_rows(here / "pdpo-pairs.jsonl", pairs_of(sampled[:cut]))
    write_rows(here / "generator.jsonl", [best for row in sampled[cut:] if (best := best_of(row))])
    write_rows(here / "prompts.jsonl", [{"prompt": row["prompt"]} for row in sampled])
    known = {row["prompt"] for row in sampled}
    write_rows(
        here / "heldout-pairs.jsonl",
        pairs_of([r for r in read_rows(here / "heldout.jsonl") if r["prompt"] not in known]),
    )


def pairs_of(sampled: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The better over the worse of every two samples of a prompt; equal rewards make no pair."""
    found: list[dict[str, str]] = []
    for row in sampled:
        for (a, x), (b, y) in combinations(zip(row["completions"], row["rewards"], strict=True), 2):
            if x != y:
                chosen, rejected = (a, b) if x > y else (b, a)
                found.append({"prompt": row["prompt"], "chosen": chosen, "rejected": rejected})
    return found


def best_of(row: Mapping[str, Any]) -> dict[str, str] | None:
    """The best sample as a ground truth."""
    told = list(zip(row["rewards"], row["completions"], strict=True))
    return {"prompt": row["prompt"], "answer": max(told)[1]} if told else None
