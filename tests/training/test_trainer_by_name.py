"""What is built of many parts takes them by name, so that none is taken for another."""

from __future__ import annotations

from dataclasses import fields

import pytest

from support.frozen import by_keyword
from twofold import training
from twofold.training.step import Step
from twofold.training.trainer import Trainer


def test_a_trainer_takes_all_of_its_parts_by_name() -> None:
    by_name = {f.name for f in fields(Trainer) if f.init and f.kw_only}
    assert by_name == {
        "run", "algorithm", "step", "evaluators", "settings", "steps", "identity", "progress", "stateful", "tracker",
    }  # fmt: skip
    assert [f.name for f in fields(Trainer) if not f.init] == ["state"]
    with pytest.raises(TypeError, match=r"takes 1 positional argument but 9 were given"):
        Trainer(*[None] * 8)  # type: ignore[misc, arg-type]  # as nobody may


def test_a_step_takes_its_models_first_and_the_rest_by_name() -> None:
    assert {f.name: f.kw_only for f in fields(Step)} == {
        "trainables": False, "providers": True, "packing": True, "clip": True,
    }  # fmt: skip


def test_settings_and_the_trainer_are_by_name() -> None:
    assert by_keyword(training) == {
        "AdamW", "AdamW8bit", "Adafactor", "AlarmSettings", "Muon", "OptimizerSettings", "RMSprop", "SGD", "Trainer",
        "TrainingSettings",
    }  # fmt: skip
