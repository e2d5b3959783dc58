"""Record figures of the package `alpaca-eval` from simulated preferences: `python tests/parity/record_alpaca_eval.py`.

Run it where alpaca-eval is installed. The gamed baselines are simulated too, in place of the file that the package
downloads. Writes alpaca_eval.json beside this file. `tests/evaluation/test_length_control.py` and
`tests/evaluation/test_alpaca_eval.py` read only that.
"""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from alpaca_eval.metrics import glm_winrate

TIGHT = {"n_splits": 5, "tol": 1e-14, "max_iter": 100_000}


def gamed(rng: np.random.Generator, difficulty: np.ndarray) -> pd.DataFrame:
    """Two baselines, one longer and one shorter than the reference, as in df_gamed.csv."""
    rows = [
        {"model": name, "index": i, "gap": rng.normal(-shift, 300)}
        for name, shift in (("verbose", 900), ("concise", -700)) for i in range(len(difficulty))
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table["std_delta_len"] = (table.pop("gap") / 800).round(4)
    odds = -1.1 * np.tanh(table["std_delta_len"]) + rng.normal(0, 1, len(table))
    table["preference"] = (1 / (1 + np.exp(-odds))).round(4)
    table["instruction_difficulty"] = table["index"].map(lambda i: difficulty[i])
    table["not_gamed_baseline"] = False
    return table


def simulated(seed: int, n: int, strength: float, bias: float, missing: int) -> dict[str, Any]:
    """Preferences of 1 to 2 by a judge that likes length, ties and missing ones among them."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0, 1.2, n).round(4)
    others = rng.integers(80, 2500, n)
    lengths = np.maximum(1, (others * np.exp(rng.normal(0.2, 0.6, n))).astype(int))
    gap = lengths - others
    odds = strength + 0.5 * difficulty + bias * np.tanh(gap / gap.std()) + rng.normal(0, 1.5, n)
    share = (1 / (1 + np.exp(-odds))).round(6)
    share[::9], share[4], share[5] = 0.5, 0.0, 1.0
    preference = [1 + float(p) for p in share]
    told = [None if i % n in range(1, 1 + missing) else p for i, p in enumerate(preference)]
    return {"gamed": gamed(rng, difficulty), "lengths": lengths.tolist(), "others": others.tolist(),
            "preferences": told}  # fmt: skip


def figures(case: dict[str, Any], file: str, info: dict[str, Any]) -> dict[str, Any]:
    """The package's figures, and its fit."""
    glm_winrate.hf_hub_download = lambda **_: file
    fitted: dict[str, Any] = {}
    own = glm_winrate.fit_LogisticRegressionCV

    def fit(*args: Any, **kwargs: Any) -> Any:
        model = own(*args, **kwargs)
        fitted.update(weights=[float(w) for w in model.coef_[0]], C=float(np.ravel(model.C_)[0]))
        return model

    n = len(case["lengths"])
    annotations = pd.DataFrame(
        {
            "preference": [np.nan if p is None else p for p in case["preferences"]],
            "output_1": ["x" * length for length in case["others"]],
            "output_2": ["y" * length for length in case["lengths"]],
            "generator_1": "baseline",
            "generator_2": "model",
            "annotator": "judge",
            "index": range(n),
        }
    )
    glm_winrate.fit_LogisticRegressionCV = fit
    try:
        found = glm_winrate.get_length_controlled_winrate(annotations, save_weights_dir=None, glm_info=info)
    finally:
        glm_winrate.fit_LogisticRegressionCV = own
    return {**{name: float(value) for name, value in found.items()}, **fitted}


def recorded(seed: int, n: int, strength: float, bias: float, missing: int) -> dict[str, Any]:
    case = simulated(seed, n, strength, bias, missing)
    default = glm_winrate.GLM_INFO["length_controlled_v1"]
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/df_gamed.csv"
        case["gamed"].to_csv(file, index=False)
        by_default = figures(case, file, default)
        converged = figures(case, file, {**default, "kwargs": TIGHT})
    text = case.pop("gamed").to_csv(index=False)
    return {**case, "df_gamed.csv": text, "package": by_default, "converged": converged}


if __name__ == "__main__":
    about = {name: version(name) for name in ("alpaca-eval", "scikit-learn", "pandas")}
    cases = [recorded(0, 40, -0.5, 0.8, 0), recorded(1, 45, 0.7, 1.5, 3)]
    Path(__file__).with_name("alpaca_eval.json").write_text(
        json.dumps({"versions": about, "cases": cases}) + "\n", encoding="utf-8"
    )
