"""Record figures of FastChat's show_result.py from simulated scores: `python tests/parity/record_mt_bench.py SOURCE`.

SOURCE is fastchat/llm_judge/show_result.py. Its function is read from the file and run alone; it needs pandas. Writes
mt_bench.json beside this file. `tests/evaluation/test_mt_bench.py` reads only that.
"""

from __future__ import annotations

import ast
import json
import random
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import pandas as pd

CATEGORIES = ("writing", "math", "stem", "humanities")


def shown(source: Path, file: str) -> list[Any]:
    """What `display_result_single` prints: headings and tables."""
    printed: list[Any] = []
    tree = ast.parse(source.read_text(encoding="utf-8"))
    taken = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "display_result_single"]
    space: dict[str, Any] = {"pd": pd, "print": printed.append}
    exec(compile(ast.Module(taken, []), "show_result.py", "exec"), space)
    space["display_result_single"](Namespace(input_file=file, bench_name="mt_bench", model_list=None))
    return printed


if __name__ == "__main__":
    draw = random.Random(0)
    scores = {
        model: [[-1 if draw.random() < 0.08 else draw.choice((1, 3, 4.5, 6, 7, 8, 9, 10)) for _ in (1, 2)]
                for _ in range(20)] for model in ("m", "n")
    }  # fmt: skip
    rows = [
        {"question_id": 81 + i, "model": model, "score": score, "turn": turn + 1}
        for model, several in scores.items() for i, both in enumerate(several) for turn, score in enumerate(both)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/judgments.jsonl"
        Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        tables = [told for told in shown(Path(sys.argv[1]), file) if isinstance(told, pd.DataFrame)]
    names = ("turn_1", "turn_2", "average")
    figures = {
        model: {name: float(table.xs(model, level="model" if table.index.nlevels > 1 else None)["score"].squeeze())
                for name, table in zip(names, tables, strict=True)} for model in scores
    }  # fmt: skip
    told = {"scores": scores, "categories": [CATEGORIES[i % 4] for i in range(20)], "figures": figures}
    Path(__file__).with_name("mt_bench.json").write_text(json.dumps(told) + "\n", encoding="utf-8")
