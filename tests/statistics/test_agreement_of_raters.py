"""Chance-corrected agreement of several raters, by published examples and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from twofold.statistics import cohens_kappa, fleiss_kappa, krippendorffs_alpha, mirrored_kappa

FLEISS = [
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
]  # fmt: skip
"""The example of 14 raters, 10 items and 5 categories on the Wikipedia page of Fleiss' kappa: 0.210."""
HAYES = [
    [1, 1, None, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4],
    [4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2], [None, 5, 5, 5], [None, None, 1, 1], [None, None, 3, None],
]  # fmt: skip
"""Krippendorff (2011), section C: nominal 0.743, interval 0.849."""


def test_fleiss_kappa_of_the_published_example() -> None:
    rows = [[label for label, count in enumerate(item) for _ in range(count)] for item in FLEISS]
    found = fleiss_kappa(rows)
    assert (round(found.value, 3), found.n) == (0.210, 10)
    assert -1 < found.low < 0.21 < found.high < 1
    assert fleiss_kappa([*rows, [None, *rows[0][1:]]]).value == found.value


def test_krippendorffs_alpha_of_the_published_example() -> None:
    assert round(krippendorffs_alpha(HAYES).value, 3) == 0.743
    tenths = [[None if r is None else r / 10 for r in row] for row in HAYES]
    found = krippendorffs_alpha(tenths, distance="interval")
    assert (round(found.value, 3), found.n) == (0.849, 11)
    assert found.method.startswith("Krippendorff's α, interval, bootstrap over items 95%, ")


def test_mirrored_kappa_is_cohens_of_both_directions() -> None:
    judge, people = [1.0, 0.5, 0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0, 1.0, 0.0]
    whole = cohens_kappa([*judge, *(1 - a for a in judge)], [*people, *(1 - b for b in people)])
    found = mirrored_kappa(judge, people)
    assert (found.value, found.n) == (pytest.approx(whole.value), 6)
    always = mirrored_kappa([1.0, 1.0, 1.0, 0.0], [1.0] * 4)
    assert always.value == pytest.approx(0.5)  # 3 of 4, by chance 1 of 2
    assert mirrored_kappa([1 - a for a in judge], [1 - b for b in people]) == found


def test_full_agreement_one_label_and_no_items() -> None:
    full = fleiss_kappa([["a"] * 3, ["b"] * 3] * 10)
    assert (full.value, full.high) == (1.0, 1.0)
    assert full.low == pytest.approx((20 / (20 + 1.959964**2) - 0.5) / 0.5, abs=1e-6)  # Wilson's end of 20 of 20
    for nothing in (fleiss_kappa([]), fleiss_kappa([["a", "a"]] * 3), krippendorffs_alpha([["a", None]])):
        assert math.isnan(nothing.value)
        assert (nothing.low, nothing.high) == (-1.0, 1.0)


def test_items_of_one_prompt_are_resampled_together() -> None:
    rows = [["a", "a"], ["a", "b"], ["b", "b"], ["b", "a"], ["b", "b"], ["a", "a"]]
    twice = krippendorffs_alpha([row for row in rows for _ in "xy"], clusters=[i for i in range(6) for _ in "xy"])
    assert (twice.n, twice.clusters) == (12, 6)
    assert twice.high - twice.low > 0.5


@pytest.mark.slow
def test_the_intervals_contain_the_value_of_many_items_as_often_as_they_say() -> None:
    """Three raters of 100 items with two labels, each wrong on a fifth: κ = (2·0.8 − 1)² = 0.36; for α, a fifth of the
    ratings is missing. 400 samples: 380 and 377."""
    rng, within = np.random.default_rng(1), [0, 0]
    for _ in range(400):
        truth = rng.integers(2, size=100)
        rows = np.where(rng.random((100, 3)) < 0.2, 1 - truth[:, None], truth[:, None]).tolist()
        missing = rng.random((100, 3)) < 0.2
        some = [[None if m else r for r, m in zip(*both, strict=True)] for both in zip(rows, missing, strict=True)]
        for place, found in enumerate((fleiss_kappa(rows), krippendorffs_alpha(some))):
            within[place] += found.low <= 0.36 <= found.high
    assert min(within) >= 370


def test_the_interval_over_clusters_is_the_jackknife_of_kappas_without_one() -> None:
    """Student's quantile of 3 degrees of freedom times √((m − 1)/m · Σ (κ₋ᵢ − mean)²)."""
    a = [1, 1, 0, 0, 1, 0, 1, 0, 1, 1, 0, 0]
    b = [1, 0, 0, 0, 1, 1, 1, 0, 1, 1, 0, 1]
    clusters = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    without = [
        cohens_kappa(*([x for x, c in zip(side, clusters, strict=True) if c != out] for side in (a, b))).value
        for out in range(4)
    ]
    error = math.sqrt(3 / 4 * sum((k - np.mean(without)) ** 2 for k in without))
    found = cohens_kappa(a, b, clusters=clusters)
    half = 3.182446305 * error
    assert (found.low, found.high) == pytest.approx((found.value - half, min(1.0, found.value + half)), abs=1e-8)
    assert half < 1
