"""The checks for accelerators, on small shapes and on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_check
from benchmarks.gpu_bench import TINY, Bench, pairs


def test_every_check_passes_or_says_why_it_cannot(tmp_path: Path, root: Path) -> None:
    """In a process of its own, for one check opens a process group."""
    file = tmp_path / "checks.json"
    command = [sys.executable, "-W", "error", "-m", "benchmarks.gpu_check", "--tiny", "--json", str(file)]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    checks = json.loads(file.read_text(encoding="utf-8"))["checks"]
    outcomes = {name: facts["outcome"] for name, facts in checks.items()}
    passed = {"environment", "attention_that_runs", "head", "dpo_step", "lora_step", "decoding", "fsdp_of_one"}
    assert {name for name, outcome in outcomes.items() if outcome == "passed"} >= passed
    assert set(outcomes.values()) <= {"passed", "skipped"}
    assert set(outcomes) == {check.__name__ for check in gpu_check.CHECKS}
    assert checks["dpo_step"]["cached"]["loss"][0] == pytest.approx(0.69314718, abs=1e-6)


def test_a_failed_check_says_where_and_the_rest_goes_on() -> None:
    def wrong(bench: Bench) -> gpu_check.Facts:
        raise ValueError(f"no such {bench.shape.layers} layers")

    facts = gpu_check.attempt(wrong, Bench(torch.device("cpu"), TINY, TINY, 1))
    assert facts["outcome"] == "failed"
    assert facts["why"].startswith("ValueError: no such 2 layers (")
    assert "test_gpu_check.py" in facts["why"]


def test_without_an_accelerator_the_full_shapes_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(SystemExit, match="2"):
        gpu_check.main([])
    assert "--tiny runs the same checks" in capsys.readouterr().err


def test_products_are_counted_as_the_formula_has_them() -> None:
    """Two layers of 64: q and o 64·64 each, k and v 64·32 each, three products of 64·128."""
    assert TINY.products == 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
    assert all(len(g.prompt) <= 20 and len(g.branches) == 2 for g in pairs(TINY))
