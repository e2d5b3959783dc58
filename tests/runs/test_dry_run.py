"""A dry run refuses what the run would refuse, counts the rows that fit, and warns where memory is short."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.errors import DataError, RecipeError
from twofold.models.machine import GIB, memory_bytes
from twofold.progress import Silent
from twofold.runs.dry_run import dry_run


class Warnings(Silent):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, message: str) -> None:
        self.texts.append(message)


def recipe(tmp_path: Path, base: Path, **sections: Any) -> Recipe:
    lengths = (3, 3, 3, 3, 90, 90)
    rows = [{"prompt": f"{n}+1?", "chosen": "1" * length, "rejected": "2"} for n, length in enumerate(lengths)]
    train = tmp_path / "pairs.jsonl"
    train.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    given = {
        "model": {"path": str(base), "precision": "float32"},
        "data": {"train": str(train), "tokenize": {"max_length": 32}},
        "training": {"epochs": 1, "batch_size": 2},
        "run": str(tmp_path / "run"),
        **sections,
    }
    return validate(Recipe, Document("test", given, {}))


def test_steps_are_counted_of_the_rows_that_fit_and_both_are_shown(tmp_path: Path, base: Path) -> None:
    planned = dry_run(recipe(tmp_path, base))
    assert (planned.rows["train"], planned.used, planned.steps) == (6, 4, 2)
    assert "rows        train 6 (4 used, the others do not fit)" in planned.lines()


def test_a_measured_answer_that_exact_match_cannot_read_is_refused(tmp_path: Path, base: Path) -> None:
    tasks = tmp_path / "tasks.jsonl"
    rows = [{"prompt": "half of 4?", "answer": "#### 2"}, {"prompt": "1/2+1/4?", "answer": "#### 3/4"}]
    tasks.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError, match=r"tasks\.jsonl:2: the answer '3/4' is no plain number"):
        dry_run(recipe(tmp_path, base, evaluation={"tasks": {"file": str(tasks)}}))


def test_a_tracker_that_is_not_installed_is_refused(tmp_path: Path, base: Path) -> None:
    with pytest.raises(RecipeError, match="wandb is not installed"):
        dry_run(recipe(tmp_path, base, training={"track": "wandb"}))


def test_a_model_that_memory_cannot_hold_is_warned_of(tmp_path: Path, base: Path) -> None:
    small, large = Warnings(), Warnings()
    dry_run(recipe(tmp_path, base), small)
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    size = 2**18  # one layer of 4 · size² + 3 · 16 · size weights
    config |= {"hidden_size": size, "head_dim": size // 2}
    (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
    planned = dry_run(recipe(tmp_path, base), large)
    there = memory_bytes("cpu")
    assert there is not None
    assert planned.memory.total > there > GIB
    assert not [text for text in small.texts if "GiB" in text]
    (warning,) = [text for text in large.texts if "GiB" in text]
    assert f"about {planned.memory.total / GIB:.1f} GiB are needed and cpu has {there / GIB:.1f}" in warning
    assert "choose a smaller model" in warning


def test_settings_that_fit_are_named_and_do_fit(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a machine with less than the run takes: what is proposed takes no more than there is, and no other change."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8")) | {"num_hidden_layers": 5}
    (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
    whole = recipe(tmp_path, base, training={"batch_size": 4, "epochs": 1})
    needed = dry_run(whole).memory.total
    warned = Warnings()
    monkeypatch.setattr("twofold.runs.dry_run.memory_bytes", lambda device: needed - 1)  # a smaller machine
    dry_run(whole, warned)
    (text,) = [text for text in warned.texts if "GiB" in text]
    proposed = re.search(r"training\.packing\.tokens=(\d+) would take", text)
    assert proposed
    packing = {"tokens": int(proposed[1])}
    assert dry_run(recipe(tmp_path, base, training={"batch_size": 4, "packing": packing})).memory.total < needed


def test_a_high_rank_that_does_not_fit_is_made_smaller(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine with as much memory as rank 16 takes; there the smaller rank is no remedy for itself."""
    small, large = (recipe(tmp_path, base, model={"path": str(base), "lora": {"rank": rank}}) for rank in (16, 4096))
    needed, warned = dry_run(small).memory.total, Warnings()
    assert needed < dry_run(large).memory.total
    monkeypatch.setattr("twofold.runs.dry_run.memory_bytes", lambda device: needed)
    dry_run(large, warned)
    monkeypatch.setattr("twofold.runs.dry_run.memory_bytes", lambda device: needed - 1)
    dry_run(small, warned)
    high, own = [text for text in warned.texts if "GiB" in text]
    assert "training would run out of memory. model.lora.rank=16 would take" in high
    assert "rank" not in own


@pytest.mark.parametrize(
    ("optimizer", "lora", "words"),
    [
        ({}, None, ""),
        ({}, {"rank": 2}, ""),
        ({"learning_rate": 1e-6}, {"rank": 2},
         "low, 1e-06 for an adapter: 1e-05 to 0.001 are usual → left out, it is 1e-05"),
        ({"learning_rate": 1e-6}, None, ""),
        ({"learning_rate": 1e-2}, None, "high, 0.01 for all weights: 1e-07 to 1e-05 are usual → left out, it is 1e-06"),
        ({"learning_rate": 1e-2}, {"rank": 2}, ""),
        ({"kind": "adafactor", "learning_rate": 1e-5}, {"rank": 2},
         "low, 1e-05 for an adapter: 0.0003 to 0.03 are usual → left out, it is 0.0003"),
        ({"kind": "sgd", "learning_rate": 10.0}, None, ""),
    ],
)  # fmt: skip
def test_a_rate_that_is_unusual_for_what_is_tuned_is_warned_of(
    optimizer: dict[str, Any], lora: dict[str, Any] | None, words: str, tmp_path: Path, base: Path
) -> None:
    heard = Warnings()
    model = {"path": str(base), "precision": "float32", "lora": lora}
    dry_run(recipe(tmp_path, base, model=model, optimizer=optimizer), heard)
    rates = [text for text in heard.texts if "learning_rate" in text]
    assert len(rates) == bool(words)
    assert all(text.startswith(f"optimizer.learning_rate is {words}") for text in rates)


def test_each_of_several_processes_takes_the_first_way_that_fits(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((base / "config.json").read_text(encoding="utf-8")) | {"num_hidden_layers": 8}
    (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
    there = [2**40]
    monkeypatch.setattr("twofold.runs.dry_run.memory_bytes", lambda device: there[0])
    large = dry_run(recipe(tmp_path, base), processes=4)
    assert [(way.kind, way.settings.reduce) for way in large.shares] == [
        ("replicate", "auto"), ("shard", "step"), ("shard", "pack"),
    ]  # fmt: skip
    whole, once, often = (way.memory for way in large.shares)
    assert (once.weights, once.optimizer) == (whole.weights // 4, whole.optimizer // 4)
    assert once.gradients - often.gradients == whole.gradients
    assert often.total < once.total < whole.total
    there[0] = 4 * often.total * 100 // 84
    small = dry_run(recipe(tmp_path, base), processes=4)
    assert [way.settings.reduce for way in small.shares] == ["pack", "auto", "step"]
    line = next(line for line in small.lines() if line.startswith("processes"))
    assert line.startswith("processes   4, each shard, gradients summed once a pack: about ")
    asked = recipe(tmp_path, base, world={"kind": "shard", "reduce": "step"})
    assert [way.memory for way in dry_run(asked, processes=4).shares] == [once]
    moved = recipe(tmp_path, base, world={"offload": True})
    assert [way.kind for way in dry_run(moved, processes=4).shares] == ["shard", "shard"]
