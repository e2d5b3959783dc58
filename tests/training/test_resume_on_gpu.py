"""Every kind of run on a GPU: it ends, it begins at ln 2 where it should, and it resumes after a stop."""

from __future__ import annotations

import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from support.resumable_runs import KINDS, OTHERS, STEPS, loop, stop_after

pytestmark = pytest.mark.gpu

BITS = {"pdpo-nf4", "ppo-value-int8", "adamw-8bit"}
AT_LN_2 = {"offline", "offline-lora", "pdpo", "pdpo-lora", "live", "packs", "seq2seq", "checkpointed"}


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_a_run_ends_and_resumes(kind: str, precision: str, tmp_path: Path) -> None:
    """Backward passes on a GPU add in any order, so figures of two runs differ by rounding, and samples may differ."""
    if kind in BITS and find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed")
    whole = loop(tmp_path / "whole", kind, precision=precision)
    assert whole.step.policy.model.device.type == "cuda"
    assert whole.train().step == STEPS
    for at in (2, 4):
        assert loop(tmp_path / "part", kind, precision=precision).train(stop=stop_after(2)).step == at
    assert loop(tmp_path / "part", kind, precision=precision).train().step == STEPS
    wanted, found = lines(tmp_path / "whole"), lines(tmp_path / "part")
    assert [(line["kind"], line["step"]) for line in found] == [(line["kind"], line["step"]) for line in wanted]
    losses, expected = ([line["loss"] for line in each if line["kind"] == "train"] for each in (found, wanted))
    assert all(map(math.isfinite, losses))
    if kind in AT_LN_2:
        assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    if precision == "float32" and "algorithm" not in {**KINDS, **OTHERS}[kind]:
        assert losses == pytest.approx(expected, rel=0.01)
