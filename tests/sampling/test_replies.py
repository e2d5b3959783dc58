"""A server's reply as the ledger stores it and as a completion again; and what ends with its sampler."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from twofold.client.server import Reply, UnparsableReply
from twofold.records import Message
from twofold.sampling.ahead import SamplesAhead
from twofold.sampling.answers import _lost, _whole, completion

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}


@pytest.mark.parametrize(
    ("reply", "stored"),
    [
        (Reply("a", False), {"text": "a", "truncated": False}),
        (Reply("a", True, more={"id": "x", "annotations": "n"}), {"text": "a", "truncated": True}),
        (Reply("a", False, more={"mood": "m", "id": "x", "gist": "g"}),
         {"text": "a", "truncated": False, "lost": ["gist", "mood"]}),
        (Reply("a", False, more={"reasoning": "t"}),
         {"text": "a", "truncated": False, "turn": {"role": "assistant", "content": "a", "reasoning": "t"}}),
        (Reply("a", False, more={"reasoning_content": "t", "reasoning": "t", "thinking": "u"}),
         {"text": "a", "truncated": False,
          "turn": {"role": "assistant", "content": "a", "reasoning_content": "t", "thinking": "u"}}),
        (Reply("", False, more={"tool_calls": [CALL]}),
         {"text": "", "truncated": False, "turn": {"role": "assistant", "content": "", "tool_calls": [CALL]}}),
        (Reply("a", True, more={"tool_calls": [{"function": {"name": ""}}], "mood": "m"}),
         {"text": "a", "truncated": True, "lost": ["mood", "tool_calls"]}),
    ],
)  # fmt: skip
def test_a_reply_is_stored_whole(reply: Reply, stored: dict[str, Any]) -> None:
    found = _whole(reply)
    assert found == stored
    told = completion(found)
    assert told == stored["text"] or (isinstance(told, tuple) and isinstance(told[0], Message))
    assert isinstance(told, tuple) == ("turn" in stored)


def test_a_malformed_call_is_no_answer_unless_it_was_cut_off() -> None:
    with pytest.raises(UnparsableReply, match="the answer cannot be read: message 1: call 1 has no"):
        _whole(Reply("a", False, more={"tool_calls": [{"function": {"name": ""}}]}))


def test_keys_that_are_not_stored_are_counted() -> None:
    replies = [{"lost": ["a", "b"]}, None, {}, {"lost": ["a"]}]
    assert _lost(replies) == [
        "the answers' key `a` is not read (2 of them have it)",
        "the answers' key `b` is not read (1 of them have it)",
    ]


def test_an_end_waits_for_no_request() -> None:
    closed, opened = list[str](), threading.Event()
    ahead = SamplesAhead(cast(Any, SimpleNamespace(close=lambda: closed.append("servers"))))
    ahead._background.submit(opened.wait, 20)
    later = ahead._background.submit(closed.append, "later")
    began = time.monotonic()
    ahead.close()
    assert time.monotonic() - began < 10
    assert later.cancelled()
    assert closed == ["servers"]
    opened.set()
