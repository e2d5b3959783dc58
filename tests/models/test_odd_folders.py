"""Folders of models with a broken, odd or missing file: each is one message, and nothing is left out in silence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

import twofold.demo
from twofold.errors import ModelError, RecipeError
from twofold.models.adapters import base_and_adapter
from twofold.models.load import ModelSettings, load_model
from twofold.models.tokenizer_files import load_tokenizer
from twofold.sampling.base import Sampling
from twofold.sampling.logits_processor import LogitsProcessor

BASE = Path(twofold.demo.__file__).with_name("base")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    shutil.copytree(BASE, folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def change(file: Path, **values: Any) -> None:
    old = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps(old | values), encoding="utf-8")


def fault(folder: Path, load: Callable[[Path], object] | None = None) -> str:
    with pytest.raises(ModelError) as error:
        (load or (lambda path: load_model(ModelSettings(path=str(path)))))(folder)
    assert error.value.where == str(folder)
    return error.value.what


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", ["{not json", "[]", ""])
def test_a_file_of_settings_that_is_no_object_is_named(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")
    assert fault(folder) == f"{name} is no JSON object"


def test_a_config_that_does_not_fit_the_weights_is_refused_by_weight(folder: Path) -> None:
    layers = json.loads((folder / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]
    rows = json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    change(folder / "config.json", num_hidden_layers=layers - 1)
    assert fault(folder).startswith(f"holds more layers than config.json names: model.layers.{layers - 1}.")
    change(folder / "config.json", num_hidden_layers=layers + 1)
    assert "lacks weights" in fault(folder)
    change(folder / "config.json", num_hidden_layers=layers)
    change(folder / "config.json", vocab_size=rows + 7)
    assert f"and config.json makes it [{rows + 7}, " in fault(folder)


def test_a_type_that_torch_does_not_have_is_one_message(folder: Path) -> None:
    change(folder / "config.json", dtype="float8")
    assert "float8" in fault(folder)


def test_a_stop_token_is_a_number(folder: Path) -> None:
    change(folder / "generation_config.json", eos_token_id="</s>")
    assert fault(folder) == "eos_token_id of generation_config.json is '</s>', not a token's number"


def test_a_folder_without_a_tokenizer_has_none(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert fault(folder, lambda path: load_tokenizer(str(path))) == "holds no tokenizer that can be read"


def test_an_adapter_without_weights_or_without_its_base_is_refused_without_the_hub(
    folder: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(folder / "adapter_config.json", base_model_name_or_path=str(whole), peft_type="LORA")
    assert fault(folder) == "has an adapter's config without its weights"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    change(folder / "adapter_config.json", base_model_name_or_path="nobody/of-this-name")
    with pytest.raises(ModelError, match="no folder of this name is here") as error:
        base_and_adapter(str(folder))
    assert error.value.where == "nobody/of-this-name"


@pytest.mark.parametrize("value", [[1], "warm", -0.5])
def test_a_generation_config_has_numbers(value: Any) -> None:
    class Model(torch.nn.Module):
        generation_config = GenerationConfig()

    Model.generation_config.temperature = value
    with pytest.raises(RecipeError, match="the model's generation_config has temperature"):
        LogitsProcessor.of(Sampling(use_generation_config=True), Model())  # type: ignore[arg-type]  # all that it reads
