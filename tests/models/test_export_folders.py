"""Folders of exports: made in full or not at all, in folders that need not exist, of classifiers too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers as tr
from safetensors.torch import load_file

from support import tiny
from twofold.models import export
from twofold.models.export import export_model, new_folder
from twofold.models.load import LoadedModel, ModelSettings


def test_folders_above_are_made_and_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    with new_folder(tmp_path / "deep" / "out") as partial:
        (partial / "file").write_text("x", encoding="utf-8")
        assert not (tmp_path / "deep" / "out").exists()
    assert sorted(p.name for p in (tmp_path / "deep" / "out").iterdir()) == ["file", "twofold-manifest.json"]
    with pytest.raises(KeyError), new_folder(tmp_path / "other"):
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == ["deep"]


def test_a_classifier_is_exported_with_its_score(tmp_path: Path) -> None:
    config = tr.LlamaConfig(**{**tiny.DECODER, "num_labels": 1, "eos_token_id": 2, "pad_token_id": 0})
    tr.LlamaForSequenceClassification(config).to(torch.bfloat16).save_pretrained(tmp_path / "model")
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "2"
    tokenizer.save_pretrained(tmp_path / "model")
    export_model(tmp_path / "model", tmp_path / "out")
    written, read = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "model"))
    assert written.keys() == read.keys()
    assert torch.equal(written["score.weight"], read["score.weight"].float())
    named = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert (named["architectures"], named["dtype"]) == (["LlamaForSequenceClassification"], "bfloat16")
    assert tr.AutoTokenizer.from_pretrained(tmp_path / "out").eos_token == "2"


def test_a_model_is_loaded_on_the_processor_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it was trained: a merge would be rounded in anything narrower."""
    asked: list[ModelSettings] = []

    def load(settings: ModelSettings) -> LoadedModel:
        asked.append(settings)
        return LoadedModel(tiny.llama(), tiny.tokenizer(), frozenset({2}))

    monkeypatch.setattr(export, "load_model", load)
    export_model(tmp_path / "absent", tmp_path / "out")
    assert asked == [ModelSettings(path=str(tmp_path / "absent"), device="cpu", precision="float32")]
