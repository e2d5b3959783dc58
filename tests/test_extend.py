"""docs/extend.md: the blocks that add an objective, a format, a judge, an algorithm and a verb run here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import twofold
from support.extend_page import Block, blocks, sections, write_blocks
from twofold.cli.main import main
from twofold.config.load import load_recipe, validate
from twofold.config.schema import Recipe
from twofold.demo.build import character_tokenizer
from twofold.objectives import DPO, checks
from twofold.objectives.base import as_objective
from twofold.runs.train import train_recipe

ROWS = [{"prompt": f"{a}+1?", "chosen": f"{a + 1}", "rejected": f"{a}"} for a in range(1, 9)]


def write_base(folder: Path) -> None:
    """A tiny model, and pairs."""
    tokenizer = character_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, eos_token_id=tokenizer.eos_token_id, bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")


@pytest.fixture
def place(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the objective's module and recipe, in which the program of its section runs."""
    write_base(tmp_path)
    write_blocks(tmp_path, blocks(root, "An objective"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "myloss", raising=False)
    return tmp_path


def test_the_objective_runs_and_python_and_recipe_agree(place: Path, root: Path) -> None:
    """The golden value and the checks are the page's own assertions; both runs write the same metrics."""
    assert (place / "myloss.py").read_text(encoding="utf-8").count("\n") <= 40
    names: dict[str, object] = {}
    for block in blocks(root, "An objective"):
        if block.language == "python" and not block.path:
            exec(compile(block.text, "docs/extend.md", "exec"), names)
    trained = names["trained"]
    assert isinstance(trained, twofold.TrainResult)
    again = train_recipe(validate(Recipe, load_recipe(place / "recipe.yaml")))
    by_python, by_recipe = ((t.folder / "metrics.jsonl").read_text(encoding="utf-8") for t in (trained, again))
    assert by_python == by_recipe
    first = json.loads(by_recipe.splitlines()[0])
    assert first["loss/target"] == pytest.approx(0.5, abs=1e-6)  # the margin is 0: all of γ is missing
    for run in (trained, again):
        said = (run.folder / "resolved.yaml").read_text(encoding="utf-8")
        assert "kind: myloss:TargetDPO\n" in said
        resolved = validate(Recipe, load_recipe(run.folder / "resolved.yaml"))
        assert repr(resolved.objective) == "TargetDPO(kind='target_dpo', beta=0.1, gamma=0.5)"


def test_the_command_line_asks_before_it_imports(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe = place / "recipe.yaml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("allow_code: true\n", ""), encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        main(["train", "recipe.yaml"])
    assert end.value.code == 2
    said = capfd.readouterr().err
    assert "recipe.yaml:3: objective.kind: this would import myloss and run its code" in said
    assert "set allow_code: true in the recipe" in said
    assert "myloss" not in sys.modules


class Averaging:
    """An objective that averages by itself, the field's old mistake."""

    requires = ("ref_logp",)

    def __call__(self, outputs: twofold.Outputs, batch: twofold.Batch) -> twofold.Loss:
        loss = DPO()(outputs, batch)
        value = loss.terms["dpo"].value
        return twofold.Loss({"dpo": twofold.Term(value / len(value), "pair")}, loss.metrics)


def test_checks_find_an_objective_that_averages() -> None:
    with pytest.raises(AssertionError):
        checks.splits_into_micro_batches(
            as_objective(Averaging()), checks.random_scene("pairs", 4, torch.Generator()), [0, 1, 1, 0]
        )
    with pytest.raises(AssertionError):
        twofold.check_objective(Averaging())


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """A copy of the package with everything that the page adds to it."""
    folder = tmp_path_factory.mktemp("house")
    shutil.copytree(root / "twofold", folder / "twofold")  # with what is compiled
    write_base(folder)
    for section in sections(root)[1:]:
        write_blocks(folder, blocks(root, section))
    for name in ("scripts", "docs"):
        (folder / name).mkdir(exist_ok=True)
    shutil.copy(root / "scripts" / "make_recipe_page.py", folder / "scripts")
    return folder


def run(house: Path, *command: str, given: str = "") -> str:
    """What `python COMMAND` prints, in the copy."""
    done = subprocess.run(
        [sys.executable, *command], cwd=house, env=os.environ | {"PYTHONPATH": str(house)}, text=True,
        capture_output=True, check=False, input=given,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


IN_TURN = """
import contextlib, io, json, runpy, sys
from twofold.cli.main import main

with contextlib.redirect_stdout(io.StringIO()):
    runpy.run_path("scripts/make_recipe_page.py", run_name="__main__")
printed = []
for language, text in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        if language == "python":
            exec(compile(text, "docs/extend.md", "exec"), {"__name__": "page"})
        else:
            try:
                main(text.split())
            except SystemExit as end:
                assert not end.code, (text, end.code)
    printed.append(out.getvalue())
print(json.dumps(printed))
"""
"""The recipe page, then commands and programs of the page, in one process: torch is imported once."""


@pytest.fixture(scope="module")
def outputs(house: Path, root: Path) -> dict[Block, str]:
    """What each command and program of the page prints in the copy."""
    added = [block for section in sections(root)[1:] for block in blocks(root, section) if not block.path]
    shown = [block for block in added if block.language in ("console", "python")]
    lines = [block.text.splitlines()[0].removeprefix("$ twofold ") for block in shown]
    given = [(b.language, b.text if b.language == "python" else line) for b, line in zip(shown, lines, strict=True)]
    return dict(zip(shown, json.loads(run(house, "-c", IN_TURN, given=json.dumps(given))), strict=True))


def test_the_page_has_a_section_for_everything_that_joins_by_a_line(root: Path) -> None:
    assert sections(root) == ["An objective of your own", "A data format", "A judge", "An algorithm", "A verb"]


@pytest.mark.parametrize("section", ["A data format", "A judge", "An algorithm", "A verb"])
def test_what_the_page_adds_works_as_it_says(root: Path, outputs: dict[Block, str], section: str) -> None:
    """A file of at most 50 lines, its line, and commands and programs that give what stands under them."""
    some = blocks(root, section)
    assert [block.text.count("\n") < 50 for block in some if block.path.startswith("twofold/")] == [True, True]
    for block in some:
        if block.language == "console":
            printed = [line.rstrip() for line in outputs[block].splitlines()]
            expected = block.text.splitlines()[1:]
            assert printed[: len(expected)] == expected


@pytest.mark.usefixtures("outputs")
def test_the_algorithm_imitates_and_then_compares(house: Path) -> None:
    lines = (house / "runs" / "warm" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    terms = [{name for name in json.loads(line) if name.startswith("loss/")} for line in lines[:2]]
    assert terms == [{"loss/sft"}, {"loss/dpo"}]
