"""Judges of benchmarks whose verdicts are known for each prompt."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from support.judge_replies import parts
from support.openai_stub import Body, said


def request(body: Body) -> str:
    """The prompt that a rubric of the package shows."""
    found = re.search(r'part="request">\n(.*?)\n</text-', said(body), re.DOTALL)
    assert found is not None
    return found.group(1)


def letters(first: float | None) -> dict[str, Any]:
    """Log-probabilities of a reply that prefers the first answer with this probability; None: it names no letter."""
    if first is None:
        return {"content": [{"token": "The", "logprob": -0.1, "top_logprobs": [{"token": "The", "logprob": -0.1}]}]}
    tops = [(letter, math.log(p)) for letter, p in (("A", first), ("B", 1 - first)) if p > 0]
    told = [{"token": name, "logprob": logprob} for name, logprob in tops]
    return {"content": [{**told[0], "top_logprobs": told}]}


def probabilities(of: Mapping[str, float | None], is_own: Callable[[str], bool]) -> Callable[[Body], dict[str, Any]]:
    """The probability for the answer that `is_own`, by prompt, whichever place it has."""

    def logprobs(body: Body) -> dict[str, Any]:
        share, (first, _) = of[request(body)], parts(body)
        return letters(share if share is None or is_own(first) else 1 - share)

    return logprobs


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    """A file of JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)
