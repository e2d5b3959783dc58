"""What this room makes is frozen: nobody on the way changes it. What has a state of its own is listed."""

from __future__ import annotations

from support.frozen import changeable
from support.usual_defaults import numbers, switched_on, unusual
from twofold import models


def test_only_what_has_a_state_can_be_changed() -> None:
    assert changeable(models) == {"Bucket", "Layout", "Pack", "Route", "Segment"}


def test_what_nobody_names_is_as_everywhere() -> None:
    assert unusual(models) == {}


def test_a_switch_is_off_unless_somebody_asks() -> None:
    assert switched_on(models) == {
        "Findings.causal",
        "PackedModel.train.mode",
        "bfloat16_products.narrow",
        "check_folder.weights",
        "save_policy.sealed",
    }


def test_numbers_that_nobody_names_are_these() -> None:
    assert numbers(models) == {
        "LoRA.rank": 16, "LoRA.alpha": 32.0, "Bema.ema_power": 0.5, "Bema.bias_power": 0.2, "Bema.lag": 10.0,
        "Bema.multiplier": 1.0, "step_bytes.period": 1, "ModelSettings.recompute_every": 1, "Packing.tokens": 8192,
        "bfloat16_speedup.size": 512, "_seconds.repeats": 5, "ReferenceSettings.alpha": 0.6,
        "ReferenceSettings.sync_every": 512, "ReferenceSettings.fit_epochs": 1.0,
        "ReferenceSettings.fit_learning_rate": 1e-05,
    }  # fmt: skip
