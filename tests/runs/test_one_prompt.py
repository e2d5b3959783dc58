"""One row, one prompt: whatever a model is used for, it reads the very token ids that it was trained on.

What models read is seen by their embeddings, not by any code of twofold's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import twofold as tf
from support.chat_templates import FAMILIES, HH, QUESTION, Family
from support.prompted import model_folder, rows
from twofold.datagen.completions import beams_of, best_samples_of, samples_of
from twofold.progress import Silent
from twofold.rewards.model import open_reward
from twofold.sampling.base import Sampling
from twofold.sampling.beam import Beams
from twofold.sampling.named_model import open_model

PAIRS = [{"prompt": p, "chosen": " 5", "rejected": " 6"} for p in (QUESTION, HH)]
TASKS = [{"prompt": p, "answer": "5"} for p in (QUESTION, HH)]


@contextmanager
def what_models_read() -> Iterator[list[list[int]]]:
    """The token ids of every row that any embedding is given."""
    read: list[list[int]] = []

    def look(module: nn.Module, given: tuple[Any, ...]) -> None:
        if isinstance(module, nn.Embedding):
            read.extend(given[0].reshape(-1, given[0].shape[-1]).tolist())

    handle = nn.modules.module.register_module_forward_pre_hook(look)
    try:
        yield read
    finally:
        handle.remove()


def times(part: list[int], rows: list[list[int]]) -> int:
    """How often `part` stands in `rows`."""
    return sum(row[i : i + len(part)] == part for row in rows for i in range(len(row) - len(part) + 1))


def uses(family: Family, folder: Path, **data: str) -> dict[str, Callable[[], object]]:
    """Everything that puts a prompt to a model, training first; a reward model is one that was trained so."""
    base, run, reward = model_folder(family, folder / "base"), str(folder / "run"), str(folder / "reward")
    pairs, tasks = rows(folder / "pairs.jsonl", PAIRS), rows(folder / "tasks.jsonl", TASKS)
    prompts, few = [QUESTION, HH], Sampling(max_new_tokens=2)
    short: dict[str, Any] = {"training": {"steps": 1, "batch_size": 2}, "data": data}
    how: dict[str, Any] = {"max_new_tokens": 2, "progress": Silent()}
    records = tf.read(pairs).records
    return {
        "train": lambda: tf.train(base, pairs, run=run, **short),
        "train a reward model": lambda: tf.train(
            base, pairs, run=reward, objective=tf.BradleyTerry(), **short
        ),
        "train on drafts": lambda: tf.train(
            base, tasks, run=f"{run}-drafts", **short, objective=tf.RLOO(), sampling={"max_new_tokens": 2},
            algorithm={"kind": "policy_gradient", "reward": lambda prompt, completion, truth: float(len(completion))},
        ),
        "sample": lambda: samples_of(open_model(run), prompts, few, (1, 0), Silent()),
        "search": lambda: beams_of(open_model(run), prompts, Beams(width=2, max_new_tokens=2), base),
        "best of n": lambda: best_samples_of(open_model(run), prompts, few, (2, 0), reward=reward, progress=Silent()),
        "score": lambda: open_reward(reward).score(records, Silent()),
        "accuracy": lambda: tf.accuracy([run], tasks, metrics=["text"], **how),
        "pass@k": lambda: tf.pass_at_k([run], tasks, **how),
        "win rate": lambda: tf.win_rate([run], tasks, judge=f"reward:{reward}", temperatures=[0.0], **how),
        "frontier": lambda: tf.frontier([run], tasks, reward=f"reward:{reward}", reference=base, **how),
        "preference": lambda: tf.preference([run], pairs, reference=base),
        "perplexity": lambda: tf.perplexity([run], pairs),
        "explain": lambda: tf.explain_model(run, records, reference=base, fewest=2, drift=2, **how),
    }  # fmt: skip


WHOLE = ("llama-2", "deepseek-r1")
QUICK = ("train", "sample", "search", "accuracy", "preference", "explain")
"""Families that are put to all uses, and the uses of the others: they differ in nothing but the template."""


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_all_uses_of_a_model_put_the_same_ids(family: Family, tmp_path: Path) -> None:
    tokenizer = family.tokenizer()
    question, dialogue = (
        tokenizer(text, add_special_tokens=False)["input_ids"][:-1] for text in (family.question, family.dialogue)
    )  # a decoder may read the last token in another call
    bare = tokenizer(QUESTION, add_special_tokens=False)["input_ids"]
    apart = 1 - times(
        question, [dialogue]
    )  # a template that begins with nothing has the question in the dialogue's end
    for name, use in uses(family, tmp_path).items():
        if family.name not in WHOLE and name not in QUICK:
            continue
        with what_models_read() as read:
            use()
        assert times(question, read) > 0, name
        assert times(dialogue, read) > 0, name
        assert times(bare, read) == times(question, read) + apart * times(dialogue, read), name


def test_a_model_that_was_trained_on_bare_text_is_used_with_bare_text(tmp_path: Path) -> None:
    family = FAMILIES[0]
    bare = [family.tokenizer()(text, add_special_tokens=False)["input_ids"][:-1] for text in (QUESTION, HH)]
    mark = family.tokenizer()("<|im_start|>", add_special_tokens=False)["input_ids"]
    for name, use in uses(family, tmp_path, chat="text").items():
        with what_models_read() as read:
            use()
        assert all(times(ids, read) > 0 for ids in bare), name
        assert times(mark, read) == 0, name
