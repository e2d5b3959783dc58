"""Live warnings: said when there is cause, once, and remembered by a state that a checkpoint can keep."""

from __future__ import annotations

import json
import math

import pytest

from twofold.training.watch import Watch


def looks(rows: list[dict[str, float]], watch: Watch | None = None) -> list[list[str]]:
    watch = watch or Watch({})
    return [watch.look(step, row) for step, row in enumerate(rows)]


def test_a_first_loss_of_ln_2_is_as_it_should_be() -> None:
    assert looks([{"loss/dpo": math.log(2) + 5e-4}, {"loss/dpo": 0.2}]) == [[], []]


@pytest.mark.parametrize("loss", [0.68, 0.71])
def test_another_first_loss_is_told(loss: float) -> None:
    (said,), later = looks([{"loss/dpo": loss}, {"loss/dpo": loss}])
    assert f"{loss:.4f}" in said
    assert "ln 2" in said
    assert later == []


def test_a_falling_chosen_reward_is_told_once_it_lasts() -> None:
    said = looks([{"chosen_reward": -0.3}] * 30)
    told = [step for step, texts in enumerate(said) if texts]
    assert told == [9]
    assert "-0.30" in said[9][0]
    assert "less likely than under the reference" in said[9][0]


def test_a_rising_or_level_chosen_reward_is_no_news() -> None:
    assert looks([{"chosen_reward": 0.01 * s} for s in range(30)] + [{"chosen_reward": -0.02}] * 5) == [[]] * 35


@pytest.mark.parametrize("last", [100.0, 10.0])
def test_drafts_that_grow_or_shrink_are_told(last: float) -> None:
    said = looks([{"draft_length": 40.0}] * 12 + [{"draft_length": last}] * 40)
    texts = [t for row in said for t in row]
    assert len(texts) == 1
    assert "from 40 to" in texts[0]
    assert said[:12] == [[]] * 12


def test_drafts_of_steady_length_are_no_news() -> None:
    assert looks([{"draft_length": 40.0 + s % 7} for s in range(60)]) == [[]] * 60


def test_the_state_goes_through_json_and_carries_on() -> None:
    rows = [{"chosen_reward": -0.3, "draft_length": 10.0 + 2 * s} for s in range(30)]
    whole = looks(rows)
    first = Watch({})
    head = [first.look(s, rows[s]) for s in range(7)]
    second = Watch(json.loads(json.dumps(first.state)))
    assert head + [second.look(s, rows[s]) for s in range(7, 30)] == whole
    assert sum(map(len, whole)) == 2
