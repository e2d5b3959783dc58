"""What `auto` is here: a width of the model, and a speed that is measured once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from support import tiny
from twofold.models import precision
from twofold.models.adapters import LoRA
from twofold.models.load import ModelSettings, autocast_of, load_policy, wrap
from twofold.models.precision import NARROWEST, known_speedup, resolve_precision


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "twofold" / "bfloat16.json"


def as_measured(cache: Path, speedup: float) -> None:
    """The cache says so of this processor."""
    known_speedup()
    cache.write_text(json.dumps({**json.loads(cache.read_text("utf-8")), "speedup": speedup}), "utf-8")


def test_it_is_measured_once(cache: Path) -> None:
    first = known_speedup()
    assert first > 0
    assert json.loads(cache.read_text("utf-8"))["speedup"] == first
    as_measured(cache, 123.5)
    assert known_speedup() == 123.5


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '{"speedup": 123.5}',
        '{"processor": "another", "torch": "1", "speedup": 123.5}',
        "\0" * 9,
    ],
)
def test_what_is_damaged_or_of_another_machine_is_measured_again(cache: Path, text: str) -> None:
    cache.parent.mkdir()
    cache.write_text(text, "utf-8")
    speedup = known_speedup()
    assert 0 < speedup != 123.5
    assert json.loads(cache.read_text("utf-8"))["speedup"] == speedup


@pytest.mark.parametrize("speedup", ["true", "NaN", "Infinity", "-1.0", '"8"', "null"])
def test_what_is_no_speed_is_measured_again(cache: Path, speedup: str) -> None:
    as_measured(cache, 123.5)
    cache.write_text(cache.read_text("utf-8").replace("123.5", speedup), "utf-8")
    assert json.loads(json.dumps(known_speedup())) > 0
    assert speedup not in cache.read_text("utf-8")


def test_a_folder_that_cannot_be_written_costs_the_measurement_alone(cache: Path) -> None:
    cache.parent.write_text("a file where the folder should be", "utf-8")
    assert known_speedup() > 0


@pytest.mark.parametrize(
    ("speedup", "wide"), [(8.2, "bfloat16"), (1.5, "bfloat16"), (1.4, "float32"), (0.6, "float32")]
)
def test_auto_takes_bfloat16_where_it_pays(cache: Path, speedup: float, wide: str) -> None:
    as_measured(cache, speedup)
    assert resolve_precision("auto", "cpu", NARROWEST) == wide
    assert resolve_precision("auto", "cpu", NARROWEST - 1) == resolve_precision("auto", "cpu") == "float32"
    assert {resolve_precision(name, "cpu", 4096) for name in ("float32", "float64")} == {"float32", "float64"}
    assert resolve_precision("bfloat16", "cpu", 8) == "bfloat16"


def test_nothing_is_narrow_outside_of_the_model() -> None:
    """While casts are remembered too: what the objective multiplies stays in float32."""
    policy, ones = tiny.policy(dtype=torch.float32, autocast=torch.bfloat16), torch.ones(2, 2)
    with policy.cast_once():
        assert (ones @ ones).dtype == torch.float32
        assert policy(tiny.pairs(2))[0].logp_S.dtype == torch.float32
        assert (ones @ ones).dtype == torch.float32


def test_a_narrow_model_is_not_measured(cache: Path) -> None:
    assert resolve_precision("auto", "cpu", NARROWEST - 1) == "float32"
    assert not cache.exists()


@pytest.mark.parametrize("speedup", [8.0, 1.0])
@pytest.mark.parametrize("lora", [None, LoRA(rank=2)], ids=["full", "lora"])
def test_a_model_is_loaded_as_its_width_asks(
    lora: LoRA | None, speedup: float, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a frozen base the weights are narrow too; what is trained stays in float32. A model in memory is no other."""
    monkeypatch.setattr(precision, "NARROWEST", 32)
    as_measured(cache, speedup)
    tiny.llama().save_pretrained(tmp_path / "base")
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "5"
    tokenizer.save_pretrained(tmp_path / "base")
    settings, narrow = ModelSettings(path=str(tmp_path / "base"), lora=lora), speedup > 1
    policy, loaded = load_policy(settings)
    assert policy.autocast == (torch.bfloat16 if narrow and lora else None)  # all weights: their updates are too small
    assert autocast_of(settings, loaded.model) == (torch.bfloat16 if narrow else None)
    base = torch.bfloat16 if narrow and lora else torch.float32
    assert policy.model.get_input_embeddings().weight.dtype == base
    assert {p.dtype for p in policy.trainable().values()} == {torch.float32}
    assert wrap(ModelSettings(path="here"), tiny.llama(), loaded.tokenizer)[0].autocast is None
    asked = ModelSettings(path="here", precision="bfloat16")
    assert wrap(asked, tiny.llama(), loaded.tokenizer)[0].autocast == torch.bfloat16
