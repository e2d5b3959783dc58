"""A run whose chosen completions fall says why, in its results and its report; another run says nothing of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.progress import Silent
from twofold.runs.train import RunOptions, train_recipe

ROWS = [{"prompt": f"{a}+1?", "chosen": f"{a}+1={a + 1}", "rejected": f"{a}+1={a}"} for a in range(1, 9)]


class Notes(Silent):
    """Keeps what a run says."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def run(tmp_path: Path, base: Path, rate: float, **sections: Any) -> tuple[dict[str, Any], list[str]]:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    given = {
        "model": {"path": str(base), "precision": "float32"},
        "data": {"train": str(path)},
        "training": {"steps": 15, "batch_size": 8},
        "optimizer": {"learning_rate": rate, "schedule": "constant", "warmup": 0},
        "run": str(tmp_path / "run"),
        **sections,
    }
    notes = Notes()
    train_recipe(validate(Recipe, Document("test", given, {})), RunOptions(progress=notes))
    return json.loads((tmp_path / "run" / "results.json").read_text()), notes.said


@pytest.mark.parametrize("reference", ["cached", "live"])
def test_a_fall_is_explained(tmp_path: Path, base: Path, reference: str) -> None:
    found, said = run(tmp_path, base, 0.3, reference={"kind": reference})
    why = found["displacement"]
    assert any("try objective.nll=1" in w for w in found["warnings"])
    lines = (tmp_path / "run" / "warnings.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == found["warnings"]
    assert why["chosen"]["n"] == len(ROWS)
    assert why["chosen"]["value"] < -1
    assert sum(c["nats"]["value"] for c in why["causes"].values()) == pytest.approx(1)
    assert sum(c["tokens"] for c in why["causes"].values()) == pytest.approx(1)
    assert any(text.startswith(why["verdict"]) for text in said)
    assert "Why chosen fell" in (tmp_path / "run" / "report.html").read_text()


def test_no_fall_no_explanation(tmp_path: Path, base: Path) -> None:
    assert "displacement" not in run(tmp_path, base, 1e-4)[0]


def test_without_a_reference_there_is_nothing_to_explain(tmp_path: Path, base: Path) -> None:
    assert "displacement" not in run(tmp_path, base, 0.3, objective={"kind": "simpo"})[0]
