"""A run goes on only as what it was: weights, generation settings, tokenizer, own code; what may change is a list."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from support.sum_pairs import ROWS, write
from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.errors import CheckpointError, NonFiniteError
from twofold.runs.identity import source_digest
from twofold.runs.train import RunOptions, TrainResult, train_recipe

OWN = """
from typing import ClassVar
from twofold import Batch, Loss, Outputs, Term
from twofold.settings import settings

SCALE = 1.0

@settings
class Mine:
    requires: ClassVar[tuple[str, ...]] = ()

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        logp_B = batch.sum(outputs.logp_S)
        return Loss({"mine": Term(-SCALE * (logp_B[0::2] - logp_B[1::2]), "pair")})
"""


def train(tmp_path: Path, stop_after: int | None = None, **changes: Any) -> TrainResult:
    """A run of 5 steps, each saved, under `changes` by dotted key."""
    given: dict[str, Any] = {
        "model": {"path": str(tmp_path / "base"), "precision": "float32"},
        "data": {"train": str(write(tmp_path / "pairs.jsonl", ROWS)), "chat": "text"},
        "training": {"steps": 5, "batch_size": 4, "checkpoint_every": 1},
        "optimizer": {"learning_rate": 1e-3},
        "run": str(tmp_path / "run"),
    }
    for key, value in changes.items():
        section, _, name = key.partition(".")
        given[section] = {**given.get(section, {}), name: value} if name else value
    left = iter([False] * ((stop_after or 99) - 1) + [True] * 99)
    return train_recipe(validate(Recipe, Document("test", given, {})), RunOptions(stop=lambda: next(left)))


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def scale_weights(base: Path) -> None:
    path = base / "model.safetensors"
    save_file({k: 1.5 * t for k, t in load_file(path).items()}, path, {"format": "pt"})


def edit_json(name: str, **changes: Any) -> Callable[[Path], None]:
    def edit(base: Path) -> None:
        path = base / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (scale_weights, "model (weights)"),
        (edit_json("generation_config.json", eos_token_id=[2, 67]), "generation settings (eos_token_id)"),
        (edit_json("generation_config.json", temperature=0.3, do_sample=True), "generation settings (temperature)"),
        (edit_json("tokenizer_config.json", chat_template="{{ messages }}"), "tokenizer"),
    ],
)
def test_a_changed_model_is_refused_and_the_folder_stays_as_it_was(
    tmp_path: Path, base: Path, edit: Callable[[Path], None], told: str
) -> None:
    train(tmp_path, 2)
    before = everything(tmp_path / "run")
    edit(base)
    with pytest.raises(CheckpointError, match="has changed since its checkpoint") as refused:
        train(tmp_path, **{"training.track": "none", "training.keep_checkpoints": 1})
    assert told in refused.value.what
    assert "only these may change: optimizer.learning_rate" in refused.value.remedy
    assert everything(tmp_path / "run") == before


def test_a_changed_objective_of_ones_own_is_refused(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its settings are the same; a constant beside the class is not."""
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "own_objective_here.py"
    module.write_text(OWN)
    own = {"allow_code": True, "objective": {"kind": "own_objective_here:Mine"}}
    train(tmp_path, 2, **own)
    assert train(tmp_path, 1, **own).outcome.step == 3
    module.write_text(OWN.replace("SCALE = 1.0", "SCALE = 2.0 "))
    importlib.reload(sys.modules["own_objective_here"])
    with pytest.raises(CheckpointError, match=r"objective \(code\)"):
        train(tmp_path, **own)


def test_a_model_may_lie_elsewhere(tmp_path: Path, base: Path) -> None:
    train(tmp_path, 2)
    shutil.move(base, tmp_path / "moved")
    assert train(tmp_path, **{"model.path": str(tmp_path / "moved")}).outcome.step == 5


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("optimizer.learning_rate", 1e-4, "from step 2 on: optimizer.learning_rate: 0.001 → 0.0001"),
        ("optimizer.clip", 0.5, "from step 2 on: optimizer.clip: 1.0 → 0.5"),
        ("training.packing", {"tokens": 64}, "from step 2 on: training.packing.tokens: 8192 → 64"),
        ("model.activation_checkpointing", True, "from step 2 on: model.activation_checkpointing: False → True"),
    ],
)
def test_what_may_change_does_with_a_warning_that_stays(
    tmp_path: Path, base: Path, key: str, value: Any, words: str
) -> None:
    train(tmp_path, 2)
    train(tmp_path, **{key: value})
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert words in results["warnings"]
    assert words in (tmp_path / "run" / "warnings.jsonl").read_text()


def test_a_new_rate_counts_from_the_next_step_on(tmp_path: Path, base: Path) -> None:
    """Linear with a warm-up of 0.1·5 steps: the factors of steps 0 … 4 are 1/2, 4.5/4.5 …"""
    train(tmp_path, 2, **{"optimizer.schedule": "constant", "optimizer.warmup": 0.0})
    train(tmp_path, **{"optimizer.schedule": "constant", "optimizer.warmup": 0.0, "optimizer.learning_rate": 1e-4})
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["learning_rate"] for line in lines if line["kind"] == "train"] == [1e-3, 1e-3, 1e-4, 1e-4, 1e-4]


@pytest.mark.parametrize(("key", "value"), [("optimizer.learning_rate", 1e-4), ("training.evaluate_every", 2)])
def test_a_run_whose_steps_are_done_takes_no_change(tmp_path: Path, base: Path, key: str, value: float) -> None:
    """It would say that it was trained otherwise."""
    train(tmp_path)
    before = everything(tmp_path / "run")
    with pytest.raises(CheckpointError, match=key) as refused:
        train(tmp_path, **{key: value})
    assert "all steps are done" in refused.value.remedy
    assert everything(tmp_path / "run") == before


def test_the_advice_after_numbers_that_are_not_finite_works(tmp_path: Path, base: Path) -> None:
    with pytest.raises(NonFiniteError) as stop:
        train(tmp_path, **{"optimizer.learning_rate": 1e18, "optimizer.warmup": 0.0})
    assert "lower the learning rate" in stop.value.remedy
    trained = train(tmp_path, **{"optimizer.learning_rate": 1e-4, "optimizer.warmup": 0.0})
    assert trained.outcome.step == 5
    losses = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in losses] == [0, 1, 2, 3, 4]
    assert losses[-1]["loss"] < 10


def test_the_source_of_code_is_its_module_and_what_a_script_uses(tmp_path: Path) -> None:
    def digest(text: str, name: str) -> str:
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        before = sys.modules.get(name)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
            return source_digest(module.reward)
        finally:
            if before is None:
                del sys.modules[name]
            else:
                sys.modules[name] = before

    script = "RATE = 1\n\ndef helper(x):\n    return x\n\ndef reward(a, b, c):\n    return helper(len(b))\n"
    other_rate, other_helper = script.replace("RATE = 1", "RATE = 2"), script.replace("return x", "return -x")
    assert digest(script, "imported_a") != digest(other_rate, "imported_b")
    assert digest(script, "__main__") == digest(other_rate, "__main__")
    assert digest(script, "__main__") != digest(other_helper, "__main__")
