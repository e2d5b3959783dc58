"""results.json: the final figures of a run, each with its interval, read from its logs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from twofold.evaluation.exact_match import ExactMatch, Row, compare, summary
from twofold.evaluation.reward import RewardFigures
from twofold.rewards.verifier import Metric
from twofold.statistics import Estimate, mean_interval, wilson

METRICS: tuple[Metric, ...] = ("strict", "flexible")
_UNWATCHED = ("kind", "step", "learning_rate", "drafts", "drafts_kept", "age")
_ROW = ("name", "prompt", "completion", "answer", "strict", "flexible", "truncated")


def results(
    run: Path, *, name: str, command: str, final_step: int, warnings: Sequence[str], reward: RewardFigures | None = None
) -> dict[str, Any]:
    """The figures of `run` at `final_step` compared with its start, with McNemar's test on the same problems. `reward`
    has a reward model's figures on held-out comparisons or steps."""
    train, judged = _LastTenth(), None
    for line in _lines(run / "metrics.jsonl"):
        if line["kind"] == "train":
            train.add(line)
        elif line["step"] == final_step:
            judged = line
    base, policy = (_exact_match(run / "samples.jsonl", step) for step in (0, final_step))
    found: dict[str, Any] = {"name": name, "command": command, "step": final_step, "models": [], "comparisons": []}
    if base and policy:
        found["models"] = [
            {"name": label, **{m: getattr(result, m).as_dict() for m in METRICS}}
            for label, result in (("base", base), ("policy", policy))
        ]
        found["comparisons"] = [
            {"a": "base", "b": "policy", "metric": m, **compare(base, policy, m).as_dict()} for m in METRICS
        ]
    found["heldout"] = {k: v.as_dict() for k, v in _heldout(judged).items()} if judged else {}
    if reward is not None:
        found["heldout"] = {name: estimate.as_dict() for name, estimate in reward.headline.items()}
        found[reward.section] = reward.as_dict()
    found["training"] = _training(train.lines())
    found["warnings"] = list(warnings)
    return found


def _heldout(evaluation: Mapping[str, Any]) -> dict[str, Estimate]:
    n = int(evaluation.get("heldout/n", 0))
    if not n or "heldout/accuracy" not in evaluation:
        return {}
    return {"accuracy": wilson(round(evaluation["heldout/accuracy"] * n), n)}


class _LastTenth:
    """The last tenth of a stream of lines, or the last ten if that is more, without storing all of them."""

    def __init__(self) -> None:
        self._lines, self._count = list[Mapping[str, Any]](), 0

    def add(self, line: Mapping[str, Any]) -> None:
        self._lines.append(line)
        self._count += 1
        if len(self._lines) >= 2 * max(100, self._count // 10):
            self._lines = self.lines()

    def lines(self) -> list[Mapping[str, Any]]:
        return self._lines[-max(10, self._count // 10) :]


def _training(last: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the `last` lines of the main training metrics."""
    names: list[str] = [k for line in last[-1:] for k in line if k not in _UNWATCHED]
    columns: dict[str, list[float]] = {k: [line[k] for line in last if k in line] for k in names}
    return {k: mean_interval(v).as_dict() for k, v in columns.items() if len(v) > 1}


def _exact_match(path: Path, step: int) -> ExactMatch | None:
    rows = [Row(**{k: line[k] for k in _ROW}) for line in _lines(path) if line["step"] == step and "strict" in line]
    return summary(rows) if rows else None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        with path.open(encoding="utf-8", newline="\n") as file:
            yield from map(json.loads, file)
