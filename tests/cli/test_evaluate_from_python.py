"""The library calls behind `twofold evaluate` and `explain`: the same figures and rows as the command writes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import twofold as tf

Run = Callable[..., Any]
FEW = {"max_new_tokens": 4}


def written(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def tasks(tmp_path: Path) -> str:
    return written(
        tmp_path / "tasks.jsonl", *({"question": f"{n} + 1 = ", "answer": f"#### {n + 1}"} for n in range(6))
    )


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    rows = ({"prompt": f"say {n}: ", "chosen": "abc"[: 1 + n % 3], "rejected": "zy"} for n in range(6))
    return written(tmp_path / "pairs.jsonl", *rows)


@pytest.fixture
def files(model_folder: Path, tmp_path: Path, tasks: str, pairs: str) -> dict[str, str]:
    examples = ({"question": f"{n} + 5 = ", "answer": "1"} for n in range(4))
    names = {"EXAMPLES": written(tmp_path / "examples.jsonl", *examples), "MODEL": str(model_folder)}
    return {**names, "TASKS": tasks, "PAIRS": pairs}


@pytest.mark.parametrize(
    ("call", "how", "words"),
    [
        (tf.accuracy, {"metrics": ["strict", "text"], **FEW}, "--metrics strict,text --max-new-tokens 4"),
        (
            tf.accuracy,
            {"metrics": ["strict"], "shots": 1, "prompted": [0], "seed": 2, "examples": "EXAMPLES", **FEW},
            "--metrics strict --shots 1 --prompted 0 --seed 2 --examples EXAMPLES --max-new-tokens 4",
        ),
        (tf.pass_at_k, {"ks": [1, 2], "samples": 3, "seed": 1, **FEW},
         "--pass-at 2,1 --samples 3 --seed 1 --max-new-tokens 4"),
        (tf.preference, {"reference": "MODEL"}, "--task preference --reference MODEL"),
        (tf.perplexity, {}, "--task perplexity"),
        (
            tf.win_rate,
            {"judge": "verifier:flexible", "temperatures": [0, 1], "samples": 2, "canary": "7", **FEW},
            "--task win-rate --judge verifier:flexible --temperatures 0,1 --samples 2 --canary 7 --max-new-tokens 4",
        ),
        (
            tf.frontier,
            {"reward": "verifier:flexible", "reference": "MODEL", "samples": 2, "best_of": [2, 3], **FEW},
            "--task frontier --reward verifier:flexible --reference MODEL --samples 2 --best-of 3,2 --max-new-tokens 4",
        ),
    ],
)  # fmt: skip
def test_python_has_what_the_command_writes(
    twofold: Run, files: dict[str, str], tmp_path: Path, call: Callable[..., tf.Evaluation], how: dict[str, Any],
    words: str,
) -> None:  # fmt: skip
    model, source = files["MODEL"], files["PAIRS" if call in (tf.preference, tf.perplexity) else "TASKS"]
    line = [files.get(word, word) for word in words.split()]
    out = tmp_path / "out"
    answer = twofold("evaluate", model, "--tasks", source, *line, "--out", out)
    assert answer.code == 0, answer.err
    told = json.loads((out / "results.json").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text(encoding="utf-8").splitlines()]

    named = {k: files.get(v, v) if isinstance(v, str) else v for k, v in how.items()}
    found = call([model], source, **named)
    assert {name: told[name] for name in found.figures} == json.loads(json.dumps(found.figures))
    assert told.keys() - found.figures.keys() == {"command", "task", "tasks"}
    assert rows == json.loads(json.dumps(found.rows))
    again = call([model], tf.read(source).records, **named)
    assert again.figures == found.figures


def test_a_ledger_is_taken_up_and_people_get_the_comparisons(model_folder: Path, tmp_path: Path, tasks: str) -> None:
    how: dict[str, Any] = {"judge": "verifier", "temperatures": [1.0], "max_new_tokens": 4, "out": tmp_path / "out"}
    first = tf.win_rate([str(model_folder)], tasks, **how)
    lines = (tmp_path / "out" / "ledger.jsonl").read_text(encoding="utf-8")
    assert tf.win_rate([str(model_folder)], tasks, **how).figures == first.figures
    assert (tmp_path / "out" / "ledger.jsonl").read_text(encoding="utf-8") == lines
    assert len((tmp_path / "out" / "comparisons.jsonl").read_text(encoding="utf-8").splitlines()) == 6


def test_explain_model_has_what_the_command_writes(
    twofold: Run, model_folder: Path, tmp_path: Path, pairs: str
) -> None:
    out = tmp_path / "explain.json"
    assert twofold("explain", model_folder, pairs, "--reference", model_folder, "--json", out).code == 0
    found, decode = tf.explain_model(str(model_folder), tf.read(pairs).records, reference=str(model_folder))
    told = json.loads(out.read_text(encoding="utf-8"))
    assert told.pop("facts")[0] == f"{model_folder} against {model_folder}"
    assert json.loads(json.dumps(found.as_dict(decode))) == told


@pytest.mark.parametrize(
    ("call", "how", "said"),
    [
        (tf.accuracy, {}, "requires problems with answers"),
        (
            tf.frontier,
            {"reward": "llm-score:http://127.0.0.1:1/v1#j", "reference": "m"},
            "no folder for a server's answers",
        ),
        (tf.win_rate, {"judge": "nonsense"}, "no judge is called 'nonsense'"),
        (tf.pass_at_k, {"ks": [4], "samples": 2}, "pass@4 needs more than 2 samples"),
        (tf.win_rate, {"judge": "llm:http://127.0.0.1:1/v1#j"}, "no folder for a server's answers"),
    ],
)
def test_mistakes_are_named_before_a_model_is_loaded(
    pairs: str, call: Callable[..., tf.Evaluation], how: dict[str, Any], said: str
) -> None:
    with pytest.raises(tf.TwofoldError, match=said.replace("?", r"\?")):
        call(["no-such-model"], pairs, **how)


def test_settings_are_keywords_and_stand_in_the_help() -> None:
    names = list(inspect.signature(tf.win_rate).parameters)
    assert names[:3] == ["models", "data", "judge"]
    assert "against" in names
    assert "every two players sign flips" in " ".join(str(tf.win_rate.__doc__).split())
    assert "`rubric` is a file with" in " ".join(str(tf.win_rate.__doc__).split())  # what several calls share
    assert "is a constant answer for the judge" in " ".join(str(tf.win_rate.__doc__).split())
    with pytest.raises(TypeError, match="jugde"):
        tf.win_rate(["m"], "rows.jsonl", jugde="verifier")  # pyright: ignore[reportCallIssue]  # the mistake meant
