"""Settings that change during a run: where they begin and end, and what refuses to be one."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import tiny
from twofold.algorithms.offline import OfflineAlgorithm
from twofold.algorithms.schedules import Ramp
from twofold.config.load import Document, dump, load_recipe, validate
from twofold.config.schema import Recipe
from twofold.errors import RecipeError
from twofold.objectives import BCO, DPO, DPOShift, SimPO
from twofold.objectives.base import Objective


def test_dpo_shift_as_its_paper_ramps_f() -> None:
    """f from 0.75 to 0.95 over five steps: a twentieth more in each, the objective's other settings as they were."""
    algorithm = OfflineAlgorithm(
        tiny.pairs(4), DPOShift(f=0.75, beta=0.2), batch_size=2, seed=0, steps=5, ramps={"f": Ramp(to=0.95)}
    )
    rounds = [algorithm.round(step, {}) for step in range(5)]
    assert [part.objective.f for r in rounds for part in r.parts] == pytest.approx([0.75, 0.8, 0.85, 0.9, 0.95])
    assert {part.objective.beta for r in rounds for part in r.parts} == {0.2}
    assert [r.figures["f"] for r in rounds] == pytest.approx([0.75, 0.8, 0.85, 0.9, 0.95])


@pytest.mark.parametrize(
    ("ramp", "values"),
    [
        (Ramp(to=1.0, over=3), [0, 0.5, 1, 1, 1]),
        (Ramp(to=1.0, over=0.6), [0, 0.5, 1, 1, 1]),
        (Ramp(to=1.0, shape="cosine"), [0, 0.1464466, 0.5, 0.8535534, 1]),
        (Ramp(to=1.0, over=0.2), [1, 1, 1, 1, 1]),
    ],
)
def test_length_and_shape(ramp: Ramp, values: list[float]) -> None:
    assert [ramp.at(0.0, step, 5) for step in range(5)] == pytest.approx(values)


def test_without_a_ramp_the_objective_is_the_one_given() -> None:
    objective = DPO()
    algorithm = OfflineAlgorithm(tiny.pairs(2), objective, batch_size=1, seed=0, steps=2)
    assert algorithm.round(1, {}).parts[0].objective is objective


@pytest.mark.parametrize(
    ("objective", "name", "to", "said"),
    [
        (SimPO(), "tau", 1.0, r"^algorithm\.ramp\.tau: SimPO has no number called 'tau'\n  → it has beta, gamma"),
        (DPO(), "beta", -0.1, r"^algorithm\.ramp: leads to .* DPO refuses: beta must be > 0\n  → let `to`"),
        (DPO(), "reference_free", 1.0, "no number called"),
        (
            BCO(),
            "shift_decay",
            0.5,
            r"^algorithm\.ramp\.shift_decay: BCO reads 'shift_decay' once.*\n  → set objective\.",
        ),
    ],
)
def test_refused_before_the_first_step(objective: Objective, name: str, to: float, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        OfflineAlgorithm(tiny.pairs(2), objective, batch_size=1, seed=0, steps=9, ramps={name: Ramp(to=to)})


def test_a_recipe_says_it_and_repeats_it() -> None:
    given = {"model": {"path": "m"}, "data": {"train": "d"}, "algorithm": {"ramp": {"beta": {"to": 0.5, "over": 20}}}}
    recipe = validate(Recipe, Document("test", given, {}))
    assert recipe.algorithm.ramp == {"beta": Ramp(to=0.5, over=20)}  # type: ignore[union-attr]  # the default algorithm


def test_a_dumped_recipe_keeps_its_ramps(tmp_path: Path) -> None:
    given = {"model": {"path": "m"}, "data": {"train": "d"}, "algorithm": {"ramp": {"beta": {"to": 0.5}}}}
    recipe = validate(Recipe, Document("test", given, {}))
    path = tmp_path / "resolved.yaml"
    path.write_text(dump(recipe))
    assert validate(Recipe, load_recipe(path)) == recipe
