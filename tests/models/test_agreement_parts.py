"""Parts of the comparison of two models: texts as groups, settings, and the bound itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from support import tiny
from twofold.errors import ModelError
from twofold.models import agreement
from twofold.models.agreement import BOUNDS, TEXTS, Before
from twofold.models.load import LoadedModel, ModelSettings

TWO = ((" 1 2", "3"), ("4", "5 6 7"))


class Plain:
    """A tokenizer of numbers, which adds a token at the front unless it is told not to."""

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [0] * add_special_tokens + [int(word) for word in text.split()]}


def test_texts_become_groups_but_for_empty_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "TEXTS", (*TWO, ("", "8"), ("9", "")))
    groups = agreement._groups(Plain())
    assert [(g.name, g.prompt.tolist(), [b.tokens.tolist() for b in g.branches]) for g in groups] == [
        ("text 1", [1, 2], [[3]]), ("text 2", [4], [[5, 6, 7]]),
    ]  # fmt: skip
    assert {x.dtype for g in groups for x in (g.prompt, g.branches[0].tokens)} == {torch.int64}


def test_models_are_compared_on_the_processor_in_float32() -> None:
    assert agreement._settings(Path("here"), "a.gguf") == ModelSettings(
        path="here", gguf_file="a.gguf", device="cpu", precision="float32"
    )
    assert agreement._settings(Path("here")).gguf_file is None


def test_without_texts_nothing_differs() -> None:
    assert agreement._logps(tiny.llama(), []).tolist() == [0.0]


@pytest.mark.parametrize(("by", "fine"), [(0.125, True), (0.25, False), (float("nan"), False)])
def test_the_bound_itself_is_within_it(by: float, fine: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six values that differ by 0.125 in the mean, with the bound 0.125; the largest differs by three times as much."""
    asked: list[Any] = []
    tokens = [torch.zeros(6), torch.tensor([3.0, 0, 1, 1, 1, 0]) * by]
    loaded = LoadedModel(tiny.llama(), tiny.tokenizer(), frozenset({2}))
    monkeypatch.setattr(agreement, "load_model", lambda settings: asked.append(settings) or loaded)
    monkeypatch.setattr(agreement, "load_weights", lambda *named: asked.append(named))
    monkeypatch.setattr(agreement, "_logps", lambda model, groups: tokens.pop(0))
    monkeypatch.setitem(BOUNDS, "float16", 0.125)
    before = Before(Path("a"))
    settings = ModelSettings(path="b", gguf_file="c.gguf", device="cpu", precision="float32")
    if fine:
        found = before.compare(Path("b"), "float16", "c.gguf")
        assert (found.tokens, found.mean, found.largest, found.bound) == (6, 0.125, 0.375, 0.125)
    else:
        with pytest.raises(ModelError) as error:
            before.compare(Path("b"), "float16", "c.gguf")
        remedy = "do not use what was written; --dtype float32 rounds least, --no-check writes it anyway"
        assert (error.value.where, error.value.remedy) == ("b", remedy)
    assert asked == [ModelSettings(path="a", device="cpu", precision="float32"), (settings, "b")]


def test_texts_and_bounds() -> None:
    assert len(TEXTS) == 5
    assert BOUNDS == {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.1, "q8_0": 0.2}
