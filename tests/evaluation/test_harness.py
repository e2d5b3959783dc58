"""What is handed to lm-eval, and what is made of what comes back."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from twofold.errors import RecipeError
from twofold.evaluation.figures import comparisons
from twofold.evaluation.harness import HarnessRequest, entry, require_harness, run
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
    with pytest.raises(RecipeError, match=r"lm-eval is not installed(.|\n)*twofold\[harness\](.|\n)*lm_eval --model"):
        require_harness(["lm_eval --model hf"])


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
