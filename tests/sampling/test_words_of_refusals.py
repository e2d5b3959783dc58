"""What a server says of weights that it does not take, as much of it as is told; and what it is asked meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from twofold.errors import DataError, ServerError
from twofold.sampling.dialects import SGLang, truncated
from twofold.sampling.text_dialect import Transformers

HOW: dict[str, Any] = {
    "max_new_tokens": 4, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "stop": [], "stop_tokens": [3], "seed": 7,
}  # fmt: skip


class Wire:
    """Answers one text to whatever is sent."""

    def __init__(self, text: str) -> None:
        self.text, self.sent = text, list[Any]()

    def post(self, url: str, body: Any, remedies: Any = None) -> str:
        self.sent.append((url, body, remedies))
        return self.text


def tokenizer() -> PreTrainedTokenizerFast:
    made = Tokenizer(BPE(vocab={"a": 0, "b": 1, "ab": 2, "<end>": 3}, merges=[("a", "b")]))
    made.decoder = Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"success": False, "message": "x" * 300}, "x" * 200), ({"success": 1, "message": "short"}, "short"),
        ({"note": "y" * 300}, ('{"note": "' + "y" * 300)[:200]), ({"success": "true", "message": ""}, ""),
    ],
)  # fmt: skip
def test_the_first_200_letters_of_a_refusal_are_told(answer: dict[str, Any], told: str, tmp_path: Path) -> None:
    wire: Any = Wire(json.dumps(answer))
    with pytest.raises(ServerError) as refused:
        SGLang("http://h").push(wire, tmp_path, "v2")
    assert refused.value.what == f"did not take the weights: {told}"
    assert (refused.value.where, refused.value.remedy) == ("http://h", "look at the server's own log")


def test_the_last_200_letters_of_events_are_told(tmp_path: Path) -> None:
    made, wire = Transformers("http://h"), Wire("early " + "x" * 300 + " end \n")
    made._tokenizer = tokenizer()
    sent: Any = wire
    with pytest.raises(ServerError) as refused:
        made.push(sent, tmp_path, "v2")
    assert refused.value.what == "did not take the weights: " + "x" * 196 + " end"
    assert refused.value.where == "http://h"
    missing = "start transformers serve, without a model of its own"
    remedies = {404: missing, 405: missing}
    assert wire.sent == [
        ("http://h/reset", {}, remedies), ("http://h/load_model", {"model": str(tmp_path.resolve())}, remedies),
    ]  # fmt: skip
    wire.text = '{"status": "ready"}'
    made.push(sent, tmp_path, "v3")
    assert made._folders == {"v3": str(tmp_path.resolve())}
    with pytest.raises(DataError) as unread:
        made.request([0] * 101 + [1], "v3", HOW)
    assert (unread.value.where, unread.value.remedy) == (
        "a" * 80, "sample in this process, or with vllm or sglang",
    )  # fmt: skip


@pytest.mark.parametrize(("stops", "pad"), [([3], 3), ([0, 3], 3), ([1, 0], 1)])
def test_what_ends_a_text_is_its_own_end_or_the_first_stop_token(stops: list[int], pad: int, tmp_path: Path) -> None:
    made = Transformers("http://h")
    made._tokenizer, made._folders = tokenizer(), {"v1": str(tmp_path)}
    body = made.request([2], "v1", {**HOW, "stop_tokens": stops})[1]
    assert json.loads(body["generation_config"])["pad_token_id"] == pad
    answer = {"model": f"{tmp_path}@main", "choices": [{"text": "ab", "finish_reason": "stop"}]}
    assert made.read(answer, "v1").tokens == [2, pad]
    assert "stop" not in body


def test_only_a_length_is_a_cut() -> None:
    assert [truncated(reason) for reason in ("length", "stop")] == [True, False]
