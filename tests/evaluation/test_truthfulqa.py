"""`truthfulqa`: log-probabilities and both accuracies equal lm-eval's recorded ones on the same tiny model."""

from __future__ import annotations

import json
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from support.formula_model import formula_model
from twofold.errors import DataError, RecipeError
from twofold.evaluation.truthfulqa import PROMPT_FILE, TruthfulQaSettings, _prompts, mc1, mc2, truthfulqa
from twofold.models.policy import Policy
from twofold.records import Source, Task
from twofold.statistics import bootstrap_ratio, mcnemar, wilson

RECORD = json.loads((Path(__file__).parents[1] / "parity" / "lm_eval_truthfulqa.json").read_text(encoding="utf-8"))


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return formula_model(tmp_path_factory.mktemp("model"))


def refuse_difference(found: Any, recorded: dict[str, Any]) -> None:
    for task, verdict in (("mc1", "right"), ("mc2", "mass")):
        theirs = recorded[task]
        for row, logps, value in zip(found.rows, theirs["logp"], theirs["each"], strict=True):
            ours = dict(zip(row["choices"], row["logp"], strict=True))
            # lm-eval's sums are float32
            assert [ours[choice] for choice, _ in row[task]] == pytest.approx(logps, rel=1e-6)
            assert row[verdict] == pytest.approx(value, abs=1e-5)
        assert found.figures["models"][0][task]["value"] == pytest.approx(theirs["acc"], abs=1e-6)
        first = found.figures["models"][0]["prompting"]["first prompt"]
        assert sha256(first.encode()).hexdigest() == theirs["prompt"]


def test_figures_are_lm_evals_with_examples_of_ours(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    groups: list[int] = []
    whole = Policy.logps

    def counted(self: Policy, some: Any, packing: Any = None) -> Any:
        groups.extend(len(group.branches) for group in some)
        return whole(self, some, packing)

    monkeypatch.setattr(Policy, "logps", counted)
    data, shown = written(tmp_path / "rows.jsonl", RECORD["rows"]), written(tmp_path / "qa.jsonl", RECORD["examples"])
    found = truthfulqa([model], data, examples=shown)
    refuse_difference(found, RECORD["own"])
    (line,) = found.figures["models"]
    right, mass = ([row[key] for row in found.rows] for key in ("right", "mass"))
    assert line["mc1"] == wilson(sum(right), len(right)).as_dict()
    assert line["mc2"] == bootstrap_ratio(mass, [1.0] * len(mass)).as_dict()
    assert groups == [len(row["choices"]) for row in found.rows]  # one shared prompt for all choices of a question


@pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-eval is not installed")
def test_figures_are_lm_evals_with_its_own_prompt(model: str, tmp_path: Path) -> None:
    refuse_difference(truthfulqa([model], written(tmp_path / "rows.jsonl", RECORD["rows"])), RECORD["theirs"])


def test_the_prompt_is_read_from_an_installed_lm_eval(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """A stand-in for the package, whose file has the form of lm-eval's."""
    package = tmp_path / "lm_eval"
    (package / "tasks" / "truthfulqa").mkdir(parents=True)
    (package / "__init__.py").touch()
    shown = "".join(f"Q: {each['question']}\\nA: {each['answer']}\\n\\n" for each in RECORD["examples"])
    prompt = f"doc_to_text: \"{{% set shown = '{shown}'%}}\\\n  {{{{shown + 'Q: ' + question + '\\nA:'}}}}\"\n"
    (package / "tasks" / "truthfulqa" / "truthfulqa_mc1.yaml").write_text(prompt, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("twofold.evaluation.truthfulqa.find_spec", lambda _: _Spec(str(package / "__init__.py")))
    refuse_difference(truthfulqa([model], written(tmp_path / "rows.jsonl", RECORD["rows"])), RECORD["own"])


def test_line_ends_at_the_end_of_the_template_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lm_eval"
    (package / PROMPT_FILE.parent).mkdir(parents=True)
    (package / PROMPT_FILE).write_text('doc_to_text: "Q: {{question}}\\nA:\\n"', encoding="utf-8")
    monkeypatch.setattr("twofold.evaluation.truthfulqa.find_spec", lambda _: _Spec(str(package / "__init__.py")))
    assert _prompts([Task(q, "{}", Source("f", 1)) for q in ("a?", "b?")], TruthfulQaSettings()) == [
        "Q: a?\nA:\n",
        "Q: b?\nA:\n",
    ]


class _Spec:
    def __init__(self, origin: str) -> None:
        self.origin = origin


def test_two_models_and_labels_by_choice(model: str, tmp_path: Path) -> None:
    keys = ("mc1_targets", "mc2_targets")
    rows = [
        {**row, **{key: dict(zip(row[key]["choices"], row[key]["labels"], strict=True)) for key in keys}}
        for row in RECORD["rows"]
    ]
    other = formula_model(tmp_path / "other", 1.0)
    data, shown = written(tmp_path / "rows.jsonl", rows), written(tmp_path / "qa.jsonl", RECORD["examples"])
    found = truthfulqa([model, other], data, examples=shown)
    assert found.figures["models"][0]["mc2"]["value"] == pytest.approx(RECORD["own"]["mc2"]["acc"], abs=1e-6)
    ours, theirs = ([row["right"] for row in found.rows if row["model"] == name] for name in (model, other))
    assert found.figures["comparisons"][0]["p_value"] == mcnemar(ours, theirs).p_value


def test_accuracies_of_given_log_probabilities() -> None:
    assert (mc1([-3.0, -2.0, -5.0], [0, 1, 0]), mc1([-2.0, -2.0], [0, 1])) == (True, False)
    assert mc2([-1000.0, -1000.0, -1002.0], [1, 0, 0]) == pytest.approx(1 / (2 + 0.1353352832366127))


def test_mistakes_are_named_before_a_model_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(tmp_path / "rows.jsonl", RECORD["rows"])
    monkeypatch.setattr("twofold.evaluation.truthfulqa.find_spec", lambda _: None)
    with pytest.raises(RecipeError, match="no worked examples") as missing:
        truthfulqa(["nobody"], data)
    assert "--examples FILE" in str(missing.value)
    pairs = written(tmp_path / "pairs.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    with pytest.raises(DataError, match="no worked examples"):
        truthfulqa(["nobody"], data, examples=pairs)
    with pytest.raises(DataError, match="no answers of TruthfulQA"):
        truthfulqa(["nobody"], written(tmp_path / "other.jsonl", [{"prompt": "a", "answer": "4"}]), examples=data)
    bad = {**RECORD["rows"][0], "mc1_targets": {"choices": ["a", "b"], "labels": [0, 0]}}
    with pytest.raises(DataError, match="has no right answer") as wrong:
        truthfulqa(["nobody"], written(tmp_path / "bad.jsonl", [bad]))
    assert wrong.value.where.startswith(f"{tmp_path}/bad.jsonl:1")


def test_a_row_that_is_too_long_is_named(model: str, tmp_path: Path) -> None:
    data, shown = written(tmp_path / "rows.jsonl", RECORD["rows"]), written(tmp_path / "qa.jsonl", RECORD["examples"])
    with pytest.raises(DataError, match="at most 100 are read") as error:
        truthfulqa([model], data, examples=shown, max_length=100)
    assert error.value.where == f"{data}:1"
