"""What a step holds and computes, from RLHF to PDPO: models, memory, operations, tokens; measured, not estimated."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from experiments.arena.cells import Arena, Cell
from experiments.arena.counts import watching
from experiments.arena.methods import METHODS, REWARD, Method
from twofold.models.packed_model import PackedModel
from twofold.training.trainer import Trainer

WARM, STEPS = 8, 4
"""Steps before measuring (PDPO's warm-up, whole rollouts of PPO), and those that are averaged: a rollout of PPO."""


@dataclass(frozen=True)
class Entry:
    """One way to align, step for step."""

    name: str
    models: int
    """Distinct models that a step uses."""
    memory_mib: float
    """Their weights, with gradients and moments of those that learn."""
    peak_mib: float
    """What a step with drafts allocates on top, at most."""
    gflop: float
    """Operations per step (one of matrix products each, attention among them; decoding too)."""
    tokens: dict[str, int]
    cpu: float
    """Processor seconds per step."""


def stages() -> Sequence[tuple[str, Method]]:
    """From RLHF to PDPO; the reference of the pairs live, then kept."""
    dpo, found = METHODS["DPO"], METHODS["PDPO"]
    live = replace(dpo, sections={**dpo.sections, "reference": {"kind": "live"}})
    ppo = METHODS["PPO"]
    valued = {**ppo.sections["algorithm"], "value": {"start": REWARD, "learning_rate": 1e-4}}
    return (
        ("PPO, reward and value models", replace(ppo, sections={**ppo.sections, "algorithm": valued})),
        ("PPO, reward model only", ppo),
        ("DPO, live reference", live),
        ("DPO, cached reference", dpo),
        ("PDPO", found),
    )


def ledger(arena: Arena) -> list[Entry]:
    """Every stage measured on the same machine in the same run."""
    return [_measured(arena, name, method) for name, method in stages()]


def _measured(arena: Arena, name: str, method: Method) -> Entry:
    loop, _, tokens = arena.assembled(Cell(method, 1e-5, 0))
    state: dict[str, Any] = {}
    for at in range(WARM):
        loop.step(loop.algorithm.round(at, state))
    tokens.trained = tokens.sampled = tokens.judged = 0
    began = time.process_time()
    models = set[PackedModel]()
    with watching(lambda model, _: models.add(model)), tokens.counting():
        for at in range(WARM, WARM + STEPS):
            loop.step(loop.algorithm.round(at, state))
    cpu = (time.process_time() - began) / STEPS
    counted = {n: v // STEPS for n, v in tokens.as_dict().items()}
    with FlopCounterMode(display=False) as operations:
        for at in range(WARM + STEPS, WARM + 2 * STEPS):
            loop.step(loop.algorithm.round(at, state))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        loop.step(loop.algorithm.round(WARM + 2 * STEPS, state))
    gflop = operations.get_total_flops() / STEPS / 1e9
    return Entry(
        name, len(models), bytes_in_memory(models, loop) / 2**20, peak_bytes(recorded) / 2**20, gflop, counted, cpu
    )


def bytes_in_memory(models: set[PackedModel], loop: Trainer) -> int:
    """Weights of all; gradients and moments of what learns."""
    weights = sum(p.nbytes for m in models for p in m.parameters())
    optimizers = [each.optimizer for each in loop.step.trainables]
    moments = [t for o in optimizers for s in o.state.values() for t in s.values() if isinstance(t, torch.Tensor)]
    learning = [p for o in optimizers for g in o.param_groups for p in g["params"]]
    return weights + sum(t.nbytes for t in (*moments, *learning))


def peak_bytes(recorded: profile) -> int:
    """The most that was allocated above the start, from the profiler's record of every allocation."""
    recorder: Any = recorded.profiler
    events = [e for e in recorder.kineto_results.events() if e.name() == "[memory]"]
    ordered = sorted(events, key=lambda e: e.start_ns())
    return max(accumulate((e.nbytes() for e in ordered), initial=0))


def ledger_table(found: Sequence[Entry]) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = [
        ("step of", "models", "held, MiB", "allocated on top, MiB", "GFLOP", "trained", "sampled", "judged", "CPU s")
    ]
    for e in found:
        tokens = [str(e.tokens[n]) for n in ("trained", "sampled", "judged")]
        told = (f"{e.memory_mib:.1f}", f"{e.peak_mib:.1f}", f"{e.gflop:.1f}", *tokens, f"{e.cpu:.2f}")
        lines.append((e.name, str(e.models), *told))
    return lines
