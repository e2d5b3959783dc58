"""Settings of a run: what they are by default, what they refuse, and how many steps they make."""

from __future__ import annotations

from typing import Any

import pytest

from twofold.models.packing import Packing
from twofold.training.alarms import AlarmSettings
from twofold.training.optim import RATES, AdamW
from twofold.training.trainer import MOST_ROWS, TrainingSettings


def test_defaults() -> None:
    assert vars(TrainingSettings()) == {
        "steps": None, "epochs": 1.0, "batch_size": 32, "packing": Packing(), "evaluate_every": None,
        "checkpoint_every": None, "checkpoint_minutes": None, "keep_checkpoints": 2, "best_metric": None,
        "patience": None, "alarms": AlarmSettings(), "track": "none",
    }  # fmt: skip
    assert vars(AdamW()) == {
        "kind": "adamw", "learning_rate": None, "betas": (0.9, 0.999), "epsilon": 1e-8, "weight_decay": 0.0,
        "schedule": "linear", "warmup": 0.1, "min_lr_ratio": 0.0, "clip": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "lowest", "wrong", "words"),
    [
        *[
            (name, 1, 0, f"{name} must be ≥ 1")
            for name in ("steps", "evaluate_every", "checkpoint_every", "keep_checkpoints", "batch_size")
        ],
        ("batch_size", MOST_ROWS, MOST_ROWS + 1, "batch_size must be ≤ 1000000"),
        ("steps", 10**9, 10**9 + 1, "steps must be ≤ 1000000000"),
        ("epochs", 1e-9, 0, "epochs must be > 0 and ≤ 1000000000"),
        ("epochs", 1e9, float("inf"), "epochs must be > 0 and ≤ 1000000000"),
        ("checkpoint_minutes", 0, -0.5, "checkpoint_minutes must be ≥ 0"),
    ],
)
def test_bounds(name: str, lowest: Any, wrong: Any, words: str) -> None:
    assert getattr(TrainingSettings(**{name: lowest}), name) == lowest
    with pytest.raises(ValueError) as error:
        TrainingSettings(**{name: wrong})
    assert str(error.value) == words


def test_patience_needs_a_figure_and_is_an_interval() -> None:
    with pytest.raises(ValueError, match="patience needs `best_metric`, the figure to be patient about"):
        TrainingSettings(patience=1)
    with pytest.raises(ValueError, match="≥ 1"):
        TrainingSettings(patience=0, best_metric="x")
    assert TrainingSettings(patience=1, best_metric="x").patience == 1


@pytest.mark.parametrize(
    ("settings", "num", "passes", "steps"),
    [
        ({}, 32, 1, 1), ({}, 33, 1, 2), ({}, 1, 1, 1), ({}, 0, 1, 1), ({}, 64, 3, 6), ({}, 0, 3, 3),
        ({"epochs": 2.5, "batch_size": 10}, 20, 1, 5), ({"epochs": 0.01}, 100, 1, 1), ({"steps": 7}, 1000, 3, 7),
    ],
)  # fmt: skip
def test_steps_of_a_run(settings: dict[str, Any], num: int, passes: int, steps: int) -> None:
    assert TrainingSettings(**settings).total_steps(num, passes) == steps
    if passes == 1:
        assert TrainingSettings(**settings).total_steps(num) == steps


@pytest.mark.parametrize(
    ("name", "fine", "wrong", "words"),
    [
        ("learning_rate", 1e-12, 0.0, "learning_rate must be > 0"),
        ("warmup", 0.0, -1e-9, "warmup and weight_decay must be ≥ 0"),
        ("weight_decay", 0.0, -1e-9, "warmup and weight_decay must be ≥ 0"),
        ("min_lr_ratio", 0.0, -1e-9, "min_lr_ratio must be in [0, 1]"),
        ("min_lr_ratio", 1.0, 1.001, "min_lr_ratio must be in [0, 1]"),
        ("clip", 1e-9, 0.0, "clip must be > 0, or null"),
    ],
)
def test_bounds_of_the_optimizer(name: str, fine: float, wrong: float, words: str) -> None:
    assert getattr(AdamW(**{name: fine}), name) == fine
    with pytest.raises(ValueError) as error:
        AdamW(**{name: wrong})
    assert str(error.value) == words


def test_an_open_rate_is_that_of_the_kind_of_tuning() -> None:
    assert RATES == {False: 1e-6, True: 1e-5}
    assert AdamW(clip=None).clip is None
    mine = AdamW(learning_rate=3e-4, warmup=2)
    for adapter, rate in ((False, 1e-6), (True, 1e-5)):
        assert AdamW(warmup=2).for_tuning(adapter=adapter) == AdamW(warmup=2, learning_rate=rate)
        assert mine.for_tuning(adapter=adapter) is mine
    assert (AdamW().rate, mine.rate) == (1e-6, 3e-4)


@pytest.mark.parametrize(
    ("settings", "steps", "want"),
    [
        ({"warmup": 1}, 3, [1 / 2, 1.0, 0.5]),  # one step, not all of them
        ({"warmup": 0.5}, 4, [1 / 3, 2 / 3, 1.0, 0.5]),
        ({"warmup": 0.3}, 5, [1 / 3, 2 / 3, 1 - 0.5 / 3.5, 1 - 1.5 / 3.5, 1 - 2.5 / 3.5]),
        ({"warmup": 2}, 2, [1 / 3, 2 / 3]),
        ({"warmup": 0, "schedule": "constant", "min_lr_ratio": 0.5}, 2, [1.0, 1.0]),
        ({"warmup": 0, "min_lr_ratio": 0.5}, 4, [1.0, 0.875, 0.75, 0.625]),
        ({"warmup": 0, "schedule": "cosine"}, 4, [1.0, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5]),
        ({}, 1, [0.5]),  # a tenth of a step is one that begins
    ],
)
def test_the_share_of_the_rate_at_each_step(settings: dict[str, Any], steps: int, want: list[float]) -> None:
    found = [AdamW(**settings).factor(step, steps) for step in range(steps)]
    assert found == pytest.approx(want, rel=1e-12)
