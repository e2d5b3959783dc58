"""Rows that go beyond the positions that a model was made for, before the first step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.heard import Heard
from support.sum_pairs import write
from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.models.load import load_policy
from twofold.runs.context import RunContext
from twofold.runs.dataset import read_dataset

ROWS = [
    {"prompt": "1234567", "chosen": "a" * 7, "rejected": "b"},  # with both ends 16 tokens
    {"prompt": "1234567", "chosen": "a" * 8, "rejected": "b" * 9},
    {"prompt": "1", "chosen": "a", "rejected": "b"},
]


def warnings(tmp_path: Path, base: Path, **tokenize: Any) -> list[str]:
    config = json.loads((base / "config.json").read_text()) | {"max_position_embeddings": 16}
    (base / "config.json").write_text(json.dumps(config))
    rows = [{**row, "prompt": f"{i}{row['prompt'][1:]}"} for i, row in enumerate(ROWS)]
    data = {"train": str(write(tmp_path / "rows.jsonl", rows)), "tokenize": tokenize}
    sections = {"model": {"path": str(base), "precision": "float32"}, "data": data, "run": str(tmp_path / "run")}
    recipe = validate(Recipe, Document("test", sections, {}))
    progress = Heard()
    RunContext(recipe, recipe.objective, *load_policy(recipe.model), read_dataset(recipe, recipe.objective), progress)
    return progress.warnings


def test_rotary_positions_warn_of_completions_that_go_beyond_them(tmp_path: Path, base: Path) -> None:
    assert warnings(tmp_path, base) == [
        "2 completions with the prompt longer than the 16 tokens that the model was made for: "
        "set data.tokenize.max_length=16 to leave them out"
    ]


@pytest.mark.parametrize("most", [16, 15])
def test_rows_that_were_left_out_need_no_warning(tmp_path: Path, base: Path, most: int) -> None:
    assert [w for w in warnings(tmp_path, base, max_length=most) if "was made for" in w] == []
