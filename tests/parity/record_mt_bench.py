"""Record figures of FastChat's show_result.py from simulated scores and verdicts:
`python tests/parity/record_mt_bench.py SOURCE`.

SOURCE is fastchat/llm_judge/show_result.py. Its functions are read from the file and run alone; they need pandas.
Writes mt_bench.json beside this file. `tests/evaluation/test_mt_bench.py` reads only that.
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


def shown(source: Path, name: str, rows: list[dict[str, Any]], **how: Any) -> list[Any]:
    """What a function of the file prints about judgments: headings and tables."""
    printed: list[Any] = []
    tree = ast.parse(source.read_text(encoding="utf-8"))
    taken = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name]
    space: dict[str, Any] = {"pd": pd, "print": printed.append}
    exec(compile(ast.Module(taken, []), "show_result.py", "exec"), space)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "judgments.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        space[name](Namespace(input_file=str(file), bench_name="mt_bench", model_list=None, **how))
    return [table for table in printed if isinstance(table, pd.DataFrame)]


def pairs(source: Path) -> dict[str, Any]:
    """Verdicts on both orders of each turn (the player's answer first, then second), and figures against `base`."""
    draw, winners = random.Random(2), ("model_1", "model_2", "tie", "error")
    verdicts = {
        model: [[draw.choices(winners, (4, 3, 2, 1), k=2) if draw.random() < 0.5 else [first, first]
                 for _ in (1, 2)] for _ in range(20)] for model, first in (("m", "model_1"), ("n", "model_2"))
    }  # fmt: skip
    rows = [
        {"question_id": 81 + i, "model_1": model, "model_2": "base", "g1_winner": first, "g2_winner": second,
         "turn": turn + 1}
        for model, several in verdicts.items() for i, both in enumerate(several)
        for turn, (first, second) in enumerate(both)
    ]  # fmt: skip
    (table,) = shown(source, "display_result_pairwise", rows, baseline_model="base")
    figures = {model: {name: float(table.loc[model][name]) for name in table.columns} for model in verdicts}
    return {"verdicts": verdicts, "against": figures}


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
    tables = shown(Path(sys.argv[1]), "display_result_single", rows)
    names = ("turn_1", "turn_2", "average")
    figures = {
        model: {name: float(table.xs(model, level="model" if table.index.nlevels > 1 else None)["score"].squeeze())
                for name, table in zip(names, tables, strict=True)} for model in scores
    }  # fmt: skip
    told = {"scores": scores, "categories": [CATEGORIES[i % 4] for i in range(20)], "figures": figures}
    told |= pairs(Path(sys.argv[1]))
    Path(__file__).with_name("mt_bench.json").write_text(json.dumps(told) + "\n", encoding="utf-8")
