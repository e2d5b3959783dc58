"""GGUF files are read through transformers, by name or where they are the only model of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tr

from support import tiny
from support.gguf_files import WORDS, llama, write
from twofold.errors import ModelError
from twofold.models.export import export_model
from twofold.models.load import ModelSettings, load_model, load_policy, save_policy
from twofold.models.locate import gguf_of, model_path
from twofold.models.model_size import model_size
from twofold.models.policy import Policy

pytest.importorskip("gguf", reason="the package gguf is not installed: pip install 'twofold[gguf]'")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    write(tmp_path / "base" / "tiny.gguf", llama())
    return tmp_path / "base"


def logps(model: Any) -> torch.Tensor:
    groups = tiny.groups((5, 4, 6), (12, 7, 9), vocabulary=len(WORDS))
    return torch.cat([x for row in Policy(model).logps(groups) for x in row])


@pytest.mark.parametrize("named", [None, "tiny.gguf"])
def test_it_is_the_model_that_was_written(folder: Path, named: str | None) -> None:
    loaded = load_model(ModelSettings(path=str(folder), gguf_file=named, precision="float32"))
    torch.testing.assert_close(logps(loaded.model), logps(llama()), rtol=1e-5, atol=1e-5)
    assert loaded.tokenizer.convert_tokens_to_ids(["a", "</s>"]) == [3, 2]
    assert loaded.stop_tokens == {2}
    assert model_path(str(folder)) == str(folder)
    assert model_size(ModelSettings(path=str(folder))).parameters == sum(p.numel() for p in llama().parameters())


def test_what_is_trained_of_it_is_a_plain_folder(folder: Path, tmp_path: Path) -> None:
    policy, loaded = load_policy(ModelSettings(path=str(folder), precision="float32"))
    save_policy(policy, loaded.tokenizer, tmp_path / "model")
    export_model(folder, tmp_path / "out")
    for made in (tmp_path / "model", tmp_path / "out"):
        again: Any = tr.AutoModelForCausalLM.from_pretrained(made, dtype="auto")
        assert again.dtype == torch.float32
        torch.testing.assert_close(logps(again), logps(llama()), rtol=1e-5, atol=1e-5)


def test_which_file_is_asked_where_there_are_several(folder: Path) -> None:
    write(folder / "other.gguf", llama())
    with pytest.raises(ModelError, match=r"several GGUF files: other\.gguf, tiny\.gguf") as caught:
        load_model(ModelSettings(path=str(folder)))
    assert "model.gguf_file" in caught.value.remedy
    assert gguf_of(str(folder), "tiny.gguf") == "tiny.gguf"
    with pytest.raises(ModelError, match="has no file third"):
        load_model(ModelSettings(path=str(folder), gguf_file="third.gguf"))


def test_a_damaged_file_is_one_message(folder: Path) -> None:
    (folder / "tiny.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(ModelError):
        load_model(ModelSettings(path=str(folder)))
