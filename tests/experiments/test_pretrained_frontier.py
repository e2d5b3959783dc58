"""Value against KL: a dot for each run."""

from __future__ import annotations

from math import log
from pathlib import Path

import pytest

from experiments.pretrained.figure import distances, dots_of, draw_frontier
from experiments.pretrained.ledger import Finished
from twofold.errors import DataError

DPO, PDPO = (0.02, -0.02, -0.02, 0.02), (-0.04,) * 4


def made(method: str, values: list[float], kl: list[float], rate: float | None = None) -> Finished:
    """A cell with two questions in each of two parts."""
    point = {} if rate is None else {"optimizer.learning_rate": rate}
    request = {"task": "t", "split": "test", "method": method, "seed": 1, "point": point}
    parts = {"parts": ["test", "test", "unseen", "unseen"], "clusters": ["a", "b", "a", "b"]}
    return Finished(request, {"values": values, "kl": kl, **parts})


def test_the_frontier_has_a_dot_for_each_run_at_every_point(tmp_path: Path) -> None:
    """KL is the mean over prompts; the value of a part is the mean of its questions; players but the base are none."""
    found = [
        made("base", [0.0, 0.25, 0.5, 0.25], []),
        made("base@shots:4", [1.0] * 4, []),
        made("base, the best by the judge", [1.0] * 4, []),
        made("DPO", [0.5, 0.0, 1.0, 0.0], [1.0, 2.0, 3.0, 4.0], 3e-4),
        made("DPO", [1.0, 0.5, 0.0, 0.0], [8.0] * 4, 1e-3),
    ]
    assert dots_of(found, "t", "test", "test") == {"base": [(0.0, 0.125)], "DPO": [(2.5, 0.25), (8.0, 0.75)]}
    assert dots_of(found, "t", "test", "unseen") == {"base": [(0.0, 0.375)], "DPO": [(2.5, 0.5), (8.0, 0.0)]}
    assert dots_of(found, "t", "development", "test") == {}
    text = draw_frontier(found, "t", "test", tmp_path / "frontier.svg").read_text()
    assert [text.count(f">{name}</text>") for name in ("test", "unseen", "base", "DPO")] == [1, 1, 1, 1]
    assert [text.count(f">{tick}</text>") for tick in ("0.5", "2", "5", "100")] == [2, 2, 2, 0]
    with pytest.raises(DataError, match="no run of t is finished on development prompts"):
        draw_frontier(found, "t", "development", tmp_path / "none.svg")


def test_runs_are_compared_at_their_distance_from_the_base() -> None:
    """DPO is on 0.5 + 0.1·ln KL but for 0.02, PDPO 0.04 below it; the base and what is beyond 10 nats do not count."""
    at = (1.0, 2.0, 4.0, 8.0)
    on, below = ([(kl, 0.5 + d + 0.1 * log(kl)) for kl, d in zip(at, ds, strict=True)] for ds in (DPO, PDPO))
    found = distances({"base": [(0.0, 0.1)], "DPO": [*on, (11.0, 0.0)], "PDPO": below, "IPO": [(-0.1, 0.9)]})
    assert found == [
        ("method", "runs", "points above 48.0 + 10.0 · ln KL (R² 0.91, 8 runs)"),
        ("DPO", "4", "+2.0 [−1.7, +5.7]"),
        ("PDPO", "4", "−2.0 [−2.0, −2.0]"),
    ]
    assert distances({"DPO": on[:3]}) == distances({}) == []
