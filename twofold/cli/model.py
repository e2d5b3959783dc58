"""What a person means by a model: a folder, an adapter, a run directory, or a hub name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from twofold.errors import ModelError

if TYPE_CHECKING:
    from twofold.data.tokenize import Encoder
    from twofold.models.load import LoadedModel


def open_model(name: str) -> tuple[LoadedModel, Encoder]:
    """The model (of a run directory, the one that it made) with the encoder that makes its prompts."""
    from twofold.data.tokenize import Encoder
    from twofold.models.load import ModelSettings, load_model

    path = str(model_folder(Path(name))) if Path(name).is_dir() else name
    loaded = load_model(ModelSettings(path=path))
    return loaded, Encoder(loaded.tokenizer, loaded.stop_tokens)


def model_folder(source: Path) -> Path:
    """The model of a run directory, or the folder itself if it holds a model or an adapter."""
    for folder in (source / "model", source):
        if is_adapter(folder) or (folder / "config.json").is_file():
            return folder
    what = "holds neither a model nor an adapter" if source.is_dir() else "no such folder"
    remedy = "name a run directory with model/, or a folder with config.json or adapter_config.json"
    raise ModelError(what, where=str(source), remedy=remedy)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter."""
    return (folder / "adapter_config.json").is_file()
