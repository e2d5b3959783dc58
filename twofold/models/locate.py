"""Find the model that a name refers to: a folder, an adapter, a run directory, or a Hub name."""

from __future__ import annotations

from pathlib import Path

from twofold import disk
from twofold.errors import ModelError

VALUE_MODEL = "value-model"
"""Name of a value model in rounds and checkpoints, and of its folder next to `model/`."""


def value_model_path(name: str) -> str | None:
    """The value model of a run directory, or of such a folder itself; None for any other name."""
    folder = Path(name)
    inner = folder if folder.resolve().name == VALUE_MODEL else folder / VALUE_MODEL
    return str(inner) if (inner / "config.json").is_file() else None


def model_path(name: str) -> str:
    """The path for `load_model`: the model in a run directory or folder, or the Hub name unchanged."""
    return str(model_folder(Path(name))) if Path(name).is_dir() else name


def tokenizer_path(name: str) -> str:
    """The path for `load_tokenizer`: the model in a run directory, or `name`, which may hold only a tokenizer."""
    inner = Path(name) / "model"
    return str(inner) if inner.is_dir() and not (Path(name) / "tokenizer_config.json").is_file() else name


def model_folder(source: Path) -> Path:
    """The model of a run directory, or the folder itself if it holds a model or an adapter."""
    for folder in (source / "model", source):
        if is_adapter(folder) or (folder / "config.json").is_file() or any(folder.glob("*.gguf")):
            return folder
    what = "holds neither a model nor an adapter" if source.is_dir() else "no such folder"
    remedy = "name a run directory with model/, or a folder with config.json, adapter_config.json or a GGUF file"
    raise ModelError(what, where=str(source), remedy=remedy)


def gguf_of(path: str, named: str | None = None) -> str | None:
    """The GGUF file to read from a folder: `named`, or the only one if the folder holds no other model."""
    folder = Path(path)
    if named is not None:
        if folder.is_dir() and not (folder / named).is_file():
            raise ModelError(f"has no file {named}", where=path, remedy="correct model.gguf_file")
        return named
    if not folder.is_dir() or (folder / "config.json").is_file():
        return None
    files = sorted(file.name for file in folder.glob("*.gguf"))
    if len(files) > 1:
        what = f"holds several GGUF files: {', '.join(files[:4])}"
        raise ModelError(what, where=path, remedy="name one in model.gguf_file")
    return files[0] if files else None


def refuse_missing(name: str) -> None:
    """Raise ModelError for a file, and for a path that is not a folder, before the Hub is queried for it."""
    if Path(name).is_file():
        raise ModelError("is a file, not a model", where=name, remedy="name the folder that holds config.json")
    if "://" in name:
        remedy = f"name a folder; a server only answers: twofold sample {name}"
        raise ModelError("is an address, but the weights are read here", where=name, remedy=remedy)
    if (name.startswith((".", "/", "~")) or name.count("/") > 1) and not Path(name).is_dir():
        raise ModelError("no such folder", where=name, remedy="check the path")


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter."""
    return (folder / "adapter_config.json").is_file()


def refuse_existing(out: Path) -> None:
    """Raise ModelError where `out`, to which a model is to be written, holds something."""
    disk.refuse_home(out)
    if (out.exists() or out.is_symlink()) and (not out.is_dir() or any(out.iterdir())):
        raise ModelError("already exists", where=str(out), remedy="name a folder that does not exist")
