"""What this room makes is frozen: nobody on the way changes it. What has a state of its own is listed."""

from __future__ import annotations

import pytest

from support.frozen import changeable
from support.usual_defaults import switched_on, unusual
from twofold import training
from twofold.training.step import Step
from twofold.training.trainer import Trainer


def test_only_what_has_a_state_can_be_changed() -> None:
    assert changeable(training) == {"SaveSchedule", "Saver", "Step", "Tracker", "Trainer", "TrainerState"}


def test_a_trainer_and_a_step_take_their_parts_by_name() -> None:
    for make in (Trainer, Step):
        given = [None] * 7 if make is Trainer else [[], {}]
        with pytest.raises(TypeError, match="positional"):
            make(*given)  # type: ignore[misc, call-arg]  # as nobody may


def test_what_nobody_names_is_as_everywhere() -> None:
    assert unusual(training) == {"Evaluation.__init__.samples": ()}


def test_a_switch_is_off_unless_somebody_asks() -> None:
    assert switched_on(training) == {"Trainer.train.resume"}
