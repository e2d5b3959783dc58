"""Optimizers by value: bytes of state, constants that reach torch, and matrices of shards."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import nn

from twofold.errors import RecipeError
from twofold.training import optim
from twofold.training.optim import (
    SGD,
    Adafactor,
    AdamW,
    AdamW8bit,
    AnyOptimizer,
    Joint,
    Muon,
    RMSprop,
    decayed,
    make_optimizer,
    make_schedule,
)


@pytest.mark.parametrize(
    ("settings", "shape", "embedding", "want"),
    [
        (AdamW(), (3, 5), False, 2 * 15 * 4 + 4),
        (AdamW8bit(), (4095,), False, 2 * 4095 * 4), (AdamW8bit(), (64, 64), False, 2 * 4096),
        (Adafactor(), (3, 5), False, 8 * 4 + 4), (Adafactor(), (2, 3, 5), False, 16 * 4 + 4),
        (Adafactor(), (5,), False, 5 * 4 + 4), (Adafactor(), (), False, 1 * 4 + 4),
        (RMSprop(), (3, 5), False, 15 * 4 + 4), (SGD(learning_rate=1.0), (3, 5), False, 15 * 4),
        (SGD(learning_rate=1.0, momentum=0.0), (3, 5), False, 0),
        (Muon(), (3, 5), False, 15 * 4), (Muon(), (3, 5), True, 2 * 15 * 4), (Muon(), (5,), False, 2 * 5 * 4),
        (Muon(), (2, 3, 5), False, 2 * 30 * 4),
    ],
)  # fmt: skip
def test_bytes_of_state(settings: AnyOptimizer, shape: tuple[int, ...], embedding: bool, want: int) -> None:
    assert settings.state_bytes(torch.Size(shape), 4, embedding=embedding) == want
    if not embedding:
        assert settings.state_bytes(torch.Size(shape), 4) == want


def test_constants_reach_torch() -> None:
    how: dict[str, Any] = {"learning_rate": 0.25, "epsilon": 0.5}
    groups = [{"params": [nn.Parameter(torch.eye(2))]}]
    adam = AdamW(betas=(0.5, 0.75), **how).over(groups).defaults
    assert (adam["lr"], adam["betas"], adam["eps"], adam["fused"]) == (0.25, (0.5, 0.75), 0.5, True)
    root = RMSprop(decay=0.75, **how).over(groups).defaults
    assert (root["lr"], root["alpha"], root["eps"]) == (0.25, 0.75, 0.5)
    descent = SGD(learning_rate=0.25, momentum=0.5).over(groups).defaults
    assert (descent["lr"], descent["momentum"]) == (0.25, 0.5)
    assert Adafactor(learning_rate=0.25).over(groups).defaults["lr"] == 0.25
    rest = Muon(betas=(0.5, 0.75), **how).over(groups).defaults
    assert (rest["lr"], rest["betas"], rest["eps"]) == (0.25, (0.5, 0.75), 0.5)


def test_moments_of_8_bits_have_their_constants() -> None:
    pytest.importorskip("bitsandbytes", reason="the extra `quantized` is not installed")
    made = AdamW8bit(learning_rate=0.25, betas=(0.5, 0.75), epsilon=0.5).over(
        [{"params": [nn.Parameter(torch.eye(2))]}]
    )
    assert {name: made.defaults[name] for name in ("lr", "betas", "eps")} == {
        "lr": 0.25, "betas": (0.5, 0.75), "eps": 0.5,
    }  # fmt: skip


def test_moments_of_8_bits_need_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(RecipeError) as error:
        AdamW8bit().over([])
    assert (error.value.what, error.value.where) == ("bitsandbytes is not installed", "optimizer.kind")
    assert error.value.remedy == (
        "pip install 'twofold[quantized]', or use optimizer.kind=adafactor, which needs no package"
    )


def test_muon_has_its_own_momentum_decay_and_size_of_steps() -> None:
    matrix, vector = nn.Parameter(torch.eye(3)), nn.Parameter(torch.ones(3))
    settings = Muon(learning_rate=0.25, weight_decay=0.5, momentum=0.75)
    joint = settings.build({"m": matrix, "v": vector})
    assert isinstance(joint, Joint)
    muon, rest = joint.parts
    assert {name: muon.defaults[name] for name in ("lr", "weight_decay", "momentum", "adjust_lr_fn")} == {
        "lr": 0.25, "weight_decay": 0.5, "momentum": 0.75, "adjust_lr_fn": "match_rms_adamw",
    }  # fmt: skip
    assert [group["weight_decay"] for group in rest.param_groups] == [0.0]
    assert type(settings.build({"m": matrix})) is torch.optim.Muon
    assert type(settings.build({"v": vector})) is torch.optim.AdamW
    assert type(settings.build({"m": matrix}, [matrix])) is torch.optim.AdamW


def test_groups_are_matrices_then_vectors_and_none_is_empty() -> None:
    matrix, vector = nn.Parameter(torch.ones(1, 1)), nn.Parameter(torch.ones(1))
    assert decayed([vector, matrix], 0.5) == [
        {"params": [matrix], "weight_decay": 0.5}, {"params": [vector], "weight_decay": 0.0},
    ]  # fmt: skip
    assert decayed([vector], 0.5) == [{"params": [vector], "weight_decay": 0.0}]
    assert decayed([], 0.5) == []


@pytest.mark.parametrize(
    ("settings", "parts", "dealt"),
    [(Muon(), 0, False), (Muon(), 1, True), (AdamW(), 2, False), (AdamW8bit(), 2, True), (Adafactor(), 1, True),
     (RMSprop(), 2, False), (SGD(learning_rate=1.0), 2, False)],
)  # fmt: skip
def test_matrices_of_shards_are_dealt_where_they_are_read_whole(
    settings: AnyOptimizer, parts: int, dealt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Embeddings are known among the models of the parameters by their names."""
    parameters = {"a": nn.Parameter(torch.eye(2)), "e": nn.Parameter(torch.eye(3))}
    sharded = {id(p) for p in list(parameters.values())[:parts]}
    calls: list[Any] = []
    monkeypatch.setattr(optim, "is_part", lambda p: id(p) in sharded)
    monkeypatch.setattr(optim, "DealtMatrices", lambda *arguments: calls.append(arguments))
    make_optimizer(settings, parameters, [parameters["e"]])
    assert bool(calls) == dealt
    if dealt and settings.kind == "muon":
        known, build = calls[0]
        assert known is parameters
        models = {name: nn.Parameter(torch.eye(2)) for name in parameters}
        joint = build(models)
        assert [group["params"] for group in joint.param_groups] == [[models["a"]], [models["e"]]]


def test_a_schedule_begins_anywhere_from_the_whole_rate() -> None:
    settings = AdamW(learning_rate=0.5, warmup=0, schedule="linear")
    optimizer = settings.build({"m": nn.Parameter(torch.eye(2)), "v": nn.Parameter(torch.ones(2))})
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = 9.0
    make_schedule(settings, optimizer, 4, 1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.375, 0.375]
    make_schedule(settings, optimizer, 4)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


def test_a_rate_must_be_named_for_descent() -> None:
    with pytest.raises(ValueError) as error:
        SGD()
    assert str(error.value) == "learning_rate has no default under sgd: give one"
