"""Configurations of other trainers, as recipes: `twofold import KIND FILE`."""

from __future__ import annotations

from pathlib import Path

from twofold.config.load import load_recipe
from twofold.config.peers import axolotl, llama_factory, trl
from twofold.config.peers.reader import Imported, Lost, finish
from twofold.errors import RecipeError

__all__ = ["KINDS", "Imported", "Lost", "import_config"]

KINDS = {"trl-config": trl, "axolotl": axolotl, "llama-factory": llama_factory}
"""Each trainer, and the module that reads its file: `convert(values, stage)`, and the STAGES that it knows."""


def import_config(kind: str, path: str | Path, stage: str | None = None) -> Imported:
    """The recipe of another trainer's configuration, with what it could not take.

    Raises RecipeError where the file is no mapping, has no model or data, or asks for an objective that is not here.
    """
    if kind not in KINDS:
        raise RecipeError("unknown kind of configuration", where=kind, remedy=f"one of {', '.join(KINDS)}")
    peer = KINDS[kind]
    if stage is not None and stage not in peer.STAGES:
        raise RecipeError(f"{stage} is unknown", where="--stage", remedy=f"one of {', '.join(peer.STAGES)}")
    if not Path(path).exists():
        raise RecipeError("no such file", where=str(path), remedy="name the configuration file of the other trainer")
    values = load_recipe(path).data
    try:
        reader = peer.convert(values, stage)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise RecipeError(
            f"a value cannot be read: {error}", where=str(path), remedy="correct it there, then import again"
        ) from None
    for key, owner in (("path", "model"), ("train", "data")):
        if not reader.recipe.get(owner, {}).get(key):
            raise RecipeError(
                f"no {'model' if owner == 'model' else 'data set'} is named", where=str(path), remedy="name it there"
            )
    return finish(reader, str(path))
