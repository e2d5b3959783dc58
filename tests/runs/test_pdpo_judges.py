"""The judge's gate of PDPO from a recipe, or from Python, to the run; and what is refused before the first step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.openai_stub import Body, Stub
from support.pdpo_runs import lines, recipe, rows
from twofold.algorithms import PDPO
from twofold.data.settings import DataSplit
from twofold.errors import DataError, ModelError, RecipeError
from twofold.judges.gates import GateSettings
from twofold.runs.train import train, train_recipe

OPEN: dict[str, Any] = {"generator": {"gate": "judge", "margin": 9.0}}
"""A margin under which every draft is pulled that the judge lets through."""


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A server whose model likes the first answer it is shown, and gives the scores 4 and 6 by turns."""
    server = Stub(lambda body: "Verdict: A" if "answer B" in str(body) else f"Score: {4 + 2 * (len(str(body)) % 2)}")
    yield server
    server.close()


def shares(run: Path) -> list[tuple[float, float]]:
    return [(line["right"], line["active"]) for line in lines(run)]


def test_a_model_that_finds_all_drafts_even_lets_all_pass(tmp_path: Path, base: Path, stub: Stub) -> None:
    """It favours a place, which is a tie; under at_least 1 only what wins both ways passes, and nothing does."""
    source = f"llm:{stub.url}#judge"
    train_recipe(recipe(tmp_path, base, rows("#### "), judge={"source": source}, **OPEN))
    assert shares(tmp_path) == [(1.0, 1.0)] * 4
    assert all("a correct answer" not in body["messages"][-1]["content"] for body in stub.requests)
    train_recipe(recipe(tmp_path / "won", base, rows("#### "), judge={"source": source, "at_least": 1.0}, **OPEN))
    assert shares(tmp_path / "won") == [(0.0, 0.0)] * 4


def test_a_model_scores_drafts_and_a_run_that_goes_on_asks_nothing_twice(
    tmp_path: Path, base: Path, stub: Stub
) -> None:
    judge = {"source": f"llm-score:{stub.url}#judge", "at_least": 5}
    made = recipe(tmp_path, base, rows("#### "), judge=judge, **OPEN)
    train_recipe(made)
    found = shares(tmp_path)
    assert 0 < sum(right for right, _ in found) < 4
    assert all(right == active for right, active in found)
    told = (tmp_path / "run" / "judge.ledger.jsonl").read_text().splitlines()
    assert len({json.loads(line)["key"] for line in told}) == len(told) == len(stub.requests)
    first = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    for folder in (tmp_path / "run" / "checkpoints").iterdir():
        if folder.name != "step-2":
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    train_recipe(made)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == first
    assert len(stub.requests) == len(told)


def test_a_reward_model_holds_drafts_against_their_truths(tmp_path: Path, base: Path) -> None:
    """Taught that truths are better than a lone number, it lets no draft of an untrained model pass; a low bar all."""
    pairs = tmp_path / "pairs.jsonl"
    tmp_path.mkdir(exist_ok=True)
    pairs.write_text("".join(json.dumps({**row, "rejected": "7#7#7"}) + "\n" for row in rows("#### ")))
    quick: dict[str, Any] = {"training": {"steps": 30, "batch_size": 6}, "optimizer": {"learning_rate": 1e-2}}
    train(str(base), str(pairs), run=str(tmp_path / "rm"), **quick, objective={"kind": "bradley_terry"})  # type: ignore[arg-type]  # a section
    source = f"reward:{tmp_path / 'rm' / 'model'}"
    train_recipe(recipe(tmp_path / "truth", base, rows("#### "), judge={"source": source}, **OPEN))
    train_recipe(recipe(tmp_path / "low", base, rows("#### "), judge={"source": source, "at_least": -99}, **OPEN))
    assert sum(right for right, _ in shares(tmp_path / "truth")) < 1
    assert shares(tmp_path / "low") == [(1.0, 1.0)] * 4
    with pytest.raises(ModelError, match="no trained score head"):
        train_recipe(recipe(tmp_path / "none", base, rows("#### "), judge={"source": f"reward:{base}"}, **OPEN))


def test_a_verifier_checks_the_answer_of_a_row_whose_reference_answer_is_another_text(
    tmp_path: Path, base: Path
) -> None:
    """Drafts obey `at most 99 words`, which no reference answer contains; none begins with the word zebra."""
    made, found = recipe(tmp_path, base, rows("#### "), judge={"source": "verifier:instructions"}, **OPEN), []
    for name, rule in (("all", "at most 99 words"), ("none", 'starts with "zebra"')):
        problems = tmp_path / f"{name}.jsonl"
        task = {"completion": "It is a sum.", "answer": rule}
        problems.write_text("".join(json.dumps({"prompt": f"{n}+9?", **task}) + "\n" for n in range(6)))
        data = replace(made.data, generator=DataSplit(file=str(problems)))
        gate = GateSettings(source="verifier:instructions", at_least=1.0)
        how = replace(made.algorithm, judge=gate)
        train_recipe(replace(made, data=data, algorithm=how, run=str(tmp_path / name / "run")))
        found.append(shares(tmp_path / name))
    assert sum(right for right, _ in found[0]) > 3, "all but an empty draft"
    assert all(right == active for right, active in found[0])
    assert found[1] == [(0.0, 0.0)] * 4


def test_a_function_judges_from_python_and_a_recipe_cannot_name_one(tmp_path: Path, base: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows("#### ")))

    def starts_early(prompt: str, completion: str, truth: str | None) -> float:
        assert truth is not None
        return float(completion[:1] < "5")

    algorithm = {"kind": "pdpo", "prompts": 6, "warmup": 0, "drop_truncated": False, **OPEN}
    train(
        str(base),
        str(data),
        run=str(tmp_path / "run"),
        data={"generator": {"count": 6}},  # type: ignore[arg-type]  # a section
        algorithm={**algorithm, "judge": {"source": starts_early, "at_least": 1}},
        training={"steps": 4, "batch_size": 4},
        sampling={"max_new_tokens": 6},
    )
    assert 0 < sum(right for right, _ in shares(tmp_path)) < 4
    made = recipe(tmp_path / "other", base, rows("#### "), judge={"source": "python:starts_early"}, **OPEN)
    with pytest.raises(RecipeError, match="is a function of a program") as caught:
        train_recipe(made)
    assert caught.value.where == "algorithm.judge.source"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("verifer", "did you mean `verifier`"),
        ("code", r"code runs programs of the model, and nothing here allows them \(algorithm\.judge\.source takes"),
        ("llm:nowhere", "names no server and model"),
        ("llm:http://127.0.0.1:8000/v1", "names no server and model"),
    ],
)
def test_a_judge_that_is_not_there_is_told_before_the_first_step(
    tmp_path: Path, base: Path, source: str, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        train_recipe(recipe(tmp_path, base, rows("#### "), judge={"source": source}, **OPEN))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_verifier_as_judge_looks_at_the_problems_too(tmp_path: Path, base: Path) -> None:
    data = [{**row, "chosen": "many"} for row in rows("")]
    with pytest.raises(DataError, match="holds no number"):
        train_recipe(recipe(tmp_path, base, data, judge={"source": "verifier:flexible"}, **OPEN))


def test_it_is_the_verifiers_gate_by_another_name(tmp_path: Path, base: Path) -> None:
    made = recipe(tmp_path, base, rows("#### "), generator={"gate": "verifier", "margin": 9.0})
    train_recipe(made)
    assert isinstance(made.algorithm, PDPO)
    generator = replace(made.algorithm.generator, gate="judge")
    judged = replace(made.algorithm, generator=generator, judge=GateSettings(source="verifier"))
    train_recipe(replace(made, algorithm=judged, run=str(tmp_path / "judge" / "run")))
    assert lines(tmp_path) == lines(tmp_path / "judge")


def test_a_broken_rubric_is_told_before_the_first_step(tmp_path: Path, base: Path, stub: Stub) -> None:
    judge = {"source": f"llm:{stub.url}#judge", "rubric": str(tmp_path / "none.jinja")}
    with pytest.raises(RecipeError, match="cannot be used as a rubric"):
        train_recipe(recipe(tmp_path, base, rows("#### "), judge=judge, **OPEN))


def test_a_rubric_of_ones_own_is_what_is_asked(tmp_path: Path, base: Path, stub: Stub) -> None:
    mine = tmp_path / "mine.jinja"
    mine.write_text("{{ prompt }} / {{ truth }} / {{ completion }}: ends well?")
    stub.say = lambda body: f"Score: {9 if asked(body).endswith('ends well?') else 1}"
    judge = {"source": f"llm-score:{stub.url}#judge", "at_least": 9, "rubric": str(mine)}
    train_recipe(recipe(tmp_path, base, rows("#### "), judge=judge, **OPEN))
    assert shares(tmp_path) == [(1.0, 1.0)] * 4


def asked(body: Body) -> str:
    return body["messages"][-1]["content"]
