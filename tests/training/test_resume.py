"""A run stopped after every step and resumed ends with the same bytes as one that was not (design 8)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support.resumable_runs import KINDS, STEPS, left_behind, loop, stop_after
from twofold.training.trainer import TrainOutcome


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def whole(kind: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    run = tmp_path_factory.mktemp("whole") / "run"
    loop(run, kind).train()
    return left_behind(run)


def test_a_line_of_every_step_and_of_every_evaluation(whole: dict[str, bytes]) -> None:
    lines = [json.loads(line) for line in whole["metrics.jsonl"].splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == list(range(STEPS))
    assert [line["step"] for line in lines if line["kind"] == "evaluation"] == [0, 2, 4, 6]


def test_stopped_after_every_step_and_resumed(kind: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    """Whatever a checkpoint forgets changes what follows it; that two runs are the same to the byte shows here too."""
    for at in range(1, STEPS):
        part = loop(tmp_path, kind).train(stop=stop_after(1))
        assert part == TrainOutcome(at, True, None, part.warnings, part.warning_kinds)
    assert not loop(tmp_path, kind).train().stopped
    assert left_behind(tmp_path) == whole


def test_stopped_between_checkpoints_and_killed(kind: str, whole: dict[str, bytes], tmp_path: Path) -> None:
    """The log is longer than the checkpoint: what came after it is cut and made again."""
    sparse = loop(tmp_path, kind, checkpoint_every=4)
    with pytest.raises(KeyboardInterrupt):
        sparse.train(stop=raise_at(5))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) > 5
    loop(tmp_path, kind, checkpoint_every=4).train()
    assert left_behind(tmp_path)["metrics.jsonl"] == whole["metrics.jsonl"]
    assert left_behind(tmp_path)["policy.safetensors"] == whole["policy.safetensors"]


def raise_at(step: int) -> Callable[[], bool]:
    asked = iter(range(1, 1000))

    def stop() -> bool:
        if next(asked) == step:
            raise KeyboardInterrupt
        return False

    return stop
