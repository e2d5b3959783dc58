"""`twofold data check` on rankings and on labelled completions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
RANKING = {"prompt": "1 + 1 = ", "completions": ["2", "3", "4"]}
LABELLED = {"prompt": "1 + 1 = ", "completion": "2", "label": True}


@pytest.mark.parametrize(
    ("good", "bad", "shape", "field"),
    [
        (RANKING, {**RANKING, "completions": ["2", ""]}, "prompt + completions (best first)", "completions[2]"),
        (LABELLED, {**LABELLED, "label": "yes"}, "prompt + completion + label", "label"),
    ],
    ids=["rankings", "labels"],
)
def test_data_check_knows_the_shape_and_names_what_is_wrong(
    twofold: Run, tmp_path: Path, good: dict[str, Any], bad: dict[str, Any], shape: str, field: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(good) + "\n")
    answer = twofold("data", "check", path)
    assert (answer.code, shape in answer.out.replace("\n", " ")) == (0, True)
    path.write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n")
    answer = twofold("data", "check", path, "--json")
    assert answer.code == 2
    (source,) = json.loads(answer.out)["sources"]
    assert (source["format"], source["rows"], source["usable"]) == (shape, 2, 1)
    (fault,) = source["faults"]
    assert (fault["row"], fault["field"], bool(fault["remedy"])) == (2, field, True)


def test_answers_that_nobody_judged_are_sent_to_a_judge(twofold: Run, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps({"prompt": "1 + 1 = ", "answers": ["2", "3"], "provenance": {}}) + "\n")
    answer = twofold("data", "check", path, "--json")
    assert answer.code == 2
    (fault,) = json.loads(answer.out)["sources"][0]["faults"]
    assert (fault["row"], fault["field"], fault["check"]) == (1, "answers", "unjudged answers")
    assert "twofold data label" in fault["remedy"]
    assert "twofold data build" in fault["remedy"]
