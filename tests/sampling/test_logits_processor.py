"""How logits become a choice, by value."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from twofold.sampling.logits_processor import inverse_cdf, keep_top_k, keep_top_p, uniforms


def test_top_k_and_top_p_by_value() -> None:
    score = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]]).log()
    cut = -torch.inf
    assert keep_top_k(score, 2).isinf().tolist() == [[True, True, False, False], [False, False, True, True]]
    assert keep_top_k(score, 0) is score
    assert keep_top_k(score, 9) is score
    assert keep_top_p(score, 0.65).isinf().tolist() == [[True, True, False, False], [False, False, True, True]]
    assert keep_top_p(score, 0.75).isinf().tolist() == [[True, False, False, False], [False, False, False, True]]
    assert keep_top_p(score, 1e-9).isinf().sum(-1).tolist() == [3, 3]
    assert keep_top_p(score, 1.0) is score
    # After the cut to two, 0.4 / 0.7 alone reaches a half: top-p looks at what top-k left over.
    assert keep_top_p(keep_top_k(score, 2), 0.5)[0].tolist() == pytest.approx([cut, cut, cut, score[0, 3].item()])
    assert keep_top_p(score, 0.5)[0, 2].item() != cut


def test_top_p_at_a_tie_is_the_smallest_set_that_reaches_it() -> None:
    """¼ each, to the last bit: one reaches ¼, two reach ½, and no more than those that are needed stay."""
    even = torch.zeros(1, 4)
    assert [keep_top_p(even, p).isinf().sum().item() for p in (0.25, 0.5, 0.75, 0.76)] == [3, 2, 1, 0]
    assert keep_top_p(torch.tensor([[0.0, 0.0, -torch.inf]]), 0.5)[0].tolist() == [0.0, -torch.inf, -torch.inf]


def test_inverse_cdf_takes_the_token_whose_interval_holds_the_noise() -> None:
    probability = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]]).expand(5, -1)
    noise = torch.tensor([0.0, 0.2499, 0.25, 0.9, 1 - 2**-52], dtype=torch.float64)
    assert inverse_cdf(probability, noise).tolist() == [1, 1, 3, 3, 3]


def test_noise_is_keyed_by_seed_step_prompt_and_sample_and_a_longer_one_goes_on() -> None:
    one, other = torch.tensor([4, 2, 9]), torch.tensor([4, 2, 8])
    keys = [
        ((1, 2), one, 3),
        ((2, 1), one, 3),
        ((1, 2), one, 4),
        ((1, 2), other, 3),
        ((11, 2), one, 3),
        ((1, 12), one, 3),
    ]
    assert len({uniforms(*key, 2).tobytes() for key in keys}) == 6
    np.testing.assert_array_equal(uniforms((1, 2), one, 3, 8)[:5], uniforms((1, 2), one, 3, 5))
