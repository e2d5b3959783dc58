"""Verdicts as rows, a model trained on them, and the commands that use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from experiments import judge
from experiments.harness.files import read_rows, write_rows
from experiments.harness.instructions import base_of, options_of
from experiments.harness.recipes import stage
from twofold.cli.progress import RichProgress
from twofold.judges.language_model import Rubric
from twofold.models.export import export_model

MODULE = "experiments.judge"
RUBRIC = """Question: {{ prompt }}

Answer A: {{ first }}

Answer B: {{ second }}

Which answer does what the question demands? Reply "Verdict: A" or "Verdict: B".
"""
URL = "http://127.0.0.1:8765/v1/chat/completions"


def verdicts(pairs: list[dict[str, Any]], rubric: Rubric) -> Iterator[dict[str, str]]:
    """Each pair in both orders, as the judge is sent it, and the right reply."""
    for pair in pairs:
        for letter, first, second in (("A", "chosen", "rejected"), ("B", "rejected", "chosen")):
            text = rubric.render(prompt=pair["prompt"], truth=None, first=pair[first], second=pair[second])
            yield {"prompt": text, "completion": f"Verdict: {letter}"}


def main() -> None:
    parser = options_of(MODULE, judge.__doc__, Path("runs/judge"))
    parser.add_argument("--steps", type=int, default=96)
    options = parser.parse_args()
    base = base_of(parser, options)
    torch.set_num_threads(1)
    options.runs.mkdir(parents=True, exist_ok=True)
    file, rows = options.runs / "rubric.jinja", options.runs / "verdicts.jsonl"
    file.write_text(RUBRIC, encoding="utf-8")
    write_rows(rows, verdicts(read_rows(options.data / "pairs.jsonl"), Rubric.load("compare", file)))
    sections: dict[str, Any] = {
        "model": {"path": base, "precision": "bfloat16", "lora": {"rank": 16}},
        "data": {"train": str(rows), "tokenize": {"max_length": 512}},
        "objective": {"kind": "sft"},
        "optimizer": {"learning_rate": 1e-3},
        "training": {"steps": options.steps, "batch_size": 8},
    }
    with RichProgress() as progress:
        stage(options.runs / "run", sections, f"python -m {MODULE}", progress)
    model = (options.runs / "model").absolute()
    if not model.is_dir():
        export_model(options.runs / "run" / "model", model, "bfloat16")
    print("transformers serve --host 127.0.0.1 --port 8765 --device cpu --dtype bfloat16")
    print(f"twofold evaluate 'llm:{URL}#{model}?max_tokens=8' --task judge --tasks {options.data / 'heldout.jsonl'} "
          f"--rubric {file} --out {options.runs / 'check'}")  # fmt: skip


if __name__ == "__main__":
    main()
