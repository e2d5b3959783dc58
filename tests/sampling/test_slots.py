"""Drafts in slots, step by step and by hand: greedy, so that logits say what comes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from twofold.sampling.base import Sample
from twofold.sampling.cache import Prefilled
from twofold.sampling.logits_processor import LogitsProcessor
from twofold.sampling.slots import NewCompletions, Slots, StopCriteria

GREEDY, PENALIZED = LogitsProcessor(0.0, 0, 1.0), LogitsProcessor(0.0, 0, 1.0, 3.0)
VOCABULARY, STOP = 5, 2


def saying(*tokens: int, sure: float = 2.0) -> Tensor:
    """Logits [A, V] under which each row says its token."""
    logits = torch.ones(len(tokens), VOCABULARY, dtype=torch.float64)
    logits[range(len(tokens)), list(tokens)] = sure
    return logits


def started(*prompts: list[int], say: tuple[int, ...], most: int = 4) -> NewCompletions:
    width = max(map(len, prompts))
    padded = [[0] * (width - len(p)) + p for p in prompts]
    lengths = torch.tensor([len(p) for p in prompts])
    start = Prefilled(None, torch.tensor(padded), lengths, saying(*say))
    return NewCompletions(
        [(i, 0) for i in range(len(prompts))], start, torch.zeros(len(prompts), most, dtype=torch.float64)
    )


def slots(capacity: int = 3, rule: LogitsProcessor = GREEDY, most: int = 4, positions: int = 10) -> Slots:
    ends = StopCriteria((STOP, 99), most, positions)  # 99 is no token of this model
    return Slots(capacity, rule, ends, torch.zeros(1, VOCABULARY, dtype=torch.float64))


def told(finished: dict[tuple[int, int], Sample]) -> dict[tuple[int, int], tuple[list[int], bool]]:
    return {row: (d.tokens.tolist(), d.truncated) for row, d in finished.items()}


def logp(rank: int = 1, sure: float = 2.0) -> float:
    """Of the token that is said, among five of which four have a logit of 1."""
    whole = torch.tensor([sure, *[1.0] * 4], dtype=torch.float64).log_softmax(0)
    return whole[rank - 1].item()


def test_a_draft_ends_with_a_stop_token_or_with_its_limit() -> None:
    """Of three, the first stops at its second token, the second meets the model's last position after one, the third
    its most tokens."""
    held = slots()
    assert held.live().tolist() == []
    assert held.begin(held.slot_A, started([1], [1] * 9, [4, 4], say=(1, 3, 4))) == 4
    assert held.limit_A.tolist() == [4, 1, 4]
    assert held.live().tolist() == [0, 2]
    finished, free = held.release()
    assert (told(finished), free.tolist()) == ({(1, 0): ([3], True)}, [1])
    assert held.last()[0].tolist() == [1, 3, 4]
    assert held.last()[1].tolist() == [1, 9, 2]
    held.next(saying(STOP, 0, STOP - 1))
    assert held.position_A.tolist() == [2, 9, 3]
    finished, free = held.release()
    assert (told(finished), free.tolist()) == ({(0, 0): ([1, STOP], False)}, [0, 1])
    assert finished[0, 0].logp.tolist() == pytest.approx([logp(), logp()])
    for token in (3, 0):
        assert held.live().tolist() == [2]
        held.next(saying(0, 0, token))
    finished, free = held.release()
    assert (told(finished), free.tolist()) == ({(2, 0): ([4, 1, 3, 0], True)}, [0, 1, 2])
    assert held.release()[0] == {}


def test_a_stop_token_in_the_last_place_is_no_truncation() -> None:
    held = slots(1, most=1)
    held.begin(held.slot_A, started([1], say=(STOP,), most=1))
    assert told(held.release()[0]) == {(0, 0): ([STOP], False)}


def test_what_is_decoded_after_the_end_is_lost() -> None:
    held = slots(2)
    held.begin(held.slot_A, started([1], [1], say=(STOP, 3)))
    for _ in range(3):
        held.next(saying(4, 1))
    finished, _ = held.release()
    assert told(finished) == {(0, 0): ([STOP], False), (1, 0): ([3, 1, 1, 1], True)}


def test_a_free_slot_begins_anew() -> None:
    """Nothing of the draft before is left: neither its count, nor its end, nor what it has seen."""
    held = slots(2, PENALIZED)
    held.begin(held.slot_A, started([3], [4], say=(STOP, 1)))
    held.release()
    assert held.begin(held.slot_A[:1], started([1, 1], say=(3,))) == 4
    assert (held.drawn_A.tolist(), held.live().tolist(), held.position_A.tolist()) == ([1, 1], [0, 1], [2, 1])
    assert held.rows == [(0, 0), (1, 0)]
    assert held.seen_AV is not None
    assert held.seen_AV[0].tolist() == [False, True, False, False, False]
    assert held.last()[0].tolist() == [3, 1]
    assert held.seen_AV[0].tolist() == [False, True, False, True, False]


def test_what_a_row_has_seen_is_less_likely() -> None:
    """A prompt's own tokens and what was drawn; padding, and what other rows say, are nothing to it."""
    held = slots(2, PENALIZED)
    held.begin(held.slot_A, started([3], [1, 4, 4], say=(3, 3)))
    assert held.last_A.tolist() == [0, 3]  # 3 was seen by the first: 2/3 is less than 1, of which the first is 0
    held.last()
    held.next(saying(0, 0))
    assert held.last_A.tolist() == [1, 0]
    assert slots(2).seen_AV is None


def test_what_is_no_number_ends_a_draft_and_no_other() -> None:
    held = slots(2)
    held.begin(held.slot_A, started([1], [1], say=(1, 3)))
    logits = saying(1, 3)
    logits[0] = torch.nan
    held.next(logits)
    assert held.live().tolist() == [1]
    finished, _ = held.release()
    assert finished[0, 0].logp.isnan().tolist() == [False, True]
    assert finished[0, 0].truncated


def test_slots_move_to_the_front_and_the_rest_is_done() -> None:
    held = slots(3, PENALIZED)
    held.begin(held.slot_A, started([1], [1, 1], [1, 1, 1], say=(STOP, 3, 4)))
    held.release()
    held.keep(torch.tensor([2]), 2)
    assert (held.size, held.rows, held.live().tolist()) == (2, [(2, 0), None, None], [0])
    assert held.done_A.tolist() == [False, True, True]
    assert [x[0].tolist() for x in held.last()] == [4, 3]
    assert held.seen_AV is not None
    assert held.seen_AV[0].tolist() == [False, True, False, False, True]
    for token in (1, 3, 0):
        held.next(saying(token, token, sure=9.0))
    assert told(held.release()[0]) == {(2, 0): ([4, 1, 3, 0], True)}
    held.restart(3)
    assert (held.size, held.rows, held.live().tolist()) == (3, [None] * 3, [])


def test_noise_and_log_probabilities_have_their_own_kinds() -> None:
    held = Slots(1, GREEDY, StopCriteria((), 4, 10), torch.zeros(1, VOCABULARY))
    assert (held.noise_AN.dtype, held.logp_AN.dtype, held.token_AN.dtype) == (
        torch.float64, torch.float32, torch.int64,
    )  # fmt: skip
    assert held.token_AN.shape == (1, 5)
    start = Prefilled(None, torch.tensor([[1]]), torch.tensor([1]), saying(1).float())
    noisy = NewCompletions([(0, 0)], start, torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=torch.float64))
    assert len(noisy) == 1
    held.begin(held.slot_A, noisy)
    assert held.noise_AN.tolist() == [[0.1, 0.2, 0.3, 0.4, 0.0]]


def test_each_token_has_its_own_noise() -> None:
    """Under even chances, noise of a fifth more is the next token."""
    held = slots(1, LogitsProcessor(1.0, 0, 1.0))
    even = torch.zeros(1, VOCABULARY, dtype=torch.float64)
    start = Prefilled(None, torch.tensor([[1]]), torch.tensor([1]), even)
    held.begin(held.slot_A, NewCompletions([(0, 0)], start, torch.tensor([[0.1, 0.9, 0.3, 0.7]], dtype=torch.float64)))
    for _ in range(3):
        held.next(even)
    assert told(held.release()[0]) == {(0, 0): ([0, 4, 1, 3], True)}


def test_everything_is_made_where_the_logits_are() -> None:
    """They lie elsewhere than tensors do by default: whatever is made without a device does not fit."""
    fresh = started([1], [1, 4], [3], say=(STOP, 3, 1))
    logits, like = saying(0, 0, 0), torch.zeros(1, VOCABULARY, dtype=torch.float64)
    with torch.device("meta"):
        held = Slots(3, PENALIZED, StopCriteria((STOP,), 4, 10), like)
        held.begin(held.slot_A, fresh)
        for _ in range(3):
            held.last()
            held.next(logits)
        finished, _ = held.release()
    assert {d.tokens.device.type for d in finished.values()} == {"cpu"}
    assert len(finished) == 3
