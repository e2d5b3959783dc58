"""Chunked log-probabilities against log_softmax, values and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from support.golden import expected, given
from twofold.models import logprob
from twofold.models.logprob import entropies_of, statistics_of, token_entropies, token_logps, token_statistics
from twofold.models.products import bfloat16_products

CASES = {
    "plain": (False, None),
    "bias": (True, None),
    "softcap": (False, 3.0),
    "bias and softcap": (True, 3.0),
}


def inputs(rows: int = 200, *, bias: bool = False, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Hidden states, weight, targets, bias (or None), and a weight per row for the gradient."""
    noise = torch.Generator().manual_seed(rows)
    hidden, weight, offset, grad = (
        torch.randn(*shape, generator=noise, dtype=torch.float64).to(dtype)
        for shape in ((rows, 8), (29, 8), (29,), (rows,))
    )
    target = torch.randint(29, (rows,), generator=noise)
    leaves = [x.requires_grad_() for x in (hidden, weight, offset)]
    return leaves[0], leaves[1], target, leaves[2] if bias else None, grad  # type: ignore[return-value]  # a bias or none


def plain(hidden: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None, softcap: float | None) -> Tensor:
    logits = torch.nn.functional.linear(hidden, weight, bias)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return logits.log_softmax(-1).gather(1, target[:, None]).squeeze(1)


def test_sequence_logp_is_the_golden_one() -> None:
    """The prompt's last position predicts the first completion token, so it is used."""
    case, want = given("prim.sequence_logp"), expected("prim.sequence_logp")
    logits = torch.tensor(case["logits_for_positions_0_to_3"], dtype=torch.float64)
    target = torch.tensor(case["input_ids"][1:])
    logp = token_logps(logits, torch.eye(4, dtype=torch.float64), target)
    assert logp.tolist() == pytest.approx(want["per_token_logps_unmasked"], abs=1e-12)
    scored = logp[torch.tensor(case["completion_mask"][1:], dtype=torch.bool)]
    assert scored.sum().item() == pytest.approx(want["logp_sum"], abs=1e-12)
    assert scored.mean().item() == pytest.approx(want["logp_avg"], abs=1e-12)


@pytest.mark.parametrize("tile", [None, (64, 10), (7, 1), (1000, 4)], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_equals_log_softmax_in_float64(
    case: str, tile: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tile:
        monkeypatch.setattr(logprob, "TILE", {"cpu": tile, "cuda": tile})
    with_bias, softcap = CASES[case]
    hidden, weight, target, bias, grad = inputs(bias=with_bias)
    leaves = [x for x in (hidden, weight, bias) if x is not None]
    a, b = token_logps(hidden, weight, target, bias, softcap), plain(hidden, weight, target, bias, softcap)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(torch.autograd.grad(a, leaves, grad), torch.autograd.grad(b, leaves, grad), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        assert theirs.norm() > 1


@pytest.mark.parametrize("tile", [None, (7, 1), (64, 10)], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_statistics_are_those_of_whole_rows(
    case: str, tile: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in float32, and with logits so large that their exponentials are not finite."""
    if tile:
        monkeypatch.setattr(logprob, "TILE", {"cpu": tile, "cuda": tile})
    with_bias, softcap = CASES[case]
    for dtype, scale, tolerance in ((torch.float64, 1, 1e-12), (torch.float32, 1, 1e-5), (torch.float32, 100, 1e-3)):
        hidden, weight, _, bias, _ = inputs(bias=with_bias, dtype=dtype)
        hidden = hidden * scale
        logits = torch.nn.functional.linear(hidden.double(), weight.double(), None if bias is None else bias.double())
        want = statistics_of(logits if softcap is None else softcap * torch.tanh(logits / softcap))
        found = token_statistics(hidden, weight, bias, softcap, top=True)
        assert found.keys() == want.keys()
        for name, value in found.items():
            assert (value.dtype, value.requires_grad) == (dtype, False)
            torch.testing.assert_close(value.double(), want[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("tile", [None, (64, 10), (7, 1)], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_entropies_equal_those_of_whole_rows(
    case: str, tile: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """−Σ π·log π and its gradient, in float64; and in float32 with logits whose exponentials are not finite."""
    if tile:
        monkeypatch.setattr(logprob, "TILE", {"cpu": tile, "cuda": tile})
    with_bias, softcap = CASES[case]
    hidden, weight, _, bias, grad = inputs(bias=with_bias)
    leaves = [x for x in (hidden, weight, bias) if x is not None]
    logits = torch.nn.functional.linear(hidden, weight, bias)
    logp = (logits if softcap is None else softcap * torch.tanh(logits / softcap)).log_softmax(-1)
    a, b = token_entropies(hidden, weight, bias, softcap), -(logp.exp() * logp).sum(-1)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(a, entropies_of(logp), rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(torch.autograd.grad(a, leaves, grad), torch.autograd.grad(b, leaves, grad), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
        assert theirs.norm() > 0.5
    large, narrow = (hidden * 100).float(), None if bias is None else bias.float()
    found = token_entropies(large, weight.float(), narrow, softcap)
    wide = torch.nn.functional.linear(large.double(), weight, bias)
    want = entropies_of(wide if softcap is None else softcap * torch.tanh(wide / softcap))
    torch.testing.assert_close(found.double(), want, rtol=1e-3, atol=1e-3)


def test_statistics_of_an_even_and_of_a_certain_row() -> None:
    """Of four even tokens both are 1/4, and log of it; of a certain one 1."""
    found = statistics_of(torch.tensor([[0.0] * 4, [0.0, 800.0, 0.0, 0.0]]))
    assert found["log_collision"].tolist() == found["log_greedy"].tolist() == pytest.approx([-1.3862944, 0.0])


@pytest.mark.parametrize("case", CASES)
def test_gradcheck(case: str) -> None:
    with_bias, softcap = CASES[case]
    hidden, weight, target, bias, _ = inputs(5, bias=with_bias)
    if bias is None:
        assert torch.autograd.gradcheck(lambda h, w: token_logps(h, w, target, None, softcap), (hidden, weight))
    else:
        assert torch.autograd.gradcheck(lambda h, w, b: token_logps(h, w, target, b, softcap), (hidden, weight, bias))


def test_a_frozen_weight_gets_no_gradient_and_changes_no_other() -> None:
    hidden, weight, target, _, grad = inputs()
    (free,) = torch.autograd.grad(token_logps(hidden, weight, target), [hidden], grad)
    weight.requires_grad_(False)
    token_logps(hidden, weight, target).backward(grad)
    assert weight.grad is None
    assert torch.equal(hidden.grad, free)


def test_bfloat16_gives_float32() -> None:
    """Logits are wide: both sides share the rounding of inputs, and there is no rounding of logits (2⁻⁸ of each)."""
    hidden, weight, target, _, grad = inputs(dtype=torch.bfloat16)
    logp = token_logps(hidden, weight, target)
    wide = plain(hidden.double(), weight.double(), target, None, None)
    assert logp.dtype == torch.float32
    torch.testing.assert_close(logp.double(), wide, rtol=1e-5, atol=1e-5)
    d_hidden, d_weight = torch.autograd.grad(logp, [hidden, weight], grad.float())
    assert (d_hidden.dtype, d_weight.dtype) == (torch.bfloat16, torch.bfloat16)
    exact_hidden, exact_weight = torch.autograd.grad(wide, [hidden, weight], grad.double())
    torch.testing.assert_close(d_hidden, exact_hidden, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(d_weight, exact_weight, rtol=2e-2, atol=2e-2)


def _rounds_operands() -> bool:
    """Whether this processor multiplies float32 in bfloat16. Those with bfloat16 units but without AMX do not."""
    x = torch.full((96, 64), 1 + 2**-9)
    with bfloat16_products():
        return not torch.equal(x @ x.T, torch.full((96, 96), 64 * (1 + 2**-9) ** 2))


@pytest.mark.parametrize("case", CASES)
def test_under_autocast_operands_are_rounded_and_logits_are_not(case: str) -> None:
    """The results are those of hidden rows and weights in bfloat16 to the last digits of float32; logits in bfloat16
    would be off by 2⁻⁹ of each, 0.05 here. Gradients are rounded once more, before their products."""
    with_bias, softcap = CASES[case]
    noise = torch.Generator().manual_seed(0)
    hidden, weight, offset = (torch.randn(n, 64, generator=noise) for n in (96, 160, 160))
    target, bias = (
        torch.randint(160, (96,), generator=noise),
        offset[:, 0].clone().requires_grad_() if with_bias else None,
    )
    leaves = [hidden.requires_grad_(), weight.requires_grad_(), *([bias] if bias is not None else [])]
    wide = [x.detach().bfloat16().double().requires_grad_() for x in leaves[:2]]
    wide += [x.detach().double().requires_grad_() for x in leaves[2:]]
    with torch.autocast("cpu", torch.bfloat16):
        logp = token_logps(hidden, weight, target, bias, softcap)
        found = token_statistics(hidden, weight, bias, softcap)
    want = plain(wide[0], wide[1], target, wide[2] if bias is not None else None, softcap)
    assert logp.dtype == torch.float32
    if _rounds_operands():
        torch.testing.assert_close(logp.double(), want, rtol=1e-4, atol=1e-4)
        assert (logp - token_logps(hidden, weight, target, bias, softcap)).abs().max() > 1e-3
    assert {x.dtype for x in found.values()} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):  # which a step leaves on, or not
        grads = torch.autograd.grad(logp.sum(), leaves)
    for ours, exact in zip(grads, torch.autograd.grad(want.sum(), wide), strict=True):
        assert ours.dtype == torch.float32
        assert (ours.double() - exact).norm() < 1e-2 * exact.norm()


def test_a_near_certain_token_still_pushes_the_others_down() -> None:
    """log p = −log(1 + e⁻⁴⁰); its derivative by the other logit is −e⁻⁴⁰ ≈ −4.2e-18, though log p rounds to 0."""
    hidden = torch.tensor([[40.0, 0.0]], dtype=torch.float64, requires_grad=True)
    token_logps(hidden, torch.eye(2, dtype=torch.float64), torch.tensor([0])).sum().backward()
    assert hidden.grad[0, 1].item() == pytest.approx(-4.248354255291589e-18, rel=1e-9, abs=0)


def test_a_likely_token_is_pulled_to_the_last_digit() -> None:
    """Logits 0 and −13·ln 2: p = 8192/8193. 1 − p keeps float32's precision; as 1 − exp(log p) it is off by 1e-4."""
    hidden = torch.tensor([[0.0, -13 * math.log(2)]], requires_grad=True)
    token_logps(hidden, torch.eye(2), torch.tensor([0])).sum().backward()
    assert hidden.grad[0].tolist() == pytest.approx([1 / 8193, -1 / 8193], rel=1e-5, abs=0)


@pytest.mark.parametrize("size", [1e3, -1e3])
def test_large_logits_in_many_tiles_stay_exact(size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest logit comes first or last, by thousands: exp of any but the running difference would overflow."""
    monkeypatch.setattr(logprob, "TILE", {"cpu": (2, 3), "cuda": (2, 3)})
    logits = (size * torch.arange(11, dtype=torch.float32) + torch.linspace(0, 5, 5)[:, None]).requires_grad_()
    target = torch.tensor([0, 10, 5, 9, 1])
    logp = token_logps(logits, torch.eye(11), target)
    expected = logits.double().log_softmax(-1).gather(1, target[:, None]).squeeze(1)
    torch.testing.assert_close(logp.double(), expected, rtol=1e-6, atol=1e-6)
    (grad,) = torch.autograd.grad(logp.sum(), logits)
    torch.testing.assert_close(grad, torch.autograd.grad(expected.sum(), logits)[0], rtol=1e-6, atol=1e-6)


def test_no_rows_give_no_values() -> None:
    hidden, weight, target, _, _ = inputs()
    assert token_logps(hidden[:0], weight, target[:0]).shape == (0,)
