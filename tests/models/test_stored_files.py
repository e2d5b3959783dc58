"""Files of weights: moved to disk one by one, and the dtype of a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support import tiny
from twofold.models import stored
from twofold.models.stored import _dtype_of_gguf, casts, dtype_on_disk, on_disk, save_weights


def test_tensors_are_moved_into_files_that_go_with_the_context(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "parts"
    folder.mkdir(parents=True)
    (folder / "left").write_text("by a killed one", encoding="utf-8")
    first, second = torch.arange(6.0).view(2, 3).T.requires_grad_(), torch.ones(2)
    with on_disk(folder) as put:
        moved = put(first), put(second)
        assert sorted(p.name for p in folder.iterdir()) == ["0.safetensors", "1.safetensors"]
        assert load_file(folder / "0.safetensors").keys() == {"tensor"}
        assert torch.equal(moved[0], first)
        assert torch.equal(moved[1], second)
        assert not moved[0].requires_grad
    assert not folder.exists()
    with pytest.raises(KeyError), on_disk(folder):
        raise KeyError
    assert not folder.exists()


@pytest.mark.parametrize(
    ("kinds", "want"),
    [
        ([("F32", 3), ("Q4_K", 9)], torch.bfloat16), ([("F32", 9), ("Q4_K", 3)], torch.float32),
        ([("F16", 9), ("F32", 8)], torch.float16), ([("BF16", 1)], torch.bfloat16),
    ],
)  # fmt: skip
def test_the_dtype_of_a_gguf_file_is_that_of_its_largest_tensor(
    kinds: list[tuple[str, int]], want: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed: pip install 'twofold[gguf]'")
    tensors = [SimpleNamespace(tensor_type=SimpleNamespace(name=name), n_elements=size) for name, size in kinds]
    monkeypatch.setattr(gguf, "GGUFReader", lambda file: SimpleNamespace(tensors=tensors))
    assert _dtype_of_gguf(tmp_path / "a.gguf") == torch.bfloat16
    (tmp_path / "a.gguf").touch()
    assert _dtype_of_gguf(tmp_path / "a.gguf") == want
    assert dtype_on_disk(str(tmp_path), None) == dtype_on_disk(str(tmp_path), None, "a.gguf") == want


def test_the_dtype_is_asked_for_by_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(stored, "config_at", lambda *named: asked.append(named) or SimpleNamespace(dtype=torch.float16))
    assert dtype_on_disk("org/m", "r1") == torch.float16
    monkeypatch.setattr(stored, "config_at", lambda *named: SimpleNamespace(dtype=None))
    assert dtype_on_disk("org/m", "r1") == torch.float32
    assert asked == [("org/m", "r1")]


def test_files_of_weights_have_5_gb_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the config names the dtype of what is written."""
    model, calls = tiny.llama(), list[Any]()
    whole = type(model).save_pretrained

    def save(self: Any, folder: Any, **how: Any) -> None:
        calls.append((folder, how["max_shard_size"]))
        whole(self, folder, **how)

    monkeypatch.setattr(type(model), "save_pretrained", save)
    save_weights(model, tmp_path, torch.bfloat16)
    assert calls == [(tmp_path, "5GB")]
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["dtype"] == "bfloat16"


def test_other_weights_are_written_in_place_of_the_models_own(tmp_path: Path) -> None:
    model = tiny.llama()
    weights = {name: value + 1 for name, value in model.state_dict().items()}
    save_weights(model, tmp_path, torch.float32, weights)
    written = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in written.items())
    put = casts(model, torch.float16)
    assert (put("a.score.weight", torch.ones(1)).dtype, put("a.scores", torch.ones(1)).dtype) == (
        torch.float32, torch.float16,
    )  # fmt: skip
    assert put("count", torch.ones(1, dtype=torch.int64)).dtype == torch.int64
