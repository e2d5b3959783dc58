"""Which experts a trained mixture of experts uses, measured on held-out rows, or else on training rows."""

from __future__ import annotations

from typing import Any, cast

from twofold.runs.context import RunContext

_ROWS = 64


def expert_use(run: RunContext) -> dict[str, Any]:
    """`experts` of results.json: how even their use is, and the share of tokens of each one in its layer. Empty for a
    model without experts."""
    groups = run.groups["heldout"] or run.groups["train"]
    routed = run.policy.routing([groups[i] for i in range(min(_ROWS, len(groups)))], run.recipe.training.packing)
    if routed is None:
        return {}
    table = cast("list[list[float]]", routed.shares().tolist())  # pyright: ignore[reportUnknownMemberType]
    share = [[round(value, 5) for value in row] for row in table]
    tokens = round(routed.rows / len(share))
    return {"experts": {"evenness": round(routed.evenness(), 5), "tokens": tokens, "share": share}}
