"""Attention in bfloat16 on a processor against float64, values and gradients, however it is cut into tiles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from support import tiny
from twofold.models import tiled_attention
from twofold.models.attention import branch_attention
from twofold.models.packing import Layout, pack

SHAPES = ((5, 4, 6), (30, 9, 2, 41), (1, 1), (9, 70, 3), (2, 40, 38))
HOW = {
    "plain": {},
    "window": {"sliding_window": 7},
    "softcap": {"softcap": 2.0},
    "both": {"sliding_window": 7, "softcap": 2.0},
    "scaled": {"scaling": 0.3},
}


def layout() -> Layout:
    return pack(tiny.groups(*SHAPES)).layout


def operands(heads: int = 6, kv_heads: int = 2) -> list[Tensor]:
    """Queries, keys, values as the model hands them, and a gradient of the output; all exact in bfloat16."""
    noise, length = torch.Generator().manual_seed(0), sum(map(sum, SHAPES)) - sum(len(s) - 1 for s in SHAPES)
    shapes = [(1, n, length, 16) for n in (heads, kv_heads, kv_heads)] + [(1, length, heads, 16)]
    return [torch.randn(*shape, generator=noise).bfloat16() for shape in shapes]


def both_passes(dtypes: tuple[torch.dtype, ...], how: dict[str, float]) -> list[Tensor]:
    """The output and the gradients by queries, keys and values given in these dtypes."""
    *leaves, grad = operands()
    leaves = [x.to(dtype).requires_grad_() for x, dtype in zip(leaves, dtypes, strict=True)]
    out, _ = branch_attention(torch.nn.Identity(), *leaves, None, layout=layout(), **how)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad.to(out.dtype))]


@pytest.mark.parametrize("most", [None, 900, 1], ids=["whole", "tiles of segments", "tiles of queries"])
@pytest.mark.parametrize("how", HOW)
def test_values_and_gradients_are_float64s_but_for_rounding(
    how: str, most: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One rounding of each operand and of each result: 2⁻⁹ of it, in the mean."""
    exact = both_passes((torch.float64,) * 3, HOW[how])
    if most is not None:
        monkeypatch.setattr(tiled_attention, "_SCORES", most)
        monkeypatch.setattr(tiled_attention, "_STRETCH", 16)
    for found, want in zip(both_passes((torch.bfloat16,) * 3, HOW[how]), exact, strict=True):
        assert found.dtype == torch.bfloat16
        assert (found.double() - want).norm() < 4e-3 * want.norm()


def test_tiles_are_cut_where_they_grow_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = layout()
    tiled_attention._tiles(whole, None, 6)
    monkeypatch.setattr(tiled_attention, "_SCORES", 1)
    monkeypatch.setattr(tiled_attention, "_STRETCH", 16)
    cut = layout()
    tiles = tiled_attention._tiles(cut, 7, 6)
    assert len(tiles) > len(whole.segments) >= len(whole.tiles[None, 6])
    assert max(tile.bias.shape[2] for tile in tiles) == 16
    assert max(tile.bias.shape[3] for tile in tiles if tile.num == 1) < max(len(s.key) for s in cut.segments)


def test_under_autocast_queries_keys_and_values_are_of_one_dtype() -> None:
    """Rotary embeddings hand on float32; the result is the one of narrow operands, gradients come back as wide."""
    narrow = both_passes((torch.bfloat16,) * 3, {})
    with torch.autocast("cpu", torch.bfloat16):
        mixed = both_passes((torch.float32, torch.float32, torch.bfloat16), {})
    assert [x.dtype for x in mixed] == [torch.bfloat16, torch.float32, torch.float32, torch.bfloat16]
    assert all(torch.equal(a.float(), b.float()) for a, b in zip(narrow, mixed, strict=True))


def test_autocast_leaves_float64_alone() -> None:
    exact = both_passes((torch.float64,) * 3, {})
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(both_passes((torch.float64,) * 3, {}), exact, strict=True))


def test_a_shared_prompts_gradients_are_summed_in_float32() -> None:
    """128 completions of one prompt: sums of as many terms in bfloat16 would be off by more than one rounding."""
    prompt, noise = 6, torch.Generator().manual_seed(1)
    layout = pack(tiny.groups((prompt, *[3] * 128))).layout
    length = prompt + 2 * 128
    shapes = [(1, n, length, 16) for n in (2, 1, 1)] + [(1, length, 2, 16)]
    drawn = [torch.rand(*shape, generator=noise).bfloat16() for shape in shapes]

    def prompt_gradients(dtype: torch.dtype) -> list[Tensor]:
        *leaves, grad = (x.to(dtype) for x in drawn)
        leaves = [x.requires_grad_() for x in leaves]
        out, _ = branch_attention(torch.nn.Identity(), *leaves, None, layout=layout)
        _, *shared = torch.autograd.grad(out, leaves, grad.to(out.dtype))
        return [x[:, :, : prompt - 1].double() for x in shared]

    for found, want in zip(prompt_gradients(torch.bfloat16), prompt_gradients(torch.float64), strict=True):
        assert (found - want).norm() < 3e-3 * want.norm()


def test_gradients_of_keys_are_summed_over_tiles_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """240 tiles of one query each; a sum of as many terms in bfloat16 would stop growing."""
    monkeypatch.setattr(tiled_attention, "_SCORES", 1)
    monkeypatch.setattr(tiled_attention, "_STRETCH", 1)
    prompt, length, noise = 4, 243, torch.Generator().manual_seed(1)
    shapes = [(1, n, length, 16) for n in (2, 1, 1)] + [(1, length, 2, 16)]
    drawn = [torch.rand(*shape, generator=noise).bfloat16() for shape in shapes]

    def gradient_of_values(dtype: torch.dtype) -> Tensor:
        *leaves, grad = (x.to(dtype) for x in drawn)
        leaves = [x.requires_grad_() for x in leaves]
        layout = pack(tiny.groups((prompt, length - prompt + 1))).layout
        out, _ = branch_attention(torch.nn.Identity(), *leaves, None, layout=layout)
        return torch.autograd.grad(out, leaves, grad.to(out.dtype))[2].double()

    found, want = gradient_of_values(torch.bfloat16), gradient_of_values(torch.float64)
    assert (found - want).norm() < 3e-3 * want.norm()
