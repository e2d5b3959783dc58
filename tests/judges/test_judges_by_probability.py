"""Judges by the probabilities of tokens, and rubrics that are only criteria."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.endpoint_kinds import new, old, rude, strict
from support.heard import Heard
from support.judge_replies import QUICK, longer, parts
from support.openai_stub import GOOD, Behaviour, Body, Stub, said
from twofold.client.server import Endpoint, Server
from twofold.errors import RecipeError, ServerError
from twofold.judges.base import MatchResult
from twofold.judges.language_model import Form, Match, ModelJudge, Rubric
from twofold.judges.questions import Question
from twofold.judges.servers import OPTIONAL, PairwiseJudge, ScoringJudge
from twofold.ledger import Ledger
from twofold.progress import Silent
from twofold.records import Candidate, Source


def letters(first: float, second: float) -> dict[str, Any]:
    """A chat's log-probabilities of a reply ` A`, with the letter also without a space and something else."""
    tops = [(" A", first / 2), ("A", first / 2), ("B", second), ("The", 1 - first - second)]
    content = {"token": " A", "logprob": math.log(first / 2)}
    return {"content": [{**content, "top_logprobs": [{"token": t, "logprob": math.log(p)} for t, p in tops]}]}


def by_length(body: Body) -> dict[str, Any]:
    """0.6 for the longer answer, 0.2 for the other, 0.2 for neither; 0.1 of the longer one's for position A."""
    first, second = parts(body)
    return letters(0.6, 0.2) if len(first) > len(second) else letters(0.3, 0.5)


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(lambda body: "A")
    server.logprobs = by_length
    yield server
    server.close()


def judge(stub: Stub, ledger: Ledger, path: str = "") -> PairwiseJudge:
    server = Server(Endpoint.of(f"{stub.url}{path}#m"), QUICK)
    return PairwiseJudge(ModelJudge(server, Rubric.load("choose")), ledger)


def test_probabilities_of_both_orders_are_averaged(stub: Stub, tmp_path: Path) -> None:
    """P(A) is 0.6/0.8 with the longer answer first and 0.3/0.8 with it second."""
    with Ledger(tmp_path / "l.jsonl") as ledger:
        found = judge(stub, ledger).results([Match("p", "longer", "no"), Match("p", "no", "longer")], Silent())
        about = [pytest.approx((0.75 + 1 - 0.375) / 2), pytest.approx((0.375 + 1 - 0.75) / 2)]
        assert [r and r.probability for r in found] == about
        assert [r and (r.share, r.orders) for r in found] == [(1.0, ("A", "B")), (0.0, ("B", "A"))]
        question = Question("p", Source("s", 1), None, (Candidate("longer", {}), Candidate("no", {})))
        assert judge(stub, ledger).scores([question], Silent()) == [[pytest.approx(0.6875), pytest.approx(0.3125)]]
        assert judge(stub, ledger).provenance["kind"] == "llm-prob"
    assert len(stub.requests) == 4  # nothing is asked again
    body = stub.requests[0]
    assert (body["logprobs"], body["top_logprobs"], body["max_tokens"]) == (True, 20, 16)
    assert said(body).endswith("nothing else: A or B.")


@pytest.mark.parametrize(
    ("behave", "logprobs", "what"),
    [
        (lambda body, nth: GOOD, lambda body: None, "the reply has no probabilities of tokens"),
        (lambda body, nth: "400 Unknown parameter: 'logprobs'", by_length, "HTTP 400: Unknown parameter: 'logprobs'"),
    ],
)
def test_a_server_without_probabilities_ends_the_run(
    stub: Stub, tmp_path: Path, behave: Any, logprobs: Any, what: str
) -> None:
    stub.behave, stub.logprobs = behave, logprobs
    with Ledger(tmp_path / "l.jsonl") as ledger, pytest.raises(ServerError) as refused:
        judge(stub, ledger).results([Match("p", "longer", "no")], Silent())
    assert refused.value.what == what
    assert refused.value.remedy == "judge with llm:URL#NAME, which reads the verdict as text"


@pytest.mark.parametrize("behave", [strict, old, new, rude])
@pytest.mark.parametrize("form", ["compare", "choose", "score"])
def test_every_kind_of_endpoint_can_judge(stub: Stub, tmp_path: Path, behave: Behaviour, form: Form) -> None:
    """A judge that is shown the longer answer first or second, whatever fields the endpoint takes."""
    stub.behave, stub.say = behave, (lambda body: "Score: 7") if form == "score" else longer
    stub.logprobs = by_length if form == "choose" else lambda body: None
    with Ledger(tmp_path / "l.jsonl") as ledger:
        server = Server(Endpoint.of(f"{stub.url}#m"), QUICK, optional=OPTIONAL)
        model, progress = ModelJudge(server, Rubric.load(form)), Heard()
        question = Question("p", Source("s", 1), None, (Candidate("longer", {}), Candidate("no", {})))
        if form == "score":
            assert ScoringJudge(model, ledger).scores([question], progress) == [[7.0, 7.0]]
        else:
            (row,) = PairwiseJudge(model, ledger).scores([question], progress)
            assert row == pytest.approx([1.0, 0.0] if form == "compare" else [0.6875, 0.3125])
    where = f"{stub.url}/chat/completions#m"
    assert progress.notes[0].startswith(f"{where}: 2 requests to send, about ")
    assert progress.notes[1] == f"{where}: 2 replies, 6 prompt and 4 completion tokens"


def test_criteria_replace_those_of_the_package(stub: Stub, tmp_path: Path) -> None:
    file = tmp_path / "criteria.txt"
    file.write_text("- It is polite.\n- It rhymes.\n")
    own = "correctness first"
    for form in ("compare", "choose", "score"):
        fields = {"completion": "x"} if form == "score" else {"first": "x", "second": "y"}
        shipped = Rubric.load(form).render(prompt="p", truth="42", **fields)  # type: ignore[arg-type]
        mine = Rubric.load(form, file).render(prompt="p", truth="42", **fields)  # type: ignore[arg-type]
        assert (own in shipped, own in mine) == (True, False)
        assert "- It is polite.\n- It rhymes.\n" in mine
        assert (
            mine.partition("Everything between")[2].partition("text-")[0]
            == (shipped.partition("Everything between")[2].partition("text-")[0])
        )
        assert "\n42\n" in mine
    with Server(Endpoint.of(f"{stub.url}#m"), QUICK) as server, Ledger(tmp_path / "l.jsonl") as ledger:
        stub.say = longer
        found = PairwiseJudge(ModelJudge(server, Rubric.load("compare", file)), ledger)
        assert found.results([Match("p", "aaa", "b")], Silent()) == [MatchResult(1.0, ("A", "B"))]
    file.write_text(" \n")
    with pytest.raises(RecipeError, match="is empty"):
        Rubric.load("score", file)
