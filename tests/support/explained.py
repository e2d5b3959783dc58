"""An explanation as `explain` writes it, with texts of a test's choice."""

from __future__ import annotations

from typing import Any


def token(text: str, credit: float) -> dict[str, Any]:
    return {"id": 1, "text": text, "credit": credit, "logp": -0.5}


def estimate(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 7, "method": "made up"}


def told(*texts: str, credits: tuple[float, ...] = (0.5, -0.25, 0.0)) -> dict[str, Any]:
    tokens = [token(text, credits[i % len(credits)]) for i, text in enumerate(texts)]
    said = {"label": texts[0], "reward": 0.25, "length": len(tokens), "tokens": tokens}
    phrase = {"text": texts[0], "tokens": [1], "credit": estimate(0.3), "rows": 5, "better": 3, "worse": 4}
    side = {"credited": [phrase], "blamed": [], "counted": 9}
    row = {"name": texts[0], "prompt": texts[0], "completions": [said, said], "margin": 0.125, "opening": 1,
           "chosen_change": -1.5, "likely": "shared", "likeness": 0.5}  # fmt: skip
    return {
        "beta": 0.1, "n": 12, "rewards": {"chosen": estimate(1.0)}, "accuracy": estimate(0.75), "rows": [row],
        "partings": {"margin": estimate(0.5), "opening": estimate(1.0),
                     "parts": {"first": {"credit": estimate(0.2), "tokens": 0.3}}},
        "displacement": {"verdict": texts[0], "remedy": "", "likely": {"shared": 3}},
        "tokens": side, "phrases": side,
    }  # fmt: skip
