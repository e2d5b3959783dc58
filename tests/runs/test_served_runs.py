"""Recipes whose drafts a server draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer

from support.openai_stub import Engine
from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.errors import RecipeError, TwofoldError
from twofold.records import Pair, Record, Source, Task
from twofold.runs.train import train
from twofold.sampling.base import Sampling
from twofold.sampling.local import LocalSampler


def engine_of(base: Path) -> Engine:
    tokenizer = AutoTokenizer.from_pretrained(base)

    def make(folder: str | None) -> Any:
        model = AutoModelForCausalLM.from_pretrained(base)
        return model if folder is None else PeftModel.from_pretrained(model, folder).base_model.model

    def draw(model: Any, prompt: list[int], given: dict[str, Any]) -> tuple[list[int], list[float]]:
        import torch

        sampler = LocalSampler(model, tokenizer, given["stop_token_ids"], Sampling(max_new_tokens=given["max_tokens"]))
        ((draft,),) = sampler.sample([torch.tensor(prompt)], seed=(given["seed"], 0))
        return draft.tokens.tolist(), draft.logp.tolist()

    return Engine(make, draw)


SECTIONS: dict[str, dict[str, Any]] = {
    "policy_gradient": {
        "objective": {"kind": "grpo"},
        "algorithm": {"kind": "policy_gradient", "reward": lambda p, c, t: float(sum(map(str.isdigit, c)))},
    },
    "pdpo": {"algorithm": {"kind": "pdpo", "warmup": 1, "prompts": 2, "reuse_steps": 2, "generator": {"clip": 0.2}},
             "data": {"generator": {"count": 4}}},
}  # fmt: skip


@pytest.mark.parametrize("kind", SECTIONS)
def test_a_run_whose_drafts_a_server_draws(kind: str, tmp_path: Path, base: Path) -> None:
    engine = engine_of(base)
    rows: list[Record] = [Task(f"{a}+{b}?", f"{a + b}", Source("made", 9 * a + b)) for a in range(4) for b in range(3)]
    if kind == "pdpo":
        rows = [Pair(t.prompt, t.answer, "x", t.source) for t in rows if isinstance(t, Task)]
    try:
        train(
            str(base),
            rows,
            run=str(tmp_path / "run"),
            model={"lora": {"rank": 2}, "precision": "float32"},
            training={"steps": 4, "batch_size": 3},
            optimizer={"learning_rate": 1e-2},
            sampling={"max_new_tokens": 6, "server": {"url": engine.url, "sync_every": 2, "pause": 0.01}},
            **SECTIONS[kind],
        )
    finally:
        engine.close()
    found = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    drawn = [line for line in found if "served/behind" in line]
    fresh = [line["served/logp_off_most"] for line in drawn if line["served/behind"] == 0]
    assert max(fresh) < 1e-3
    assert sum(path == "/v1/load_lora_adapter" for path, _ in engine.requests) == 2
    assert len(engine.models) == 2


def test_a_server_that_nobody_would_ask_is_refused(tmp_path: Path) -> None:
    given: dict[str, Any] = {"model": {"path": "m"}, "data": {"train": "d.jsonl"}}
    server = {"server": {"url": "http://127.0.0.1:8000"}}
    for section, said in (
        ({"sampling": server}, "this algorithm uses none"),
        ({"evaluation": {"sampling": server}}, "evaluation.sampling is always local"),
    ):
        with pytest.raises((RecipeError, ValidationError, TwofoldError), match=said):
            validate(Recipe, Document("test", {**given, **section}, {}))
