"""What was meant: the right place, kind or name for what a person typed."""

from __future__ import annotations

from typing import get_args

import pytest

from twofold.config import advice
from twofold.config.introspect import paths
from twofold.config.load import Document, from_overrides, validate
from twofold.config.schema import Recipe
from twofold.errors import RecipeError
from twofold.objectives import AnyObjective

BARE = ["model.path=base", "data.train=pairs.jsonl", "objective.beta=0.2"]


def complaint(override: str) -> str:
    document = from_overrides([*BARE, override])
    with pytest.raises(RecipeError) as caught:
        validate(Recipe, Document("recipe", document.data, {}))
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "objective.kind=bradley_terry",
            "objective.beta: unknown key of bradley_terry (known to dpo, robust_dpo, f_dpo, …)\n"
            "  → take it out, or replace the whole section: on the line, objective={kind: bradley_terry} does",
        ),
        ("learning_rate=1e-5", "did you mean `optimizer.learning_rate`?"),
        ("training.learning_rate=1e-5", "did you mean `optimizer.learning_rate`?"),
        ("batch_size=8", "did you mean `training.batch_size`?"),
        ("epochs=2", "did you mean `training.epochs`?"),
        ("beta=0.1", "did you mean `objective.beta`?"),
        ("lerning_rate=1e-5", "did you mean `optimizer.learning_rate`?"),
        ("lora={rank: 4}", "did you mean `model.lora`?"),
        ("lr=1e-5", "here it is `optimizer.learning_rate`"),
        ("kind=dpo", "here it is `objective.kind`"),
        ("algorithm.kind=ppo", "ppo is an objective: algorithm.kind=policy_gradient with objective.kind=ppo"),
        ("algorithm.kind=dpo", "dpo is an objective: write objective.kind=dpo"),
        ("objective.kind=pdpo", "pdpo is an algorithm: write algorithm.kind=pdpo"),
        ("objective.kind=rm", "a reward model is trained with objective.kind=bradley_terry"),
        ("objective.kind=DPO", "did you mean `dpo`?"),
        ("objective.kind=dop", "did you mean `dpo`?"),
        ("objective.kind=something", "one of sft, dft"),
        ("objective=dpo", "write objective.kind=dpo"),
        ("algorithm=PDPO", "write algorithm.kind=pdpo"),
        ("model=base", "did you mean model.path=base?"),
        ("data=pairs.jsonl", "did you mean data.train=pairs.jsonl?"),
        ("model.lora=16", "its keys are rank, alpha, rslora, dora, targets, exclude, modules_to_save"),
        (
            "model.lora.dropout=0.1",
            "there is no dropout here\n  → take it out: with dropout the loss would",
        ),
        ("lora_dropout=0.1", "there is no dropout here"),
        ("use_dora=true", "here it is `model.lora.dora`"),
        ("zzz=1", "the keys here are model, data, run"),
    ],
)
def test_the_likely_meaning_is_named(override: str, expected: str) -> None:
    assert expected in complaint(override)


def test_keys_of_other_packages_lead_to_keys_of_ours() -> None:
    ours = {".".join(path) for path in paths(Recipe, ())}
    assert {target.partition(",")[0] for target in advice.ELSEWHERE.values()} <= ours
    assert not set(advice.ELSEWHERE) & set(Recipe.__annotations__)


def test_rolled_out_objectives_are_those_that_learn_from_prompts() -> None:
    known = [member() for member in get_args(AnyObjective)]
    assert set(advice.ROLLED_OUT) == {o.kind for o in known if o.data_kind == "prompts" and o.kind != "pdpo_generator"}
