"""`twofold evaluate` as a person meets it: figures that others can count again, and what it refuses."""

from __future__ import annotations

import json
import math
import shlex
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from twofold.demo.task import write_files
from twofold.statistics import wilson

Run = Callable[..., Any]
CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def written(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    rows = ({"question": f"{n} + 1 = ", "answer": f"#### {n + 1}"} for n in range(4))
    return written(tmp_path / "test.jsonl", *rows)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = ({"prompt": f"say {n}: ", "chosen": "abc"[: 1 + n % 3], "rejected": "zy"} for n in range(8))
    return written(tmp_path / "pairs.jsonl", *rows)


@pytest.fixture
def shown(twofold: Run, tmp_path: Path, tasks: Path) -> Callable[..., dict[str, Any]]:
    """results.json of an evaluation with these further words, on four problems and four tokens."""

    def evaluate(*words: object, rows: Path = tasks) -> dict[str, Any]:
        answer = twofold("evaluate", *words, "--tasks", rows, "--out", tmp_path / "out")
        assert answer.code == 0, answer.err
        return json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))

    return evaluate


FAST = ("--max-new-tokens", 4, "--metrics", "strict,flexible")


def test_two_checkpoints_have_the_figures_of_an_independent_script(
    root: Path, tmp_path: Path, shown: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """tests/evaluation/independent.py decodes with `generate`, judges with patterns of its own and tests with scipy."""
    monkeypatch.syspath_prepend(root / "tests" / "evaluation")
    from support import independent

    base, other = root / "twofold" / "demo" / "base", tmp_path / "other"
    shutil.copytree(base, other)
    noise = torch.Generator().manual_seed(0)
    weights = load_file(other / "model.safetensors")
    moved = {k: v + 0.3 * v.std() * torch.randn(v.shape, generator=noise) for k, v in weights.items()}
    save_file(moved, other / "model.safetensors", metadata={"format": "pt"})
    file = write_files(tmp_path, {"test": 24})["test"]

    told = shown(base, other, "--max-new-tokens", 48, rows=file)

    problems, rows = lines(file), lines(tmp_path / "out" / "rows.jsonl")
    said = [
        list(independent.completions(folder, [p["prompt"] for p in problems], 48)) for folder in (str(base), str(other))
    ]
    assert [row["completion"] for row in rows] == [text for by_model in said for text in by_model]
    theirs = independent.figures(problems, said)
    ours = [{m: model[m]["value"] for m in ("strict", "flexible", "math")} for model in told["models"]]
    assert ours == theirs["shares"]
    assert ours[0]["strict"] > ours[1]["strict"]
    assert {c["metric"]: c["p_value"] for c in told["comparisons"]} == pytest.approx(theirs["p"])


def test_figures_repeat_by_their_command_and_can_be_counted_from_the_rows(
    twofold: Run, tmp_path: Path, model_folder: Path, shown: Callable[..., dict[str, Any]]
) -> None:
    told = shown(model_folder, *FAST, "--limit", 3)
    program, *words = shlex.split(told["command"])
    assert program == "twofold"
    assert "--out" not in words
    answer = twofold(*words, "--json", tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text(encoding="utf-8")) == told
    assert f"again: {told['command']}" in answer.out
    rows = lines(tmp_path / "out" / "rows.jsonl")
    for metric in ("strict", "flexible"):
        assert told["models"][0][metric] == wilson(sum(row[metric] for row in rows), 3).as_dict()
    assert told["models"][0]["truncated"] == sum(row["truncated"] for row in rows)


def test_gsm8k_is_put_by_its_template_and_as_a_chat_where_there_is_one(
    tmp_path: Path, model_folder: Path, shown: Callable[..., dict[str, Any]]
) -> None:
    chatty = tmp_path / "chatty"
    shutil.copytree(model_folder, chatty)
    tokenizer = AutoTokenizer.from_pretrained(chatty)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(chatty)
    told = shown(model_folder, chatty, "--task", "gsm8k", *FAST, "--limit", 2)
    text, chat = (model["prompting"] for model in told["models"])
    assert (text["style"], text["first prompt"]) == ("text", "Question: 0 + 1 = \nAnswer:")
    assert (chat["style"], chat["first prompt"][:16]) == ("chat", "<user>0 + 1 = \n\n")
    assert chat["template"].endswith("End with a line `#### N`, where N is the number alone.")
    assert lines(tmp_path / "out" / "rows.jsonl")[2]["prompt"] == chat["first prompt"]
    plain = shown(chatty, "--task", "gsm8k", *FAST, "--limit", 2, "--style", "text")
    assert plain["models"][0]["prompting"] == text
    own = shown(chatty, *FAST, "--limit", 2, "--template", "Q {prompt}")
    assert own["models"][0]["prompting"]["first prompt"] == "<user>Q 0 + 1 = <a>"


def test_prompted_baselines_are_lines_of_the_same_table(
    tmp_path: Path, model_folder: Path, shown: Callable[..., dict[str, Any]]
) -> None:
    examples = written(tmp_path / "train.jsonl", *({"question": f"{n} + 5 = ", "answer": str(n + 5)} for n in range(9)))
    how = (model_folder, *FAST, "--examples", examples)
    told = shown(*how, "--prompted", "0,2")
    name = str(model_folder)
    assert [m["name"] for m in told["models"]] == [name, f"{name}, 2-shot"]
    assert [(c["a"], c["b"], c["n"]) for c in told["comparisons"]] == [(name, f"{name}, 2-shot", 4)] * 2
    prompting = told["models"][1]["prompting"]
    assert (prompting["shots"], prompting["stop"], len(prompting["examples"])) == (2, ["\n\n"], 2)
    assert prompting["first prompt"].count(" + 5 = ") == 2
    all_lines = shown(*how, "--shots", 2, "--prompted", "0")
    assert [m["prompting"]["shots"] for m in all_lines["models"]] == [2, 0]
    assert all_lines["models"][0]["prompting"] == prompting
    assert all_lines["models"][1]["name"].endswith("zero-shot")
    reseeded = shown(*how, "--shots", 2, "--seed", 3)
    assert reseeded["models"][0]["prompting"]["examples"] != prompting["examples"]


def test_pass_at_k_takes_the_prompting_and_leaves_its_counts(
    tmp_path: Path, model_folder: Path, shown: Callable[..., dict[str, Any]]
) -> None:
    told = shown(model_folder, "--max-new-tokens", 4, "--pass-at", "1,2", "--template", "Q: {prompt}")
    rows = lines(tmp_path / "out" / "rows.jsonl")
    assert [row["name"] for row in rows] == [f"{tmp_path}/test.jsonl:{n}" for n in range(1, 5)]
    for metric in ("strict", "flexible"):
        assert all(row[metric]["right"] + sum(row[metric]["wrong"]) + row[metric]["silent"] == 2 for row in rows)
        first = next(f for f in told["models"][0]["figures"] if (f["figure"], f["metric"]) == ("pass@1", metric))
        assert first["value"] == pytest.approx(sum(row[metric]["right"] for row in rows) / 8)
    assert "--template 'Q: {prompt}'" in told["command"]


def test_preferences_are_counted_with_and_without_a_reference(
    tmp_path: Path, model_folder: Path, pairs: Path, shown: Callable[..., dict[str, Any]]
) -> None:
    how = ("--task", "preference")
    plain = shown(model_folder, *how, rows=pairs)["models"][0]
    rows = lines(tmp_path / "out" / "rows.jsonl")
    assert "reward" not in plain
    assert plain["logp"] == wilson(sum(r["chosen_logp"] > r["rejected_logp"] for r in rows), 8).as_dict()
    assert plain["logp_per_token"]["count"] == sum(
        r["chosen_logp"] / r["chosen_tokens"] > r["rejected_logp"] / r["rejected_tokens"] for r in rows
    )
    itself = shown(model_folder, *how, "--reference", model_folder, rows=pairs)["models"][0]
    assert (itself["reward"]["count"], itself["ties"], itself["reward"]["n"]) == (0, 8, 8)


def test_perplexities_are_those_of_the_rows(
    tmp_path: Path, model_folder: Path, pairs: Path, shown: Callable[..., dict[str, Any]]
) -> None:
    told = shown(model_folder, "--task", "perplexity", rows=pairs)["models"][0]
    rows = lines(tmp_path / "out" / "rows.jsonl")
    for side in ("chosen", "rejected"):
        nats, tokens = (sum(row[f"{side}_{what}"] for row in rows) for what in ("logp", "tokens"))
        assert told[f"{side}_perplexity"]["value"] == pytest.approx(math.exp(-nats / tokens))
        assert told[f"{side}_nats_per_completion"]["value"] == pytest.approx(-nats / 8)


def test_what_is_too_long_is_named_and_nothing_is_left_out(twofold: Run, model_folder: Path, pairs: Path) -> None:
    answer = twofold("evaluate", model_folder, "--task", "perplexity", "--tasks", pairs, "--max-length", 9)
    assert (answer.code, f"{pairs}:1" in answer.err) == (2, True), answer.err
    assert "raise max_length" in answer.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "gsm9k"], "'gsm9k' is no task"),
        (["--style", "song"], "'song' is no style"),
        (["--style", "chat"], "no chat template"),
        (["--template", "Q:"], "lacks {prompt}"),
        (["--metrics", "stricter"], "'stricter' is no metric"),
        (["--metrics", "strict", "--pass-at", "1"], "pass@k counts strict and flexible"),
        (["--reference", "x"], "means nothing to --task answers"),
        (["--task", "preference", "--shots", 2], "--shots: means nothing to --task preference"),
        (["--shots", 2], "name a file: --examples FILE"),
        (["--prompted", "few"], "'few' is no list of numbers"),
        (["--examples", "x.jsonl"], "add --shots K"),
        (["--seed", 3], "answers are greedy"),
        (["--harness-tasks", "gsm8k"], "add --harness lm-eval, or leave them out"),
        (["--harness", "helm"], "'helm' is no harness"),
        (["--harness", "lm-eval"], "name lm-eval's tasks"),
        (["--harness", "lm-eval", "--harness-tasks", "gsm8k", "--seed", 1, "--shots", 1], "means nothing to --harness"),
    ],
)
def test_evaluate_refuses_what_it_cannot_mean(
    twofold: Run, model_folder: Path, tasks: Path, words: list[object], said: str
) -> None:
    rows = [] if "--harness" in words else ["--tasks", tasks]
    answer = twofold("evaluate", model_folder, *rows, *words)
    assert (answer.code, said in answer.err) == (2, True), answer.err
    assert "Traceback" not in answer.err


def test_evaluate_wants_the_rows_of_its_task(twofold: Run, model_folder: Path, tasks: Path, pairs: Path) -> None:
    for words, said in (
        (["--tasks", pairs], "for pairs choose --task preference"),
        (["--task", "preference", "--tasks", tasks], "--task preference requires pairs"),
        (["--task", "perplexity", "--tasks", tasks], "--task perplexity requires pairs or completions"),
        ([], "name their file: --tasks FILE"),
    ):
        answer = twofold("evaluate", model_folder, *words)
        assert (answer.code, said in answer.err) == (2, True), answer.err


@pytest.mark.skipif(find_spec("lm_eval") is not None, reason="lm-eval is installed")
def test_the_harness_gets_the_model_of_a_run(twofold: Run, tmp_path: Path, model_folder: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model").symlink_to(model_folder)
    answer = twofold("evaluate", tmp_path / "run", "--harness", "lm-eval", "--harness-tasks", "gsm8k", "--limit", 5)
    assert answer.code == 2
    command = f"lm_eval --model hf --model_args pretrained={tmp_path}/run/model,dtype=float32 --tasks gsm8k"
    assert command in answer.err
    assert "--limit 5" in answer.err
