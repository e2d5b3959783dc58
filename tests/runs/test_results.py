"""The figures of results.json come off the logs line by line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from twofold.runs.results import results
from twofold.statistics import mean_interval, wilson


@pytest.mark.parametrize("steps", [1, 9, 10, 99, 199, 200, 201, 1234, 4321])
def test_training_figures_are_of_the_last_tenth_of_the_steps(tmp_path: Path, steps: int) -> None:
    """At least ten steps, and each of them, however long the log is."""
    rows = [{"kind": "train", "step": s, "loss": 0.5 * s, **({"kl": 1.0} if s % 2 else {})} for s in range(steps)]
    judged = [{"kind": "evaluation", "step": s, "heldout/accuracy": 0.1 * s, "heldout/n": 40} for s in (5, 7, 5)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, *judged]))
    found = results(tmp_path, name="n", command="c", final_step=5, warnings=["w"])
    last = rows[-max(10, steps // 10) :]
    expected = {"loss": [r["loss"] for r in last], "kl": [r["kl"] for r in last if "kl" in r]}
    named = [k for k in expected if k in last[-1] and len(expected[k]) > 1]
    assert found["training"] == {k: mean_interval(expected[k]).as_dict() for k in named}
    assert found["heldout"] == {"accuracy": wilson(20, 40).as_dict()}
    assert (found["warnings"], found["models"]) == (["w"], [])
