"""The file of a measured speed: how much of it is read, and what is written."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from twofold.models import precision
from twofold.models.precision import hidden_units, known_speedup


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(precision, "bfloat16_speedup", lambda device: {"cpu": 2.5}[device])
    return tmp_path / "twofold" / "bfloat16.json"


def test_a_file_is_read_up_to_ten_thousand_bytes(cache: Path) -> None:
    assert known_speedup() == 2.5
    written = json.loads(cache.read_text(encoding="utf-8"))
    assert set(written) == {"processor", "torch", "speedup"}
    text = json.dumps({**written, "speedup": 7.5})
    for length, want in ((10_000, 7.5), (10_001, 2.5)):
        cache.write_text(text.rjust(length), encoding="utf-8")
        assert known_speedup() == want
    cache.write_text(json.dumps({**written, "speedup": 0.0}), encoding="utf-8")
    assert known_speedup() == 2.5


def test_a_width_is_a_number_of_the_config() -> None:
    for width, want in ((7, 7), ([7, 8], 0), (None, 0)):
        config = SimpleNamespace(hidden_size=width)
        config.get_text_config = lambda config=config: config
        assert hidden_units(config) == want  # type: ignore[arg-type]  # as much of a config as is read
    assert hidden_units(SimpleNamespace(get_text_config=SimpleNamespace)) == 0  # type: ignore[arg-type]
