"""Who lets a draft through: ratings against a bar, against the ground truth's, and a language model's verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from support.judge_replies import QUICK, longer, parts
from support.openai_stub import Body, Stub, said
from twofold.batch import Branch, Group, Role
from twofold.client.server import Endpoint, Server
from twofold.judges.completions import CompletionJudge
from twofold.judges.drafts import JudgedDrafts
from twofold.judges.gates import GateSettings, ThresholdGate
from twofold.judges.language_model import ModelJudge, Rubric
from twofold.judges.servers import PairwiseJudge, ScoringJudge
from twofold.ledger import Ledger


def text(tokens: torch.Tensor) -> str:
    return bytes(tokens.tolist()).decode()


def tokens(said: str) -> torch.Tensor:
    return torch.tensor(list(said.encode()))


def problem(truth: str, *drafts: str) -> Group:
    return Group(truth, tokens("why?"), tuple(Branch(tokens(d), Role.DRAFT) for d in drafts), tokens(truth))


def length(prompt: str, completion: str, truth: str | None) -> float:
    return float(len(completion))


LENGTH = JudgedDrafts(CompletionJudge(length), text)
ASKED = [problem("four", "one", "four", "fifth"), problem("six..."), problem("ab", "abc")]


def test_the_bar_is_the_ground_truths_own_rating_or_a_number() -> None:
    assert ThresholdGate(LENGTH).rate(ASKED) == [[0, 1, 1], [], [1]]
    assert ThresholdGate(LENGTH, 5.0).rate(ASKED) == [[0, 0, 1], [], [0]]


@dataclass(frozen=True)
class Fixed:
    rows: list[list[float]]

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        return self.rows


def test_what_has_no_rating_has_no_verdict() -> None:
    (bar,) = ThresholdGate(Fixed([[math.nan, 2.0]]), 1.0).rate([problem("x", "a", "b")])
    assert math.isnan(bar[0])
    assert bar[1] == 1.0
    (truth,) = ThresholdGate(Fixed([[3.0, 2.0, math.nan]])).rate([problem("x", "a", "b")])
    assert all(map(math.isnan, truth))


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(longer)
    yield server
    server.close()


def test_a_model_compares_each_draft_with_its_truth_in_both_orders(stub: Stub, tmp_path: Path) -> None:
    with Server(Endpoint.of(f"{stub.url}#judge"), QUICK) as server, Ledger(tmp_path / "ledger") as ledger:
        judge = PairwiseJudge(ModelJudge(server, Rubric.load("compare")), ledger)
        compared = JudgedDrafts(judge, text, against_truth=True)
        assert compared.rate(ASKED) == [[0, 0.5, 1], [], [1]]
        assert ThresholdGate(compared, 0.5).rate(ASKED) == [[0, 1, 1], [], [1]]
        assert ThresholdGate(compared, 1.0).rate(ASKED) == [[0, 0, 1], [], [1]]
    pairs = [("one", "four"), ("four", "one"), ("four", "four"), ("fifth", "four"), ("four", "fifth"), ("abc", "ab")]
    asked = [tuple(parts(body)) for body in stub.requests]
    assert set(asked) == {*pairs, ("ab", "abc")}
    assert len(asked) <= 8  # equal texts may be asked in both orders; nothing was asked again


def test_a_model_scores_with_the_truth_before_its_eyes(stub: Stub, tmp_path: Path) -> None:
    stub.say = lambda body: f"Score: {len(parts(body)[0])}"
    with Server(Endpoint.of(f"{stub.url}#judge"), QUICK) as server, Ledger(tmp_path / "ledger") as ledger:
        graded = JudgedDrafts(ScoringJudge(ModelJudge(server, Rubric.load("score")), ledger), text)
        assert graded.rate(ASKED) == [[3, 4, 5], [], [3]]
        assert ThresholdGate(graded, 4.0).rate(ASKED) == [[0, 1, 1], [], [0]]
    assert all("a correct answer" in said(body) for body in stub.requests)


def test_a_verdict_that_cannot_be_read_is_none(stub: Stub, tmp_path: Path) -> None:
    def say(body: Body) -> str:
        return "I would rather not." if "fifth" in parts(body) else longer(body)

    stub.say = say
    with Server(Endpoint.of(f"{stub.url}#judge"), QUICK) as server, Ledger(tmp_path / "ledger") as ledger:
        judge = PairwiseJudge(ModelJudge(server, Rubric.load("compare")), ledger)
        (first, _, last) = JudgedDrafts(judge, text, against_truth=True).rate(ASKED)
    assert math.isnan(first[2])
    assert (first[:2], last) == ([0, 0.5], [1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": ""}, "name a judge"),
        ({"source": "llm-score:http://127.0.0.1/v1#m"}, "llm-score needs at_least"),
        ({"source": "verifier", "rubric": "mine.jinja"}, "rubric is for llm"),
    ],
)
def test_a_judge_that_cannot_judge_is_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GateSettings(**settings)
