"""The outline: what the settings classes say, without torch and in a tenth of the time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from scripts import make_recipe_page
from twofold.config.load import Document, load_recipe, validate
from twofold.config.outline import FILE, check, outlined
from twofold.config.schema import Recipe
from twofold.errors import RecipeError
from twofold.settings import settings

FILES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))
RECIPES = [path for path in FILES if "recipes" not in load_recipe(path).data]
BARE: dict[str, Any] = {"model": {"path": "base"}, "data": {"train": "pairs.jsonl"}}
FAULTS: list[dict[str, Any]] = [
    {"objective": {"btea": 1}},
    {"objective": {"kind": "dop"}},
    {"objective": {"kind": "bradley_terry", "beta": 0.1}},
    {"objective": "dpo"},
    {"objective": {"beta": "much"}},
    {"objective": {"kind": ["dpo"]}},
    {"algorithm": {"kind": "ppo"}},
    {"algorithm": {"kind": "pdpo", "generator": {"frm": "square"}}},
    {"learning_rate": 1e-5},
    {"optimizer": {"betas": [0.9]}},
    {"optimizer": {"learning_rte": 1}},
    {"training": {"epochs": None}},
    {"training": {"track": "wanb"}},
    {"model": {}},
    {"model": {"path": "x", "lora": {"rnk": 1}}},
    {"data": {"train": [{"fil": "x"}]}},
    {"data": {"train": "x", "heldout": {"fraction": "half"}}},
    {"data": {"train": "x", "accept": ["chosen=rejected"]}},
    {"evaluation": {"sampling": {"temprature": 0}}},
    {"algorithm": {"ramp": {"beta": {"too": 1}}}},
]


def complaint(call: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        call()
    return str(caught.value)


def test_the_file_is_fresh() -> None:
    told = FILE.read_text(encoding="utf-8")
    assert told == make_recipe_page.outline(), "run: python scripts/make_recipe_page.py"


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_mistake_gets_the_message_of_the_real_classes(fault: dict[str, Any]) -> None:
    document = Document("recipe", {**BARE, **fault}, {})
    told = complaint(lambda: check("Recipe", document))
    assert told == complaint(lambda: validate(Recipe, document))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_every_recipe_of_ours_passes(path: Path) -> None:
    check("Recipe", load_recipe(path, ["model.path=base", "data.train=pairs.jsonl"]))


def test_an_objective_of_the_users_own_is_left_to_the_real_classes() -> None:
    check("Recipe", Document("recipe", {**BARE, "objective": {"kind": "mine:Mine", "anything": 1}}, {}))


def test_two_sections_of_one_name_are_refused() -> None:
    first = settings(type("Twice", (), {"__annotations__": {"a": int}, "__module__": __name__}))
    second = settings(type("Twice", (), {"__annotations__": {"b": int}, "__module__": __name__}))
    with pytest.raises(TypeError, match="two settings classes are called Twice"):
        outlined([first, second])


def test_an_outline_spells_types_and_defaults() -> None:
    @settings
    class Small:
        size: Literal["a", 2] | None = None
        pair: tuple[int, ...] = (1, 2)
        must: float

    expected = {
        "size": [["one of", ["literal", "a", 2], "null"], None],
        "pair": [["tuple", "int", "..."], [1, 2]],
        "must": ["float"],
    }
    Small.__annotations__ = {"size": Literal["a", 2] | None, "pair": tuple[int, ...], "must": float}
    assert outlined([Small]) == {"Small": expected}


MISTAKES = [
    (["train", "{recipe}", "objective.btea=1"], "did you mean `beta`?"),
    (["train", "{recipe}", "objective.kind=dpoo"], "did you mean `dpo`?"),
    (["train", "{recipe}", "data.train=nothing.jsonl"], "data.train=nothing.jsonl: no such file"),
    (["train", "{recipe}", "model.path=./nothing"], "model.path=./nothing: no such folder"),
    (["train", "{recipe}", "model.path=nobody/nothing"], "no folder of this name is here"),
    (["train", "{recipe}", "--dry"], "--dry-run"),
    (["train", "{recipe}", "--temprature", "1"], "did you mean sampling.temperature=1?"),
    (["evaluate", ".", "--temprature", "1"], "did you mean `--temperature`?"),
    (["sample", "./nothing", "--prompt", "x"], "no such folder"),
    (["explain", "http://h:1/v1#m", "{rows}"], "a server only answers: twofold sample http://h:1/v1#m"),
    (["sample", "http://h:1/v1#m", "--prompt", "x", "--beam", "2"], "a server only samples: leave out --best-of"),
    (["sample", "http://h:1/v1#m", "--prompt", "x", "chat=text"], "http://host/v1/completions#name"),
    (["sample", "nobody/nothing", "--prompt", "x", "temprature=1"], "did you mean `temperature`?"),
    (["evaluate", ".", "--tasks", "nothing.jsonl"], "nothing.jsonl: no such file"),
    (["score", "nothing.jsonl", "--judge", "verifier", "--out", "o"], "nothing.jsonl: no such file"),
    (["explain", ".", "nothing.jsonl"], "nothing.jsonl: no such file"),
    (["export", "nothing", "out"], "no such folder"),
    (["data", "show", "{rows}", "--model", ".", "max_lenght=1"], "did you mean `max_length`?"),
    (["data", "build", "nothing.jsonl", "--model", ".", "--out", "o"], "nothing.jsonl: no such file"),
]
"""(command line, part of its message)."""

FORKS = """
import json, os, sys
from twofold.cli.main import main

for number, line in enumerate(json.load(sys.stdin)):
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(f"{sys.argv[1]}/{number}", os.O_WRONLY | os.O_CREAT), 2)
        main(line)
        os._exit(99)
    _, status, used = os.wait4(child, 0)
    print(json.dumps([os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime]), flush=True)
"""
"""Command lines, each in a fork of a process that has imported the command line: its exit code and CPU seconds."""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, float, str]]:
    """By command line: exit code, CPU seconds and standard error."""
    folder = tmp_path_factory.mktemp("mistakes")
    rows, recipe = folder / "rows.jsonl", folder / "recipe.yaml"
    rows.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n', encoding="utf-8")
    recipe.write_text(f"model: {{path: .}}\ndata: {{train: {rows}}}\nobjective: {{kind: dpo}}\n", encoding="utf-8")
    lines = [[word.format(recipe=recipe, rows=rows) for word in arguments] for arguments, _ in MISTAKES]
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(folder)], input=json.dumps(lines), env=os.environ | {"COLUMNS": "200"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ends = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        str(arguments): (code, seconds, (folder / str(number)).read_text(encoding="utf-8"))
        for number, ((arguments, _), (code, seconds)) in enumerate(zip(MISTAKES, ends, strict=True))
    }


@pytest.mark.parametrize(("arguments", "meant"), MISTAKES)
def test_a_mistake_costs_less_than_a_second(
    answers: dict[str, tuple[int, float, str]], arguments: list[str], meant: str
) -> None:
    code, seconds, error = answers[str(arguments)]
    assert (code, meant in error) == (2, True), error
    assert len(error.splitlines()) <= 10
    assert seconds < 1.2  # importing torch alone takes two


@pytest.mark.parametrize("document", [
    {"training": {"steps": True}}, {"objective": {"beta": True}}, {"data": {"train": "x", "heldout": {"count": True}}},
    {"seed": True},
])  # fmt: skip
def test_a_truth_value_is_no_number(document: dict[str, Any]) -> None:
    said = complaint(lambda: check("Recipe", Document("r.yaml", BARE | document, {})))
    assert re.search("^r.yaml: .*: must be a number, not (true|false)$", said)
    with pytest.raises(RecipeError, match="must be a number, not"):
        validate(Recipe, Document("r.yaml", BARE | document, {}))


def test_a_number_may_be_whole_where_it_need_not_be_and_a_truth_value_is_one() -> None:
    check("Recipe", Document("r.yaml", BARE | {"objective": {"beta": 1}, "data": {"train": "x", "stream": True}}, {}))
