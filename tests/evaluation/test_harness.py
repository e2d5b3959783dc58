"""What is handed to lm-eval, and what is made of what comes back."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.frozen import refuse_changes
from support.heard import Heard
from twofold.errors import RecipeError
from twofold.evaluation.figures import comparisons
from twofold.evaluation.harness import HarnessRequest, entry, harness, require_harness, run
from twofold.statistics import bootstrap_ratio, wilson


def test_the_command_is_lm_evals() -> None:
    asked = HarnessRequest(
        ("gsm8k", "arc_easy"), shots=4, chat=True, limit=10, include=Path("my tasks"), device="cpu", dtype="float32"
    )
    arguments = asked.model_arguments("base", "runs/a/model")
    assert arguments == {"pretrained": "base", "peft": "runs/a/model", "dtype": "float32"}
    assert asked.command(arguments) == (
        "lm_eval --model hf --model_args pretrained=base,peft=runs/a/model,dtype=float32 --tasks gsm8k,arc_easy "
        "--device cpu --num_fewshot 4 --apply_chat_template --limit 10 --include_path 'my tasks' --log_samples"
    )
    plain = HarnessRequest(("gsm8k",), device="cuda", dtype="bfloat16")
    assert plain.command(plain.model_arguments("base", None)) == (
        "lm_eval --model hf --model_args pretrained=base,dtype=bfloat16 --tasks gsm8k --device cuda --log_samples"
    )


@pytest.mark.skipif(find_spec("lm_eval") is not None, reason="lm-eval is installed")
def test_without_the_package_there_is_one_message_with_the_command() -> None:
    with pytest.raises(RecipeError) as refused:
        require_harness(["lm_eval --model hf", "lm_eval --model other"])
    assert str(refused.value) == (
        "--harness lm-eval: the package lm-eval is not installed\n  → pip install 'twofold[harness]', or run this "
        "where it is:\n    lm_eval --model hf\n    lm_eval --model other"
    )


class Harness(ModuleType):
    """A stand-in for lm-eval, which is an extra: remembers what it is handed, and knows one task."""

    def __init__(self) -> None:
        super().__init__("lm_eval")
        self.__spec__, self.calls = ModuleSpec("lm_eval", None), list[dict[str, Any]]()
        self.tasks = ModuleType("lm_eval.tasks")
        self.tasks.TaskManager = self.TaskManager  # type: ignore[attr-defined]  # as the package has it

    class TaskManager:
        def __init__(self, include_path: str | None) -> None:
            self.include_path = include_path

        def match_tasks(self, names: list[str]) -> list[str]:
            return [name for name in names if name == "gsm8k"]

    def simple_evaluate(self, **how: Any) -> dict[str, Any]:
        self.calls.append(how)
        return found(1, 0, len(self.calls) - 1)


@pytest.fixture
def lm_eval(monkeypatch: pytest.MonkeyPatch) -> Harness:
    module = Harness()
    monkeypatch.setitem(sys.modules, "lm_eval", module)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", module.tasks)
    return module


def test_each_model_is_handed_over_and_its_items_are_counted(lm_eval: Harness, simple: str, chatty: str) -> None:
    heard, request = Heard(), HarnessRequest(("gsm8k",), shots=2, limit=3, include=Path("mine"), device="cpu")
    told = harness([simple, chatty, simple], request, progress=heard)
    first, second = lm_eval.calls
    assert first.pop("task_manager").include_path == "mine"
    assert first == {
        "model": "hf", "model_args": {"pretrained": simple, "dtype": "float32"}, "tasks": ["gsm8k"], "num_fewshot": 2,
        "device": "cpu", "limit": 3, "apply_chat_template": False, "log_samples": True, "bootstrap_iters": 0,
    }  # fmt: skip
    assert (second["model_args"]["pretrained"], second["apply_chat_template"]) == (chatty, True)
    assert heard.notes == [f"{simple}: lm-eval on gsm8k", f"{chatty}: lm-eval on gsm8k"]
    entries = [
        entry(name, found(1, 0, right), replace(request, chat=name == chatty, dtype="float32").command(arguments))
        for right, (name, arguments) in enumerate(
            (c["model_args"]["pretrained"], c["model_args"]) for c in (first, second)
        )
    ]
    assert told.figures["models"] == [e.as_dict() for e in entries]
    assert told.figures["comparisons"] == comparisons(entries)
    assert (told.figures["harness"], told.figures["harness_tasks"]) == ("lm-eval", ["gsm8k"])
    assert told.rows == [row for e in entries for row in e.rows]


@pytest.mark.parametrize(("style", "chat"), [("auto", True), ("chat", True), ("text", False)])
def test_prompts_are_put_by_style(lm_eval: Harness, chatty: str, style: Any, chat: bool) -> None:
    harness([chatty], HarnessRequest(("gsm8k",)), style=style)
    (call,) = lm_eval.calls
    assert (call["apply_chat_template"], call["num_fewshot"], call["limit"]) == (chat, None, None)
    assert (call["task_manager"].include_path, call["device"]) == (None, HarnessRequest(("x",)).resolved().device)


def test_a_task_that_the_harness_does_not_know_is_named(lm_eval: Harness) -> None:
    with pytest.raises(RecipeError) as refused:
        run(HarnessRequest(("gsm8k", "gsm9k", "x")), {})
    assert str(refused.value) == (
        "--harness-tasks: lm-eval knows no task 'gsm9k'\n"
        "  → `lm_eval ls tasks` names them; --harness-include FOLDER adds yours"
    )
    require_harness(["it is there"])
    assert lm_eval.calls == []


def test_what_is_handed_over_stays() -> None:
    request = HarnessRequest(("gsm8k",), device="cpu")
    assert (request.resolved().dtype, request.resolved().device) == ("float32", "cpu")
    assert HarnessRequest(("gsm8k",), device="cpu", dtype="bfloat16").resolved().dtype == "bfloat16"
    refuse_changes(request)


def item(doc: int, value: Any, metric: str = "exact_match", rule: str = "strict-match") -> dict[str, Any]:
    return {"doc_id": doc, "filter": rule, "metrics": [metric], metric: value, "resps": [["x"]]}


def found(*right: int) -> dict[str, Any]:
    """As `simple_evaluate` of lm-eval 0.4.13 returns it, what is read of it."""
    strict = [item(i, float(r)) for i, r in enumerate(right)]
    loose = [item(i, 1.0, rule="flexible-extract") for i in reversed(range(len(right)))]
    likely = [item(i, 0.25 * i, "mcc_part", "none") for i in range(3)]
    pairs = [item(i, (-3.0, 7), "word_perplexity", "none") for i in range(3)]
    return {"samples": {"gsm8k": [*strict, *loose], "other": [*likely, *pairs]}, "versions": {"gsm8k": 3.0},
            "n-shot": {"gsm8k": 5}}  # fmt: skip


def test_items_become_figures_with_intervals() -> None:
    told = entry("m", found(1, 0, 1, 1), "lm_eval …")
    figures = told.as_dict()
    assert figures["gsm8k, exact_match, strict-match"] == wilson(3, 4).as_dict()
    assert figures["gsm8k, exact_match, flexible-extract"] == wilson(4, 4).as_dict()
    assert figures["other, mcc_part"] == bootstrap_ratio([0.0, 0.25, 0.5], [1.0] * 3).as_dict()
    assert not any("word_perplexity" in name for name in figures)
    assert figures["lm_eval"] == {"command": "lm_eval …", "versions": {"gsm8k": 3.0}, "shots": {"gsm8k": 5}}
    other = entry("m", {"samples": {"t": [item(0, True, "x"), item(1, 1, "x"), item(2, "no", "x")]}}, "c")
    assert other.as_dict()["t, x, strict-match"] == wilson(2, 2).as_dict()
    assert other.as_dict()["lm_eval"] == {"command": "c", "versions": {}, "shots": {}}
    assert len(other.rows) == 2
    assert told.rows[1] == {
        "model": "m", "task": "gsm8k", "name": "gsm8k:1", "metric": "exact_match", "filter": "strict-match", "value": 0,
    }  # fmt: skip


def test_two_models_get_the_paired_test_of_their_items() -> None:
    a, b = entry("a", found(1, 0, 0, 0, 0, 0, 0), ""), entry("b", found(0, 1, 1, 1, 1, 1, 1), "")
    test = next(t for t in comparisons([a, b]) if t["metric"] == "gsm8k, exact_match, strict-match")
    assert (test["only_a"], test["only_b"], test["p_value"], test["test"]) == (1, 6, 2 * 8 / 2**7, "McNemar exact")


TASK = """
task: stories
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{answer.split('#### ')[-1]}}}}"
generation_kwargs: {{until: ["\\n\\n"], do_sample: false, max_gen_toks: 64}}
filter_list:
  - name: strict-match
    filter: [{{function: regex, regex_pattern: "#### (\\\\-?[0-9\\\\.\\\\,]+)"}}, {{function: take_first}}]
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


@pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-eval is not installed")
@pytest.mark.filterwarnings("ignore")
def test_lm_eval_gives_the_figure_that_we_count(root: Path, tmp_path: Path) -> None:
    from twofold.demo.task import write_files

    file = write_files(tmp_path, {"test": 12})["test"]
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "stories.yaml").write_text(TASK.format(file=json.dumps(str(file))))
    asked = HarnessRequest(("stories",), include=tmp_path / "tasks").resolved()
    theirs = run(asked, asked.model_arguments(str(root / "twofold" / "demo" / "base"), None))
    ours = entry("base", theirs, "").as_dict()["stories, exact_match, strict-match"]
    assert ours["n"] == 12
    assert ours["value"] == theirs["results"]["stories"]["exact_match,strict-match"]
    with pytest.raises(RecipeError, match="knows no task 'storeys'"):
        run(HarnessRequest(("storeys",), include=tmp_path / "tasks"), {})
