"""How buckets are cut into tiles, by hand: the rows of queries and keys, and the bias of each."""

from __future__ import annotations

import pytest
import torch

from twofold.models import tiled_attention
from twofold.models.packing import Bucket
from twofold.models.tiled_attention import _bias, _cut, _seen

FAR = 2**62


def bucket(num: int, queries: int, keys: int) -> Bucket:
    """Segments whose queries are the last of their keys."""
    q = torch.arange(keys - queries, keys).expand(num, -1)
    return Bucket(q, torch.arange(keys).expand(num, -1), False)


def cut(buckets: list[Bucket], window: int | None = None) -> list[tuple[tuple[int, int], tuple[int, int], int]]:
    made = [((t.query.start, t.query.stop), (t.key.start, t.key.stop), t.num) for t in _cut(buckets, window, 2)]
    assert all(t.bias.shape[0] == t.num for t in _cut(buckets, window, 2))
    return made


def test_as_many_segments_share_a_tile_as_scores_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three segments of 4 queries and 6 keys, 2 heads: 48 scores each. Then one of 2 and 5."""
    buckets = [bucket(3, 4, 6), bucket(1, 2, 5)]
    monkeypatch.setattr(tiled_attention, "_STRETCH", 1)
    for most, want in (
        (144, [((0, 12), (0, 18), 3), ((12, 14), (18, 23), 1)]),
        (143, [((0, 8), (0, 12), 2), ((8, 12), (12, 18), 1), ((12, 14), (18, 23), 1)]),
        (48, [((0, 4), (0, 6), 1), ((4, 8), (6, 12), 1), ((8, 12), (12, 18), 1), ((12, 14), (18, 23), 1)]),
    ):
        monkeypatch.setattr(tiled_attention, "_SCORES", most)
        assert cut(buckets) == want


def test_a_long_segment_is_cut_into_stretches_of_queries_and_the_keys_that_they_see(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 40 scores three queries of 6 keys and 2 heads fit. Queries 2 to 4 see the keys up to 4; query 5 all six."""
    monkeypatch.setattr(tiled_attention, "_SCORES", 40)
    monkeypatch.setattr(tiled_attention, "_STRETCH", 1)
    assert cut([bucket(2, 4, 6)]) == [
        ((0, 3), (0, 5), 1), ((3, 4), (0, 6), 1), ((4, 7), (6, 11), 1), ((7, 8), (6, 12), 1),
    ]  # fmt: skip
    assert cut([bucket(1, 4, 6)], window=2) == [((0, 3), (1, 5), 1), ((3, 4), (4, 6), 1)]
    monkeypatch.setattr(tiled_attention, "_STRETCH", 4)
    assert cut([bucket(1, 4, 6)]) == [((0, 4), (0, 6), 1)]


@pytest.mark.parametrize(
    ("window", "want"), [(None, (0, 6)), (1, (3, 6)), (3, (1, 6)), (4, (0, 6)), (5, (0, 6)), (99, (0, 6))]
)
def test_the_keys_that_queries_3_to_5_see(window: int | None, want: tuple[int, int]) -> None:
    assert _seen(torch.tensor([[3, 4, 5]]), window) == want


def test_a_key_that_is_not_seen_has_a_large_negative_bias() -> None:
    q, k = torch.tensor([[1, 2]]), torch.tensor([[0, 1, 2, FAR]])
    for window, want in (
        (None, [[0, 0, 1, 1], [0, 0, 0, 1]]), (2, [[0, 0, 1, 1], [1, 0, 0, 1]]), (1, [[1, 0, 1, 1], [1, 1, 0, 1]]),
    ):  # fmt: skip
        bias = _bias(q, k, window)
        assert bias.shape == (1, 1, 2, 4)
        assert torch.equal(bias[0, 0], torch.tensor(want).float() * -1e30)


def test_the_sizes_of_tiles() -> None:
    assert (tiled_attention._SCORES, tiled_attention._STRETCH, tiled_attention._UNSEEN) == (300_000, 64, -1e30)
