"""Choices of TruthfulQA as tokens behind their prompts, what is recorded of them, and their table."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from support.heard import Heard
from twofold.batch import Role
from twofold.evaluation import truthfulqa
from twofold.evaluation.figures import BinaryOutcomes, Ratio
from twofold.evaluation.frontier import prompts_of
from twofold.evaluation.parts import WHOLE, Line
from twofold.evaluation.truthfulqa import TruthfulQaSettings, mc1, mc2, measure_truthful, targets_of
from twofold.models.packing import Packing
from twofold.records import Request, Source, Task


class Policy:
    """Each token's log-probability is its number, negative; it records groups and packs."""

    def __init__(self) -> None:
        self.groups, self.packs = list[Any](), list[Packing]()

    def logps(self, groups: Any, packing: Packing) -> list[list[torch.Tensor]]:
        self.groups += groups
        self.packs.append(packing)
        return [[-branch.tokens.float() / 10 for branch in group.branches] for group in groups]


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> Policy:
    """Tokens are the digits of a text; a choice of two digits joins the last token of its prompt."""

    def encoded(model: Any, text: str) -> list[int]:
        head, _, tail = text.rpartition(" ")
        tokens = [int(c) for c in head if c.isdigit()] + [int(c) for c in tail if c.isdigit()]
        return [*tokens[:2], 9, *tokens[3:]] if tail == "77" else tokens

    monkeypatch.setattr(truthfulqa, "_encoded", encoded)
    return Policy()


def test_choices_that_share_their_prompts_tokens_are_one_group(policy: Policy) -> None:
    """The third choice changes the last token of the prompt: it is behind a prompt of its own."""
    model: Any = SimpleNamespace(policy=policy)
    tasks = [Task("p", "", Source("t", n)) for n in (1, 2)]
    found = truthfulqa._logps(model, ["1 2 3", "4"], [["5", "6 1", "77", "8"], ["2"]], tasks, 5)
    told = [(g.name, g.prompt.tolist(), [b.tokens.tolist() for b in g.branches]) for g in policy.groups]
    assert told == [
        ("t:1", [1, 2, 3], [[5], [6, 1], [8]]), ("t:1", [1, 2, 9], [[7, 7]]), ("t:2", [4], [[2]]),
    ]  # fmt: skip
    assert {b.role for g in policy.groups for b in g.branches} == {Role.DEMONSTRATION}
    assert policy.packs == [Packing()]
    assert found[0] == pytest.approx([-0.5, -0.7, -1.4, -0.8], rel=1e-6)
    assert found[1] == pytest.approx([-0.2], rel=1e-6)
    exact = float((-torch.tensor([6.0, 1.0]) / 10).double().sum())
    assert found[0][1] == exact


TARGETS = [
    {"mc1": [["5", 1], ["6", 0]], "mc2": [["5", 1], ["6", 0], ["7", 1]]},
    {"mc1": [["8", 1], ["3", 0]], "mc2": [["8", 1], ["3", 0]]},
]


def test_every_choice_is_recorded_once_with_its_labels(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, lengths, whole = Heard(), list[int](), truthfulqa._logps
    monkeypatch.setattr(truthfulqa, "open_model", lambda name, chat: SimpleNamespace(policy=policy, name=name))
    monkeypatch.setattr(truthfulqa, "_prompts", lambda questions, how: [f"{q.prompt} 1" for q in questions])
    monkeypatch.setattr(truthfulqa, "_logps", lambda *given: lengths.append(given[-1]) or whole(*given))
    tasks = [Task(f"q{n}", json.dumps(each), Source("t", n + 1)) for n, each in enumerate(TARGETS)]
    found = measure_truthful(["m", "n"], tasks, TruthfulQaSettings(progress=heard), WHOLE)
    assert list(found) == ["m", "n"]
    (first, second) = found["m"].rows
    assert first == {
        "model": "m", "name": "t:1", "question": "q0", "choices": ["5", "6", "7"],
        "logp": pytest.approx([-0.5, -0.6, -0.7], rel=1e-6), **TARGETS[0],
    }  # fmt: skip
    assert (second["choices"], second["mc2"], found["n"].rows[1]["model"]) == (["8", "3"], TARGETS[1]["mc2"], "n")
    assert found["m"].about["prompting"] == {"style": "text", "examples": "lm-eval", "first prompt": "q0 1"}
    assert heard.notes == ["m: 2 questions", "n: 2 questions"]
    assert heard.of("log-probabilities") == [("begin", 2), ("advance", 1, {}), ("advance", 1, {}), ("end",)] * 2
    assert set(lengths) == {4096}


def test_a_table_of_choices_by_hand() -> None:
    """Of q0 the likeliest is right, with a mass of 1 − e/(1 + e + e²) of e², e, 1; of q1 the second is likelier."""
    rows = [
        {"model": "m", "name": "t:0", "question": "q", "choices": ["5", "6", "7"], "logp": [0.0, -1.0, -2.0],
         **TARGETS[0]},
        {"model": "m", "name": "t:1", "question": "q", "choices": ["8", "3"], "logp": [-3.0, -2.0], **TARGETS[1]},
    ]  # fmt: skip
    found = truthfulqa._entry("m", Line(rows, {"prompting": "as it is"}))
    masses = [1 - math.e / (1 + math.e + math.e**2), 1 / (1 + math.e)]
    assert [row["right"] for row in found.rows] == [True, False]
    assert [row["mass"] for row in found.rows] == pytest.approx(masses, rel=1e-14)
    assert found.measures["mc1"] == BinaryOutcomes([True, False], ["q", "q"])
    mass = [row["mass"] for row in found.rows]
    assert found.measures["mc2"] == Ratio(mass, [1.0, 1.0], prompts=["q", "q"], share=True)
    assert (found.about, found.counts, found.name) == ({"prompting": "as it is"}, {}, "m")


def test_likely_and_right_at_the_bounds_of_numbers() -> None:
    assert (mc1([-1.0, -1.0], [1, 0]), mc1([-1.0, -1.0], [0, 1]), mc1([-1.0, -2.0], [2, 1])) == (True, False, False)
    assert mc2([-5000.0, -5000.0 - math.log(3)], [1, 0]) == pytest.approx(0.75, rel=1e-9)
    assert mc2([-1.0, -1.0, -1.0, -1.0], [1, 1, 0, 2]) == 0.5
    assert mc2(list(np.array([-0.1, -0.2], np.float32)), [1, 1]) == 1.0


def test_labels_and_choices_are_read_as_numbers_and_texts() -> None:
    told = {"mc1": [[5, "1"], ["a", 0]], "mc2": [["a", 0.0], [True, 1]]}
    found = targets_of(Task("q", json.dumps(told), Source("t", 1)))
    assert found == {"mc1": [("5", 1), ("a", 0)], "mc2": [("a", 0), ("True", 1)]}
    assert truthfulqa._choices(found) == ["5", "a", "True"]


def test_of_each_prompt_the_first_row_is_measured() -> None:
    rows = [Request(p, Source("f", n)) for n, p in enumerate(("b", "a", "b", "c", "a"), 1)]
    assert [row.source.row for row in prompts_of(rows)] == [1, 2, 4]
    assert prompts_of(rows[:2]) == rows[:2]
