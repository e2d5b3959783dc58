"""A recipe with an objective on scores trains a reward model, into a folder that any library loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import twofold
from twofold.batch import Branch, Group, Role
from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.errors import DataError, RecipeError
from twofold.models.export import export_model
from twofold.progress import Silent
from twofold.records import Pair, Source
from twofold.runs.dry_run import dry_run
from twofold.runs.train import RunOptions, train_recipe

ROWS: list[dict[str, Any]] = [
    {"prompt": f"{a}+{b}?", "completions": [f"#### {a + b}", f"#### {a}", f"{b}"], "scores": [1, 0, 0]}
    for a in range(1, 7)
    for b in range(1, 5)
]


class Notes(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


def recipe(tmp_path: Path, base: Path, **sections: Any) -> Recipe:
    file = tmp_path / "rankings.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    given = {
        "model": {"path": str(base), "precision": "float32"},
        "data": {"train": str(file), "heldout": {"count": 6}},
        "objective": {"kind": "bradley_terry", "centring": 0.01},
        "training": {"steps": 4, "batch_size": 8},
        "optimizer": {"learning_rate": 0.01},
        "run": str(tmp_path / "run"),
        **sections,
    }
    return validate(Recipe, Document("test", given, {}))


@pytest.mark.parametrize("kind", ["bradley_terry", "reward_plackett_luce"])
def test_a_run_leaves_a_reward_model(tmp_path: Path, base: Path, kind: str) -> None:
    notes = Notes()
    trained = train_recipe(recipe(tmp_path, base, objective={"kind": kind}), RunOptions(progress=notes))
    assert any("has no score head: a fresh one was drawn from seed 0" in said for said in notes.said)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["evaluation", *["train"] * 4, "evaluation"]
    assert lines[-1]["heldout/loss"] < lines[0]["heldout/loss"]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "model")
    ids = trained.tokenizer("1+2?#### 3", return_tensors="pt").input_ids
    trained.model.config._attn_implementation = "sdpa"
    assert torch.equal(model(ids).logits, trained.model(ids).logits)
    assert model.config.num_labels == 1


def test_a_stopped_run_resumes_to_the_same_bytes(tmp_path: Path, base: Path) -> None:
    train_recipe(recipe(tmp_path, base, run=str(tmp_path / "whole")))
    asked = iter([False, True])
    stopped = train_recipe(recipe(tmp_path, base), RunOptions(stop=lambda: next(asked)))
    assert stopped.outcome.stopped
    train_recipe(recipe(tmp_path, base))
    first, second = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "run"))
    assert first == second


def test_lora_and_pairs_in_memory(tmp_path: Path, base: Path) -> None:
    rows = [Pair(r["prompt"], r["completions"][0], r["completions"][1], Source("mine", i)) for i, r in enumerate(ROWS)]
    trained = twofold.train(
        str(base),
        rows,
        objective=twofold.BradleyTerry(),
        run=str(tmp_path / "run"),
        model={"precision": "float32", "lora": {"rank": 2}},
        training={"steps": 2, "batch_size": 4},
    )
    assert any("score.modules_to_save" in name for name in trained.policy.trainable())
    again, _ = twofold.load_reward_model(twofold.ModelSettings(path=str(tmp_path / "run" / "model")))
    assert again.note == ""


def test_margins_of_the_data_are_asked_for(tmp_path: Path, base: Path) -> None:
    with pytest.raises(DataError, match="asks for `margin`"):
        train_recipe(recipe(tmp_path, base, objective={"kind": "bradley_terry", "margin": "data"}))
    ROWS_WITH = [{**row, "margin": 0.5} for row in ROWS]
    made = recipe(tmp_path, base, objective={"kind": "bradley_terry", "margin": "data"})
    Path(made.data.train).write_text("".join(json.dumps(row) + "\n" for row in ROWS_WITH))
    assert train_recipe(made).outcome.step == 4


@pytest.mark.parametrize(
    ("sections", "where"),
    [
        ({"evaluation": {"tasks": {"file": "tasks.jsonl"}}}, "evaluation.tasks"),
        ({"reference": {"fit": "chosen"}}, "reference.fit"),
        ({"reference": {"kind": "moving"}}, "reference.kind"),
    ],
)
def test_what_a_reward_model_cannot_do_is_refused(
    tmp_path: Path, base: Path, sections: dict[str, Any], where: str
) -> None:
    with pytest.raises(RecipeError, match=f"{where}.*scores"):
        train_recipe(recipe(tmp_path, base, **sections))


def test_pdpo_needs_a_policy(tmp_path: Path, base: Path) -> None:
    with pytest.raises(RecipeError, match="needs objective dpo"):
        recipe(tmp_path, base, algorithm={"kind": "pdpo"})


def test_a_dry_run_counts_no_reference(tmp_path: Path, base: Path) -> None:
    found = dry_run(recipe(tmp_path, base))
    assert (found.memory.reference, found.rows["train"]) == (0, 18)


def test_held_out_figures_reach_results_report_and_card(tmp_path: Path, base: Path) -> None:
    train_recipe(recipe(tmp_path, base))
    run = tmp_path / "run"
    found = json.loads((run / "results.json").read_text())
    reward = found["reward_model"]
    assert reward["accuracy"]["n"] == 12  # one correct completion over two tied wrong ones, of six prompts
    assert found["heldout"]["accuracy"] == reward["accuracy"]
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["heldout/accuracy"] == reward["accuracy"]["value"]
    assert last["heldout/calibration_error"] == reward["calibration_error"]
    assert sum(b["n"] for b in reward["bins"]) == sum(e["n"] for e in reward["by_length"]) == 12
    report = (run / "report.html").read_text()
    assert "the better answer scores higher" in report
    assert "Calibration: run" in report
    card = (run / "README.md").read_text()
    assert "pipeline_tag: text-classification" in card
    assert "| the better answer is | accuracy (95% interval) | n |" in card


def test_an_adapter_of_a_reward_model_is_exported_whole(tmp_path: Path, base: Path) -> None:
    trained = train_recipe(
        recipe(tmp_path, base, model={"path": str(base), "precision": "float32", "lora": {"rank": 2}})
    )
    export_model(tmp_path / "run" / "model", tmp_path / "whole")
    exported = AutoModelForSequenceClassification.from_pretrained(tmp_path / "whole").eval()
    prompt, answer = torch.arange(5, 12), torch.tensor([9, 8, 7])
    group = Group("row", prompt, (Branch(answer, Role.DEMONSTRATION),))
    assert isinstance(trained.policy, twofold.RewardModel)
    ((score,),) = trained.policy.scores([group])
    with torch.no_grad():
        found = exported.score(exported.base_model(torch.cat([prompt, answer])[None]).last_hidden_state)[0, -1].item()
    assert found == pytest.approx(score, abs=1e-5)
    assert abs(score) > 1e-3
