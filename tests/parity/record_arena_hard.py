"""Record scores of arena-hard-auto's show_result.py from simulated verdicts, plain and at equal style:
`python tests/parity/record_arena_hard.py SOURCE`.

SOURCE is a copy of lmarena/arena-hard-auto (commit 196f6b8; it has no package). Its functions are read from its files
and run alone; they need pandas. Fits at equal style are of all battles, not the median of its 100 random resamples, and
its L-BFGS runs to the optimum (float64, full steps). `as_published` is its own fit: float32, and 50 steps of a tenth,
which end before the optimum.
Writes arena_hard.json beside this file. `tests/evaluation/test_arena_hard.py` reads only that.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import random
import re
import sys
import tempfile
from glob import glob
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch

VERDICTS = ("A>>B", "A>B", "A=B", "B>A", "B>>A", "B<A", "A<<B", "B=A", None)
CATEGORIES = ("hard_prompt", "creative_writing")
TEXTS = (
    "# One\n\ntext **bold** and __more__\n\n## Two\n1. a\n2. b\n   - c\n\n\n* d\n+ e\n#no header\n####### seven\n",
    "```python\n# a comment\n- x\n**y**\n```\nafter ** no bold ** and **a\nb**\n- x\n",
    "``` `inner` ```\n###\tthird\n12.no\n12. yes\n**__both__**\n____\n#\n- \n",
    "plain",
    "",
)


def functions(source: Path, space: dict[str, Any]) -> dict[str, Any]:
    """The functions and classes of one file, defined in `space`."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    taken = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    exec(compile(ast.Module(taken, []), source.name, "exec"), space)
    return space


def published(source: Path, answers: dict[str, dict[str, Any]], dtype: torch.dtype, **how: float) -> dict[str, Any]:
    """show_result.py with its style metadata, its fit of all battles, and its table in `table`."""
    torch.set_default_dtype(dtype)
    names = {name: getattr(torch, name) for name in dir(torch) if not name.startswith("__")}
    own = SimpleNamespace(**{**names, "float32": dtype, "tensor": lambda x, dtype=dtype: torch.tensor(x, dtype=dtype)})
    maths = functions(source / "utils" / "math_utils.py", {
        "torch": own, "nn": torch.nn, "F": torch.nn.functional, "optim": torch.optim, "dataclass": lambda cls: cls,
        "Dict": dict, "Tuple": tuple, "Callable": Any, "REGISTER_LOSSES": {}, "REGISTER_MODELS": {}, "np": None,
        "Optional": Any | None,
    })  # fmt: skip
    baseline = {category: {"baseline": "base"} for category in CATEGORIES}
    space: dict[str, Any] = {"pd": pd, "os": os, "glob": glob, "tqdm": list, "torch": own, "JUDGE_SETTINGS": baseline,
                             "one_hot_encode": maths["one_hot_encode"],
                             "to_winrate_probabilities": maths["to_winrate_probabilities"]}  # fmt: skip

    def whole(features: Any, outcomes: Any, loss_type: str) -> tuple[Any, None]:
        space["coefs"] = maths["fit_pairwise_model"](features, outcomes, loss_type, **how)[0]
        return space["coefs"][None], None

    space["bootstrap_pairwise_model"] = whole
    space = functions(source / "show_result.py", space)
    space["get_model_style_metadata"] = lambda benchmark: answers
    known = space["format_confidence_interval"]

    def table(mean: Any, lower: Any, upper: Any, **how: Any) -> Any:
        space["table"] = dict(zip(mean["model"], mean["scores"].astype(float), strict=True))
        return known(mean, lower, upper, **how)

    space["format_confidence_interval"] = table
    return space


def controlled(space: dict[str, Any], battles: Any) -> dict[str, Any]:
    """The scores of both players at equal style, and the weights of styles."""
    with contextlib.redirect_stdout(None):
        space["print_leaderboard_with_style_features"](battles, "bench", battles.category[0], ["markdown", "length"])
    return {**{model: space["table"][model] for model in ("m", "n")}, "weights": space["coefs"][-4:].tolist()}


def battles_of(space: dict[str, Any], games: dict[str, Any]) -> Any:
    """The weighted battles of judgments, by the published function."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name), contextlib.redirect_stdout(None):
        folder = Path("data") / "bench" / "model_judgment" / "judge"
        folder.mkdir(parents=True)
        for model, several in games.items():
            rows = [
                {"uid": f"q{i}", "model": model, "category": CATEGORIES[i % 2],
                 "games": [{"score": verdict} for verdict in both]}
                for i, both in enumerate(several)
            ]  # fmt: skip
            (folder / f"{model}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        table = space["load_judgments"](["judge"], "bench")
    table["scores"] = table["scores"].astype(float)
    return table


def styles(draw: random.Random) -> dict[str, dict[str, Any]]:
    """`metadata` of the answers of two players and of the baseline."""

    def some(most: int, *kinds: str) -> dict[str, int]:
        return {kind: draw.randint(0, most) for kind in kinds}

    return {
        model: {
            f"q{i}": {"token_len": draw.randint(long // 4, long), "header_count": some(2, "h1", "h2", "h3"),
                      "list_count": some(9, "ordered", "unordered"), "bold_count": some(6, "**", "__")}
            for i in range(30)
        }
        for model, long in (("m", 900), ("n", 500), ("base", 400))
    }  # fmt: skip


def counted(source: Path) -> list[Any]:
    """Headers, list items and bold texts of TEXTS by add_markdown_info.py."""
    space = functions(source / "utils" / "add_markdown_info.py", {"re": re})
    pattern = re.compile("```([^`]*)```")
    each = [space["count_markdown_elements"](space["remove_pattern"](text, pattern), suffix="") for text in TEXTS]
    return [[text, [sum(kinds.values()) for kinds in found.values()]] for text, found in zip(TEXTS, each, strict=True)]


if __name__ == "__main__":
    source, out, draw = Path(sys.argv[1]).resolve(), Path(__file__).resolve(), random.Random(0)
    games = {model: [[draw.choice(VERDICTS) if draw.random() < 0.9 else first for _ in (1, 2)] for _ in range(30)]
             for model, first in (("m", "B>>A"), ("n", "A>B"))}  # fmt: skip
    answers = styles(random.Random(1))
    space = published(source, answers, torch.float64, lr=0.5, tol=0.0, max_epochs=1000)
    table = battles_of(space, games)
    scores = {model: float(own["scores"].mean()) for model, own in table.groupby("model")}
    subsets = {f"{model}/{category}": float(own["scores"].mean())
               for (model, category), own in table.groupby(["model", "category"])}  # fmt: skip
    counts = {model: len(own) for model, own in table.groupby("model")}
    controls = {"all": controlled(space, table.assign(category=CATEGORIES[0]))} | {
        category: controlled(space, table[table.category == category].reset_index(drop=True)) for category in CATEGORIES
    }
    short = published(source, answers, torch.float32)
    controls["as_published"] = controlled(short, table.assign(category=CATEGORIES[0]))
    recorded = {"games": games, "scores": scores, "subsets": subsets, "battles": counts, "metadata": answers,
                "controlled": controls, "counted": counted(source)}  # fmt: skip
    out.with_name("arena_hard.json").write_text(json.dumps(recorded) + "\n", encoding="utf-8")
