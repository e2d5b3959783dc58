"""Numbers that are not finite, Booleans in the place of numbers, and messages about several settings."""

from __future__ import annotations

import pytest

from twofold.config.load import Document, from_overrides, overridden, validate
from twofold.config.schema import Recipe
from twofold.errors import RecipeError
from twofold.models.reference import ReferenceSettings
from twofold.runs.tuning.settings import Figure
from twofold.sampling.base import Sampling
from twofold.training.optim import AdamW, Muon, RMSprop
from twofold.training.trainer import TrainingSettings


def _fault(kind: type, *overrides: str) -> str:
    with pytest.raises(RecipeError) as error:
        validate(kind, from_overrides(overrides))
    return str(error.value)


@pytest.mark.parametrize("value", ["inf", ".inf", "-.inf", ".nan", "1e400"])
def test_a_number_that_is_not_finite_is_refused_by_name(value: str) -> None:
    fault = _fault(AdamW, f"learning_rate={value}")
    assert fault.startswith(f"override `learning_rate={value}`: learning_rate: should be a finite number, not ")


def test_a_boolean_is_no_number() -> None:
    assert "batch_size: must be a number, not true" in _fault(TrainingSettings, "batch_size=true")
    assert "betas.1: must be a number, not false" in _fault(AdamW, "betas=[0.9, false]")
    assert "packing.tokens: must be a number, not true" in _fault(TrainingSettings, "packing.tokens=true")
    assert validate(Sampling, from_overrides(["use_generation_config=true"])).use_generation_config is True


def test_a_bound_of_several_settings_names_the_one_that_was_set() -> None:
    assert "`batch_size=0`: batch_size: must be ≥ 1" in _fault(Sampling, "batch_size=0")
    assert _fault(Sampling, "batch_size=0", "max_new_tokens=5") == "settings: max_new_tokens and batch_size must be ≥ 1"
    whole = Document(
        "r.yaml", {"warmup": 0.1, "weight_decay": 0.0}, {("warmup",): "r.yaml", ("weight_decay",): "r.yaml"}
    )
    with pytest.raises(RecipeError) as error:
        validate(AdamW, overridden(whole, ["weight_decay=-1"]))
    assert str(error.value) == "override `weight_decay=-1`: weight_decay: must be ≥ 0"
    assert _fault(ReferenceSettings, "sync_every=3") == (
        "override `sync_every=3`: sync_every: alpha and sync_every are settings of kind: moving"
    )


@pytest.mark.parametrize(
    ("kind", "override", "words"),
    [
        (AdamW, "betas=[1, 0.9]", "betas: must be in [0, 1)"),
        (AdamW, "betas=[0.9, -0.1]", "betas: must be in [0, 1)"),
        (AdamW, "epsilon=-1e-8", "epsilon: must be ≥ 0"),
        (Muon, "momentum=1", "momentum: must be in [0, 1)"),
        (RMSprop, "decay=1.5", "decay: must be in [0, 1)"),
    ],
)
def test_what_an_optimizer_refuses_is_refused_before_the_model_is_loaded(kind: type, override: str, words: str) -> None:
    assert words in _fault(kind, override)


def test_a_setting_of_another_task_of_tune_is_refused() -> None:
    assert "temperature: is a setting of task: win-rate" in _fault(Figure, "temperature=0.7")
    assert "max_new_tokens: is of tasks that sample" in _fault(Figure, "task=preference", "max_new_tokens=9")
    assert "max_length: is of pairs and of reward models" in _fault(Figure, "max_length=99")
    judged = from_overrides(["task=win-rate", "judge=verifier", "temperature=0.7", "max_length=99"])
    assert validate(Figure, judged).temperature == 0.7


def test_settings_of_a_first_stage_that_is_not_there_are_refused() -> None:
    assert "fit_epochs and fit_learning_rate go with fit: chosen" in _fault(ReferenceSettings, "fit_epochs=3")
    assert validate(ReferenceSettings, from_overrides(["fit=chosen", "fit_epochs=3"])).fit_epochs == 3


def test_the_best_of_no_evaluation_is_refused_before_the_run() -> None:
    common = ("model.path=m", "data.train=rows.jsonl", "training.best_metric=heldout/accuracy")
    assert "training.best_metric needs an evaluation: data.heldout, evaluation.tasks or" in _fault(Recipe, *common)
    assert validate(Recipe, from_overrides([*common, "data.heldout.fraction=0.1"])).training.best_metric is not None


def test_rows_beside_the_training_rows_have_a_bound() -> None:
    common = ("model.path=m", "data.train=rows.jsonl", "training.batch_size=4", "data.also.file=more.jsonl")
    assert "share times training.batch_size must be ≤ 1000000" in _fault(Recipe, *common, "data.also.share=1e9")
    assert validate(Recipe, from_overrides([*common, "data.also.share=250000"])).data.also is not None


def test_the_bounds_themselves_are_fine() -> None:
    assert (AdamW(betas=(0.0, 0.0), epsilon=0.0).epsilon, Muon(momentum=0.0).momentum) == (0.0, 0.0)
