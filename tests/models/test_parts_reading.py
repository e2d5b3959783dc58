"""Models that are loaded in parts: what is patched inside the context, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.core_model_loading import MergeModulelist, Transpose, WeightConverter

from support import tiny
from twofold.models.parts import NotInPartsError, _refuse_other_rows, in_parts, reading_parts


@pytest.mark.usefixtures("group_of_one")
def test_a_model_is_in_parts_inside_the_context_only(tmp_path: Path) -> None:
    model = tiny.llama()
    model.save_pretrained(tmp_path)
    load, convert = PreTrainedModel._load_pretrained_model, WeightConverter.convert
    with reading_parts("shard", "cpu"):
        parts: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
        assert WeightConverter.convert is not convert
    assert (PreTrainedModel._load_pretrained_model, WeightConverter.convert) == (load, convert)
    assert in_parts(parts)
    values = dict(model.named_parameters())
    assert all(torch.equal(p.to_local(), values[name]) for name, p in parts.named_parameters())
    whole = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not in_parts(whole)
    with pytest.raises(KeyError), reading_parts("shard", "cpu"):
        raise KeyError
    assert (PreTrainedModel._load_pretrained_model, WeightConverter.convert) == (load, convert)


@pytest.mark.usefixtures("group_of_one")
def test_a_conversion_of_a_part_gets_what_transformers_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some conversions look up the model's own settings."""
    model: Any = tiny.llama()
    conversion, name = object(), "model.norm.weight"
    calls: list[Any] = []
    monkeypatch.setattr(WeightConverter, "convert", lambda *words, **named: calls.append((words, named)) or {"x": 1})
    with reading_parts("shard", "cpu"):
        patched: Any = WeightConverter.convert
        assert patched(conversion, name, model=model, config=model.config) == {"x": 1}
    assert calls == [((conversion, name), {"model": model, "config": model.config})]


def test_a_refusal_names_the_way_out_and_no_place() -> None:
    class Conversion:
        operations = (MergeModulelist(0), Transpose(0, 1))

    model: Any = tiny.llama()
    _refuse_other_rows(model)
    model._weight_conversions = [Conversion()]
    with pytest.raises(NotInPartsError) as error:
        _refuse_other_rows(model)
    assert str(error.value) == "its weights are stored in another form (Transpose)\n  → set world.kind=replicate"
