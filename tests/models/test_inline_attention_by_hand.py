"""Attention in models' own code, by hand: what branch attention gets in its place, and what stays as it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from support import tiny
from support.placed import Placed
from twofold.models import inline_attention as inline
from twofold.models.attention import LayoutMask, UnsupportedAttention
from twofold.models.packing import pack

LAYOUT = pack(tiny.groups((2, 2, 2))).layout
"""Four tokens at the positions 0, 1, 2 and 2."""
MASK = LayoutMask.of(LAYOUT)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls of branch attention, which returns the values, tokens first."""
    made: list[Any] = []

    def branch_attention(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **how: Any) -> Any:
        made.append((module, query, key, value, mask, how))
        return value.transpose(1, 2), None

    monkeypatch.setattr(inline, "branch_attention", branch_attention)
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_a_bias_is_the_sum_of_three_columns(dtype: torch.dtype, calls: list[Any]) -> None:
    """The first two are exact in bfloat16; queries have ones there, values nothing, and the scale is theirs."""
    query, key, value = (torch.full((1, 2, 4, 3), x, dtype=dtype) for x in (2.0, 3.0, 4.0))
    bias_HT = torch.tensor([[0.0, -1 / 3, -2 / 3, -100 / 3], [0.1, 0.2, 0.3, 1000.1]], dtype=torch.float64)
    module = object()
    out = inline._with_alibi(module, (query, key, value), MASK, bias_HT, 0.25)
    ((of, q, k, v, mask, how),) = calls
    assert (of, mask, how) == (module, MASK, {"scaling": 1.0})
    assert q.shape == k.shape == v.shape == (1, 2, 4, 3 + 8)
    assert torch.equal(q[..., :3], torch.full((1, 2, 4, 3), 0.5, dtype=dtype))
    assert torch.equal(q[..., 3:], torch.ones(1, 2, 4, 8, dtype=dtype))
    assert torch.equal(k[..., :3], key)
    columns = k[0, :, :, 3:]
    assert torch.equal(columns.sum(-1), bias_HT.to(dtype))
    assert columns[..., 3:].abs().max() == 0
    for place in (0, 1):
        assert torch.equal(columns[..., place], columns[..., place].bfloat16().to(dtype))
    wide = dtype != torch.bfloat16
    assert (columns[..., 1].abs().max() > 0, columns[..., 2].abs().max() > 0) == (wide, wide)
    assert torch.equal(v[..., :3], value)
    assert v[..., 3:].abs().max() == 0
    assert torch.equal(out, torch.full((1, 4, 6), 4.0, dtype=dtype))


def test_keys_that_heads_share_get_a_bias_for_each(calls: list[Any]) -> None:
    query, key = torch.ones(1, 2, 4, 3), torch.ones(1, 1, 4, 3)
    out = inline._with_alibi(None, (query, key, key), MASK, torch.tensor([[1.0] * 4, [2.0] * 4]), 1.0)
    assert calls[0][2][0, :, 0, 3:].sum(-1).tolist() == [1.0, 2.0]
    assert out.shape == (1, 4, 6)


@pytest.mark.parametrize(
    ("fields", "how"),
    [
        ({}, {"scaling": 1.0}), ({"scale_attn": torch.tensor(4.0)}, {"scaling": 0.25}),
        ({"attention_type": "global"}, {"scaling": 1.0}),
        ({"attention_type": "local", "config": SimpleNamespace(window_size=7)}, {"scaling": 1.0, "sliding_window": 7}),
    ],
)  # fmt: skip
def test_scores_of_gpt_j_and_its_kin(fields: dict[str, Any], how: dict[str, Any], calls: list[Any]) -> None:
    """Queries and keys are converted to the dtype of values."""
    attend = inline._scores_alone(lambda self, query, key, value, mask: ("own", mask))
    module = SimpleNamespace(**fields)
    query, value = torch.ones(1, 2, 4, 3), torch.ones(1, 2, 4, 3, dtype=torch.bfloat16)
    assert attend(module, query, query, value) == ("own", None)
    assert attend(module, query, query, value, "mask") == ("own", "mask")
    out, weights = attend(module, query, query, value, MASK)
    ((of, q, k, v, mask, given),) = calls
    assert (of, q.dtype, k.dtype, v is value, mask, given) == (module, torch.bfloat16, torch.bfloat16, True, MASK, how)
    assert (out.shape, weights) == ((1, 2, 4, 3), None)


def test_blooms_bias_is_that_of_one_row_at_the_positions_of_the_pack() -> None:
    rows: list[Tensor] = []

    def build(self: Any, row: Any, heads: int, dtype: torch.dtype) -> Any:
        if isinstance(row, str):
            return ("own", row, heads, dtype)
        rows.append(row)
        return torch.arange(3.0).expand(heads, 1, -1).to(dtype)

    wrapped = inline._bloom_alibi(build)
    assert wrapped(None, "mask", 2, torch.float32) == ("own", "mask", 2, torch.float32)
    with torch.device("meta"):
        found = wrapped(None, MASK, 2, torch.float64)
    assert [(row.tolist(), row.dtype, row.device.type) for row in rows] == [([[1, 1, 1]], torch.int64, "cpu")]
    assert (found.shape, found.dtype) == ((2, 1, 4), torch.float64)


@pytest.mark.parametrize(("slices", "exact", "refused"), [(1, True, False), (2, False, False), (2, True, True)])
def test_blooms_products_in_slices_are_refused(slices: int, exact: bool, refused: bool, calls: list[Any]) -> None:
    heads = tuple(torch.full((1, 2, 4, 3), x) for x in (1.0, 2.0, 3.0))
    module = SimpleNamespace(
        pretraining_tp=slices, slow_but_exact=exact, query_key_value=lambda hidden: hidden, 
        _reshape=lambda mixed: heads, inv_norm_factor=0.5, dense=lambda out: out * 10,
    )  # fmt: skip
    forward = inline._bloom(lambda self, hidden, residual, **how: ("own", how))
    hidden, residual, alibi = torch.ones(1, 4, 6), torch.ones(1, 4, 6), torch.zeros(2, 1, 4)
    assert forward(module, hidden, residual, attention_mask=None) == ("own", {"attention_mask": None})
    if refused:
        with pytest.raises(UnsupportedAttention, match=r"^its products are summed in slices$"):
            forward(module, hidden, residual, attention_mask=MASK, alibi=alibi)
        return
    out, cache = forward(module, hidden, residual, attention_mask=MASK, alibi=alibi)
    assert (out.unique().tolist(), cache) == ([31.0], None)
    assert calls[0][1][..., :3].unique().tolist() == [0.5]


def build_alibi_tensor(row: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
    """As Falcon's module has it: the wrapper looks it up where the class of the layer is."""
    ROWS.append(row)
    return torch.arange(row.shape[1]).expand(heads, 1, -1).to(dtype)


ROWS: list[Tensor] = []


class Falcon:
    """As much of a layer of Falcon as is read, with ALiBi."""

    config = SimpleNamespace(alibi=True)
    num_heads, inv_norm_factor = 2, 0.5

    def query_key_value(self, hidden: Tensor) -> Tensor:
        return hidden

    def _split_heads(self, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return torch.full((1, 4, 2, 3), 1.0), torch.full((1, 4, 2, 3), 2.0), torch.full((1, 4, 2, 3), 3.0)

    def dense(self, out: Tensor) -> Tensor:
        return out


def test_falcons_bias_is_scaled_as_its_scores(calls: list[Any]) -> None:
    forward = inline._falcon(lambda self, hidden, **how: "own")
    assert forward(Falcon(), torch.ones(1, 4, 6), attention_mask=None) == "own"
    hidden = torch.ones(1, 4, 6)
    with Placed() as made:
        out, cache = forward(Falcon(), hidden, attention_mask=MASK)
    assert ("ones", ("device", "dtype")) in made.calls
    assert (out.unique().tolist(), cache) == ([3.0], None)
    assert [(row.tolist(), row.dtype) for row in ROWS] == [([[1, 1, 1]], torch.int64)]
    assert calls[0][2][0, :, :, 3:].sum(-1).tolist() == [[0.0, 0.5, 1.0, 1.0]] * 2
    assert calls[0][1][..., :3].unique().tolist() == [0.5]


@pytest.mark.parametrize("alibi", [False, True])
def test_falcon_adds_no_alibi_to_the_mask_of_a_pack(alibi: bool) -> None:
    seen: list[bool] = []
    model = SimpleNamespace(use_alibi=alibi)

    def own(self: Any, *given: Any, **how: Any) -> str:
        seen.append(self.use_alibi)
        if how.get("fails"):
            raise KeyError
        return "out"

    forward = inline._falcon_model(own)
    assert forward(model, attention_mask=MASK) == forward(model) == forward(model, attention_mask="mask") == "out"
    assert seen == [False, alibi, alibi]
    with pytest.raises(KeyError):
        forward(model, attention_mask=MASK, fails=True)
    assert model.use_alibi is alibi
