"""DPO steps of a pretrained model on real HH pairs: our bfloat16 beside our float32, and TRL beside both.

`python -m benchmarks.dpo_vs_trl --model FOLDER`. One thread; only two sides are in memory at a time, and take turns.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks import pairs
from benchmarks.bare_products import bare_seconds
from benchmarks.reporting import median_interval, print_facts, print_table
from benchmarks.turns import Job, Worker

WARM_UP = 1
TARGETS = {"float32 / bfloat16": 2.5, "TRL float32 / float32": 4.5, "TRL bfloat16 / bfloat16": 10.0}
Side = tuple[str, str]
"""The worker's module and the precision."""


def compare(asked: argparse.Namespace, peer: Path | None) -> dict[str, Any]:
    """Each comparison's ratio of processor seconds, peak memories, and the share of a step that its products need.
    `peer` is a Python with TRL, if it is to be measured."""
    torch.set_num_threads(1)
    ours: list[Side] = [("twofold_worker", precision) for precision in ("float32", "bfloat16")]
    versus: list[tuple[str, Side, Side]] = [("float32 / bfloat16", ours[0], ours[1])]
    if peer is not None:
        versus += [(f"TRL {p} / {p}", ("trl_worker", p), ("twofold_worker", p)) for p in ("float32", "bfloat16")]
    found: list[dict[str, Any]] = []
    turns = asked.runs + WARM_UP
    with tempfile.TemporaryDirectory() as folder:
        rows = pairs.hh(asked.model, Job.batch_size * turns)
        pairs.save(rows, Path(folder) / "hh.json")
        print_facts(f"HH, mean tokens of {len(rows)} pairs", pairs.mean_lengths(rows))
        job = Job(str(asked.model), f"{folder}/hh.json", folder, "cached", turns, 1)
        for name, slow, fast in versus:
            sides = _take_turns(job, peer, slow, fast)
            found.append(_figures(name, sides))
            print_facts("measured", found[-1])
        needed = _needed(asked.model, rows, turns)
    shares = {p: _share(needed[p], found, p) for p in needed}
    print_table(f"{asked.runs} paired turns of one step, processor seconds, one thread", found)
    print_facts("share of a step that its bare products need", shares)
    return {"real_model": found, "bare_product_seconds": needed, "share_of_bare_products": shares, "targets": TARGETS}


def _take_turns(job: Job, peer: Path | None, slow: Side, fast: Side) -> list[list[dict[str, Any]]]:
    answers: list[list[dict[str, Any]]] = [[], []]
    pythons = [peer if module == "trl_worker" else sys.executable for module, _ in (slow, fast)]
    jobs = [replace(job, precision=p, scratch=f"{job.scratch}/{module}-{p}") for module, p in (slow, fast)]
    with Worker(pythons[0] or "", slow[0], jobs[0]) as a, Worker(pythons[1] or "", fast[0], jobs[1]) as b:
        for turn in range(job.turns):
            for i in (0, 1) if turn % 2 else (1, 0):
                answers[i].append((a, b)[i].turn())
    return [side[WARM_UP:] for side in answers]


def _figures(name: str, sides: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    slow, fast = sides
    return {
        "comparison": name,
        "ratio [interval]": median_interval([a["cpu"] / b["cpu"] for a, b in zip(slow, fast, strict=True)]),
        "seconds": median_interval([t["cpu"] for t in slow]),
        "ours": median_interval([t["cpu"] for t in fast]),
        "peak MiB": round(slow[-1]["peak_bytes"] / 2**20),
        "our peak": round(fast[-1]["peak_bytes"] / 2**20),
    }


def _needed(folder: Path, rows: Sequence[pairs.Pair], turns: int) -> dict[str, float]:
    """Processor seconds of a mean step's products, by precision; a shared pack holds a prompt once."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    tokens = sum(len(r["prompt"]) + len(r["chosen"]) + len(r["rejected"]) - 2 for r in rows) // turns
    scored = sum(len(r["chosen"]) + len(r["rejected"]) for r in rows) // turns
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    return {name: bare_seconds(model, tokens, scored, dtype) for name, dtype in dtypes.items()}


def _share(needed: float, found: Sequence[dict[str, Any]], precision: str) -> float:
    spent = found[0]["seconds" if precision == "float32" else "ours"].value
    return round(needed / spent, 3)
