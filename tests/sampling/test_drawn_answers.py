"""Answers drawn once and kept: of a model here, whose record is a function of what draws, and of a server."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.chat_templates import FAMILIES
from support.heard import Tasks
from support.openai_stub import GOOD, Stub
from support.prompted import model_folder
from twofold.client.server import RetrySettings
from twofold.errors import RecipeError
from twofold.ledger import Ledger
from twofold.progress import Silent
from twofold.records import Message
from twofold.sampling import answers
from twofold.sampling.answers import Draw, LocalAnswerer, ServerAnswerer, open_answerer
from twofold.sampling.base import Sampling
from twofold.sampling.named_model import open_model

QUESTIONS = ["How much is 2 + 3?", "Name a color.", "Say hello."]
SHORT = Sampling(max_new_tokens=4, batch_size=4)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> LocalAnswerer:
    return LocalAnswerer(open_model(model_folder(FAMILIES[0], tmp_path_factory.mktemp("model"))))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.jsonl") as opened:
        yield opened


def test_answers_are_what_the_sampler_draws(local: LocalAnswerer, ledger: Ledger) -> None:
    """Two of each, drawn with the seed that is given, at step 0; each tells where it comes from."""
    told = Tasks()
    found = local.answers(QUESTIONS, Draw(SHORT, 2, 7), ledger, told)
    model = local._model
    tokens = [model.encoder.prompt(q) for q in QUESTIONS]
    drawn = model.sampler(SHORT).sample(tokens, samples=2, seed=(7, 0))
    for some, drafts in zip(found, drawn, strict=True):
        assert some is not None
        assert [c.text for c in some] == [model.encoder.text(d.tokens) for d in drafts]
        assert [c.truncated for c in some] == [d.truncated for d in drafts]
        assert [c.origin["sample"] for c in some] == [0, 1]
        assert {(c.origin["model"], c.origin["seed"]) for c in some} == {(local.name, 7)}
        assert some[0].origin["sampling"] == Draw(SHORT, 2, 7).rule()
        assert some[0].origin["weights"] == local._weights[:12]
    task = f"answers of {local.name}"
    assert told.calls == [("begin", task, 3), ("advance", task, 0), ("advance", task, 3), ("end", task)]


def test_what_was_drawn_is_not_drawn_again(
    local: LocalAnswerer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In chunks, each recorded before the next. Another seed, rule or sample is another answer; a batch size is not."""
    monkeypatch.setattr(answers, "CHUNK", 2)
    told = Tasks()
    first = local.answers(QUESTIONS[:1], Draw(SHORT, 1, 0), ledger, Silent())
    whole = local.answers(QUESTIONS, Draw(SHORT, 1, 0), ledger, told)
    assert whole[0] == first[0]
    assert [call[2] for call in told.calls if call[0] == "advance"] == [1, 2]
    again, wide = Tasks(), Sampling(max_new_tokens=4, batch_size=9)
    drawn = local.answers(QUESTIONS, Draw(wide, 1, 0), ledger, again)
    assert [[c.text for c in some or ()] for some in drawn] == [[c.text for c in some or ()] for some in whole]
    assert [call[2] for call in again.calls if call[0] == "advance"] == [3]
    more = Tasks()
    longer = local.answers(QUESTIONS[:1], Draw(SHORT, 2, 0), ledger, more)
    assert longer[0] is not None
    assert longer[0][0] == whole[0][0]  # type: ignore[index]  # all were drawn
    assert [call[2] for call in more.calls if call[0] == "advance"] == [0, 1]
    for other in (Draw(SHORT, 1, 1), Draw(Sampling(max_new_tokens=4, temperature=0.5), 1, 0)):
        anew = Tasks()
        local.answers(QUESTIONS, other, ledger, anew)
        assert [call[2] for call in anew.calls if call[0] == "advance"] == [0, 2, 1]


def test_a_rule_is_what_changes_answers() -> None:
    rule = Draw(Sampling(stop=("\n",), batch_size=3, top_k=5), 2, 0).rule()
    assert (rule["stop"], rule["top_k"], "batch_size" in rule) == (["\n"], 5, False)


def stub(behave: Any = lambda body, nth: GOOD) -> Stub:
    return Stub(lambda body: f"said {body['messages'][-1]['content']}", behave)


def asked(server: Stub, prompts: list[Any], draw: Draw, ledger: Ledger, progress: Silent) -> list[Any]:
    with ExitStack() as stack:
        stack.callback(server.close)
        answerer = open_answerer(f"{server.url}#m", stack, RetrySettings(attempts=2, pause=0.01, parallel=1))
        assert isinstance(answerer, ServerAnswerer)
        assert answerer.name == "m"
        return answerer.answers(prompts, draw, ledger, progress)


def test_a_server_is_told_every_setting_and_each_sample_has_its_seed(ledger: Ledger) -> None:
    """A seed is 64 times three bytes of (seed, sample): a later attempt, which adds less than 64, is no other's."""
    server, told = stub(), Tasks()
    how = Sampling(temperature=0.7, top_p=0.9, max_new_tokens=5, stop=("END",))
    found = asked(server, ["one", "two"], Draw(how, 2, 3), ledger, told)
    assert [[c.text for c in some] for some in found] == [["said one"] * 2, ["said two"] * 2]
    assert found[0][1].origin == {
        "model": "m", "server": f"{server.url}/chat/completions", "sampling": Draw(how, 2, 3).rule(), "seed": 3,
        "sample": 1,
    }  # fmt: skip
    seeds = [64 * int.from_bytes(hashlib.sha256(f"3/{i}".encode()).digest()[:3], "little") for i in range(2)]
    assert server.requests == [
        {
            "model": "m", "messages": [{"role": "user", "content": text}], "temperature": 0.7, "top_p": 0.9,
            "max_tokens": 5, "seed": seed, "stop": ["END"],
        }
        for text in ("one", "two") for seed in seeds
    ]  # fmt: skip
    task = "answers of m"
    assert told.calls == [("begin", task, 4), *[("advance", task, 1)] * 4, ("end", task)]


def test_a_server_is_asked_once(ledger: Ledger) -> None:
    """Recorded replies cost nothing, and say what was cut; no stop text is no setting."""
    server = stub(lambda body, nth: "cut" if body["messages"][-1]["content"] == "one" else GOOD)
    with ExitStack() as stack:
        stack.callback(server.close)
        answerer = open_answerer(f"{server.url}#m", stack, RetrySettings(attempts=1, pause=0.01))
        first = answerer.answers(["one", "two"], Draw(SHORT, 1, 0), ledger, Silent())
        assert len(server.requests) == 2
        assert "stop" not in server.requests[0]
        assert answerer.answers(["one", "two"], Draw(SHORT, 1, 0), ledger, Silent()) == first
        assert len(server.requests) == 2
    assert [[c.truncated for c in some or ()] for some in first] == [[True], [False]]


def test_an_answer_that_stays_out_leaves_its_prompt_without_any(ledger: Ledger) -> None:
    """And none beside it is lost; what the server does not take is told once."""
    bad = [64 * int.from_bytes(hashlib.sha256(f"0/{i}".encode()).digest()[:3], "little") for i in range(2)][1]

    def behave(body: dict[str, Any], nth: int) -> str:
        late = body["messages"][-1]["content"] == "one" and body["seed"] - bad in (0, 1)
        return "garbage" if late else GOOD

    found = asked(stub(behave), ["one", "two"], Draw(SHORT, 2, 0), ledger, Silent())
    assert found[0] is None
    assert [c.text for c in found[1]] == ["said two"] * 2


def test_what_a_server_does_not_take_is_told(ledger: Ledger) -> None:
    message = "400 Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
    progress = Silent()
    asked(
        stub(lambda body, nth: message if "max_tokens" in body else GOOD), ["one"], Draw(SHORT, 1, 0), ledger, progress
    )
    assert len(progress.warnings) == 1
    assert "`max_completion_tokens` is sent in its place" in progress.warnings[0]


@pytest.mark.parametrize("how", [{"top_k": 5}, {"use_generation_config": True}])
def test_what_a_server_does_not_know_is_refused(how: dict[str, Any], ledger: Ledger) -> None:
    server = stub()
    with pytest.raises(
        RecipeError, match="top_k and use_generation_config: an OpenAI-compatible server knows neither"
    ) as caught:
        asked(server, ["one"], Draw(Sampling(**how), 1, 0), ledger, Silent())
    assert caught.value.remedy == "leave them out for a server"
    assert server.requests == []


def test_a_chat_is_sent_as_its_turns(ledger: Ledger) -> None:
    server = stub()
    chat = (Message("system", "Be brief."), Message("user", "Hi"))
    asked(server, [chat], Draw(SHORT, 1, 0), ledger, Silent())
    assert server.requests[0]["messages"] == [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
    ]  # fmt: skip
