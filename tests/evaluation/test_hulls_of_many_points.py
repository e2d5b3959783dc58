"""Hulls of many points by hand and by their definition; heights with several corners; points from rows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from twofold.evaluation.hull import Point, areas, height, hull

CONCAVE = [(0.0, 0.0), (1.0, 2.0), (2.0, 3.0), (3.0, 3.9), (4.0, 4.0)]


@pytest.mark.parametrize(
    ("points", "corners"),
    [
        (CONCAVE, CONCAVE),
        ([*CONCAVE[:3], (3.0, 3.5), (4.0, 7.9)], [(0.0, 0.0), (1.0, 2.0), (4.0, 7.9)]),
        ([*CONCAVE[:3], (3.0, 3.5), (4.0, 8.0)], [(0.0, 0.0), (4.0, 8.0)]),
        ([*CONCAVE[:3], (3.0, 3.5), (4.0, 5.1)], [(0.0, 0.0), (1.0, 2.0), (4.0, 5.1)]),
        ([*CONCAVE[:3], (3.0, 3.5), (4.0, 4.9)], [(0.0, 0.0), (1.0, 2.0), (2.0, 3.0), (4.0, 4.9)]),
        ([(2.0, 3.0), (2.0, 2.5), (1.0, 2.0), (2.0, 3.0), (0.0, 0.0), (1.0, 1.5)], CONCAVE[:3]),
        ([(0.0, 5.0), (1.0, 5.0), (2.0, 4.0)], [(0.0, 5.0)]), ([], []), ([(3.0, 1.0)], [(3.0, 1.0)]),
    ],
)  # fmt: skip
def test_corners_by_hand(points: list[tuple[float, float]], corners: list[tuple[float, float]]) -> None:
    """On a line between two others a point is no corner."""
    assert hull(points) == corners
    assert hull(points[::-1]) == corners


@pytest.mark.parametrize("seed", range(8))
def test_a_hull_is_concave_rises_and_has_all_points_below_it(seed: int) -> None:
    points = [(float(x), float(y)) for x, y in np.random.default_rng(seed).integers(0, 12, size=(25, 2))]
    corners = hull(points)
    assert set(corners) <= set(points)
    assert corners[0] == max((p for p in points if p[0] == min(x for x, _ in points)), key=lambda p: p[1])
    assert corners[-1][1] == max(y for _, y in points)
    rises = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(corners)]
    assert all(rise > 0 for rise in rises)
    assert all(a > b for a, b in pairwise(rises))
    xs, ys = np.array(corners).T
    assert all(y <= np.interp(x, xs, ys) + 1e-12 for x, y in points)


@pytest.mark.parametrize(
    ("limit", "area"),
    [(0.5, 0.25), (1.0, 1.0), (1.5, 1.0 + 1.125), (2.0, 3.5), (3.0, 3.5 + 3.45), (4.0, 10.9), (6.0, 10.9 + 8.0)],
)  # fmt: skip
def test_a_height_is_the_area_below_per_nat(limit: float, area: float) -> None:
    """Trapezoids of 1, 2.5, 3.45 and 3.95, then 4 for each further nat."""
    assert height(CONCAVE, limit) == pytest.approx(area / limit)
    assert height([(0.0, -2.0), *CONCAVE[1:], (1.0, 0.0)], 2.0) == pytest.approx((0.0 + 2.5) / 2 + 2.0)


def test_a_point_is_of_its_prompts_rows() -> None:
    """Two samples of one prompt, one of another: tokens and cuts are per sample."""
    rows = [{"kl": 1.0, "drawn": 0.5, "scores": [1.0, 4.0], "tokens": 9, "truncated": 1},
            {"kl": 3.0, "drawn": 2.5, "scores": [7.0], "tokens": 3, "truncated": 1}]  # fmt: skip
    assert Point.of(rows) == Point([1.0, 3.0], [0.5, 2.5], [2.5, 7.0], 4.0, 2 / 3)


def test_three_methods_of_several_seeds() -> None:
    """Up to the least of the largest KL, which the second seed of b has: 3. Rewards rise by 2, 1, 4 and 2 per nat."""
    base = Point([0.0] * 2, [0.0] * 2, [1.0] * 2)

    def at(kl: float, gain: float) -> Point:
        return Point([kl] * 2, [kl] * 2, [1.0 + gain] * 2)

    methods = {
        "a": [[at(2.0, 4.0), at(6.0, 12.0)]],
        "b": [[at(4.0, 4.0)], [at(3.0, 12.0), at(1.0, 4.0)]],
        "c": [[at(9.0, 18.0)]],
    }
    found = areas(base, methods, resamples=5)
    assert found is not None
    assert found.limit == 3.0
    values = {name: (e.value, e.n) for name, e in found.heights.items()}
    assert values == {
        "a": (pytest.approx(3.0), 1),
        "b": (pytest.approx((1.5 + 6.0) / 2), 2),
        "c": (pytest.approx(3.0), 1),
    }
    assert [(t["a"], t["b"]) for t in found.comparisons] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [t["difference"]["value"] for t in found.comparisons] == pytest.approx([0.75, 0.0, -0.75])
    assert found.comparisons[1]["p_value"] == 1.0
