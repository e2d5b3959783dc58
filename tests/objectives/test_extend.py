"""docs/extend.md says what it takes to add an objective; its own blocks are run here, in order."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import twofold
from twofold.cli.main import main
from twofold.config.load import load_recipe, validate
from twofold.config.schema import Recipe
from twofold.demo.build import character_tokenizer
from twofold.objectives import DPO, checks
from twofold.objectives.base import as_objective
from twofold.runs.train import train_recipe

ROWS = [{"prompt": f"{a}+1?", "chosen": f"{a + 1}", "rejected": f"{a}"} for a in range(1, 9)]


def blocks(root: Path, language: str) -> list[str]:
    page = (root / "docs" / "extend.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's module, a tiny base model and pairs, in which the page's program runs."""
    tokenizer = character_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, eos_token_id=tokenizer.eos_token_id, bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    (tmp_path / "myloss.py").write_text(blocks(root, "python")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "myloss", raising=False)
    return tmp_path


def test_the_page_runs_and_python_and_recipe_agree(place: Path, root: Path) -> None:
    """The golden value and the checks are the page's own assertions; both runs write the same metrics."""
    module, *program = blocks(root, "python")
    assert module.count("\n") <= 40
    names: dict[str, object] = {}
    for block in program:
        exec(compile(block, "docs/extend.md", "exec"), names)
    trained = names["trained"]
    assert isinstance(trained, twofold.TrainResult)
    (recipe,) = blocks(root, "yaml")
    (place / "recipe.yaml").write_text(recipe, encoding="utf-8")
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


def test_the_command_line_asks_before_it_imports(place: Path, root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (recipe,) = blocks(root, "yaml")
    (place / "recipe.yaml").write_text(recipe.replace("allow_code: true\n", ""), encoding="utf-8")
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
