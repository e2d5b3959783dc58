"""Shards at load: which stored forms of weights keep their rows."""

from __future__ import annotations

from typing import Any

import pytest
from transformers.core_model_loading import Concatenate, MergeModulelist, Transpose

from support import tiny
from twofold.models.parts import NotInPartsError, _refuse_other_rows


class Conversion:
    def __init__(self, *operations: Any) -> None:
        self.operations = operations


@pytest.mark.parametrize(
    "operations", [(MergeModulelist(0),), (Concatenate(1),), (MergeModulelist(0), Concatenate(2))], ids=str
)
def test_experts_in_a_stack_and_columns_side_by_side_keep_their_rows(operations: Any) -> None:
    model: Any = tiny.llama()
    model._weight_conversions = [Conversion(*operations)]
    _refuse_other_rows(model)
    model._weight_conversions.append(Conversion(Transpose(0, 1)))
    with pytest.raises(NotInPartsError, match="Transpose"):
        _refuse_other_rows(model)


@pytest.mark.parametrize(
    ("operation", "name"),
    [(MergeModulelist(1), "MergeModulelist"), (Concatenate(0), "Concatenate"), (Transpose(0, 1), "Transpose")],
)  # fmt: skip
def test_other_forms_are_refused(operation: Any, name: str) -> None:
    model: Any = tiny.llama()
    model._weight_conversions = [Conversion(MergeModulelist(0), operation)]
    with pytest.raises(NotInPartsError, match=rf"stored in another form \({name}\)"):
        _refuse_other_rows(model)
