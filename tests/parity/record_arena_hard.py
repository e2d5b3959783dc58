"""Record scores of arena-hard-auto's show_result.py from simulated verdicts:
`python tests/parity/record_arena_hard.py SOURCE`.

SOURCE is show_result.py. Its function that weights the verdicts is read from the file and run alone; it needs pandas.
Writes arena_hard.json beside this file. `tests/evaluation/test_arena_hard.py` reads only that.
"""

from __future__ import annotations

import ast
import json
import os
import random
import sys
import tempfile
from glob import glob
from pathlib import Path
from typing import Any

import pandas as pd

VERDICTS = ("A>>B", "A>B", "A=B", "B>A", "B>>A", "B<A", "A<<B", "B=A", None)


def battles(source: Path, folder: Path) -> Any:
    """The weighted battles of the judgments in `folder`, by the published function."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    taken = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "load_judgments"]
    space: dict[str, Any] = {"pd": pd, "os": os, "glob": glob, "tqdm": list, "print": lambda *_: None}
    exec(compile(ast.Module(taken, []), "show_result.py", "exec"), space)
    os.chdir(folder)
    return space["load_judgments"](["judge"], "bench")


if __name__ == "__main__":
    source, out, draw = Path(sys.argv[1]).resolve(), Path(__file__).resolve(), random.Random(0)
    games = {model: [[draw.choice(VERDICTS) if draw.random() < 0.9 else first for _ in (1, 2)] for _ in range(30)]
             for model, first in (("m", "B>>A"), ("n", "A>B"))}  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "data" / "bench" / "model_judgment" / "judge"
        folder.mkdir(parents=True)
        for model, several in games.items():
            rows = [
                {"uid": f"q{i}", "model": model, "category": ("hard_prompt", "creative_writing")[i % 2],
                 "games": [{"score": verdict} for verdict in both]}
                for i, both in enumerate(several)
            ]  # fmt: skip
            (folder / f"{model}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        table = battles(source, Path(name))
    table["scores"] = table["scores"].astype(float)
    scores = {model: float(own["scores"].mean()) for model, own in table.groupby("model")}
    subsets = {f"{model}/{category}": float(own["scores"].mean())
               for (model, category), own in table.groupby(["model", "category"])}  # fmt: skip
    counts = {model: len(own) for model, own in table.groupby("model")}
    told = {"games": games, "scores": scores, "subsets": subsets, "battles": counts}
    out.with_name("arena_hard.json").write_text(json.dumps(told) + "\n", encoding="utf-8")
