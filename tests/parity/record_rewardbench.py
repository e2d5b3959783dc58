"""Record figures of the package `rewardbench` from given scores: `python tests/parity/record_rewardbench.py SOURCE`.

SOURCE is the package's folder. The package pins old libraries, so the functions that compute figures are read from its
files and run alone; they need numpy, pandas and datasets. Writes rewardbench.json beside this file.
`tests/evaluation/test_rewardbench.py` reads only that.
"""

from __future__ import annotations

import ast
import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

TAKEN = ("sample_stats", "process_single_model", "calculate_scores_per_section", "reroll_and_score_dataset")


def functions(source: Path) -> dict[str, Any]:
    """The package's functions and tables."""
    space: dict[str, Any] = {"np": np, "pd": pd, "math": math, "Dataset": Dataset}
    exec((source / "constants.py").read_text(encoding="utf-8"), space)
    tree = ast.parse((source / "utils.py").read_text(encoding="utf-8"))
    taken = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in TAKEN]
    header = ast.parse("from __future__ import annotations")
    exec(compile(ast.Module([*header.body, *taken], []), "utils.py", "exec"), space)
    return space


def number(draw: random.Random) -> float:
    """A coarse score, so that ties occur."""
    return draw.randint(-8, 8) / 4


def pairs(draw: random.Random, of: dict[str, Any]) -> dict[str, Any]:
    subsets = list(of["EXAMPLE_COUNTS"])
    rows = [{"subset": draw.choice(subsets[:-3]), "scores": [number(draw) + 0.5, number(draw)]} for _ in range(300)]
    metrics: dict[str, float] = {}
    for subset in subsets:
        results = [1 if row["scores"][0] > row["scores"][1] else 0 for row in rows if row["subset"] == subset]
        if results:
            metrics[subset] = sum(results) / len(results)
    sections = of["calculate_scores_per_section"](of["EXAMPLE_COUNTS"], of["SUBSET_MAPPING"], metrics)
    return {"rows": rows, "subsets": metrics, "sections": sections}


def best(draw: random.Random, of: dict[str, Any]) -> dict[str, Any]:
    rows, subsets = list[Any](), ["Factuality", "Precise IF", "Math", "Safety", "Focus"]
    for i in range(150):
        scores = [number(draw) + 0.75, *(number(draw) for _ in range(3))]
        rows.append({"subset": draw.choice(subsets), "id": str(i), "right": 1, "scores": scores})
    for i in range(40):
        for kind in ("ref", "tied"):
            right, wrong = 1 if kind == "ref" else draw.randint(1 if i == 7 else 2, 5), draw.randint(1, 6)
            spread = draw.choice([0, 0.25, 1])
            scores = [3 + spread * draw.randint(0, 2) for _ in range(right)]
            scores += [number(draw) + draw.choice([0, 0, 1.5]) for _ in range(wrong)]
            if (kind, i) != ("ref", 3):
                rows.append({"subset": "Ties", "id": f"{kind}:{i}", "right": right, "scores": scores})
    plain, figures = [row for row in rows if row["subset"] != "Ties"], dict[str, float]()
    flat = [{**row, "scores": score} for row in plain for score in row["scores"]]
    scored = of["reroll_and_score_dataset"](
        Dataset.from_list(flat), [len(row["scores"]) for row in plain], cols_to_combine=["scores"]
    )
    for subset in subsets:
        results = [row["results"] for row in scored if row["subset"] == subset]
        figures[subset] = sum(results) / len(results)
    ties = [{**row, "num_correct": row["right"]} for row in rows if row["subset"] == "Ties"]
    figures["Ties"] = float(of["process_single_model"](ties)[1])
    return {"rows": rows, "subsets": figures}


def main() -> None:
    of, draw = functions(Path(sys.argv[1])), random.Random(0)
    record = {"rewardbench": pairs(draw, of), "rewardbench2": best(draw, of)}
    path = Path(__file__).with_name("rewardbench.json")
    path.write_text(json.dumps(record).replace('{"subset"', '\n{"subset"') + "\n", encoding="utf-8")
    print(path.name, path.stat().st_size, record["rewardbench2"]["subsets"], record["rewardbench"]["sections"])


if __name__ == "__main__":
    main()
