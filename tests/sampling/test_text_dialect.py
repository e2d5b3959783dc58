"""`transformers serve` as its documented schemas have it: what it is asked, what of its texts becomes a draft."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from support import tiny
from support.openai_stub import PUSHES, Body, Engine
from twofold.client.http import HttpClient, RetrySettings
from twofold.errors import DataError, ServerError
from twofold.sampling.base import Sampling, ServerSettings
from twofold.sampling.dialects import ServerCompletion
from twofold.sampling.servers import ServerSampler
from twofold.sampling.text_dialect import Transformers

SPELLING = {"a": 0, "b": 1, "ab": 2, "<end>": 3}
HOW: dict[str, Any] = {
    "max_new_tokens": 4, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "stop": [], "stop_tokens": [3], "seed": 77,
}  # fmt: skip


def tokenizer() -> PreTrainedTokenizerFast:
    """`ab` is one token or two."""
    made = Tokenizer(BPE(vocab=SPELLING, merges=[("a", "b")]))
    made.decoder = Fuse()  # nothing between tokens
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")


class Texts(Engine):
    """Answers one text, and draws one at a time."""

    def __init__(self, text: str, reason: str = "stop", status: str = "ready") -> None:
        self.text, self.reason, self.status = text, reason, status
        super().__init__(lambda folder: folder, lambda model, prompt, body: ([], []))

    def answer(self, path: str, body: Body, kind: str) -> tuple[int, Body]:
        if path == "/reset":
            return 200, {"status": "ok"}
        if path == "/load_model":  # events of one JSON object each
            return 200, {"status": self.status, "model": body["model"]}
        choice = {"text": self.text, "index": 0, "finish_reason": self.reason}
        return 200, {"model": f"{body['model']}@main", "choices": [choice]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer().save_pretrained(tmp_path / "v1")
    return tmp_path / "v1"


@pytest.fixture
def dialect(folder: Path) -> Iterator[Transformers]:
    engine = Texts("a")
    made, wire = Transformers(engine.url), HttpClient(engine.url, RetrySettings(attempts=1))
    made.push(wire, folder, "v1")
    assert engine.requests == [("/reset", {}), ("/load_model", {"model": str(folder.resolve())})]
    yield made
    wire.close()
    engine.close()


def test_it_is_asked_for_everything(dialect: Transformers, folder: Path) -> None:
    url, body = dialect.request([2, 0], "v1", {**HOW, "stop": ["b"]})
    assert url == f"{dialect.base}/v1/completions"
    config = json.loads(body.pop("generation_config"))
    assert config == {
        "do_sample": True, "top_k": 0, "eos_token_id": [3], "pad_token_id": 3, "max_new_tokens": 4,
        "repetition_penalty": 1.0,
    }  # fmt: skip
    assert body == {
        "model": str(folder.resolve()), "prompt": "aba", "max_tokens": 4, "seed": 77, "temperature": 1.0, "top_p": 1.0,
        "stop": ["b"],
    }  # fmt: skip
    greedy = json.loads(dialect.request([2], "v1", {**HOW, "temperature": 0.0})[1]["generation_config"])
    assert greedy["do_sample"] is False


def test_a_prompt_that_would_be_read_otherwise_is_refused(dialect: Transformers) -> None:
    with pytest.raises(DataError, match="the server would read this prompt as other tokens"):
        dialect.request([0, 1], "v1", HOW)


def test_a_draft_is_its_text_and_its_stop_token(dialect: Transformers, folder: Path) -> None:
    dialect.request([2], "v1", HOW)
    for reason, tokens, cut in (("stop", [2, 0, 3], False), ("length", [2, 0], True)):
        whole = {"model": f"{folder.resolve()}@main", "choices": [{"text": "aba", "finish_reason": reason}]}
        assert dialect.read(whole, "v1") == ServerCompletion(tokens, None, cut, "v1")
    assert dialect.read({**whole, "model": "other@main"}, "v1").version == "other"


def test_weights_that_are_not_taken(folder: Path) -> None:
    engine = Texts("a", status="error")
    wire = HttpClient(engine.url, RetrySettings(attempts=1))
    with pytest.raises(ServerError, match="did not take the weights") as caught:
        Transformers(engine.url).push(wire, folder, "v1")
    assert "same path" in (caught.value.remedy or "")
    wire.close()
    engine.close()


@pytest.mark.parametrize(("text", "reason", "lengths"), [("ab", "stop", [2]), ("aaaaaaa", "length", [4])])
def test_drafts_without_log_probabilities(text: str, reason: str, lengths: list[int], tmp_path: Path) -> None:
    """Ours alone are there; a text that is more tokens than were asked for is cut."""
    engine, policy = Texts(text, reason), tiny.policy(dtype=torch.float32)
    server: Any = {"engine": "transformers", "push": "folder", "url": engine.url, "parallel": 8}
    settings = Sampling(max_new_tokens=4, server=ServerSettings(**server))
    sampler = ServerSampler(policy, [3], settings, lambda folder: tokenizer().save_pretrained(folder), tmp_path)
    ((draft,), (other,)) = sampler.sample([torch.tensor([2]), torch.tensor([0])])
    assert [len(draft.tokens)] == lengths
    assert draft.truncated is other.truncated is (reason == "length")
    assert (draft.columns, len(draft.logp)) == ({}, lengths[0])
    assert sampler.metrics == {"served/behind": 0.0, "served/lost": 0.0}
    assert sampler.servers[0].turns._value == 1  # type: ignore[attr-defined]  # one at a time
    assert not any(path in PUSHES for path, _ in engine.requests)
    engine.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"push": "adapter"}, "push folder"), ({"ahead": 1}, "importance_cap none"), ({"push": "none"}, "url|vllm")],
)
def test_what_it_cannot_do_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServerSettings(**{"url": "http://h", "engine": "transformers", "push": "folder", **changes})
    ServerSettings(url="http://h", engine="transformers", push="folder", ahead=1, importance_cap="none")
