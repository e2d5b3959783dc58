"""Small real runs that earn a warning, and one that earns none."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from support.sum_pairs import ROWS, write
from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.reports.findings import review
from twofold.reports.run import read_run
from twofold.runs.train import train_recipe

TASKS = [{"prompt": f"{a}+9?", "answer": f"#### {a + 9}"} for a in range(1, 5)]


def train(tmp_path: Path, base: Path, rows: list[dict[str, str]], name: str = "run", **sections: Any) -> Path:
    given = {
        "model": {"path": str(base), "precision": "float32"},
        "training": {"steps": 3, "batch_size": 4},
        "run": str(tmp_path / name),
        **sections,
    }
    given["data"] = {"train": str(write(tmp_path / f"{name}.jsonl", rows)), **sections.get("data", {})}
    return train_recipe(validate(Recipe, Document("test", given, {}))).folder


def words(folder: Path) -> list[str]:
    return [w.text for w in review([read_run(folder)], [""]).worries]


def test_a_run_in_which_nothing_is_wrong(tmp_path: Path, base: Path) -> None:
    """Answers of a coin: nothing to learn, and nothing to worry about; page and card name what was looked at."""
    coin = Random(0)
    sides = [coin.sample(("yes", "no"), 2) for _ in range(600)]
    rows = [{"prompt": f"{i}?", "chosen": a, "rejected": b} for i, (a, b) in enumerate(sides)]
    folder = train(tmp_path, base, rows, data={"heldout": {"count": 500}})
    told = review([read_run(folder)], [""]).words
    assert told == (
        "Nothing to worry about in what was checked: final results, rows left out or cut, size of what was measured "
        "on, pairs too easy, learning rate, overlap with training."
    )
    assert told in (folder / "report.html").read_text()
    assert told in (folder / "README.md").read_text()


def test_held_out_rows_that_are_nearly_trained_on(tmp_path: Path, base: Path) -> None:
    rows = [{"prompt": f"What is {i} ?", "chosen": "yes", "rejected": "no"} for i in range(12)]
    unseen = [{**row, "prompt": row["prompt"].upper().replace(" ?", "?")} for row in rows[:5]]
    unseen += [{**rows[0], "prompt": f"what is -{i}"} for i in range(12)]
    heldout = {"file": str(write(tmp_path / "heldout.jsonl", unseen))}
    told = words(train(tmp_path, base, rows, data={"heldout": heldout}))
    assert "5 heldout rows differ from what was trained on by case, spacing or punctuation only" in told


def test_a_run_in_which_much_is_wrong(tmp_path: Path, base: Path) -> None:
    """Long rows, few pairs and problems to measure on, drafts of two tokens that no gate lets through."""
    rows = [{**row, "rejected": row["rejected"] + ("x" * 40 if row["prompt"][0] in "23" else "")} for row in ROWS]
    tasks = write(tmp_path / "tasks.jsonl", TASKS)
    folder = train(
        tmp_path, base, rows,
        data={"heldout": {"count": 4}, "generator": {"count": 4}, "tokenize": {"max_length": 40}},
        algorithm={"kind": "pdpo", "prompts": 3, "warmup": 0, "drop_truncated": False,
                   "generator": {"gate": "verifier"}},
        sampling={"max_new_tokens": 2},
        evaluation={"tasks": {"file": str(tasks)}, "sampling": {"temperature": 0, "max_new_tokens": 2}},
        optimizer={"learning_rate": 1e-6},
    )  # fmt: skip
    told = words(folder)
    counts = json.loads((folder / "environment.json").read_text())["tokens"]["train"]
    share = f"{len(counts['dropped'])} of {counts['rows']} train rows"
    assert any(w.startswith(share) and "were left out: longer than 40 tokens" in w for w in told)
    assert "4 problems place an accuracy only within ±24 points" in told
    assert any("held-out pairs place an accuracy only within" in w for w in told)
    assert "4 of 4 evaluated completions were cut at the length limit" in told
    assert any(w.startswith("100.0% of the last samples hit the length limit: ") for w in told)
    assert "the gate never opened: no sample of any step was right, so the generator taught nothing" in told
    page = (folder / "report.html").read_text()
    assert "Nothing to worry" not in page
    assert share in page
    assert share in (folder / "README.md").read_text()


def test_an_adapter_at_the_rate_of_all_weights_and_nothing_measured(tmp_path: Path, base: Path) -> None:
    model = {"path": str(base), "precision": "float32", "lora": {"rank": 2}}
    told = words(train(tmp_path, base, ROWS, model=model, optimizer={"learning_rate": 1e-6}))
    assert told == [
        "nothing was measured on rows that training has not seen: set data.heldout, or evaluation.tasks",
        "the learning rate is low, 1e-06 for an adapter: 1e-05 to 0.001 are usual, and little may have been learned",
    ]


def test_a_second_stage_measured_on_what_the_first_was_trained_on(tmp_path: Path, base: Path) -> None:
    """The first stage holds out other rows than the second, or the same ones."""
    heldout = {"count": 4}
    first = train(tmp_path, base, ROWS, "first", data={"heldout": heldout})
    leak = "the base (first) was trained on the file that the heldout rows come from"
    for seed, told in ((1, True), (0, False)):
        folder = train(
            tmp_path, first / "model", ROWS, f"second {seed}", seed=seed, data={"heldout": heldout},
            model={"path": str(first / "model"), "precision": "float32"},
        )  # fmt: skip
        assert (leak in words(folder)) == told
