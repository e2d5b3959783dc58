"""The pairs that benchmarks train on, as token ids: real GSM8K solutions, and a synthetic mix of lengths."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.commands import shared_data

PAD, STOP, FIRST = 0, 1, 2
VOCABULARY = 16_000
Pair = dict[str, list[int]]


def gsm8k_folder() -> Path | None:
    """Where GSM8K's text lies: under TWOFOLD_SHARED, or in ../shared beside the repository."""
    folder = shared_data("gsm8k")
    return folder if (folder / "example_model_solutions.jsonl").exists() else None


def gsm8k(folder: Path, num: int) -> list[Pair]:
    """Pairs of a correct and a wrong solution to one problem, in a vocabulary trained on the training problems."""
    encode = vocabulary(folder)
    found = (pair for row in _rows(folder / "example_model_solutions.jsonl") if (pair := _right_and_wrong(row)))
    chosen = list(found)
    random.Random(0).shuffle(chosen)
    return [
        {"prompt": encode(question + "\n"), "chosen": [*encode(right), STOP], "rejected": [*encode(wrong), STOP]}
        for question, right, wrong in chosen[:num]
    ]


def gsm8k_rankings(folder: Path, num: int) -> list[tuple[list[int], list[list[int]]]]:
    """A problem with its five solutions, correct ones first: the ground truth and those of four models."""
    encode = vocabulary(folder)
    rows = list(_rows(folder / "example_model_solutions.jsonl"))
    random.Random(0).shuffle(rows)
    found: list[tuple[list[int], list[list[int]]]] = []
    for row in rows[:num]:
        said = sorted((v for v in row.values() if isinstance(v, dict)), key=lambda v: not v["is_correct"])
        ranked = [row["ground_truth"], *(v["solution"] for v in said)]
        found.append((encode(row["question"] + "\n"), [[*encode(text), STOP] for text in ranked]))
    return found


def hh(model: Path, num: int, most: int = 700) -> list[Pair]:
    """Real preferences between two answers to the same dialogue, of at most `most` tokens each, as the tokenizer of the
    folder `model` has them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    source, found = shared_data("hh") / "harmless-base-test.jsonl.gz", list[Pair]()
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            turn = row["chosen"].rfind("\n\nAssistant:") + len("\n\nAssistant:")
            if row["chosen"][:turn] != row["rejected"][:turn]:
                continue
            pair: Pair = {"prompt": tokenizer(row["chosen"][:turn]).input_ids}
            pair |= {k: [*tokenizer(row[k][turn:]).input_ids, tokenizer.eos_token_id] for k in ("chosen", "rejected")}
            if pair["chosen"] != pair["rejected"] and sum(map(len, pair.values())) <= most:
                found.append(pair)
            if len(found) == num:
                return found
    return found


def vocabulary(folder: Path) -> Callable[[str], list[int]]:
    """Text to tokens by a byte-level BPE trained on the training problems."""
    from benchmarks.byte_level import byte_level

    texts = (f"{row['question']}\n{row['answer']}" for row in _rows(folder / "train.jsonl"))
    tokenizer = byte_level(texts, VOCABULARY, ("<pad>", "<stop>"), prefix_space=True)
    return lambda text: tokenizer.encode(text).ids


def mixed(num: int) -> list[Pair]:
    """Random tokens: prompts of 16 to 320 tokens, completions of 16 to 160, drawn apart, so that every ratio occurs."""
    draw = random.Random(0)

    def tokens(low: int, high: int) -> list[int]:
        return [draw.randrange(FIRST, VOCABULARY) for _ in range(draw.randint(low, high))]

    return [
        {"prompt": tokens(16, 320), "chosen": [*tokens(15, 159), STOP], "rejected": [*tokens(15, 159), STOP]}
        for _ in range(num)
    ]


def mean_lengths(pairs: Sequence[Pair]) -> dict[str, float]:
    """Mean tokens of prompt, chosen and rejected."""
    return {k: round(sum(len(p[k]) for p in pairs) / len(pairs), 1) for k in ("prompt", "chosen", "rejected")}


def save(pairs: Sequence[Pair], path: Path) -> None:
    """One JSON list; `load` reads it."""
    path.write_text(json.dumps(pairs), encoding="utf-8")


def load(path: str) -> list[Pair]:
    """What `save` wrote."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def _right_and_wrong(row: Mapping[str, Any]) -> tuple[str, str, str] | None:
    solutions = [v for v in row.values() if isinstance(v, dict)]
    right = next((s["solution"] for s in solutions if s["is_correct"]), None)
    wrong = next((s["solution"] for s in solutions if not s["is_correct"]), None)
    return None if right is None or wrong is None else (row["question"], right, wrong)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)
