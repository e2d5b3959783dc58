"""The golden vectors: `golden.json` beside this file, exact to 1e-9 in float64."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def cases() -> dict[str, dict[str, Any]]:
    """Every case by its id."""
    text = (Path(__file__).parent / "golden.json").read_text(encoding="utf-8")
    return {case["id"]: case for case in json.loads(text)["cases"]}


def given(name: str) -> dict[str, Any]:
    return cases()[name]["inputs"]


def expected(name: str) -> dict[str, Any]:
    return cases()[name]["expected"]
