"""What an algorithm is by default: training on fixed rows, nothing sampled, nothing saved."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from twofold.algorithms.base import Algorithm, AlgorithmSettings, refuse_fixed_rows
from twofold.objectives import DPO, PPO


def test_traits_by_default() -> None:
    settings = AlgorithmSettings()
    assert (settings.draws_drafts, settings.answers_rows, settings.passes) == (False, False, 1)
    assert (settings.needs_reference, settings.imitates_answers, settings.is_rewarded) == (False, False, False)
    assert (settings.rewards, settings.implicit_judge, settings.value_model) == ((), None, None)
    assert (settings.data_kind(DPO()), settings.reference_interval(2, 9)) == ("pairs", None)
    with pytest.raises(TypeError, match="AlgorithmSettings does not define how to build it"):
        settings.build(None)  # type: ignore[arg-type]  # nothing of a run is asked


def test_an_algorithm_by_default() -> None:
    made = Algorithm()
    made.observe({}, {})
    assert (made.request(3), made.fixed_rows, made.stateful) == (None, None, ())
    with pytest.raises(TypeError, match="Algorithm has no rounds"):
        made.round(0, {})


def test_objectives_of_rollouts_need_rollouts() -> None:
    AlgorithmSettings().refuse_misfit(SimpleNamespace(objective=DPO()))  # type: ignore[arg-type]
    with pytest.raises(ValueError) as error:
        AlgorithmSettings().refuse_misfit(SimpleNamespace(objective=PPO()))  # type: ignore[arg-type]
    assert str(error.value) == "objective learns from rollouts: it needs algorithm.kind=policy_gradient"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"generator": "g"}, "data.generator is pdpo's: online answers the rows of data.train"),
        ({"is_mixture": True}, "data.train must have no weights: sampling does not support mixtures yet"),
        ({"fit": "chosen"}, "reference.fit needs chosen completions: fit the model in a run of its own"),
        ({}, ""),
    ],
)
def test_sections_that_sampling_does_not_use(changes: dict[str, Any], words: str) -> None:
    known = {"generator": None, "is_mixture": False, "fit": None, **changes}
    data = SimpleNamespace(generator=known["generator"], is_mixture=known["is_mixture"])
    recipe: Any = SimpleNamespace(data=data, reference=SimpleNamespace(fit=known["fit"]))
    if not words:
        refuse_fixed_rows(recipe, "online")
        return
    with pytest.raises(ValueError) as error:
        refuse_fixed_rows(recipe, "online")
    assert str(error.value) == words
