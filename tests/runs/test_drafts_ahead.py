"""Drafts drawn one step ahead: by which weights, with which importance, at the same time; lost and resumed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from support import resumable_runs
from support.openai_stub import GOOD, PUSHES, Body, Engine
from support.resumable_runs import STEPS, left_behind, stop_after
from twofold.algorithms.base import Algorithm
from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.errors import ServerError, TwofoldError
from twofold.objectives.importance import OF_DRAFT, OF_TOKEN, SAMPLER_LOGP
from twofold.sampling.base import ServerSettings
from twofold.training.step import Round
from twofold.training.trainer import Trainer

SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("grpo", "online-rounds", "ppo-value", "xpo")]
FEW: dict[str, Any] = {"evaluate_every": STEPS, "batch_size": 2}
"""Drafts of each step: 4."""
ROUNDS: dict[str, Any] = {"evaluate_every": STEPS}
"""What is drawn serves several steps, where it does, and is drawn twice."""
Fault = Callable[[str, int], str]


def weights_of(folder: str | None) -> Any:
    return None if folder is None else AutoModelForCausalLM.from_pretrained(folder)


@torch.no_grad()
def draw(model: Any, prompt: list[int], given: Body) -> tuple[list[int], list[float]]:
    """Token by token from the whole row, by nobody's sampler."""
    noise, row, logps = torch.Generator().manual_seed(given["sampling_seed"]), list(prompt), list[float]()
    while len(logps) < given["max_new_tokens"] and (not logps or row[-1] not in given["stop_token_ids"]):
        logp = model(torch.tensor([row])).logits[0, -1].double().log_softmax(-1)
        row.append(int(torch.multinomial(logp.exp(), 1, generator=noise)))
        logps.append(float(logp[row[-1]]))
    return row[len(prompt) :], logps


@pytest.fixture
def start() -> Iterator[Callable[..., Engine]]:
    made: list[Engine] = []

    def begin(fault: Fault = lambda path, nth: GOOD, draws: Callable[..., Any] = draw) -> Engine:
        made.append(Engine(weights_of, draws, fault))
        return made[-1]

    yield begin
    for engine in made:
        engine.close()


def server(*engines: Engine, **changes: Any) -> dict[str, Any]:
    urls = [engine.url for engine in engines]
    return {"url": urls, "engine": "sglang", "push": "folder", "attempts": 2, "pause": 0.01, "ahead": 1, **changes}


def loop(run: Path, kind: str, *, server: dict[str, Any], **training: Any) -> Trainer:
    """A run of `kind` whose drafts `server` draws."""
    spec = {**resumable_runs.KINDS[kind], "sampling": {"max_new_tokens": 6, "server": server}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resumable_runs.KINDS, "served", spec)
        return resumable_runs.loop(run, "served", **training)


def lines(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == "train"]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind whose drafts are new in every step, and whose weights move far enough for older ones to show."""
    spec = {
        "objective": {"kind": "grpo", "scale": "none", "beta": 0.0},
        "algorithm": {"kind": "policy_gradient", "reward": "python:brevity", "samples": 2},
        "optimizer": {"learning_rate": 0.05, "schedule": "constant", "warmup": 0},
        "data": {"heldout": None},
    }
    monkeypatch.setitem(resumable_runs.KINDS, "fresh", spec)


def test_the_weights_that_a_step_began_with_draw_for_the_next(start: Callable[..., Engine], tmp_path: Path) -> None:
    """The first drafts are fresh, and the server's log-probabilities ours; later ones are a step old. A draft's
    importance weights are those of the definition, from what the server reports and what the policy, as it is when the
    draft arrives, makes of it."""
    engine, rounds = start(), list[Round]()
    made = loop(tmp_path, "fresh", server=server(engine, importance_cap=1.2), checkpoint_every=STEPS, **FEW)
    made.algorithm = Recorded(made.algorithm, rounds)
    made.train()
    rows = lines(tmp_path)
    assert [row["served/behind"] for row in rows] == [0, 1, 1, 1, 1, 1]
    assert rows[0]["served/logp_off_most"] < 1e-4 < 1e-2 < min(row["served/logp_off_most"] for row in rows[1:])
    kinds = [path in PUSHES for path, _ in engine.requests]
    pushes_before = [sum(kinds[:i]) for i, push in enumerate(kinds) if not push]
    assert pushes_before == [n for n in (1, 1, 2, 3, 4, 5) for _ in range(4)]
    capped = 0
    for branch in (b for made_round in rounds for g in made_round.parts[0].groups for b in g.branches):
        ratio = (branch.token_columns["old_logp"] - branch.token_columns[SAMPLER_LOGP]).exp()
        torch.testing.assert_close(branch.token_columns[OF_TOKEN], ratio.clamp(max=1.2).double(), rtol=1e-4, atol=0)
        assert branch.columns[OF_DRAFT] == pytest.approx(min(float(ratio.prod()), 1.2), rel=1e-4)
        capped += int((ratio > 1.2).sum())
    assert capped > 0
    assert max(row["served/token_capped"] for row in rows) > 0 == rows[0]["served/token_capped"]


@dataclass
class Recorded(Algorithm):
    """An algorithm whose rounds are looked at."""

    algorithm: Any
    rounds: list[Round]

    def round(self, step: int, state: dict[str, Any]) -> Round:
        self.rounds.append(self.algorithm.round(step, state))
        return self.rounds[-1]


@pytest.mark.parametrize("ahead", [0, 1])
def test_servers_draw_while_the_step_trains(
    ahead: int, start: Callable[..., Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a step's drafts are judged the server has been asked for those of the next one; without ahead it has not.
    So judging and drawing take less time than one after the other."""
    drawn, judged, overlaps = list[tuple[float, float]](), list[tuple[float, float]](), list[bool]()

    def slow(model: Any, prompt: list[int], given: Body) -> tuple[list[int], list[float]]:
        began = time.perf_counter()
        time.sleep(0.5 if len(drawn) % 4 == 0 else 0)
        reply = draw(model, prompt, given)
        drawn.append((began, time.perf_counter()))
        return reply

    def reward(prompt: str, completion: str, truth: str | None) -> float:
        began = time.perf_counter()
        if len(judged) % 4 == 0:
            time.sleep(0.5)
            overlaps.append(sum(path not in PUSHES for path, _ in engine.requests) > len(judged) + 4)
        judged.append((began, time.perf_counter()))
        return resumable_reward(prompt, completion, truth)

    engine, resumable_reward = start(draws=slow), resumable_runs.brevity
    monkeypatch.setattr(resumable_runs, "brevity", reward)
    loop(tmp_path, "fresh", server=server(engine, ahead=ahead), steps=3, checkpoint_every=3, batch_size=2).train()
    assert overlaps == ([True, True, False] if ahead else [False] * 3)
    for step in (0, 1):
        judging, drawing = judged[4 * step : 4 * step + 4], drawn[4 * step + 4 : 4 * step + 8]
        together = min(judging[-1][1], drawing[-1][1]) - max(judging[0][0], drawing[0][0])
        assert (together > 0) is bool(ahead)


def test_without_ahead_drafts_bring_no_weights(start: Callable[..., Engine], tmp_path: Path) -> None:
    """`auto` is none without ahead, to the byte; a cap of its own is heard there too, and changes what is learned."""
    engine = start()
    for name, changes in (("auto", {}), ("none", {"importance_cap": "none"}), ("low", {"importance_cap": 1.0})):
        how = server(engine, **{"ahead": 0, "sync_every": 2, **changes})
        loop(tmp_path / name, "fresh", server=how, checkpoint_every=STEPS, **FEW).train()
    auto, none, low = (left_behind(tmp_path / name) for name in ("auto", "none", "low"))
    assert auto["metrics.jsonl"] == none["metrics.jsonl"]
    assert auto["policy.safetensors"] == none["policy.safetensors"] != low["policy.safetensors"]
    assert b"served/token_capped" in low["metrics.jsonl"]
    assert b"served/token_capped" not in auto["metrics.jsonl"]


@pytest.mark.parametrize("kind", ["pdpo", *SLOW])
def test_stopped_and_resumed(kind: str, start: Callable[..., Engine], tmp_path: Path) -> None:
    """A checkpoint holds what was under way, so that the run ends with the same bytes."""
    how = server(start())
    loop(tmp_path / "whole", kind, server=how, **ROUNDS).train()
    for _ in range(2, STEPS, 2):
        assert loop(tmp_path / "parts", kind, server=how, **ROUNDS).train(stop=stop_after(2)).stopped
    assert not loop(tmp_path / "parts", kind, server=how, **ROUNDS).train().stopped
    assert left_behind(tmp_path / "parts") == left_behind(tmp_path / "whole")
    behind = [row["served/behind"] for row in lines(tmp_path / "whole") if "served/behind" in row]
    assert behind[1:]
    assert set(behind[1:]) == {1.0}


@pytest.mark.parametrize("kind", SLOW)
def test_killed_between_checkpoints(kind: str, start: Callable[..., Engine], tmp_path: Path) -> None:
    """What the steps after the last checkpoint had begun is forgotten with them."""
    how = server(start())
    loop(tmp_path / "whole", kind, server=how, **ROUNDS).train()
    with pytest.raises(KeyboardInterrupt):
        loop(tmp_path / "killed", kind, server=how, checkpoint_every=3, **ROUNDS).train(stop=killed_at(5))
    loop(tmp_path / "killed", kind, server=how, checkpoint_every=3, **ROUNDS).train()
    assert left_behind(tmp_path / "killed")["metrics.jsonl"] == left_behind(tmp_path / "whole")["metrics.jsonl"]


def killed_at(step: int) -> Callable[[], bool]:
    steps = iter(range(1, STEPS))

    def stop() -> bool:
        if next(steps) == step:
            raise KeyboardInterrupt
        return False

    return stop


def test_a_server_that_is_lost_under_way(start: Callable[..., Engine], tmp_path: Path) -> None:
    """The other draws its share of what is under way. Where there is no other the run ends once it needs the drafts,
    with all that it has learned saved, and goes on later with fresh ones."""
    well = start()
    loop(tmp_path / "whole", "fresh", server=server(well), **FEW).train()
    ill = start(lambda path, nth: "500" if path not in PUSHES and nth > 3 else GOOD)
    loop(tmp_path / "two", "fresh", server=server(well, ill), **FEW).train()
    assert left_behind(tmp_path / "two")["policy.safetensors"] == left_behind(tmp_path / "whole")["policy.safetensors"]
    assert max(row["served/lost"] for row in lines(tmp_path / "two")) == 1
    broken = [True]
    alone = start(lambda path, nth: "500" if path not in PUSHES and nth > 14 and broken[0] else GOOD)
    with pytest.raises(ServerError, match="no completion was received in 2 attempts: HTTP 500"):
        loop(tmp_path / "alone", "fresh", server=server(alone), **FEW).train()
    assert len(lines(tmp_path / "alone")) == 3
    broken[0] = False
    loop(tmp_path / "alone", "fresh", server=server(alone), **FEW).train()
    assert [row["served/behind"] for row in lines(tmp_path / "alone")] == [0, 1, 1, 0, 1, 1]
    assert (
        (tmp_path / "alone" / "metrics.jsonl")
        .read_text()
        .startswith("".join((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines(keepends=True)[:3]))
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"server": {"ahead": 2}}, "must be 0 or 1: one step at most"),
        ({"server": {"importance_cap": 0.5}}, "must be ≥ 1, auto or none"),
        (
            {"server": {"ahead": 1}, "temperature": 0.7},
            "importance weights need completions from the full distribution",
        ),
        (
            {"server": {"importance_cap": 3.0}, "top_k": 5},
            "importance weights need completions from the full distribution",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], message: str) -> None:
    given = {**changes, "server": {"url": "http://127.0.0.1:8000", **changes["server"]}}
    recipe = {"model": {"path": "m"}, "data": {"train": "d", "generator": {"count": 2}}, "algorithm": {"kind": "pdpo"}}
    with pytest.raises((TwofoldError, ValidationError), match=message):
        validate(Recipe, Document("test", {**recipe, "sampling": given}, {}))


def test_a_cap_by_itself_and_by_default() -> None:
    caps = {ServerSettings(url="http://h", **how).cap for how in ({"ahead": 1}, {"importance_cap": 2.0})}  # type: ignore[arg-type]  # a table of settings
    assert caps == {2.0}
    assert (
        ServerSettings(url="http://h").cap is ServerSettings(url="http://h", ahead=1, importance_cap="none").cap is None
    )
