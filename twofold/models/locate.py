"""What a person means by a model: a folder, an adapter, a run directory, or a hub name."""

from __future__ import annotations

from pathlib import Path

from twofold.errors import ModelError


def model_path(name: str) -> str:
    """What `load_model` reads: the model that a run directory or a folder holds, or the hub name as it is."""
    return str(model_folder(Path(name))) if Path(name).is_dir() else name


def model_folder(source: Path) -> Path:
    """The model of a run directory, or the folder itself if it holds a model or an adapter."""
    for folder in (source / "model", source):
        if is_adapter(folder) or (folder / "config.json").is_file():
            return folder
    what = "holds neither a model nor an adapter" if source.is_dir() else "no such folder"
    remedy = "name a run directory with model/, or a folder with config.json or adapter_config.json"
    raise ModelError(what, where=str(source), remedy=remedy)


def refuse_missing(name: str) -> None:
    """Raise ModelError for a file, and for what can only be a folder and is none: before the hub is asked for it."""
    if Path(name).is_file():
        raise ModelError("is a file, not a model", where=name, remedy="name the folder that holds config.json")
    if (name.startswith((".", "/", "~")) or name.count("/") > 1) and not Path(name).is_dir():
        raise ModelError("no such folder", where=name, remedy="check the path")


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter."""
    return (folder / "adapter_config.json").is_file()
