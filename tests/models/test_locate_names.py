"""Names of models: which GGUF file is meant, and what is no name of weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from twofold.errors import ModelError
from twofold.models.locate import gguf_of, refuse_missing


def test_the_only_gguf_file_is_meant_where_there_is_no_other_model(tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert (gguf_of("org/m"), gguf_of("org/m", "a.gguf"), gguf_of(folder)) == (None, "a.gguf", None)
    (tmp_path / "b.gguf").touch()
    assert gguf_of(folder) == "b.gguf"
    (tmp_path / "config.json").touch()
    assert (gguf_of(folder), gguf_of(folder, "b.gguf")) == (None, "b.gguf")
    with pytest.raises(ModelError) as error:
        gguf_of(folder, "c.gguf")
    assert str(error.value) == f"{folder}: has no file c.gguf\n  → correct model.gguf_file"


def test_of_several_gguf_files_four_are_named(tmp_path: Path) -> None:
    for name in "edcba":
        (tmp_path / f"{name}.gguf").touch()
    with pytest.raises(ModelError) as error:
        gguf_of(str(tmp_path))
    assert str(error.value) == (
        f"{tmp_path}: holds several GGUF files: a.gguf, b.gguf, c.gguf, d.gguf\n  → name one in model.gguf_file"
    )
    (tmp_path / "a.gguf").unlink()
    with pytest.raises(ModelError, match=r"GGUF files: b\.gguf, c\.gguf, d\.gguf, e\.gguf\n"):
        gguf_of(str(tmp_path))


def test_an_address_is_no_name_of_weights() -> None:
    with pytest.raises(ModelError) as error:
        refuse_missing("http://localhost:8000/v1")
    assert str(error.value) == (
        "http://localhost:8000/v1: is an address, but the weights are read here\n"
        "  → name a folder; a server only answers: twofold sample http://localhost:8000/v1"
    )
