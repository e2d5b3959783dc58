"""Finds the real model of `twofold demo --real`: a folder, or its name on the Hub."""

from __future__ import annotations

import os
from pathlib import Path

from twofold.client.hub import refuse_unknown_model
from twofold.disk import cache_folder
from twofold.errors import ModelError

HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
FOLDER = "TWOFOLD_REAL_MODEL"


def folder() -> Path:
    """The folder of `make real`; the variable TWOFOLD_REAL_MODEL overrides it."""
    return Path(os.environ.get(FOLDER, cache_folder() / "SmolLM2-135M-Instruct"))


def located(name: str | None = None) -> str:
    """The model called `name`; by default the folder, else the Hub's. Raises ModelError if neither exists."""
    if name is not None or (folder() / "config.json").is_file():
        return name or str(folder())
    try:
        refuse_unknown_model(HUB_NAME)
    except ModelError as error:
        remedy = f"run `make real`, or name a folder that you have: --model FOLDER, or the variable {FOLDER}"
        what = f"is not on this machine (no {folder()}), and the hub cannot be reached"
        raise ModelError(what, where=HUB_NAME, remedy=remedy) from error
    return HUB_NAME
