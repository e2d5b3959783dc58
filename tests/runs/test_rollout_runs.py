"""Policy gradient from a recipe, or from Python, to a finished run; and what is refused before the first step."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest

from support.rollout_runs import digits, lines, recipe, rows, sections
from twofold.config.load import load_recipe, validate
from twofold.config.schema import Recipe
from twofold.errors import DataError, ModelError, RecipeError
from twofold.records import Request
from twofold.runs.train import train, train_recipe

ROOT = Path(__file__).parents[2]


def test_the_verifier_rates_a_run(tmp_path: Path, base: Path) -> None:
    """An untrained model is never right: nothing to learn from, and the run says so (`silent`)."""
    trained = train_recipe(recipe(tmp_path, base))
    found = lines(tmp_path / "run")
    assert [line["zero_variance"] for line in found] == [1.0] * 4
    assert [line["drafts"] for line in found] == [12.0] * 4
    assert [line["heldout/reward"] for line in lines(tmp_path / "run", "evaluation")] == [0.0, 0.0]
    assert (tmp_path / "run" / "report.html").is_file()
    assert "reward" in trained.results["training"]


def test_a_function_rates_a_run_from_python(tmp_path: Path, base: Path) -> None:
    """The run's own recipe names it, and cannot repeat the run without it."""
    both = [{"source": digits, "weight": 2.0}, {"source": "verifier:flexible", "weight": 1.0}]
    made = sections(algorithm={"reward": both}, training={"steps": 20})
    train(str(base), rows(), run=str(tmp_path / "run"), **made)
    found = lines(tmp_path / "run")
    assert all(line["reward"] == pytest.approx(2 * line["reward/python:digits"] + line["reward/verifier:flexible"])
               for line in found)  # fmt: skip
    assert found[0]["reward/python:digits"] >= 0.25
    rated = [line["reward/python:digits"] for line in found]
    assert sum(rated[-4:]) > sum(rated[:4]) + 1
    again = validate(Recipe, load_recipe(tmp_path / "run" / "resolved.yaml"))
    assert again.algorithm.rewards[0].source == "python:digits"  # type: ignore[union-attr]  # as the line before says
    rmtree(tmp_path / "run")
    with pytest.raises(RecipeError, match="function of a program"):
        train_recipe(recipe(tmp_path, base, algorithm={"reward": "python:digits"}))


def test_prompts_without_answers_are_enough_for_a_function(tmp_path: Path, base: Path) -> None:
    asked = [Request(t.prompt, t.source) for t in rows()]
    train(str(base), asked, run=str(tmp_path / "run"), **sections(algorithm={"reward": digits}))
    assert lines(tmp_path / "run")[0]["reward"] < 6
    with pytest.raises(DataError, match="has no answer to compare with"):
        train(str(base), asked, run=str(tmp_path / "other"), **sections())


def test_a_reward_model_rates_a_run(tmp_path: Path, base: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    told = [{"prompt": t.prompt, "chosen": "1111", "rejected": "0"} for t in rows()]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in told))
    quick: dict[str, Any] = {"training": {"steps": 30, "batch_size": 6}, "optimizer": {"learning_rate": 1e-2}}
    train(str(base), str(pairs), run=str(tmp_path / "rm"), **quick, objective={"kind": "bradley_terry"})  # type: ignore[arg-type]  # a section
    scorer = {"reward": f"reward:{tmp_path / 'rm'}", "kl": {"coefficient": 0.01}}
    train_recipe(recipe(tmp_path, base, algorithm=scorer, training={"steps": 20}))
    found = [line["reward"] for line in lines(tmp_path / "run")]
    assert sum(found[-4:]) > sum(found[:4])
    rmtree(tmp_path / "run")
    with pytest.raises(ModelError, match="no trained score head"):
        train_recipe(recipe(tmp_path, base, algorithm={"reward": f"reward:{base}"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": {"kind": "dpo"}}, "needs objective ppo, grpo, rloo or reinforce"),
        ({"algorithm": {"kind": "offline"}}, "needs algorithm.kind=policy_gradient"),
        ({"algorithm": {"epochs": 2}}, "serves one step only"),
        ({"algorithm": {"rollouts": 4}}, "multiple of training.batch_size"),
        ({"algorithm": {"samples": 1}}, "samples must be ≥ 2"),
        ({"algorithm": {"kl": {"target": 6.0}}}, "target: needs a coefficient"),
        ({"sampling": {"temperature": 0.7}}, "from the policy itself"),
        ({"data": {"generator": {"count": 2}}}, "generator is pdpo's"),
        ({"reference": {"fit": "chosen"}}, "fit needs chosen completions"),
        ({"objective": {"kind": "grpo", "average": "constant"}}, "length: goes with average constant"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, base: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(tmp_path, base, **changes)


def test_a_slip_in_a_rewards_name_is_told(tmp_path: Path, base: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean `verifier`"):
        train_recipe(recipe(tmp_path, base, algorithm={"reward": "verifer"}))


def test_a_rollout_asks_no_prompt_twice(tmp_path: Path, base: Path) -> None:
    with pytest.raises(RecipeError, match="some of the 9 twice"):
        train_recipe(recipe(tmp_path, base, algorithm={"rollouts": 12}, objective={"clip": 0.2}))


def test_epochs_of_data_are_counted_by_prompts(tmp_path: Path, base: Path) -> None:
    """Nine prompts left of twelve, three a step, each used twice: six steps."""
    once = {"objective": {"clip": 0.2}, "algorithm": {"epochs": 2}, "training": {"steps": None, "epochs": 1}}
    assert train_recipe(recipe(tmp_path, base, **once)).outcome.step == 6
    assert [line["age"] for line in lines(tmp_path / "run")] == [0, 1] * 3


def test_the_demo_recipe_is_whole() -> None:
    made = validate(Recipe, load_recipe(ROOT / "recipes" / "policy_gradient" / "demo.yaml"))
    assert made.algorithm.kind == "policy_gradient"
    assert made.run == "runs/policy_gradient/demo"


def runs_programs(prompt: str, completion: str, truth: str | None) -> float:
    raise AssertionError("it must not be called")


@pytest.mark.parametrize("name", ["code", "execute", "function"])
def test_a_reward_that_runs_programs_is_refused_before_the_model_speaks(name: str, tmp_path: Path, base: Path) -> None:
    runs_programs.executes = True  # type: ignore[attr-defined]  # how a function says so
    reward: Any = runs_programs if name == "function" else name
    said = "no judge is called 'execute'" if name == "execute" else "runs programs that the model writes"
    with pytest.raises(RecipeError, match=said):
        train(str(base), rows(), run=str(tmp_path / "run"), **sections(algorithm={"reward": reward}))
    if name != "execute":
        allowed = {"reward": reward, "execution": {"allow": True, "sandbox": ["env"]}}
        with pytest.raises(RecipeError, match="reach the network"):
            train(str(base), rows(), run=str(tmp_path / "run"), **sections(algorithm=allowed))
