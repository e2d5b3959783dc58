"""Four kinds of endpoints: behaviours of a stub that takes other fields than ours."""

from __future__ import annotations

import json

from support.openai_stub import GOOD, Body


def strict(body: Body, nth: int) -> str:
    """As servers that check requests against a schema: every unknown field by its place."""
    extra = [name for name in ("seed", "top_p") if name in body]
    faults = [{"type": "extra_forbidden", "loc": ["body", n], "msg": "Extra inputs are not permitted"} for n in extra]
    return f"422 {json.dumps({'detail': faults})}" if faults else GOOD


def old(body: Body, nth: int) -> str:
    return (
        "400 Unrecognized request argument supplied: max_completion_tokens" if "max_completion_tokens" in body else GOOD
    )


def new(body: Body, nth: int) -> str:
    if "max_tokens" in body:
        return "400 Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
    return "400 Unsupported parameter: 'temperature' is not supported." if "temperature" in body else GOOD


def rude(body: Body, nth: int) -> str:
    return "400 Bad Request" if "seed" in body or "top_p" in body else GOOD
