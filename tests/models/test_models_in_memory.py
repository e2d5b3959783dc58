"""A model that is passed in memory: where it is moved, and that float64 stays float64."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch

from support import seq2seq, tiny
from support.resumable_runs import made_model, pairs
from twofold.models import load
from twofold.models.heads import wrap_reward_model
from twofold.models.load import ModelSettings, move_to_device, wrap
from twofold.runs.train import train


def moved(model: Any, device: Literal["auto", "cpu", "cuda"], resolved: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(load, "resolve_device", lambda asked: resolved if asked != "cpu" else "cpu")
    move_to_device(model, ModelSettings(path="m", device=device))
    return model


def test_it_is_moved_in_place_to_where_the_settings_put_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device `meta` here, as there need be no GPU."""
    model = tiny.llama()
    assert moved(model, "auto", "meta", monkeypatch) is model
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert moved(tiny.llama(), "cpu", "meta", monkeypatch).device.type == "cpu"
    spread = tiny.llama()
    spread.hf_device_map = {"": 0}
    assert moved(spread, "auto", "meta", monkeypatch).device.type == "cpu"


def test_it_stays_on_the_gpu_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    second = SimpleNamespace(device=torch.device("cuda", 1), to=calls.append)
    moved(second, "auto", "cuda", monkeypatch)
    assert calls == []
    moved(second, "cpu", "cuda", monkeypatch)
    assert calls == ["cpu"]


@pytest.mark.parametrize("make", [wrap, wrap_reward_model])
def test_whoever_wraps_it_moves_it(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def move(model: Any, settings: ModelSettings) -> None:
        seen.append(settings.device)

    monkeypatch.setattr(load, "move_to_device", move)
    monkeypatch.setattr("twofold.models.heads.move_to_device", move)
    make(ModelSettings(path="m", device="cpu"), *made_model())
    assert seen == ["cpu"]


@pytest.mark.parametrize(("precision", "narrow"), [("auto", None), ("bfloat16", torch.bfloat16), ("float64", None)])
def test_float64_stays_unless_bfloat16_is_set(
    precision: Any, narrow: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "training_precision", lambda settings, hidden: "bfloat16")
    if precision == "float64":
        monkeypatch.setattr(load, "training_precision", lambda settings, hidden: "float64")
    model, tokenizer = made_model()
    policy, _ = wrap(ModelSettings(path="m", precision=precision), model.double(), tokenizer)
    assert policy.narrow == narrow


def test_float64_under_bfloat16_trains_and_is_saved(tmp_path: Path) -> None:
    """It has no masters, since it has more digits than they would add."""
    train(
        (seq2seq.t5().double(), seq2seq.tokenizer("t5")), pairs()[:4], run=str(tmp_path),
        model={"precision": "bfloat16", "residual": "bfloat16"}, training={"steps": 2, "batch_size": 4},
        optimizer={"learning_rate": 1e-3, "warmup": 0},
    )  # fmt: skip
    first, second = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text("utf-8").splitlines())
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert second["margin"] > 0
