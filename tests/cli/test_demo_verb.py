"""`twofold demo` as a person meets it, at a size that takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.demo.play import Size, play


def test_the_demo_prints_its_table_and_names_its_report(
    twofold: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(play.__kwdefaults__, "size", Size(pairs=48, generator=8, test=12, steps=2))
    answer = twofold("demo", "--out", tmp_path)
    assert answer.code == 0
    words = [line.split()[:2] for line in answer.out.splitlines()]
    assert words[:4] == [["model", "n"], ["base", "12"], ["DPO", "12"], ["PDPO", "12"]]
    assert answer.out.replace("\n", "").endswith(f"report: {tmp_path / 'report.html'}")


def test_a_model_is_for_the_real_demo_alone(twofold: Callable[..., Any], tmp_path: Path) -> None:
    answer = twofold("demo", "--model", tmp_path, "--out", tmp_path / "out")
    assert answer.code == 2
    assert "--model: goes with --real" in answer.err


def test_the_real_demo_without_its_model_costs_one_message(
    twofold: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOFOLD_REAL_MODEL", str(tmp_path / "nowhere"))
    answer = twofold("demo", "--real", "--out", tmp_path / "out")
    assert answer.code == 2
    assert "make real" in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "out").exists()
