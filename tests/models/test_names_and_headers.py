"""Names of value models, damaged headers, and objects that cannot be read, each by value."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file

from support import tiny
from twofold.errors import ModelError
from twofold.models import reference, stored, tokenizer_files
from twofold.models.integrity import check_folder, header
from twofold.models.locate import refuse_existing, value_model_path
from twofold.models.reference import COLUMN, ReferenceSettings, _load, _save, _sum
from twofold.models.tokenizer_files import load_stop_tokens, load_tokenizer


def test_the_value_model_of_a_run_or_the_folder_itself(tmp_path: Path) -> None:
    run = tmp_path / "run"
    inner = run / "value-model"
    inner.mkdir(parents=True)
    assert [value_model_path(str(path)) for path in (run, inner, tmp_path)] == [None, None, None]
    (inner / "config.json").write_text("{}", encoding="utf-8")
    assert [value_model_path(str(path)) for path in (run, inner)] == [str(inner), str(inner)]
    assert value_model_path("org/m") is None


@pytest.mark.parametrize(
    "text",
    [b'{"w":{}}', b'{"w":{"data_offsets":[]}}', b'{"w":{"data_offsets":[0]}}', b'{"w":[]}', b"[1]", b"\xff\xff",
     b'{"w":{"data_offsets":[0,"1"]}}', b'{"w":null}'],
)  # fmt: skip
def test_headers_that_lack_something_are_none(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(len(text).to_bytes(8, "little") + text)
    assert header(tmp_path / "w") is None


@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "tokenizer_config.json", "adapter_config.json"]
)
@pytest.mark.parametrize("text", ["{", "[" * 100_000, "3"])
def test_a_file_of_settings_that_is_no_object_is_one_message(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ModelError) as refused:
        check_folder(str(tmp_path))
    assert str(refused.value) == f"{tmp_path}: {name} is no JSON object\n  → download or write it again"


def test_nothing_is_written_over(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    refuse_existing(tmp_path / "empty")
    (tmp_path / "empty" / "file").touch()
    with pytest.raises(ModelError, match="already exists"):
        refuse_existing(tmp_path / "empty")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"fit_epochs": 2.0}, "fit_epochs and fit_learning_rate go with fit: chosen"),
        ({"fit_learning_rate": 1e-4}, "fit_epochs and fit_learning_rate go with fit: chosen"),
        ({"sync_every": 511}, "alpha and sync_every are settings of kind: moving"),
        ({"alpha": 0.61}, "alpha and sync_every are settings of kind: moving"),
        ({"kind": "moving", "fit_epochs": -1.0, "fit": "chosen"}, "fit_epochs and fit_learning_rate must be > 0"),
    ],
)
def test_settings_of_other_kinds_of_references_are_refused(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refused:
        ReferenceSettings(**how)
    assert str(refused.value) == message
    fitted = ReferenceSettings(fit="chosen", fit_epochs=0.5, fit_learning_rate=3e-5)
    assert (fitted.fit_epochs, fitted.fit_learning_rate) == (0.5, 3e-5)


def test_a_cached_file_of_other_contents_is_none(tmp_path: Path) -> None:
    """Without the column or the sum, with other metadata, or of a type that safetensors does not know."""
    path, flat = tmp_path / "key.safetensors", torch.tensor([1.0, 2.0])
    _save(flat, path)
    loaded = _load(path, 2)
    assert loaded is not None
    assert loaded.tolist() == [1.0, 2.0]
    assert (_load(path, 3), _load(tmp_path / "absent.safetensors", 2)) == (None, None)
    known = {"sha256": _sum("key", flat)}
    save_file({"other": flat}, path, known)
    assert _load(path, 2) is None
    save_file({COLUMN: flat}, path, {"other": "x"})
    assert _load(path, 2) is None
    save_file({COLUMN: flat}, path)
    assert _load(path, 2) is None
    text = save({COLUMN: flat}, known).replace(b'"F32"', b'"F99"')
    path.write_bytes(text)
    assert _load(path, 2) is None
    own = {"ref_logp": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": None}
    words = json.dumps(own).encode()
    path.write_bytes(len(words).to_bytes(8, "little") + words + flat.numpy().tobytes())
    assert _load(path, 2) is None
    assert reference.SUM == "sha256"


def test_the_dtype_of_several_files_is_that_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "config_at", lambda *named: SimpleNamespace(dtype=None))
    save_file({"w": torch.ones(1, dtype=torch.bfloat16)}, tmp_path / "model-2.safetensors")
    save_file({"w": torch.ones(1, dtype=torch.float16)}, tmp_path / "model-1.safetensors")
    assert stored.dtype_on_disk(str(tmp_path), None) == torch.float16
    save_file({"w": torch.ones(1, dtype=torch.int8)}, tmp_path / "model-0.safetensors")
    assert stored.dtype_on_disk(str(tmp_path), None) == torch.float32


@pytest.mark.parametrize(
    "error", [OSError("x"), ValueError("x"), KeyError("x"), AttributeError("x"), ImportError("x")], ids=repr
)
def test_a_tokenizer_is_read_where_its_config_cannot_be(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*named: Any) -> Any:
        raise error

    marks: list[Any] = []
    tokenizer = tiny.tokenizer()
    monkeypatch.setattr(tokenizer_files, "config_at", fails)
    monkeypatch.setattr(tokenizer_files, "plain_config", lambda *named: None)
    monkeypatch.setattr(tokenizer_files.AutoTokenizer, "from_pretrained", lambda path, **how: tokenizer)
    monkeypatch.setattr(tokenizer_files, "mark_by_adapter", lambda *given: marks.append(given))
    assert load_tokenizer(str(tmp_path)) is tokenizer
    assert marks == [(tokenizer, tmp_path)]


@pytest.mark.parametrize("error", [OSError("x"), ValueError("x")], ids=repr)
def test_stop_tokens_are_the_tokenizers_without_a_generation_config(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: str, **how: Any) -> Any:
        raise error

    monkeypatch.setattr(tokenizer_files.GenerationConfig, "from_pretrained", fails)
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "4"
    assert load_stop_tokens("org/m", tokenizer) == {4}


@pytest.mark.parametrize(("text", "words"), [
    ("Couldn't instantiate the backend tokenizer", "holds no tokenizer that can be read"),
    ("something else", "something else"),
])  # fmt: skip
def test_why_a_tokenizer_cannot_be_read(text: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(path: str, **how: Any) -> Any:
        raise ValueError(text)

    monkeypatch.setattr(tokenizer_files.AutoTokenizer, "from_pretrained", fails)
    monkeypatch.setattr(tokenizer_files, "plain_config", lambda *named: None)
    with pytest.raises(ModelError) as refused:
        load_tokenizer(str(tmp_path))
    assert str(refused.value) == (
        f"{tmp_path}: {words}\n  → the folder must hold config.json, *.safetensors and the tokenizer's files"
    )


def test_a_stop_token_that_is_no_number_in_words() -> None:
    config: Any = SimpleNamespace(eos_token_id=[3, "x", True])
    with pytest.raises(ModelError) as refused:
        tokenizer_files.stop_tokens(config, tiny.tokenizer(), "here")
    assert str(refused.value) == (
        "here: eos_token_id of generation_config.json is 'x', not a token's number\n"
        "  → write the number of the token, or a list of numbers"
    )
    config.eos_token_id = [3, None]
    assert tokenizer_files.stop_tokens(config, tiny.tokenizer(), "here") == {3}
