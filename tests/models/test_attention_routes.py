"""Which kernel computes the attention of a pack, and what the variable-length one is asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from support import tiny
from twofold.models import attention
from twofold.models.attention import UnsupportedAttention, branch_attention
from twofold.models.packing import pack
from twofold.models.planned import planned_gpu

NARROW, HALF, WIDE = torch.bfloat16, torch.float16, torch.float32


@pytest.mark.parametrize(
    ("gpu", "dtype", "how", "route"),
    [
        (True, NARROW, {}, "varlen"), (True, HALF, {}, "varlen"), (True, WIDE, {}, "bucketed"),
        (True, HALF, {"softcap": 2.0}, "bucketed"), (True, HALF, {"s_aux": torch.zeros(2)}, "bucketed"),
        (True, NARROW, {"softcap": 2.0}, "tiled"), (True, NARROW, {"s_aux": torch.zeros(2)}, "bucketed"),
        (False, NARROW, {}, "tiled"), (False, NARROW, {"softcap": 2.0}, "tiled"), (False, HALF, {}, "bucketed"),
        (False, WIDE, {}, "bucketed"), (False, NARROW, {"s_aux": torch.zeros(2)}, "bucketed"),
    ],
)  # fmt: skip
def test_the_route_is_by_device_dtype_and_scores(
    gpu: bool, dtype: torch.dtype, how: dict[str, Any], route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planned GPU has its tensors on the processor, so that a soft cap in bfloat16 takes the tiles there."""
    calls: list[str] = []
    for name in ("_varlen", "tiled_attention", "_bucketed"):
        monkeypatch.setattr(
            attention, name, lambda q, *rest, name=name: calls.append(name.strip("_").split("_")[0]) or q
        )
    layout = pack(tiny.groups((3, 2, 2))).layout
    q, k = (torch.zeros(1, n, 5, 4, dtype=dtype) for n in (2, 2))
    with planned_gpu(0 if gpu else None):
        out, _ = branch_attention(nn.Identity(), q, k, k, None, layout=layout, **how)
    assert (calls, out.shape) == ([route], (1, 5, 2, 4))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls of torch's variable-length attention."""
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    calls: list[Any] = []

    def varlen_attn(q: Any, k: Any, v: Any, *lengths: Any, **further: Any) -> Any:
        calls.append((q, k, v, lengths, further))
        return q

    monkeypatch.setattr(varlen, "varlen_attn", varlen_attn)
    return calls


def varlen(heads: int, known: set[str], window: int | None, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Over a prompt of 3 with branches of 2 and 3 tokens; keys and values have two heads."""
    layout = pack(tiny.groups((3, 2, 3))).layout
    q, k = (torch.arange(6.0)[:, None, None].expand(6, n, 4) for n in (heads, 2))
    monkeypatch.setattr(attention, "_varlen_parameters", lambda: frozenset(known))
    return attention._varlen(q, k, k + 100, layout, 0.25, window)


@pytest.mark.parametrize(("window", "size"), [(None, (-1, 0)), (1, (0, 0)), (7, (6, 0))])
def test_a_window_is_of_keys_before_the_query(
    window: int | None, size: tuple[int, int], asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert varlen(2, {"window_size", "enable_gqa"}, window, monkeypatch).shape == (6, 2, 4)
    ((q, k, v, lengths, further),) = asked
    assert q.is_contiguous()
    assert further == {"scale": 0.25, "window_size": size}
    assert k[:, 0, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 4, 5]
    assert v[:, 0, 0].tolist() == [100, 101, 102, 103, 100, 101, 102, 104, 105]
    assert [x.tolist() for x in lengths[:2]] == [[0, 4, 6], [0, 4, 9]]
    assert lengths[2:] == (4, 5)


def test_heads_that_share_keys_are_asked_for_or_repeated(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    varlen(6, {"window_size", "enable_gqa"}, None, monkeypatch)
    varlen(6, {"window_size"}, None, monkeypatch)
    assert [call[4] for call in asked] == [
        {"scale": 0.25, "window_size": (-1, 0), "enable_gqa": True}, {"scale": 0.25, "window_size": (-1, 0)},
    ]  # fmt: skip
    assert [(call[1].shape[1], call[2].shape[1]) for call in asked] == [(2, 2), (6, 6)]


def test_an_older_torch_is_causal_and_has_no_window(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    varlen(2, set(), None, monkeypatch)
    assert asked[0][4] == {"scale": 0.25, "is_causal": True}
    with pytest.raises(UnsupportedAttention) as error:
        varlen(2, set(), 3, monkeypatch)
    assert str(error.value) == "this torch has no sliding window in variable-length attention"


def test_plain_attention_by_hand() -> None:
    """One head of width 1, two tokens: scores 2 and 6 of the second query at scale 2, capped to 3·tanh(z/3), and a sink
    of score 1."""
    q, k, v = torch.tensor([1.0, 1.0]), torch.tensor([1.0, 3.0]), torch.tensor([10.0, 20.0])
    q, k, v = (x.view(1, 1, 2, 1) for x in (q, k, v))
    plain = attention._plain(q, k, v, None, attention.Scores(2.0, None, None))
    e2, e6 = torch.tensor(2.0).exp(), torch.tensor(6.0).exp()
    torch.testing.assert_close(plain.flatten(), torch.stack([torch.tensor(10.0), (10 * e2 + 20 * e6) / (e2 + e6)]))
    c2, c6 = (3 * torch.tanh(torch.tensor(z / 3)) for z in (2.0, 6.0))
    e2, e6, e1 = c2.exp(), c6.exp(), torch.tensor(1.0).exp()
    capped = attention._plain(q, k, v, None, attention.Scores(2.0, 3.0, None, torch.tensor([1.0])))
    want = [10 * e2 / (e2 + e1), (10 * e2 + 20 * e6) / (e2 + e6 + e1)]
    torch.testing.assert_close(capped.flatten(), torch.stack(want))
    narrow = attention._plain(*(x.bfloat16() for x in (q, k, v)), None, attention.Scores(2.0, None, None))
    assert narrow.dtype == torch.bfloat16
