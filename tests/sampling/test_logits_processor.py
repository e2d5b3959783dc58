"""How logits become a choice, by value."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from twofold.errors import RecipeError
from twofold.sampling.base import Sampling
from twofold.sampling.logits_processor import (
    IGNORED,
    LogitsProcessor,
    inverse_cdf,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    uniforms,
)

OWN = Sampling(use_generation_config=True, temperature=0.4, top_k=3, top_p=0.9)


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


def test_inverse_cdf_over_several_blocks_is_that_of_one_cumulative_sum() -> None:
    """Of 300 tokens, in blocks of 128: the first block has no mass, and most tokens at the ends of blocks none."""
    noise = torch.Generator().manual_seed(0)
    probability = torch.rand(2000, 300, dtype=torch.float64, generator=noise).pow(8).softmax(-1)
    probability[:, :128] = probability[:, 250:256] = probability[:, 299] = 0
    uniform = torch.rand(2000, dtype=torch.float64, generator=noise)
    uniform[:2] = torch.tensor([0.0, 1 - 2**-52], dtype=torch.float64)
    cdf = probability.cumsum(-1)
    want = torch.searchsorted(cdf, uniform[:, None] * cdf[:, -1:], right=True).squeeze(1)
    assert inverse_cdf(probability, uniform).tolist() == want.tolist()
    assert want[:2].tolist() == [128, 298]
    found = inverse_cdf(probability.float(), uniform)
    assert (probability.gather(1, found[:, None]) > 0).all()


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


def test_noise_is_philoxs_of_a_digest() -> None:
    """So that a seed draws the same from one version to the next."""
    prompt = torch.tensor([4, 2, 9])
    text = b"1/2/3/" + np.array([4, 2, 9], dtype="<i8").tobytes()
    key = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
    np.testing.assert_array_equal(
        uniforms((1, 2), prompt, 3, 4), np.random.Generator(np.random.Philox(key=key)).random(4)
    )


def test_min_p_by_value() -> None:
    """Of 0.4 the half is 0.2: what has less goes, what has as much stays; 0 keeps all, to the object."""
    score = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]]).double().log()
    assert keep_min_p(score, 0.4999).isinf().tolist() == [[True, False, False, False], [False, False, False, True]]
    assert keep_min_p(score, 0.76).isinf().tolist() == [[True, True, True, False], [False, True, True, True]]
    assert keep_min_p(score, 0.0) is score
    assert keep_min_p(score, 1e-9).isinf().any().item() is False


def test_top_k_keeps_ties_with_the_last() -> None:
    score = torch.tensor([[2.0, 1.0, 1.0, 0.0]])
    assert keep_top_k(score, 2).tolist() == [[2.0, 1.0, 1.0, -torch.inf]]
    assert keep_top_k(score, 3).tolist() == [[2.0, 1.0, 1.0, -torch.inf]]
    assert keep_top_k(score, 4) is score
    assert keep_top_k(score, 1).tolist() == [[2.0, *[-torch.inf] * 3]]


def test_of_what_is_no_number_the_last_token() -> None:
    probability, noise = torch.full((1, 3), torch.nan), torch.tensor([0.5], dtype=torch.float64)
    assert inverse_cdf(probability, noise).tolist() == [2]
    narrow = torch.full((1, 4096), 1 / 4096, dtype=torch.float32)
    assert inverse_cdf(narrow, torch.tensor([1 - 2**-52], dtype=torch.float64)).tolist() == [4095]


def drawn(rule: LogitsProcessor, logits: list[float], seen: list[bool] | None = None) -> tuple[dict[int, float], Any]:
    """The share of evenly spaced noise that each token gets, and the log-probability of each."""
    n = 100_000
    noise = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    logits_AV = torch.tensor([logits]).double()
    seen_AV = None if seen is None else torch.tensor([seen]).expand(n, -1)
    token_A, logp_A = rule.draw(logits_AV.expand(n, -1), seen_AV, noise)
    share = {t: (token_A == t).double().mean().item() for t in sorted(set(token_A.tolist()))}
    return share, {t: logp_A[token_A == t][0].exp().item() for t in share}


PROBABILITIES = [0.1, 0.4, 0.2, 0.3]
LOGITS = np.log(PROBABILITIES).tolist()


@pytest.mark.parametrize(
    ("rule", "shares"),
    [
        (LogitsProcessor(1.0, 0, 1.0), PROBABILITIES),
        (LogitsProcessor(0.5, 0, 1.0), [0.01 / 0.3, 0.16 / 0.3, 0.04 / 0.3, 0.09 / 0.3]),
        (LogitsProcessor(1.0, 2, 1.0), [0, 4 / 7, 0, 3 / 7]),
        (LogitsProcessor(1.0, 0, 0.75), [0, 4 / 9, 2 / 9, 3 / 9]),
        (LogitsProcessor(1.0, 0, 1.0, 1.0, 0.6), [0, 4 / 7, 0, 3 / 7]),
        (LogitsProcessor(0.0, 0, 1.0), [0, 1, 0, 0]),
        (LogitsProcessor(0.5, 3, 0.75), [0, 16 / 25, 0, 9 / 25]),  # 16 + 9 of 29 are more than ¾
    ],
)
def test_what_is_drawn_by_value(rule: LogitsProcessor, shares: list[float]) -> None:
    """Whatever is cut or sharpened, log-probabilities are the model's own."""
    found, own = drawn(rule, LOGITS)
    assert found == pytest.approx({t: s for t, s in enumerate(shares) if s}, abs=2e-5)
    assert own == pytest.approx({t: PROBABILITIES[t] for t in found})


def test_a_penalty_makes_what_was_seen_less_likely_on_either_side_of_0() -> None:
    """Logits 2, −2 and 0 under a penalty of 2: seen they are 1, −4 and 0; the temperature comes after."""
    logits, weights = [2.0, -2.0, 0.0], np.exp([1.0, -4.0, 0.0])
    found, _ = drawn(LogitsProcessor(1.0, 0, 1.0, 2.0), logits, [True, True, True])
    assert found == pytest.approx(dict(enumerate(weights / weights.sum())), abs=2e-5)
    some = np.exp([2.0, -4.0, 0.0])
    found, _ = drawn(LogitsProcessor(1.0, 0, 1.0, 2.0), logits, [False, True, False])
    assert found == pytest.approx(dict(enumerate(some / some.sum())), abs=2e-5)
    cold = np.exp([2.0, -8.0, 0.0])
    found, _ = drawn(LogitsProcessor(0.5, 0, 1.0, 2.0), logits, [True, True, True])
    assert [found[0], found[2]] == pytest.approx([cold[0] / cold.sum(), cold[2] / cold.sum()], abs=2e-5)
    greedy = LogitsProcessor(0.0, 0, 1.0, 3.0)
    assert drawn(greedy, [3.0, 2.0, 0.0], [True, False, False])[0] == {1: 1.0}
    assert drawn(greedy, [3.0, 2.0, 0.0], [False, False, False])[0] == {0: 1.0}


def asking(**config: object) -> Any:
    return SimpleNamespace(generation_config=SimpleNamespace(**config))


def test_whose_settings_count() -> None:
    """The model's own where it is asked for and says something; the settings' otherwise."""
    own = LogitsProcessor(0.4, 3, 0.9, 1.0, 0.0)
    assert LogitsProcessor.of(OWN, asking()) == LogitsProcessor.of(OWN, asking(temperature=None, do_sample=True)) == own
    told = asking(temperature=0.7, top_k=5.0, top_p=0.5, repetition_penalty=1.2, min_p=0.1)
    assert LogitsProcessor.of(OWN, told) == LogitsProcessor(0.7, 5, 0.5, 1.2, 0.1)
    assert isinstance(LogitsProcessor.of(OWN, told).top_k, int)
    assert LogitsProcessor.of(OWN, asking(do_sample=False, temperature=0.7)).temperature == 0
    assert LogitsProcessor.of(OWN, asking(do_sample=None, temperature=0.7)).temperature == 0.7
    assert LogitsProcessor.of(OWN, asking(top_p=0.0)).top_p == 0.0
    plain = Sampling(temperature=0.4, top_k=3, top_p=0.9)
    assert LogitsProcessor.of(plain, asking(temperature=0.7, num_beams=4, do_sample=False)) == own


@pytest.mark.parametrize("name", IGNORED)
def test_what_is_not_followed_is_refused_unless_it_asks_for_nothing(name: str) -> None:
    for nothing in (None, 0, 0.0, [], {}):
        LogitsProcessor.of(OWN, asking(**{name: nothing}))
    resting = {"num_beams", "num_beam_groups", "guidance_scale", "typical_p", "encoder_repetition_penalty"}
    for value in (1, 1.0, 2, 0.5, [3]):
        if value == 1 and name in resting:
            LogitsProcessor.of(OWN, asking(**{name: value}))
        else:
            with pytest.raises(RecipeError, match=f"{name}: "):
                LogitsProcessor.of(OWN, asking(**{name: value}))


def test_all_that_is_not_followed_is_named() -> None:
    with pytest.raises(RecipeError, match=r"\(num_beams: 4, min_length: 3\)\n  → leave it out and set temp") as error:
        LogitsProcessor.of(OWN, asking(num_beams=4, typical_p=1.0, min_length=3))
    assert error.value.where == "sampling.use_generation_config"
