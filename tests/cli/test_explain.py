"""`twofold explain` as a person meets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

Run = Callable[..., Any]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows: list[dict[str, Any]]
    rows = [{"prompt": f"{n}+1=", "chosen": f"{n + 1} é", "rejected": f"{n + 2}"} for n in range(12)]
    rows[0]["weight"] = 2
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def moved_folder(model_folder: Path, tmp_path: Path) -> Path:
    """The tiny model after something that moved its weights."""
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=noise))
    folder = tmp_path / "run" / "model"
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_folder).save_pretrained(folder)
    return folder


def test_the_json_adds_up_and_the_terminal_says_the_same(
    twofold: Run, pairs: Path, model_folder: Path, moved_folder: Path, tmp_path: Path
) -> None:
    out, page = tmp_path / "a.json", tmp_path / "a.html"
    answer = twofold(
        "explain", moved_folder, pairs, "--reference", model_folder, "--json", out, "--html", page, "--rows", 2,
        "--drift", 3, "--max-new-tokens", 4,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    told = json.loads(out.read_text(encoding="utf-8"))
    assert (told["n"], told["beta"], len(told["rows"])) == (12, 0.1, 12)
    for row in told["rows"]:
        for side in row["completions"]:
            assert sum(t["credit"] for t in side["tokens"]) == pytest.approx(side["reward"], abs=1e-9)
        assert row["margin"] == pytest.approx(row["completions"][0]["reward"] - row["completions"][1]["reward"])
    chosen = told["rows"][0]["completions"][0]
    assert "".join(t["text"] for t in chosen["tokens"]) == "1 é</s>"
    assert told["drift"]["prompts"] == 3
    assert told["drift"]["policy"]["length"]["high"] <= 4.0
    assert f"{100 * told['accuracy']['value']:.1f}% of 12 pairs in order" in answer.out
    assert answer.out.count("prompt  ") == 2
    assert "own answers to 3 prompts" in answer.out
    text = page.read_text(encoding="utf-8")
    assert text.count("<article") == 2
    assert [row.get("numbers") for row in told["rows"][:2]] == [{"weight": 2.0}, None]
    for said in (answer.out, text):
        assert "every row counts once here" in said
        assert said.count("in the row: weight 2") == 1


def test_a_run_knows_its_reference_and_beta(
    twofold: Run, pairs: Path, model_folder: Path, moved_folder: Path, tmp_path: Path
) -> None:
    run, out = moved_folder.parent, tmp_path / "a.json"
    recipe = f"model: {{path: {model_folder}}}\nobjective: {{kind: dpo, beta: 0.25}}\nreference: {{kind: cached}}\n"
    (run / "resolved.yaml").write_text(recipe, encoding="utf-8")
    answer = twofold("explain", run, pairs, "--json", out, "--fewest", 2, "--limit", 4)
    assert answer.code == 0, answer.err
    told = json.loads(out.read_text(encoding="utf-8"))
    assert (told["beta"], told["n"]) == (0.25, 4)
    twofold("explain", run, pairs, "--json", out, "--beta", 0.5, "--limit", 4)
    doubled = json.loads(out.read_text(encoding="utf-8"))
    assert doubled["partings"]["margin"]["value"] == pytest.approx(2 * told["partings"]["margin"]["value"])
    assert told["phrases"]["counted"] > doubled["phrases"]["counted"]
    (run / "resolved.yaml").write_text(recipe.replace("cached", "moving"), encoding="utf-8")
    answer = twofold("explain", run, pairs)
    assert answer.code == 2
    assert "the run's reference is not the model that it names" in answer.err


def test_answers_without_comparison_are_read_too(
    twofold: Run, model_folder: Path, moved_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"question": "1+1=", "answer": "#### 2"}\n', encoding="utf-8")
    answer = twofold("explain", moved_folder, path, "--reference", model_folder)
    assert answer.code == 0, answer.err
    assert "implicit reward, truth: " in answer.out


@pytest.mark.parametrize(
    ("rows", "arguments", "said"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, (), "requires a model to compare with"),
        ({"prompt": "a"}, ("--reference", "same"), "contains only prompts"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, ("--reference", "nowhere/at-all"), "nowhere/at-all"),
        (
            {"prompt": "a", "chosen": "b", "rejected": "c"},
            ("--reference", "same", "--max-length", 2),
            "no row is left",
        ),
    ],
)
def test_what_cannot_be_explained_is_refused(
    twofold: Run, model_folder: Path, tmp_path: Path, rows: object, arguments: tuple[object, ...], said: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(rows) + "\n", encoding="utf-8")
    given = [model_folder if a == "same" else a for a in arguments]
    answer = twofold("explain", model_folder, path, *given)
    assert answer.code == 2
    assert said in answer.err
    assert "Traceback" not in answer.err
