"""Letters of logs and checkpoints are written as they are, and numbers that are none are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from twofold.training.checkpoint import STATE, save
from twofold.training.metrics import Log


def test_a_log_has_letters_as_they_are(tmp_path: Path) -> None:
    log = Log(tmp_path / "samples.jsonl")
    log.write({"text": "é 語", "b": 1, "a": 2})
    assert (tmp_path / "samples.jsonl").read_bytes() == '{"text": "é 語", "b": 1, "a": 2}\n'.encode()
    with pytest.raises(ValueError):
        log.write({"loss": float("nan")})
    assert log.mark()["size"] == len('{"text": "é 語", "b": 1, "a": 2}\n'.encode())


def test_a_state_has_letters_as_they_are(tmp_path: Path) -> None:
    folder = save(tmp_path, 3, {}, {"trainer": {"warnings": ["é 語"]}}, keep=None)
    text = '{\n "trainer": {\n  "warnings": [\n   "é 語"\n  ]\n }\n}'
    assert (folder / STATE).read_bytes() == text.encode()
