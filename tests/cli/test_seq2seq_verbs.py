"""Encoder–decoders from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers as tr

from support import seq2seq

Run = Callable[..., Any]
ROWS = [{"prompt": f"what is {i}?", "chosen": f"it is {i}.", "rejected": "no idea"} for i in range(8)]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    base = seq2seq.folder("t5", tmp_path / "base")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    made = tmp_path / "recipe.yaml"
    made.write_text(
        f"model: {{path: {base}}}\ndata: {{train: {rows}, heldout: {{count: 2}}}}\n"
        f"training: {{steps: 2, batch_size: 4}}\noptimizer: {{learning_rate: 1.0e-3}}\nrun: {tmp_path / 'run'}\n"
    )
    return made


def test_what_is_trained_says_what_transformers_makes_it_say(recipe: Path, tmp_path: Path, twofold: Run) -> None:
    assert "steps       2" in twofold("train", recipe, "--dry-run").out
    twofold("train", recipe)
    said = twofold("sample", tmp_path / "run", "--prompt", "what is 3?", "max_new_tokens=6", "temperature=0").out
    model: Any = tr.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "run" / "model")
    tokenizer: Any = tr.AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    own = model.generate(**tokenizer("what is 3?", return_tensors="pt"), max_new_tokens=6, do_sample=False)
    assert tokenizer.decode(own[0], skip_special_tokens=True) in said
    page = tmp_path / "page.html"
    assert (
        "100.0% of 8 pairs in order"
        in twofold("explain", tmp_path / "run", tmp_path / "rows.jsonl", "--html", page).out
    )
    assert page.is_file()
    assert "what is 3?</s>" in twofold("data", "show", tmp_path / "rows.jsonl", "--model", tmp_path / "base").out


def test_a_reward_model_of_one_is_refused_in_one_message(recipe: Path, twofold: Run) -> None:
    answer = twofold("train", recipe, "objective={kind: bradley_terry}")
    assert answer.code == 2
    assert "does not read its score at the last token" in answer.err
