"""Online preferences from a recipe, or from Python, to a finished run; and what is refused before the first step."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
import torch

from support.openai_stub import Body, Stub, said
from twofold.algorithms import Online
from twofold.algorithms.online import OnlineAlgorithm
from twofold.algorithms.preference_pairs import balanced
from twofold.config.load import Document, load_recipe, validate
from twofold.config.schema import Recipe
from twofold.errors import DataError, ModelError, RecipeError
from twofold.models.load import load_policy
from twofold.progress import Silent
from twofold.records import Record, Request, Source, Task
from twofold.rewards.implicit import TrailingReference
from twofold.runs.build import build_trainer
from twofold.runs.context import RunContext
from twofold.runs.dataset import read_dataset
from twofold.runs.train import train, train_recipe

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes" / "online"
QUICK: dict[str, Any] = {"training": {"steps": 20, "batch_size": 6}, "optimizer": {"learning_rate": 1e-2}}


def rows() -> list[Record]:
    return [Task(f"{a}+{b}?", f"{a + b}", Source("made", 5 * a + b)) for a in range(1, 5) for b in range(1, 4)]


def sections(**changes: Any) -> dict[str, Any]:
    """A run of four steps."""
    made: dict[str, Any] = {
        "algorithm": {"kind": "online"},
        "training": {"steps": 4, "batch_size": 3},
        "optimizer": {"learning_rate": 1e-2},
        "sampling": {"max_new_tokens": 6},
        "data": {},
    }
    for name, section in changes.items():
        made[name] = {**made.get(name, {}), **section}
    return made


def recipe(tmp_path: Path, base: Path, *, answers: bool = True, **changes: Any) -> Recipe:
    path = tmp_path / "tasks.jsonl"
    told = [{"prompt": t.prompt} | ({"answer": t.answer} if answers else {}) for t in rows()]  # type: ignore[union-attr]  # tasks
    path.write_text("".join(json.dumps(row) + "\n" for row in told))
    given = sections(**{"model": {"path": str(base), "precision": "float32"}, "run": {}, **changes})
    given["data"] = {"train": str(path), **given["data"]}
    return validate(Recipe, Document("test", {**given, "run": str(tmp_path / "run")}, {}))


def lines(run: Path, kind: str = "train") -> list[dict[str, float]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def digits(prompt: str, completion: str, truth: str | None) -> float:
    return float(sum(map(str.isdigit, completion)))


def test_the_verifier_judges_a_run(tmp_path: Path, base: Path) -> None:
    """An untrained model is never right: every pair ties, nothing moves, and the run says so."""
    trained = train_recipe(recipe(tmp_path, base, data={"heldout": {"count": 3}}))
    found = lines(tmp_path / "run")
    assert [(line["pairs"], line["ties"], line["skipped"]) for line in found] == [(0, 3, 1)] * 4
    assert [line["heldout/reward"] for line in lines(tmp_path / "run", "evaluation")] == [0.0, 0.0]
    assert (tmp_path / "run" / "report.html").is_file()
    before, _ = load_policy(recipe(tmp_path, base).model)
    after = dict(trained.policy.model.named_parameters())
    assert all(torch.equal(p, after[n]) for n, p in before.model.named_parameters())


def test_a_function_judges_a_run_from_python(tmp_path: Path, base: Path) -> None:
    """It needs no answers. The run's own recipe names it, and cannot repeat the run without it."""
    asked = [Request(t.prompt, t.source) for t in rows()]
    made = sections(algorithm={"judge": digits, "samples": 6, "ramp": {"beta": {"to": 0.3}}}, **QUICK)
    train(str(base), asked, run=str(tmp_path / "run"), **made)
    found = [line["reward"] for line in lines(tmp_path / "run")]
    assert sum(found[-4:]) > sum(found[:4]) + 1
    betas = [line["beta"] for line in lines(tmp_path / "run")]
    assert (betas[0], betas[-1]) == (0.1, pytest.approx(0.3))
    again = validate(Recipe, load_recipe(tmp_path / "run" / "resolved.yaml"))
    assert again.algorithm.judge == "python:digits"  # type: ignore[union-attr]  # as the line before says
    rmtree(tmp_path / "run")
    with pytest.raises(RecipeError, match="function of a program"):
        train_recipe(recipe(tmp_path, base, algorithm={"judge": "python:digits"}))


def test_a_reward_model_judges_a_run(tmp_path: Path, base: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    told = [{"prompt": t.prompt, "chosen": "1111", "rejected": "0"} for t in rows()]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in told))
    train(str(base), str(pairs), run=str(tmp_path / "rm"), **QUICK, objective={"kind": "bradley_terry"})  # type: ignore[arg-type]  # a section
    scorer = f"reward:{tmp_path / 'rm' / 'model'}"
    both = [{"source": scorer}, {"source": "verifier", "weight": 2.0}]
    train_recipe(recipe(tmp_path, base, algorithm={"judge": both, "samples": 4, "stop_penalty": 0.1}))
    for line in lines(tmp_path / "run"):
        assert line["reward"] == pytest.approx(line[f"reward/{scorer}"] + 2 * line["reward/verifier"])
        assert line["reward_std"] > 0
        assert line["pairs"] == 3


def later(body: Body) -> str:
    """Prefers what comes later in a dictionary."""
    first, second = re.findall(r'part="answer[^"]*">\n(.*?)\n</text-', said(body), re.DOTALL)
    return f"Verdict: {'A' if first > second else 'B' if first < second else 'tie'}"


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(later)
    yield server
    server.close()


def test_a_language_model_judges_a_run_and_is_asked_nothing_twice(tmp_path: Path, base: Path, stub: Stub) -> None:
    """It sees the row's own prompt and each two drafts in both orders, by the rubric that it is given."""
    shipped = files("twofold.judges") / "templates" / "compare.jinja"
    (tmp_path / "mine.jinja").write_text("Be brief.\n" + shipped.read_text(encoding="utf-8"))
    llm = {"judge": f"llm:{stub.url}#judge", "rubric": str(tmp_path / "mine.jinja")}
    made = recipe(tmp_path, base, algorithm={**llm, "samples": 3, "pairs": "all"})
    train_recipe(made)
    assert all(line["pairs"] + line["ties"] == 9 for line in lines(tmp_path / "run"))
    assert any("1+1?" in said(body) for body in stub.requests)
    assert all(said(body).startswith("Be brief.") for body in stub.requests)
    assembly, loop = assembled(made, tmp_path / "again")
    groups = loop.algorithm.round(0, {}).parts[0].groups
    assert len(groups) > 6
    texts = [[assembly.encoder.text(b.tokens).strip() for b in g.branches] for g in groups]
    assert all(chosen > rejected for chosen, rejected in texts)
    asked = len(stub.requests)
    first = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        for file in checkpoint.iterdir():
            file.unlink()
        checkpoint.rmdir()
    train_recipe(made)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == first
    assert len(stub.requests) == asked


def test_spin_learns_the_answers(tmp_path: Path, base: Path) -> None:
    spin = {"judge": "truth", "samples": 1, "prompts": 12, "epochs": 2, "reference": "fresh"}
    train_recipe(recipe(tmp_path, base, algorithm=spin, **QUICK))
    found = lines(tmp_path / "run")
    assert [line["age"] for line in found] == [0, 1, 2, 3] * 5
    ages = [abs(line["margin"]) < 1e-4 for line in found]
    assert ages == [age == 0 for age in [0, 1, 2, 3] * 5]  # a fresh reference: no lead yet
    assert found[-1]["chosen_logp"] > found[0]["chosen_logp"] + 1


def assembled(made: Recipe, run: Path) -> tuple[RunContext, Any]:
    policy, loaded = load_policy(made.model, 0)
    run.mkdir(parents=True, exist_ok=True)
    assembly = RunContext(made, made.objective, policy, loaded, read_dataset(made, made.objective), Silent())
    return assembly, build_trainer(assembly, run)


def test_the_implicit_judge_is_a_round_behind_where_the_reference_is_fresh(tmp_path: Path, base: Path) -> None:
    """Against its own first weights every draft would tie; in the first round it stands against the named model."""
    train_recipe(recipe(tmp_path, base, algorithm={"judge": "truth", "samples": 1}, training={"steps": 6}))
    trained = tmp_path / "run" / "model"
    dice = {"judge": "implicit", "samples": 4, "prompts": 6, "reference": "fresh",
            "implicit": {"reference": str(base), "beta": 0.3, "length_penalty": "balanced"}}  # fmt: skip
    model = {"path": str(trained), "precision": "float32"}
    (tmp_path / "dice").mkdir()
    train_recipe(recipe(tmp_path / "dice", base, algorithm=dice, model=model, training={"steps": 5}))
    found = lines(tmp_path / "dice" / "run")
    assert all(line["reward_std"] > 1e-3 for line in found if line["age"] == 0)
    assert all(line["pairs"] > 0 for line in found if line["age"] == 0)
    _, loop = assembled(recipe(tmp_path / "dice", base, algorithm=dice, model=model), tmp_path / "other")
    assert [type(k).__name__ for k in loop.stateful] == ["TrailingReference", "MovingReference"]
    ((_, _, reward),) = loop.algorithm.judge.sources
    assert (reward.beta, reward.penalty) == (0.3, balanced)
    kept = {**dice, "reference": "recipe"}
    _, loop = assembled(recipe(tmp_path / "dice", base, algorithm=kept, model=model), tmp_path / "other")
    assert not any(isinstance(k, TrailingReference) for k in loop.stateful)
    lora = {**model, "lora": {"rank": 2}}
    with pytest.raises(RecipeError, match="adapter"):
        assembled(recipe(tmp_path / "dice", base, algorithm=dice, model=lora), tmp_path / "other")


def test_a_fresh_reference_is_renewed_with_each_round(tmp_path: Path, base: Path) -> None:
    fresh = {"judge": "verifier", "prompts": 6, "epochs": 3, "reference": "fresh"}
    _, loop = assembled(recipe(tmp_path, base, algorithm=fresh), tmp_path / "run")
    (moving,) = loop.stateful
    assert (moving.alpha, moving.sync_every) == (1.0, 6)  # type: ignore[attr-defined]  # a moving reference
    assert isinstance(loop.algorithm, OnlineAlgorithm)
    assert loop.algorithm.steps_per_round == 6


def test_epochs_of_data_are_counted_by_prompts(tmp_path: Path, base: Path) -> None:
    """Twelve prompts, three a step, each pair used twice: eight steps."""
    once = {"algorithm": {"prompts": "all", "epochs": 2}, "training": {"steps": None, "epochs": 1}}
    assert train_recipe(recipe(tmp_path, base, **once)).outcome.step == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": {"kind": "kto"}}, "needs an objective on pairs"),
        ({"objective": {"kind": "sft"}}, "needs an objective on pairs"),
        ({"objective": {"kind": "pdpo_generator"}}, "needs an objective on pairs"),
        ({"objective": {"kind": "bradley_terry"}}, "needs an objective on pairs"),
        ({"algorithm": {"prompts": 4}}, "multiple of training.batch_size"),
        ({"algorithm": {"samples": 1}}, "must be ≥ 2, to compare"),
        ({"sampling": {"temperature": 0.0}}, "the same sample every time"),
        ({"algorithm": {"reference": "fresh"}, "reference": {"kind": "moving"}}, "leave reference.kind out"),
        ({"data": {"generator": {"count": 2}}}, "generator is pdpo's"),
        ({"data": {"heldout": {"count": 2}}, "algorithm": {"judge": "truth"}}, "heldout needs a judge that gives"),
        ({"reference": {"fit": "chosen"}}, "fit needs chosen completions"),
        ({"algorithm": {"judge": [{"source": "truth"}, {"source": "verifier"}]}}, "cannot be combined"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, base: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(tmp_path, base, **changes)


@pytest.mark.parametrize(
    ("algorithm", "fault", "message"),
    [
        ({"judge": "truth", "samples": 1}, DataError, "no reference answer to pair with its samples"),
        ({"judge": "verifier"}, DataError, "has no answer to compare with"),
    ],
    ids=["truth", "verifier"],
)
def test_prompts_without_answers_are_refused(
    tmp_path: Path, base: Path, algorithm: dict[str, Any], fault: type[Exception], message: str
) -> None:
    with pytest.raises(fault, match=message):
        train_recipe(recipe(tmp_path, base, answers=False, algorithm=algorithm))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("algorithm", "objective", "fault", "message"),
    [
        ({"judge": "implict"}, {}, RecipeError, "did you mean `implicit`"),
        ({"judge": "llm:not-an-address"}, {}, RecipeError, "judge|address"),
        ({"judge": "llm:http://localhost:1/v1#m", "rubric": "nowhere.jinja"}, {}, RecipeError, "rubric"),
        ({"judge": "verifier", "reference": "fresh"}, {"kind": "simpo"}, RecipeError, "uses no reference"),
        ({"judge": "reward:BASE"}, {}, ModelError, "no trained score head"),
        ({"prompts": 15}, {}, RecipeError, "some of the 12 twice"),
        ({"judge": "code"}, {}, RecipeError, r"algorithm\.judge: this reward runs programs"),
    ],
    ids=["slip", "address", "rubric", "no reference", "no reward model", "too many", "programs"],
)
def test_what_cannot_judge_is_told_before_the_first_step(
    tmp_path: Path,
    base: Path,
    algorithm: dict[str, Any],
    objective: dict[str, Any],
    fault: type[Exception],
    message: str,
) -> None:
    made = {k: v.replace("BASE", str(base)) if isinstance(v, str) else v for k, v in algorithm.items()}
    with pytest.raises(fault, match=message):
        train_recipe(recipe(tmp_path, base, algorithm=made, objective=objective))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


NAMES = ("online_dpo", "iterative_dpo", "irpo", "spin", "sppo", "dice", "xpo", "demo")


@pytest.mark.parametrize("name", NAMES)
def test_its_recipe(name: str) -> None:
    made = validate(Recipe, load_recipe(FOLDER / f"{name}.yaml"))
    assert isinstance(made.algorithm, Online)
    assert made.run == f"runs/online/{name}"
    fresh = name in ("iterative_dpo", "irpo", "spin", "sppo", "dice")
    assert (made.algorithm.reference == "fresh") == fresh
    assert (made.algorithm.prompts == "all") == (fresh or name == "xpo")


def test_the_page_names_every_recipe_and_every_setting() -> None:
    assert {p.stem for p in FOLDER.iterdir()} == {*NAMES, "base"}
    page = (ROOT / "docs" / "online.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(\.\./recipes/online/(\w+)\.yaml\)", page)) == set(NAMES)
    names = [*asdict(Online()), "length_penalty"]
    assert [k for k in names if k != "kind" and not re.search(rf"`(implicit\.)?{k}[`:,]", page)] == []
