"""A written model against the one before it: the log-probabilities of the texts, and the bounds of their difference."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from support.speakers import STOP, speaker
from twofold.errors import ModelError
from twofold.models.agreement import TEXTS, Before

TOKENS = sum(len(completion.split()) for _, completion in TEXTS)


def stored(folder: Path, unknown: float, hund: float) -> Path:
    """Every word but Hund reads as the end of a text: behind it come another, or Hund, with these probabilities."""
    return Path(speaker(folder, {STOP: {STOP: unknown, "Hund": hund, "Katze": 1 - unknown - hund}}))


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Before:
    return Before(stored(tmp_path_factory.mktemp("before"), 0.5, 0.25))


def test_differences_are_those_of_the_tokens(before: Before, tmp_path: Path) -> None:
    same = before.compare(stored(tmp_path / "b", 0.5, 0.25), "float32")
    assert (same.tokens, same.mean, same.largest, same.bound) == (TOKENS, 0, 0, 1e-3)
    other = stored(tmp_path / "c", 0.5, 0.25 * math.exp(-0.4))
    found = before.compare(other, "float16")  # Hund comes once
    assert (found.mean, found.largest) == (pytest.approx(0.4 / TOKENS, abs=1e-6), pytest.approx(0.4, abs=1e-5))
    assert str(found) == (
        f"log-probabilities of {TOKENS} tokens before and after: mean difference {0.4 / TOKENS:.5f} nats, "
        "largest 0.40000; bound of the mean 0.02"
    )
    with pytest.raises(ModelError, match=r"not the model that was exported: .* bound of the mean 0\.001") as no:
        before.compare(other, "float32")
    assert (no.value.where, "--dtype float32" in no.value.remedy) == (str(other), True)


def test_coarser_weights_may_differ_by_more(before: Before, tmp_path: Path) -> None:
    near, far = (stored(tmp_path / f"{d}", 0.5 * math.exp(-d), 0.25) for d in (0.05, 0.15))
    assert before.compare(near, "bfloat16").bound == 0.1
    assert before.compare(far, "q8_0").bound == 0.2
    for folder, kind in ((near, "float16"), (far, "bfloat16")):
        with pytest.raises(ModelError, match="is not the model that was exported"):
            before.compare(folder, kind)
