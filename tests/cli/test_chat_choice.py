"""What verbs say of text prompts before a chat template, and how a choice is made on the line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.chat_templates import FAMILIES, HH, QUESTION
from support.prompted import model_folder, rows

Run = Callable[..., Any]
PAIRS = [{"prompt": QUESTION, "chosen": " 5", "rejected": " 6"}]
RAW = [{"chosen": f"{HH} 5", "rejected": f"{HH} 6"}]


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> str:
    return model_folder(FAMILIES[0], tmp_path_factory.mktemp("chatty"))


def test_show_shows_turns(twofold: Run, tmp_path: Path, chatty: str) -> None:
    pairs, raw = rows(tmp_path / "pairs.jsonl", PAIRS), rows(tmp_path / "hh.jsonl", RAW)
    answer = twofold("data", "show", pairs, "--model", chatty)
    assert "prompts: 1 as a user's turn in the model's chat template" in answer.out
    assert f"prompt  {FAMILIES[0].question}" in answer.out
    assert "chosen  5<|im_end|>" in answer.out
    answer = twofold("data", "show", raw, "--model", chatty)
    assert "prompts: 1 as transcripts split into turns of the model's chat template" in answer.out
    assert f"prompt  {FAMILIES[0].dialogue}" in answer.out
    bare = twofold("data", "show", raw, "chat=text", "--model", chatty)
    assert "prompts: 1 as bare text (chat: text)" in bare.out
    assert f"prompt  {HH}" in bare.out
    odd = twofold("data", "show", raw, "chat=song", "--model", chatty)
    assert (odd.code, "override `chat=song`" in odd.err) == (2, True)


def test_check_says_how_prompts_are_put_and_what_is_a_guess(twofold: Run, tmp_path: Path, chatty: str) -> None:
    told = twofold("data", "check", rows(tmp_path / "hh.jsonl", RAW), "--model", chatty)
    assert told.code == 0
    assert "no faults" in told.out
    assert "prompts: 1 as transcripts split into turns of the model's chat template" in told.out
    odd = rows(
        tmp_path / "odd.jsonl", [{"prompt": f"[INST] {n} [/INST]", "chosen": "5", "rejected": "6"} for n in "ab"]
    )
    found = json.loads(twofold("data", "check", odd, "--model", chatty, "--json").out)["sources"][0]
    assert found["prompts"] == "2 as a user's turn in the model's chat template"
    (fault,) = found["faults"]
    assert (fault["check"], fault["severity"], fault["row"]) == ("guessed prompt", "warning", 0)
    assert fault["reason"].startswith(f"2 prompts, the first at {odd}:1: holds [INST], a mark of a chat template")
    chosen = json.loads(twofold("data", "check", odd, "--model", chatty, "--chat", "text", "--json").out)["sources"][0]
    assert (chosen["faults"], chosen["prompts"]) == ([], "2 as bare text (chat: text)")
    whole = rows(tmp_path / "whole.jsonl", [{"chosen": "The sky is blue.", "rejected": "The sky is green."}])
    assert "prompts are what both texts begin with" in twofold("data", "check", whole, "--model", chatty).out
    bare = model_folder(replace(FAMILIES[0], template=""), tmp_path / "bare")
    refused = twofold("data", "check", odd, "--model", bare, "--chat", "chat")
    assert (refused.code, "the tokenizer has no chat template" in refused.err) == (2, True)
    assert "guess" not in twofold("data", "check", whole, "--model", bare).out


def test_sample_puts_its_prompt_as_a_row_of_that_text(twofold: Run, tmp_path: Path, chatty: str) -> None:
    drawn = ("sample", chatty, "--out", tmp_path / "drafts.jsonl", "max_new_tokens=2")
    assert twofold(*drawn, "--prompt", HH).code == 0
    turns = json.loads((tmp_path / "drafts.jsonl").read_text(encoding="utf-8"))["prompt"]
    assert [(t["role"], t["content"]) for t in turns] == [("user", "Hi"), ("assistant", "Hello!"), ("user", QUESTION)]
    assert twofold(*drawn, "--prompt", HH, "chat=text").code == 0
    assert json.loads((tmp_path / "drafts.jsonl").read_text(encoding="utf-8"))["prompt"] == HH
