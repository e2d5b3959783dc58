"""The command lines with which vLLM serves a model, and an adapter with its base."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from twofold.models.adapters import base_and_adapter

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The largest ranks that vLLM can be started with."""


def serve_command(folder: Path, stored: str) -> str:
    """Serves a whole model. The dtype is named because vLLM narrows float32 by itself."""
    return shlex.join(["vllm", "serve", str(folder), "--served-model-name", folder.name, "--dtype", stored])


def lora_command(source: Path, name: str, stored: str) -> str | None:
    """Serves the base of the adapter at `source` and the adapter as `name`; None where vLLM cannot load it."""
    base, adapter = base_and_adapter(str(source))
    if adapter is None:
        return None
    config = json.loads((source / "adapter_config.json").read_text(encoding="utf-8"))
    ranks: dict[str, int] = config.get("rank_pattern") or {}
    rank = max(int(config["r"]), *ranks.values()) if ranks else int(config["r"])
    largest = next((size for size in RANKS if size >= rank), None)
    beyond = ("use_dora", "modules_to_save", "trainable_token_indices", "target_parameters", "alora_invocation_tokens")
    if largest is None or any(config.get(key) for key in beyond) or config.get("bias", "none") != "none":
        return None
    arguments = ["--dtype", stored, "--enable-lora", "--max-lora-rank", str(largest), "--lora-modules"]
    return shlex.join(["vllm", "serve", base, *arguments, f"{name}={source}"])
