"""`twofold evaluate` on published benchmarks, from the user's copy of the data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.formula_model import formula_model
from support.speakers import speaker

Run = Callable[..., Any]
WORDS = "one two four la 1 4 5 ####"


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_instructions_of_two_models(twofold: Run, tmp_path: Path) -> None:
    simple = speaker(tmp_path / "simple", {"four": "####", "####": "4", "la": "la"}, words=WORDS)
    wise = speaker(tmp_path / "wise", {"four": "####", "####": "5", "la": "1"}, words=WORDS)
    rows = [
        {"prompt": "four", "instruction_id_list": ["length_constraints:number_words", "punctuation:no_comma"],
         "kwargs": [{"num_words": 1, "relation": "at least"}, {}]},
        {"prompt": "la", "instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": ["la"]}]},
    ]  # fmt: skip
    out = tmp_path / "out"
    data = written(tmp_path / "rows.jsonl", rows)
    told = twofold("evaluate", simple, wise, "--task", "ifeval", "--tasks", data, "--max-new-tokens", 4, "--out", out)
    assert told.code == 0, told.err
    figures = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert [m["prompt_strict"]["count"] for m in figures["models"]] == [2, 1]
    assert [m["instruction_strict"]["count"] for m in figures["models"]] == [3, 2]
    assert figures["max_new_tokens"] == 4
    assert figures["models"][0]["prompting"]["style"] == "text"
    assert {c["metric"] for c in figures["comparisons"]} == {
        "prompt_strict", "instruction_strict", "prompt_loose", "instruction_loose"}  # fmt: skip
    assert "length_constraints" in told.out
    assert "prompt_strict" in told.out
    assert "--max-new-tokens 4" in figures["command"]


def test_rewardbench_of_a_model_and_its_reference(twofold: Run, tmp_path: Path) -> None:
    simple = speaker(tmp_path / "simple", {"four": "####", "####": "4", "la": "la"}, words=WORDS)
    wise = speaker(tmp_path / "wise", {"four": "####", "####": "5", "la": "1"}, words=WORDS)
    rows = [
        {"prompt": "four", "chosen": "#### 4", "rejected": "#### 5", "subset": "hep-go"},
        {"prompt": "la", "chosen": "1", "rejected": "la", "subset": "donotanswer"},
    ]
    data, out = written(tmp_path / "rows.jsonl", rows), tmp_path / "out"
    call = ("evaluate", simple, wise, "--task", "rewardbench", "--tasks", data, "--reference", wise, "--out", out)
    told = twofold(*call)
    assert told.code == 0, told.err
    figures = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert [(m["overall"]["value"], m["ties"]) for m in figures["models"]] == [(0.5, 0), (0, 2)]
    assert "Reasoning" in told.out
    assert "hep-go" in told.out
    assert (out / "rows.jsonl").read_text(encoding="utf-8").count("\n") == 4


def test_scorers_that_there_are_not_are_refused(twofold: Run, tmp_path: Path) -> None:
    row = {"prompt": "four", "chosen": "#### 4", "rejected": "#### 5", "subset": "hep-go"}
    data = written(tmp_path / "rows.jsonl", [row])
    for name, message in (
        ("nowhere", "nowhere"), ("reward:nowhere", "nowhere"), ("human:file", "evaluate --task rewardbench takes"),
    ):  # fmt: skip
        told = twofold("evaluate", name, "--task", "rewardbench", "--tasks", data)
        assert (told.code, message in told.err) == (2, True), told.err
    told = twofold("evaluate", "reward:nowhere", "--task", "rewardbench", "--tasks", data, "--judge", "verifier")
    assert (told.code, "means nothing to --task rewardbench" in told.err) == (2, True)


def test_gsm8k_platinum_is_gsm8k_on_other_rows(twofold: Run, tmp_path: Path) -> None:
    model = speaker(tmp_path / "simple", {"Answer:": "####", "####": "4"}, words=f"{WORDS} Question:")
    row = {"question": "one", "answer": "so\n#### 4", "cleaning_status": "verified"}
    out = tmp_path / "out"
    call = ("--task", "gsm8k-platinum", "--tasks", written(tmp_path / "rows.jsonl", [row]), "--out", out)
    told = twofold("evaluate", model, *call, "--max-new-tokens", 4, "--metrics", "strict")
    assert told.code == 0, told.err
    (line,) = json.loads((out / "results.json").read_text(encoding="utf-8"))["models"]
    assert (line["strict"]["count"], line["prompting"]["first prompt"]) == (1, "Question: one\nAnswer:")


def test_results_have_what_is_known_of_a_runs_training_data(twofold: Run, tmp_path: Path) -> None:
    run = tmp_path / "run"
    speaker(run / "model", {"one": "1"}, words=WORDS)
    train = written(tmp_path / "train.jsonl", [{"prompt": p, "chosen": "1", "rejected": "4"} for p in ("One!", "two")])
    (run / "resolved.yaml").write_text(f"model: {{path: {run}/model}}\ndata: {{train: {train}}}\n", encoding="utf-8")
    row = {"prompt": "one", "chosen": "1", "rejected": "4", "subset": "hep-go"}

    def told(prompt: str) -> Any:
        data = written(tmp_path / "rows.jsonl", [{**row, "prompt": prompt}])
        return twofold("evaluate", run, "--task", "rewardbench", "--tasks", data, "--out", tmp_path / "out")

    for prompt, note in (("four", "none of 1 rows has a prompt"), ("one", "1 of 1 rows differ from its training rows")):
        assert told(prompt).code == 0
        figures = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
        assert figures["contamination"][str(run)].startswith(note)
    assert told("two").code == 2


def test_math_by_verb_greedy_and_sampled(twofold: Run, tmp_path: Path) -> None:
    pytest.importorskip("math_verify")
    model = speaker(tmp_path / "model", {"Solution:": "\\boxed{4}"}, words=f"{WORDS} Problem:")
    rows = [
        {"problem": "two", "solution": "So \\boxed{4}", "level": 1, "subject": "Algebra"},
        {"problem": "one", "solution": "So \\boxed{5}", "level": 2, "subject": "Algebra"},
    ]
    out, data = tmp_path / "out", written(tmp_path / "rows.jsonl", rows)
    call = ("evaluate", model, "--task", "math", "--tasks", data, "--out", out)
    told = twofold(*call, "--metrics", "boxed", "--max-new-tokens", 4)
    assert told.code == 0, told.err
    figures = json.loads((out / "results.json").read_text(encoding="utf-8"))
    (line,) = figures["models"]
    assert (line["boxed"]["count"], figures["max_new_tokens"]) == (1, 4)
    assert line["prompting"]["first prompt"] == "Problem:\ntwo\n\nSolution:"
    assert line["prompting"]["stop"] == ["Problem:"]
    assert ("level 2" in told.out, "Algebra" in told.out) == (True, True)
    assert '"boxed": true' in (out / "rows.jsonl").read_text(encoding="utf-8")
    told = twofold(*call, "--pass-at", "1,2")
    assert told.code == 0, told.err
    figures = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert figures["models"][0]["subsets"]["level 1"]["pass@2 math"]["value"] == 1
    assert "level 1" in told.out


def test_truthfulqa_by_verb(twofold: Run, tmp_path: Path) -> None:
    record = json.loads((Path(__file__).parents[1] / "parity" / "lm_eval_truthfulqa.json").read_text(encoding="utf-8"))
    model = formula_model(tmp_path / "model")
    data, shown = (written(tmp_path / f"{name}.jsonl", record[name]) for name in ("rows", "examples"))
    out, call = tmp_path / "out", ("evaluate", model, "--task", "truthfulqa", "--tasks", data)
    told = twofold(*call, "--examples", shown, "--out", out)
    assert told.code == 0, told.err
    (line,) = json.loads((out / "results.json").read_text(encoding="utf-8"))["models"]
    assert line["mc2"]["value"] == pytest.approx(record["own"]["mc2"]["acc"], abs=1e-6)
    assert ("mc1" in told.out, "mc2" in told.out) == (True, True)
    told = twofold(*call, "--examples", shown, "--max-length", 100)
    assert (told.code, "at most 100 are read" in told.err) == (2, True)
    told = twofold(*call, "--style", "chat")
    assert (told.code, "plain text" in told.err) == (2, True)
