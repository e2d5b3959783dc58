"""What each objective makes of each kind of row, and runs from ranked and labelled rows to a model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, get_args

import pytest

import twofold
from twofold.batch import DataKind
from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.data.kinds import rows_of_kind
from twofold.errors import DataError
from twofold.objectives import DPO, KTO, NCAK, SFT, SPPO, TPO, AnyObjective, InfoNCA, PlackettLuce
from twofold.objectives.base import Objective
from twofold.records import Demonstration, Labelled, Message, Pair, Ranking, Record, Source, Task
from twofold.runs.dataset import read_dataset, row_needs
from twofold.runs.dry_run import dry_run

AT = Source("f", 1)
TRIPLE = Pair("p", "a", "b", AT, gold="c")
PAIR, TASK, SHOWN = Pair("p", "a", "b", AT), Task("p", "a", AT), Demonstration("p", "a", AT)
RANKED, GOOD, BAD = Ranking("p", ("a", "b"), AT), Labelled("p", "a", True, AT), Labelled("p", "b", False, AT)


@pytest.mark.parametrize(
    ("objective", "taught"),
    [
        (DPO(), {PAIR: [PAIR], TRIPLE: [PAIR]}),
        (TPO(), {TRIPLE: [TRIPLE]}),
        (PlackettLuce(), {RANKED: [RANKED], PAIR: [RANKED], TRIPLE: [RANKED]}),
        (KTO(), {GOOD: [GOOD], BAD: [BAD], PAIR: [GOOD, BAD], TRIPLE: [GOOD, BAD]}),
        (SFT(), {SHOWN: [SHOWN], PAIR: [SHOWN], TRIPLE: [SHOWN], TASK: [SHOWN], RANKED: [SHOWN], GOOD: [SHOWN]}),
    ],
    ids=lambda x: getattr(x, "kind", ""),
)
def test_each_objective_takes_its_rows_and_names_the_others(
    objective: Objective, taught: dict[Record, list[Record]]
) -> None:
    for record in (PAIR, TRIPLE, TASK, SHOWN, RANKED, GOOD, BAD):
        if record in taught:
            assert rows_of_kind([record], row_needs(objective)) == taught[record]
        else:
            with pytest.raises(DataError, match=f"learns from {objective.data_kind}") as error:
                rows_of_kind([next(iter(taught)), record], row_needs(objective))
            assert (error.value.where, bool(error.value.remedy)) == ("f:1", True)


def test_numbers_that_an_objective_asks_for_are_there_before_it_runs() -> None:
    scored, sure = Ranking("p", ("a", "b"), AT, (1.0, 0.0)), Pair("p", "a", "b", AT, 0.8)
    assert rows_of_kind([scored], row_needs(InfoNCA())) == [scored]
    assert rows_of_kind([RANKED, PAIR], row_needs(InfoNCA(alpha=0.0))) == [RANKED, RANKED]
    assert rows_of_kind([sure], row_needs(SPPO(probability="data"))) == [sure]
    for objective, rows, field in (
        (NCAK(), [scored, PAIR], "scores"),
        (SPPO(probability="data"), [PAIR], "probability"),
    ):
        with pytest.raises(DataError, match=f"asks for `{field}`") as error:
            rows_of_kind(rows, row_needs(objective))
        assert (error.value.where, bool(error.value.remedy)) == ("f:1", True)


def test_every_objective_names_a_lesson() -> None:
    assert {member().data_kind for member in get_args(AnyObjective)} == set(get_args(DataKind))


def sums() -> list[tuple[str, str, str, str]]:
    """A prompt, and a worked, a short and a wrong answer."""
    return [
        (f"{a}+{b}?", f"{a}+{b}={a + b}\n#### {a + b}", f"#### {a + b}", f"#### {a}")
        for a in range(1, 7)
        for b in range(1, 5)
    ]


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def train(base: Path, file: str, objective: Objective, run: Path, **sections: Any) -> list[dict[str, Any]]:
    """The run's metrics, line by line."""
    given = {"optimizer": {"learning_rate": 1e-2}, "training": {"steps": 12, "batch_size": 8}, **sections}
    data = {"heldout": {"fraction": 0.25}}
    twofold.train(str(base), file, objective=objective, run=str(run), data=data, **given)
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_rankings_from_file_to_model(tmp_path: Path, base: Path) -> None:
    """Rankings of two and of three in one file; held-out rankings end in the right order."""
    rows = [{"prompt": p, "completions": [a, b, c] if i % 2 else [a, c]} for i, (p, a, b, c) in enumerate(sums())]
    lines = train(base, write(tmp_path / "rankings.jsonl", rows), PlackettLuce(beta=0.5), tmp_path / "run")
    first, last = lines[0], lines[-1]
    assert (first["kind"], first["heldout/accuracy"], first["heldout/kendall_tau"], first["heldout/margin"]) == (
        "evaluation", 0, 0, 0,
    )  # fmt: skip
    assert last["heldout/kendall_tau"] > 0.5
    assert last["heldout/accuracy"] > 0.5
    assert last["heldout/best_reward"] > last["heldout/worst_reward"] + 0.5
    steps = [line for line in lines if line["kind"] == "train"]
    assert steps[-1]["loss/plackett_luce"] < steps[0]["loss/plackett_luce"] - 0.3
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["heldout"]["accuracy"]["n"] == last["heldout/n"] == 6
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["data"]["train"]["format"] == "prompt + completions (best first)"


def test_scored_rankings_from_file_to_model(tmp_path: Path, base: Path) -> None:
    """At the reference all are alike, which costs ln 3; it falls towards the entropy of the labels."""
    rows = [{"prompt": p, "completions": [a, b, c], "scores": [3, 1, 0]} for p, a, b, c in sums()]
    file, settings = write(tmp_path / "scored.jsonl", rows), {"steps": 8, "batch_size": 8}
    lines = train(base, file, InfoNCA(beta=0.5), tmp_path / "run", training=settings)
    assert lines[0]["heldout/loss/infonca"] == pytest.approx(math.log(3), abs=1e-6)
    odds = [math.exp(s) for s in (3, 1, 0)]
    floor = math.log(sum(odds)) - sum(o * s for o, s in zip(odds, (3, 1, 0), strict=True)) / sum(odds)
    assert floor < lines[-1]["heldout/loss/infonca"] < 0.9


def test_triples_from_file_to_model(tmp_path: Path, base: Path) -> None:
    """The worked answer is gold, the short one preferred to the wrong one."""
    rows = [{"prompt": p, "gold": a, "chosen": b, "rejected": c} for p, a, b, c in sums()]
    lines = train(base, write(tmp_path / "triples.jsonl", rows), TPO(beta=0.5), tmp_path / "run")
    first, last = lines[0], lines[-1]
    assert last["heldout/gold_logp"] > first["heldout/gold_logp"] + 5
    assert last["heldout/margin"] > first["heldout/margin"]
    assert last["heldout/loss"] < first["heldout/loss"]


def test_pairs_by_plackett_luce_are_dpo(tmp_path: Path, base: Path) -> None:
    file = write(tmp_path / "pairs.jsonl", [{"prompt": p, "chosen": a, "rejected": c} for p, a, _, c in sums()])
    ours = train(base, file, PlackettLuce(), tmp_path / "pl", training={"steps": 4, "batch_size": 4})
    dpos = train(base, file, DPO(), tmp_path / "dpo", training={"steps": 4, "batch_size": 4})
    assert [line.get("loss") for line in ours] == [line.get("loss") for line in dpos]
    assert ours[-1]["heldout/margin"] == dpos[-1]["heldout/margin"] != 0


@pytest.mark.parametrize("kind", ["cached", "live"])
def test_labels_from_file_to_model(tmp_path: Path, base: Path, kind: str) -> None:
    rows = [
        {"prompt": p, "completion": a if i % 2 else c, "label": bool(i % 2)} for i, (p, a, _, c) in enumerate(sums())
    ]
    file = write(tmp_path / "labels.jsonl", rows)
    lines = train(base, file, KTO(beta=0.5), tmp_path / "run", reference={"kind": kind})
    steps = [line for line in lines if line["kind"] == "train"]
    assert (steps[0]["z0"], steps[0]["loss/kto"], steps[0]["accuracy"]) == (0, 0.5, 0)
    assert steps[-1]["loss/kto"] < 0.4
    assert steps[-1]["desirable_reward"] > steps[-1]["undesirable_reward"] + 0.5
    assert lines[-1]["heldout/accuracy"] > 0.6
    assert all(line["z0"] >= 0 for line in steps)


def test_labels_from_pairs(tmp_path: Path, base: Path) -> None:
    """Two rows of each pair, on one side of the split, which count as one; a dry run counts rows and the live
    reference."""
    file = write(tmp_path / "pairs.jsonl", [{"prompt": p, "chosen": a, "rejected": c} for p, a, _, c in sums()])
    lines = train(base, file, KTO(beta=0.5), tmp_path / "run")
    assert (lines[0]["heldout/n"], lines[0]["heldout/rows"]) == (6, 12)
    assert lines[-1]["heldout/desirable_reward"] > lines[-1]["heldout/undesirable_reward"] + 0.5
    given = {
        "model": {"path": str(base), "precision": "float32"},
        "data": {"train": file, "heldout": {"fraction": 0.25}},
        "objective": {"kind": "kto"},
    }
    planned = dry_run(validate(Recipe, Document("test", given, {})))
    assert planned.rows == {"train": 36, "generator": 0, "heldout": 12, "tasks": 0}
    assert planned.memory.reference == planned.parameters * 4


def test_a_file_of_rankings_is_refused_by_dpo(tmp_path: Path, base: Path) -> None:
    file = write(tmp_path / "rankings.jsonl", [{"prompt": p, "completions": [a, b, c]} for p, a, b, c in sums()])
    with pytest.raises(DataError, match="DPO learns from pairs, and this row is a ranking"):
        train(base, file, DPO(), tmp_path / "run")


@pytest.mark.parametrize(("judge", "whole"), [("truth", True), ("verifier", False)])
def test_an_answer_that_is_trained_on_is_a_whole_turn(tmp_path: Path, judge: str, *, whole: bool) -> None:
    turn = Message("assistant", "a", '{"reasoning_content": "so"}')
    given = {
        "model": {"path": "m"}, "data": {"train": "in memory"}, "objective": {"kind": "dpo"}, "run": str(tmp_path),
        "algorithm": {"kind": "online", "judge": judge, "samples": 1 + (not whole)},
    }  # fmt: skip
    recipe, asked = validate(Recipe, Document("test", given, {})), (Message("user", "p"),)
    (task,) = read_dataset(recipe, recipe.objective, [Pair(asked, (turn,), "b", AT)]).train
    assert task == Task(asked, "a", AT, (turn,) if whole else None)
