"""Parts of a beam search: how many successors are looked at, what a guide adds, and when it is decided."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from support import tiny
from twofold.errors import ModelError
from twofold.sampling.base import Sample
from twofold.sampling.beam import BeamResult, Beams, BeamSearch, _only, _results

LOGPS = torch.tensor([[-1.0, -5.0, -3.0, -7.0], [-2.0, -4.0, -6.0, -8.0], [-9.0, -9.5, -9.7, -9.9]])


def search(width: int, stops: set[int], **how: Any) -> BeamSearch:
    return BeamSearch(tiny.llama(), stops, Beams(width=width), **how)


@pytest.mark.parametrize(
    ("width", "stops", "guided", "most"),
    [(1, {0}, False, 2), (2, {0}, False, 4), (2, {0, 1}, False, 6), (1, {0}, True, 2), (2, {0}, True, 6),
     (9, {0}, True, 12)],
)  # fmt: skip
def test_enough_successors_are_looked_at(width: int, stops: set[int], guided: bool, most: int) -> None:
    """`width` for each beam and one more for each stop token; at most all of them."""
    made = search(width, stops, guide=(lambda prompt, tokens: tokens[:, 0]) if guided else None)
    sums, parents, tokens = made._grown([SimpleNamespace(logp_KV=LOGPS)], torch.zeros(3))  # type: ignore[list-item]
    order = LOGPS.flatten().argsort(descending=True)[:most]
    assert sums.tolist() == LOGPS.flatten()[order].tolist()
    assert (parents.tolist(), tokens.tolist()) == ((order // 4).tolist(), (order % 4).tolist())


def test_sums_go_on_and_a_reference_is_subtracted() -> None:
    made, other = search(1, {0}), torch.zeros(3, 4)
    other[1, 3] = -8.0
    tracks: Any = [SimpleNamespace(logp_KV=LOGPS), SimpleNamespace(logp_KV=other)]
    sums, parents, tokens = made._grown(tracks, torch.tensor([0.0, 0.5, 0.0]))
    assert (sums.tolist(), parents.tolist(), tokens.tolist()) == ([0.5, -1.0], [1, 0], [3, 0])


def test_a_guide_ranks_by_sum_and_value_and_ties_stay_in_order() -> None:
    seen: list[Any] = []

    def guide(prompt: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        seen.append((prompt.tolist(), tokens.tolist()))
        return torch.tensor([0, 2, 0, 3], dtype=torch.float64)

    sums, tokens = torch.tensor([-1.0, -2.0, -3.0, -4.0]), torch.tensor([[4], [5], [6], [7]])
    scores, places = search(1, {0}, guide=guide)._ranked(torch.tensor([9]), tokens, sums)
    assert (scores.tolist(), places.tolist(), scores.dtype) == ([0.0, -1.0, -1.0, -3.0], [1, 0, 3, 2], torch.float32)
    assert seen == [([9], [[4], [5], [6], [7]])]
    plain = search(1, {0})._ranked(torch.tensor([9]), tokens, sums)
    assert (plain[0] is sums, plain[1].tolist()) == (True, [0, 1, 2, 3])


def ended(*scores: float) -> list[BeamResult]:
    return [BeamResult(Sample(torch.ones(1), torch.ones(1), False), score) for score in scores]


@pytest.mark.parametrize(
    ("scores", "best", "decided"),
    [((-1.0, -2.0), -2.0, True), ((-1.0, -2.0), -1.9, False), ((-1.0,), -9.0, False), ((), -9.0, False)],
)
def test_it_is_decided_when_no_beam_can_overtake(scores: tuple[float, ...], best: float, decided: bool) -> None:
    score_K = torch.tensor([best - 1, best], dtype=torch.float64)
    assert search(2, {0})._decided(ended(*scores), score_K) == decided
    for how in ({"reference": tiny.llama(seed=1)}, {"guide": lambda prompt, tokens: tokens}):
        assert not search(2, {0}, **how)._decided(ended(*scores), score_K)


def test_only_a_forced_token_is_possible() -> None:
    assert _only(None, LOGPS) is LOGPS
    assert _only(2, LOGPS)[0].tolist() == [-torch.inf, -torch.inf, -3.0, -torch.inf]


def test_results_are_copies_of_the_marked_rows() -> None:
    tokens, scores = torch.tensor([[1], [2], [3]]), torch.tensor([0.5, 1.5, 2.5])
    found = _results(tokens, -tokens.double(), scores, torch.tensor([True, False, True]), truncated=True)
    assert [(r.completion.tokens.tolist(), r.completion.logp.tolist(), r.score) for r in found] == [
        ([1], [-1.0], 0.5), ([3], [-3.0], 2.5),
    ]  # fmt: skip
    assert all(r.completion.truncated for r in found)
    tokens.zero_()
    assert found[0].completion.tokens.tolist() == [1]


def test_a_reference_has_the_same_vocabulary_and_the_shorter_positions_count() -> None:
    with pytest.raises(ModelError) as error:
        search(1, {0}, reference=tiny.llama(vocab_size=60))
    assert str(error.value) == (
        "reference: 60 tokens, the policy knows 61\n  → give the model that the policy was trained from"
    )
    made = search(1, {3, 1}, reference=tiny.llama(max_position_embeddings=40))
    assert (made.max_positions, search(1, {0}).max_positions, made.stop_tokens.tolist()) == (40, 64, [1, 3])
