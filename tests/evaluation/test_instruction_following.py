"""IFEval's accuracies of given answers and of a model: equal to the means of lm-eval's recorded verdicts."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from twofold.errors import DataError, RecipeError
from twofold.evaluation.instruction_following import _entry, instruction_following
from twofold.rewards.ifeval import NEEDS
from twofold.statistics import wilson

RECORD = json.loads((Path(__file__).parents[1] / "parity" / "lm_eval_ifeval.json").read_text(encoding="utf-8"))


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def published(tmp_path: Path) -> tuple[str, str, dict[int, list[Any]]]:
    """IFEval's file, a file of answers, and the recorded cases of each prompt."""
    cases: dict[int, list[Any]] = defaultdict(list)
    for case in RECORD["cases"]:
        if case[1] not in NEEDS and RECORD["texts"][case[0]].strip():
            cases[case[0]].append(case)
    rows = [
        {"key": i, "prompt": f"Prompt {i}.", "instruction_id_list": [case[1] for case in several],
         "kwargs": [{"relation": None, **case[2]} for case in several]}
        for i, several in cases.items()
    ]  # fmt: skip
    answers = [{"prompt": f"Prompt {i}.", "completion": RECORD["texts"][i]} for i in reversed(cases)]
    return written(tmp_path / "ifeval.jsonl", rows), written(tmp_path / "mine.jsonl", answers), cases


def test_figures_are_the_means_of_lm_evals_verdicts(published: tuple[str, str, dict[int, list[Any]]]) -> None:
    data, mine, cases = published
    found = instruction_following([mine], data)
    (line,) = found.figures["models"]
    for at, verdict in ((3, "strict"), (4, "loose")):
        flat = [case[at] for several in cases.values() for case in several]
        whole = [all(case[at] for case in several) for several in cases.values()]
        assert line[f"instruction_{verdict}"]["value"] == pytest.approx(sum(flat) / len(flat), abs=1e-6)
        assert line[f"prompt_{verdict}"] == wilson(sum(whole), len(whole)).as_dict()
        keywords = [case[at] for several in cases.values() for case in several if case[1].startswith("keywords:")]
        assert line["subsets"]["keywords"][verdict]["value"] == pytest.approx(sum(keywords) / len(keywords), abs=1e-6)
    assert line["instruction_strict"]["clusters"] == len(cases)
    assert sum(len(row["strict"]) for row in found.rows) == sum(map(len, cases.values()))


def test_mistakes_are_named_before_a_model_is_opened(tmp_path: Path) -> None:
    def file(answer: str) -> str:
        return written(tmp_path / "rows.jsonl", [{"prompt": "a", "answer": answer}])

    with pytest.raises(DataError, match="no instructions of IFEval"):
        instruction_following(["nobody"], file("at most 3 words"))
    with pytest.raises(DataError, match="no kind of instruction") as error:
        instruction_following(["nobody"], file('[{"kind": "length:words"}]'))
    assert error.value.where == f"{tmp_path}/rows.jsonl:1"
    with pytest.raises(RecipeError, match="no meaning here"):
        instruction_following(["reference"], file('[{"kind": "punctuation:no_comma"}]'))


def test_cut_answers_are_counted() -> None:
    verdicts = {"strict": [True], "loose": [True], "instructions": [{"kind": "punctuation:no_comma"}]}
    rows = [{"prompt": str(n), "truncated": n > 0, **verdicts} for n in range(3)]
    assert _entry("m", rows, {}).counts == {"truncated": 2}
