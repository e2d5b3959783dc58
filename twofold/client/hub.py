"""Use of the Hugging Face hub without a connection: cached files are used, everything else is refused."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from twofold.errors import ModelError

HUB = "https://huggingface.co"
PATIENCE = 3.0
"""Seconds."""


def stay_local_if_cut_off() -> bool:
    """Whether only cached files of the hub can be used: by a setting, or after one short attempt to connect, which
    avoids a minute of attempts by the hub's client. Call it before that client is imported."""
    if os.environ.get("HF_HUB_OFFLINE") is None and not _reachable():
        os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def refuse_unknown_model(name: str) -> None:
    """Raise ModelError for a hub name without cached files if the hub cannot be reached."""
    if not stay_local_if_cut_off():
        return
    from huggingface_hub import constants

    if not Path(constants.HF_HUB_CACHE, f"models--{name.replace('/', '--')}").is_dir():
        raise ModelError(
            "no folder of this name is here, and the hub cannot be reached",
            where=name,
            remedy="check the path; a hub name needs a connection (or no HF_HUB_OFFLINE) when it is first used",
        )


def _reachable() -> bool:
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # the proxy knows
    address = urlsplit(os.environ.get("HF_ENDPOINT") or HUB)
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        socket.create_connection((address.hostname or "", port), PATIENCE).close()
    except (OSError, ValueError):
        return False
    return True
