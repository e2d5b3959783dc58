"""A model's folder is read when its weights are safetensors and twofold's own files are what was written."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from support import tiny
from twofold.demo.build import character_tokenizer
from twofold.errors import ModelError
from twofold.manifest import MANIFEST
from twofold.models.export import export_model
from twofold.models.load import ModelSettings, load_model, load_policy, save_policy
from twofold.models.policy import Policy
from twofold.models.tokenizer_files import load_tokenizer


def folder_of(path: Path, *, adapter: bool = False) -> Path:
    tokenizer = character_tokenizer()
    model = tiny.llama(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    model.config._name_or_path = str(path.parent / "base")
    if adapter:
        folder_of(path.parent / "base")
        peft = tiny.lora(model)
        peft.peft_config["default"].base_model_name_or_path = str(path.parent / "base")
        save_policy(Policy(model, adapter=peft), tokenizer, path)
    else:
        save_policy(Policy(model), tokenizer, path)
    return path


def loaded(path: Path) -> torch.Tensor:
    model = load_model(ModelSettings(path=str(path), precision="float32", device="cpu")).model
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("adapter", [False, True])
def test_a_changed_file_of_a_saved_model_is_refused_by_name(tmp_path: Path, adapter: bool) -> None:
    folder = folder_of(tmp_path / "model", adapter=adapter)
    whole = loaded(folder)
    listed = json.loads((folder / MANIFEST).read_text())["files"]
    assert set(listed) == {p.name for p in folder.iterdir()} - {MANIFEST}
    for name in listed:
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(before[:-2] + bytes([before[-2] ^ 1]) + before[-1:])
        with pytest.raises(ModelError, match=f"{name} does not match its sha256") as error:
            loaded(folder)
        assert error.value.where == str(folder)
        assert MANIFEST in error.value.remedy
        (folder / name).write_bytes(before)
    (folder / "notes.txt").write_text("mine")
    assert torch.equal(loaded(folder), whole)
    (folder / MANIFEST).unlink()
    (folder / "generation_config.json").write_text('{"eos_token_id": 1}')
    assert torch.equal(loaded(folder), whole)


def test_a_tokenizer_is_read_without_reading_the_weights(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"")
    load_tokenizer(str(folder))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json has 2 bytes"):
        load_tokenizer(str(folder))


def test_an_export_has_its_manifest_and_the_rights_that_are_usual(tmp_path: Path) -> None:
    export_model(folder_of(tmp_path / "model"), tmp_path / "out")
    listed = json.loads((tmp_path / "out" / MANIFEST).read_text())["files"]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(listed)
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "model").iterdir()} == {0o600}
    assert (tmp_path / "out" / "config.json").stat().st_mode & 0o044
    (tmp_path / "out" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"config\.json has 2 bytes"):
        loaded(tmp_path / "out")


def test_weights_that_are_missing_are_not_drawn(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model")
    (folder / MANIFEST).unlink()
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.other.weight"] = weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks weights that a LlamaForCausalLM has: model\.layers\.1\.mlp\.up_proj"):
        loaded(folder)


class Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path(HARMED),))  # type: ignore[return-value]


HARMED = "harmed-by-a-pickle"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_a_pickled_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    folder = folder_of(tmp_path / "model")
    (folder / MANIFEST).unlink()
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Harm()))
    with pytest.raises(ModelError, match="as a pickle"):
        loaded(folder)
    assert not Path(HARMED).exists()


def test_a_pickled_adapter_is_refused_as_model_and_as_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = folder_of(tmp_path / "adapter", adapter=True)
    (folder / MANIFEST).unlink()
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(ModelError, match=r"as a pickle \(adapter_model\.bin\)"):
        loaded(folder)
    with pytest.raises(ModelError, match=r"as a pickle \(adapter_model\.bin\)"):
        load_policy(ModelSettings(path=str(tmp_path / "base"), adapter=str(folder), device="cpu"))
    assert not Path(HARMED).exists()
    with pytest.raises(ModelError, match="is no folder of a PEFT adapter"):
        load_policy(ModelSettings(path=str(tmp_path / "base"), adapter="someone/adapter", device="cpu"))


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps({"w": 1}),
        (1 << 40).to_bytes(8, "little") + b"{}",
        (20).to_bytes(8, "little") + b"\xff\x00garbage, 20 bytes!!"[:20],
        (2).to_bytes(8, "little") + b"[]",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        b"",
        b"\x02",
    ],
    ids=["pickle", "terabyte", "garbage", "list", "lfs", "empty", "short"],
)
@pytest.mark.parametrize("adapter", [False, True])
def test_weights_that_are_none_are_one_message(tmp_path: Path, data: bytes, adapter: bool) -> None:
    folder = folder_of(tmp_path / "model", adapter=adapter)
    (folder / MANIFEST).unlink()
    name = "adapter_model.safetensors" if adapter else "model.safetensors"
    (folder / name).write_bytes(data)
    with pytest.raises(ModelError) as error:
        loaded(folder)
    assert error.value.what == f"{name} is no safetensors file, or damaged"
    assert error.value.where == str(folder)
