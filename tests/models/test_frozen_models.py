"""What this room makes is frozen: nobody on the way changes it. What has a state of its own is listed."""

from __future__ import annotations

import torch

from support.frozen import changeable
from support.usual_defaults import constants, numbers, switched_on, unusual
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


def test_constants_are_these() -> None:
    assert constants(models) == {
        "agreement.BOUNDS": {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.1, "q8_0": 0.2}, "footprint._FEW": 4,
        "inline_attention._COLUMNS": 8, "integrity.MOST_HEADER": 100_000_000, "logprob.TOP": 20,
        "logprob.TILE": {"cpu": (2048, 1024), "cuda": (8192, 32768)}, "machine.GIB": 1_073_741_824,
        "masters._LOW": 65_535, "masters._PERIOD": 262_139, "packing._FAR": 4_611_686_018_427_387_904,
        "packing._LONG": 320, "packing._WASTE": 1.25, "precision.NARROWEST": 512, "precision.FAST": 1.5,
        "prepacked.SMALLEST": 65_536, "prepacked.FEWEST": 16, "prepacked.ROWS": 32, "prepacked.MOST_MEMORY": 0.25,
        "quantized.BYTES_PER_WEIGHT": {"nf4": 0.515869140625, "int8": 1.0}, "reference.CACHE_VERSION": 3,
        "reference._PART": 16, "reference._WINDOW": 16_384, "seq2seq._WASTE": 1.25, "seq2seq._SHORT": 16,
        "small_copy.WINDOW": 8, "small_copy.SWITCH": 20, "small_copy.POSITIONS": 48, "small_copy._VOCABULARY": 64,
        "small_copy._LAYERS": 6, "small_copy._EXPERTS": 16, "small_copy._FEED_FORWARD": 48,
        "small_copy._HEADS": (2, 4), "small_copy._MOST": 42_000_000, "tiled_attention._SCORES": 300_000,
        "tiled_attention._STRETCH": 64, "tiled_attention._UNSEEN": -1e30,
        "trial._SHAPES": ((6, 7, 4), (14, 16, 5), (24, 9, 3), (1, 3)), "trial._LONGEST": 34, "trial._OFFSETS": 5,
        "trial._TOLERANCE": {torch.float64: 1e-4, torch.float32: 5e-3},
    }  # fmt: skip
