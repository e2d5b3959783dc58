"""The frontier by hand, and its KL beside the enumeration of every answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from support import tiny
from support.frozen import refuse_changes
from twofold.evaluation.hull import Point, areas, best_of, height, hull, point
from twofold.models.attention import stock_attention
from twofold.models.policy import Policy
from twofold.sampling.base import Sample, Sampling
from twofold.sampling.best_of_n import distribution, kl_bound
from twofold.sampling.local import LocalSampler
from twofold.statistics import Estimate, bootstrap_ratio, mean_interval


def flat(kl: float, reward: float, prompts: int = 8) -> Point:
    return Point([kl] * prompts, [kl] * prompts, [reward] * prompts)


def test_both_forms_of_kl_hold_what_enumeration_gives() -> None:
    """Answers of at most three tokens, ended by token 0, on a transformer: the sum over all sequences."""
    models = [Policy(tiny.llama(seed, vocab_size=5).double()) for seed in (0, 1)]
    prompt = torch.tensor([1, 3])
    exact = 0.0
    whole = torch.cat([prompt.expand(125, -1), torch.cartesian_prod(*[torch.arange(5)] * 3)], 1)
    with torch.no_grad():
        logp = []
        for m in models:
            with stock_attention(m.model):
                logp.append(m.model(whole).logits[:, 1:-1].log_softmax(-1))
    seen: set[tuple[int, ...]] = set()
    for row, sequence in enumerate(whole[:, 2:].tolist()):
        said = tuple(sequence[: sequence.index(0) + 1] if 0 in sequence else sequence)
        if said not in seen:
            seen.add(said)
            own, other = (sum(float(x[row, t, token]) for t, token in enumerate(said)) for x in logp)
            exact += math.exp(own) * (own - other)
    sampling = Sampling(max_new_tokens=3, batch_size=256)
    sampler = LocalSampler(models[0].model, None, (0,), sampling)  # type: ignore[arg-type]  # no stop texts
    (drafts,) = sampler.sample([prompt], samples=600)
    found = point(*models, [prompt] * 600, [[d] for d in drafts], [[1.0]] * 600)
    whole_kl, drawn = mean_interval(found.kl), mean_interval(found.drawn)
    for estimate in (whole_kl, drawn):
        assert estimate.low < exact < estimate.high
    assert whole_kl.high - whole_kl.low < drawn.high - drawn.low
    assert found.truncated == pytest.approx(sum(d.truncated for d in drafts) / 600)


def test_a_point_is_the_mean_over_the_samples_of_each_prompt() -> None:
    policy, draft = Policy(tiny.llama(0).double()), Sample(torch.tensor([4, 5]), torch.zeros(2), False)
    found = point(
        policy, policy, [torch.tensor([1]), torch.tensor([2])], [[draft, draft], [draft]], [[1.0, 2.0], [5.0]]
    )
    assert found.reward == [1.5, 5.0]
    assert found.kl == pytest.approx([0.0, 0.0], abs=1e-12)
    assert found.length == 2.0
    alone = point(policy, None, [torch.tensor([1])], [[draft]], [[3.0]])
    assert (alone.kl, alone.drawn, alone.reward) == ([0.0], [0.0], [3.0])


def test_the_hull_by_hand() -> None:
    """(2, 1) lies under the line from (0, 0) to (4, 4); (5, 3) and (6, 4) gain nothing more."""
    points = [(0.0, 0.0), (2.0, 1.0), (1.0, 2.0), (4.0, 4.0), (5.0, 3.0), (6.0, 4.0)]
    assert hull(points) == [(0.0, 0.0), (1.0, 2.0), (4.0, 4.0)]
    assert hull([(0.0, 0.0), (2.0, 1.0), (4.0, 4.0)]) == [(0.0, 0.0), (4.0, 4.0)]
    assert hull([(0.0, 1.0), (3.0, 0.5)]) == [(0.0, 1.0)]
    assert hull([(0.0, 1.0), (0.0, 2.0), (1.0, 3.0)]) == [(0.0, 2.0), (1.0, 3.0)]


def test_the_area_by_hand() -> None:
    """Up to 1 a triangle of 1, then 3 · (2 + 4)/2 = 9, then level: 4 for each further nat."""
    points = [(0.0, 0.0), (1.0, 2.0), (4.0, 4.0)]
    assert height(points, 1.0) == pytest.approx(1.0)
    assert height(points, 4.0) == pytest.approx((1 + 9) / 4)
    assert height(points, 6.0) == pytest.approx((1 + 9 + 8) / 6)
    assert height(points, 2.5) == pytest.approx((1 + 1.5 * (2 + 3) / 2) / 2.5)
    assert height([(0.0, 7.0), *((x, y + 7) for x, y in points[1:])], 4.0) == pytest.approx(2.5)
    assert height([(0.0, 1.0), (3.0, 0.5)], 3.0) == 0.0


def test_methods_are_compared_up_to_the_kl_that_all_of_them_reached() -> None:
    base = flat(0, 0)
    near, far = [flat(1, 1), flat(2, 2)], [flat(4, 8)]
    found = areas(base, {"near": [near], "far": [far]}, resamples=50)
    assert found is not None
    assert found.limit == 2.0
    assert {k: v.value for k, v in found.heights.items()} == {"near": pytest.approx(1.0), "far": pytest.approx(2.0)}
    (test,) = found.comparisons
    assert test["difference"]["value"] == pytest.approx(1.0)
    assert test["difference"]["low"] == pytest.approx(1.0)  # the same of every prompt
    assert test["p_value"] == pytest.approx(2 / 51)
    assert areas(base, {"still": [[flat(0, 0)]]}) is None


def test_prompts_are_drawn_together_and_seeds_apart() -> None:
    """Rewards differ much between prompts and little between methods: a paired difference is known well. Two seeds with
    areas 1 and 3 have a mean of 2 and draws of 1, 2 and 3."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 5, size=40)
    base = Point([0.0] * 40, [0.0] * 40, [0.0] * 40)
    one, other = ([Point([1.0] * 40, [1.0] * 40, (noise + gain).tolist())] for gain in (20.0, 21.0))
    found = areas(base, {"one": [one], "other": [other]}, resamples=300)
    assert found is not None
    alone, apart = found.heights["one"], found.comparisons[0]["difference"]
    assert alone.high - alone.low > 1.0
    assert apart["high"] - apart["low"] < 1e-9
    assert apart["value"] == pytest.approx(0.5)
    seeds = areas(flat(0, 0), {"m": [[flat(2, 2)], [flat(2, 6)]]}, resamples=300)
    assert seeds is not None
    assert (seeds.heights["m"].value, seeds.heights["m"].n) == (pytest.approx(2.0), 2)
    assert (seeds.heights["m"].low, seeds.heights["m"].high) == pytest.approx((1.0, 3.0))


def test_the_best_of_n_is_what_its_distribution_says() -> None:
    """Four answers as likely as each other, all of them drawn once: without replacement the best of 2 is known."""
    scores = [[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 8.0]]
    found = best_of(scores, [1, 2, 4])
    assert [x["reward"]["value"] for x in found] == pytest.approx([(2.5 + 2) / 2, (20 / 6 + 4) / 2, (4 + 8) / 2])
    assert [x["kl_at_most"] for x in found] == [kl_bound(n) for n in (1, 2, 4)]
    many = [[float(s) for s in range(4)] * 100]
    assert best_of(many, [2])[0]["reward"]["value"] == pytest.approx(
        distribution([0.25] * 4, range(4), 2).score, abs=0.01
    )


def test_the_best_of_n_has_an_interval_over_prompts() -> None:
    (found,) = best_of([[1.0, 2.0], [5.0, 3.0], [0.0, 0.0]], [2])
    assert found == {
        "n": 2, "kl_at_most": math.log(2) - 0.5, "reward": bootstrap_ratio([2.0, 5.0, 0.0], [1.0] * 3).as_dict(),
    }  # fmt: skip


def test_a_point_as_json_and_row_by_row() -> None:
    told = Point([1.0, 3.0], [0.5, 2.5], [4.0, 8.0], 7.5, 0.25)
    ones = [1.0, 1.0]
    assert told.as_dict() == {
        "kl": bootstrap_ratio([1.0, 3.0], ones).as_dict(), "kl_drawn": bootstrap_ratio([0.5, 2.5], ones).as_dict(),
        "reward": bootstrap_ratio([4.0, 8.0], ones).as_dict(), "tokens": 7.5, "truncated": 0.25,
    }  # fmt: skip
    assert told.rows("m") == [
        {"model": "m", "prompt": 1, "kl": 1.0, "kl_drawn": 0.5, "reward": 4.0},
        {"model": "m", "prompt": 2, "kl": 3.0, "kl_drawn": 2.5, "reward": 8.0},
    ]
    assert (Point([], [], []).length, Point([], [], []).truncated) == (0.0, 0.0)
    for broken in (Point([1.0], [1.0, 2.0], [1.0]), Point([1.0], [1.0], [1.0, 2.0])):
        with pytest.raises(ValueError):
            broken.rows("m")


def test_drafts_and_scores_of_other_prompts_are_no_point() -> None:
    policy, draft = Policy(tiny.llama(0).double()), Sample(torch.tensor([4, 5]), torch.zeros(2), False)
    prompt = torch.tensor([1])
    for prompts, drafts, scores in (([prompt, prompt], [[draft]], [[1.0]]), ([prompt], [[draft]], [[1.0], [2.0]])):
        with pytest.raises(ValueError):
            point(policy, None, prompts, drafts, scores)


def test_the_frontier_of_two_methods_by_hand() -> None:
    """Two prompts, a method that is 2 better on both and one that is 6 better on the second: areas of 1 and 1.5 up to
    2 nats. A draw of two prompts has the first twice, both, or the second twice."""
    base, near = flat(0, 0, 2), [flat(2, 2, 2)]
    far = [Point([2.0, 2.0], [2.0, 2.0], [0.0, 6.0])]
    found = areas(base, {"near": [near], "far": [far]}, resamples=200, level=0.9)
    assert found is not None
    method = "bootstrap over seeds and prompts 90%"
    near_by = Estimate(pytest.approx(1.0), pytest.approx(1.0), pytest.approx(1.0), 1, None, method)
    assert found.heights["near"] == near_by
    assert (found.heights["far"].low, found.heights["far"].high) == pytest.approx((0.0, 3.0))
    (test,) = found.comparisons
    assert {k: test[k] for k in ("a", "b", "test")} == {"a": "near", "b": "far", "test": "bootstrap"}
    assert test["difference"] == {
        "value": pytest.approx(0.5), "low": pytest.approx(-1.0), "high": pytest.approx(2.0), "n": 1, "method": method
    }  # fmt: skip
    draws = np.random.default_rng(0)
    below = 0
    for _ in range(200):
        below += bool(draws.multinomial(2, [0.5, 0.5])[0] == 2)
        draws.integers(1, size=1), draws.integers(1, size=1)
    assert test["p_value"] == min(1.0, 2 * (below + 1) / 201)
    assert found.as_dict() == {
        "limit": 2.0, "heights": {name: e.as_dict() for name, e in found.heights.items()}, "comparisons": [test],
    }  # fmt: skip


def test_methods_that_are_alike_have_a_p_of_one() -> None:
    one = [flat(2, 2, 3)]
    found = areas(flat(0, 0, 3), {"a": [one], "b": [one]}, resamples=20)
    assert found is not None
    assert found.comparisons[0]["p_value"] == 1.0
    assert found.heights["a"].method == "bootstrap over seeds and prompts 95%"


def test_areas_are_of_a_thousand_draws_under_seed_0() -> None:
    noise = np.random.default_rng(0).normal(5, 1, size=30).tolist()
    base, moved = flat(0, 0, 30), {"m": [[Point([1.0] * 30, [1.0] * 30, noise)]]}
    assert areas(base, moved) == areas(base, moved, seed=0, resamples=1000, level=0.95)
    assert areas(base, moved) != areas(base, moved, seed=1)


def test_a_height_is_above_no_distance() -> None:
    for limit in (0.0, -1.0):
        with pytest.raises(ValueError, match="no point has a KL above 0"):
            height([(0.0, 0.0), (1.0, 1.0)], limit)
    assert height([(0.0, 1.0), (-0.5, 3.0), (2.0, 3.0)], 1.0) == 2.0  # KL below 0 is noise of an estimate: 0


def test_what_was_measured_stays() -> None:
    found = areas(flat(0, 0), {"m": [[flat(1, 1)]]}, resamples=2)
    refuse_changes(flat(0, 0), found)
