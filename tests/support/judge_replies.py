"""Replies of a judge that prefers the longer answer."""

from __future__ import annotations

import re

from support.openai_stub import Body, said
from twofold.client.server import RetrySettings

QUICK = RetrySettings(timeout=5, attempts=3, pause=0.01)


def parts(body: Body) -> list[str]:
    """What a rubric of the package shows as answers."""
    return re.findall(r'part="answer[^"]*">\n(.*?)\n</text-', said(body), re.DOTALL)


def longer(body: Body) -> str:
    first, second = parts(body)
    return f"Because.\nVerdict: {'A' if len(first) > len(second) else 'B' if len(first) < len(second) else 'tie'}"
