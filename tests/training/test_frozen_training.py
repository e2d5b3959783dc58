"""What this room makes is frozen: nobody on the way changes it. What has a state of its own is listed."""

from __future__ import annotations

import pytest

from support.frozen import changeable
from support.usual_defaults import constants, numbers, switched_on, unusual
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


def test_numbers_that_nobody_names_are_these() -> None:
    assert numbers(training) == {
        "AlarmSettings.repetition": 0.3, "AlarmSettings.length": 2.0, "OptimizerSettings.warmup": 0.1,
        "OptimizerSettings.clip": 1.0, "AdamW.warmup": 0.1, "AdamW.clip": 1.0, "AdamW.epsilon": 1e-08,
        "AdamW8bit.warmup": 0.1, "AdamW8bit.clip": 1.0, "AdamW8bit.epsilon": 1e-08, "Adafactor.warmup": 0.1,
        "Adafactor.clip": 1.0, "RMSprop.warmup": 0.1, "RMSprop.clip": 1.0, "RMSprop.decay": 0.99,
        "RMSprop.epsilon": 1e-08, "SGD.warmup": 0.1, "SGD.clip": 1.0, "SGD.momentum": 0.9, "Muon.warmup": 0.1,
        "Muon.clip": 1.0, "Muon.momentum": 0.95, "Muon.epsilon": 1e-08, "Part.weight": 1.0,
        "Averages.add.weight": 1.0, "Step.clip": 1.0, "_few.most": 4, "TrainingSettings.total_steps.passes": 1,
        "TrainingSettings.epochs": 1.0, "TrainingSettings.batch_size": 32, "TrainingSettings.keep_checkpoints": 2,
    }  # fmt: skip


def test_constants_are_these() -> None:
    """But for the unit of the system's memory figure, which is the system's."""
    found = constants(training)
    assert found.pop("pace.MAXRSS_UNIT") in (1, 1024)
    assert found == {
        "alarms.GRAM": 4, "alarms.RISE": 0.1, "checkpoint.FORMAT": 1, "checkpoint.SLACK": 65_536,
        "checkpoint.HEADER": 512, "diagnostics.LN2": pytest.approx(0.6931471805599453),
        "diagnostics._MEMORY": 0.9, "diagnostics._DRIFT": 1.5, "diagnostics._FALLEN": 1.0,
        "diagnostics._FALLEN_TOKEN": 0.01, "diagnostics._SPENT": 0.01, "first_packs._AT_ONCE": 16_384,
        "identity.MOST": 5, "optim.RATES": {False: 1e-6, True: 1e-5}, "pace.GIB": 1_073_741_824,
        "save_schedule.MINUTES": 10.0, "save_schedule.SHARE": 0.1, "step._ROUNDING": 1e-12,
        "track._MOST_PARAMS": 100, "track._LONGEST": 6000, "trainer.MOST_ROWS": 1_000_000,
        "trainer.LONGEST": 1_000_000_000,
    }  # fmt: skip
