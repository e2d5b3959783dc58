"""Digests of prompts and weights in rows and ledgers: the first 16 letters of a SHA-256."""

from __future__ import annotations

import math
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twofold.evaluation import parts, pass_at_k, rewardbench, truthfulqa
from twofold.evaluation.figures import Ratio, _exp
from twofold.evaluation.likelihood import Likely
from twofold.evaluation.parts import Part
from twofold.evaluation.truthfulqa import TruthfulQaSettings, measure_truthful
from twofold.ledger import Ledger
from twofold.records import Message, Pair, Source, Task


def first(text: bytes) -> str:
    return sha256(text).hexdigest()[:16]


def test_a_likelihoods_prompt_is_digested_once() -> None:
    told = Likely("f:1", b"tokens", {"chosen": -1.0}, {"chosen": 2}, {"weight": 2.0}).as_dict()
    assert told == {
        "name": "f:1", "prompt": first(b"tokens"), "logp": {"chosen": -1.0}, "tokens": {"chosen": 2}, "weight": 2.0,
    }  # fmt: skip
    assert Likely.of(told).as_dict() == told


def test_prompts_of_samples_and_of_pairs() -> None:
    """Of a chat the turns as they are shown."""
    chat = (Message("user", "p"),)
    tasks = [Task("p", "#### 1", Source("t", 1)), Task(chat, "#### 1", Source("t", 2))]
    shown = [{"role": "user", "content": "p"}]
    assert pass_at_k._digests(tasks) == (first(b"'p'"), first(repr(shown).encode()))
    labels = {1: {"subset": "s"}, 2: {}}
    assert rewardbench._label(Pair("p", "a", "b", Source("f", 1)), labels) == {"subset": "s", "prompt": first(b"p")}
    assert rewardbench._label(Pair("q", "a", "b", Source("f", 2)), labels) == {"prompt": first(b"q")}


def test_weights_are_digested_where_there_is_a_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "weights_digest", lambda model: f"{model:x<64}")
    named: Any = SimpleNamespace(loaded=SimpleNamespace(model="digest"))
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        assert Part(ledger=ledger).weights(named) == "digestxxxxxxxxxx"
    assert Part().weights(named) == ""


def test_measurements_of_truthfulqa_are_recorded_by_model_weights_and_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[Any]()
    targets = '{"mc1": [["a", 1], ["b", 0]], "mc2": [["a", 1], ["b", 0]]}'
    rows = [Task(f"q{n}", targets, Source("t", n)) for n in (1, 2)]
    shown = tmp_path / "qa.jsonl"
    shown.write_text('{"question": "x", "answer": "y"}\n', encoding="utf-8")
    monkeypatch.setattr(truthfulqa, "open_model", lambda name, **how: asked.append((name, how)) or "model")
    part: Any = SimpleNamespace(
        of=lambda rows: rows, weights=lambda model: "w", rows=lambda *given: asked.append(given[:3]) or []
    )
    found = measure_truthful(["m", "m"], rows, TruthfulQaSettings(examples=str(shown)), part)
    prompts = [f"Q: x\nA: y\n\nQ: q{n}\nA:" for n in (1, 2)]
    assert asked == [("m", {"chat": "text"}), (("m", "w", first("\n".join(prompts).encode())), rows, 1)]
    assert found["m"].weights == "w"
    assert found["m"].about == {
        "prompting": {"style": "text", "examples": str(shown), "first prompt": prompts[0]},
    }  # fmt: skip


def test_a_perplexity_beyond_all_numbers_is_infinite() -> None:
    assert (_exp(699.0), _exp(700.0), _exp(1e6)) == (math.exp(699.0), math.inf, math.inf)
    found = Ratio([1e6, 1e6], [1.0, 1.0], exponential=True).estimate()
    assert (found.value, found.low, found.high) == (math.inf, math.inf, math.inf)
