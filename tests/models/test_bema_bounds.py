"""The bounds of a bias-corrected average."""

from __future__ import annotations

import pytest

from twofold.models.bema import Bema


def test_at_its_bounds_it_keeps_no_history_and_corrects_whole() -> None:
    assert Bema(ema_power=0.0, bias_power=0.0, lag=1.0, multiplier=0.0).weights(7) == (1.0, 1.0)
    assert Bema(ema_power=1.0, bias_power=2.0, lag=1.0, multiplier=3.0).weights(1) == (0.25, 0.0625)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"ema_power": -0.1}, "ema_power and bias_power must be ≥ 0"),
        ({"bias_power": -0.1}, "ema_power and bias_power must be ≥ 0"),
        ({"lag": 0.9}, "lag must be ≥ 1 and multiplier ≥ 0"),
        ({"multiplier": -0.1}, "lag must be ≥ 1 and multiplier ≥ 0"),
    ],
)
def test_what_is_out_of_bounds(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError) as error:
        Bema(**wrong)
    assert str(error.value) == words
