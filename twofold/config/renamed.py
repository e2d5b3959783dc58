"""Old keys of recipes and their replacements, for the error message about an unknown key."""

from __future__ import annotations

RENAMED = {
    "training.keep": "training.keep_checkpoints",
    "training.best": "training.best_metric",
    "optimizer.final": "optimizer.min_lr_ratio",
    "reference.mix": "reference.alpha",
    "reference.every": "reference.sync_every",
    "server.every": "server.sync_every",
    "value.lam": "value.gae_lambda",
    "supervise": "loss_on",
    "asking": "retry",
    "algorithm.refresh_every": "algorithm.reuse_steps",
    "algorithm.reference=kept": "algorithm.reference=recipe",
    "algorithm.gamma_ramp": "algorithm.ramp.gamma: {to, over}, and gamma is where it starts",
    "algorithm.form": "algorithm.generator.form",
    "algorithm.per_token": "algorithm.generator.per_token",
    "algorithm.margin": "algorithm.generator.margin",
    "algorithm.sign": "algorithm.generator.direction",
    "algorithm.side": "algorithm.generator.gradient_to",
    "algorithm.gate": "algorithm.generator.gate",
    "algorithm.baseline": "algorithm.generator.baseline",
    "algorithm.clip": "algorithm.generator.clip",
    "algorithm.kl": "algorithm.generator.kl",
    "objective.sign": "objective.direction",
    "objective.side": "objective.gradient_to",
    "algorithm.balance": "",
    "algorithm.balance_decay": "",
    "algorithm.balance_most": "",
    "form=squared_hinge": "",
}
"""Old → new, by their last parts: `server.every` is in `sampling` and in `evaluation.sampling`. "" means removed."""


def renamed(key: str) -> str:
    """The replacement of the dotted `key`, or of a value as `key=value`; empty if the key never existed."""
    old = next((old for old in RENAMED if f".{key}".endswith(f".{old}")), None)
    if old is None:
        return ""
    new = RENAMED[old]
    return f"renamed to {key.removesuffix(old)}{new}" if new else "removed: it changed nothing measurable (docs/log.md)"
