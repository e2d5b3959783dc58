"""What is measured of a policy or of texts: a value for each prompt, and what the values cost in KL and length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import Tensor

from experiments.pretrained.tasks import HELDOUT, TaskRow, Texts, rows_of
from twofold.batch import Branch, Group, Role
from twofold.data.encode import encode
from twofold.data.formats import read
from twofold.models.policy import Policy
from twofold.progress import Silent
from twofold.runs.context import RunContext
from twofold.sampling.base import Sample

if TYPE_CHECKING:
    from experiments.pretrained.cells import Bench, Cell

Logps: TypeAlias = list[list[Tensor]]
"""Of the tokens of each branch, by group."""
NOISE = 10_000
"""Test samples have other seeds than those that are trained on."""
RIGHT = 0.5
"""The least value of an answer that counts as right."""
SHOWN = 6
"""Answers that are stored to be read."""


def of_texts(rows: Sequence[TaskRow], texts: Texts, values: Sequence[Sequence[float]], cut: int) -> dict[str, Any]:
    """The value of each row: the mean over its answers, whose `values` these are."""
    num = sum(map(len, texts))
    return {
        "values": [round(fmean(row), 5) for row in values],
        "clusters": [row.cluster for row in rows],
        "parts": [row.part for row in rows],
        "words": [round(fmean(len(text.split()) for text in several), 2) for several in texts],
        "truncated": cut / num,
        "answers": num,
        "shown": [f"{row.prompt} | {several[0]}" for row, several in list(zip(rows, texts, strict=True))[:SHOWN]],
    }


def of_policy(bench: Bench, cell: Cell, policy: Policy, context: RunContext) -> dict[str, Any]:
    """Answers at temperature 1, their KL to the base, and the held-out pairs that the implicit reward puts in order:
    all together, and their share by prompt."""
    rows, encoder = rows_of(bench.here, cell.split), context.encoder
    prompts = [encoder.prompt(row.prompt) for row in rows]
    sampler = context.sampler(training=False)
    drafts = sampler.sample(prompts, samples=bench.protocol.samples, seed=(NOISE + cell.seed, 0))
    texts = [[encoder.text(d.tokens) for d in several] for several in drafts]
    groups = [
        Group(f"row {i}", prompt, tuple(Branch(d.tokens, Role.DRAFT) for d in several))
        for i, (prompt, several) in enumerate(zip(prompts, drafts, strict=True))
    ]
    cut = sum(d.truncated for several in drafts for d in several)
    values, logratios = bench.task.values(bench.here, rows, texts), _logratios(policy, groups)
    ordered = _ordered(bench, policy, context)
    return {
        **of_texts(rows, texts, values, cut),
        "kl": [round(fmean(kls), 4) for kls in logratios],
        "logratio": by_verdict(values, logratios),
        "entropy": _surprise(drafts),
        "accuracy": _accuracy(ordered),
        "ordered": [round(fmean(each), 4) for each in ordered.values()],
    }


def by_verdict(values: Sequence[Sequence[float]], logratios: Sequence[Sequence[float]]) -> dict[str, float]:
    """The mean of log π/π_ref of the answers that are right (of value 0.5 or more), and of the others, nats."""
    every = [pair for row in zip(values, logratios, strict=True) for pair in zip(*row, strict=True)]
    parts = {"right": [x for value, x in every if value >= RIGHT], "wrong": [x for value, x in every if value < RIGHT]}
    return {name: round(fmean(part), 4) for name, part in parts.items() if part}


def look(bench: Bench, cell: Cell, policy: Policy, context: RunContext) -> dict[str, Any]:
    """In the middle of training: the mean value of one answer to each prompt, and the held-out pairs in order."""
    rows, encoder = rows_of(bench.here, cell.split), context.encoder
    drafts = context.sampler(training=False).sample(
        [encoder.prompt(row.prompt) for row in rows], seed=(NOISE + cell.seed, 0)
    )
    values = bench.task.values(bench.here, rows, [[encoder.text(d.tokens) for d in several] for several in drafts])
    return {
        "value": round(fmean(v for row in values for v in row), 5),
        "accuracy": _accuracy(_ordered(bench, policy, context)),
    }


def _logratios(policy: Policy, groups: Sequence[Group], other: Logps | None = None) -> list[list[float]]:
    """Σ log π/π_ref of each branch, nats. The reference is the policy without its adapter; `other` is from it."""
    own = policy.logps(groups)
    other = other or _of_reference(policy, groups)
    return [
        [float((a.double() - b.double()).sum()) for a, b in zip(mine, theirs, strict=True)]
        for mine, theirs in zip(own, other, strict=True)
    ]


def _of_reference(policy: Policy, groups: Sequence[Group]) -> Logps:
    with policy.as_reference():
        return policy.logps(groups)


def _surprise(drafts: Sequence[Sequence[Sample]]) -> float:
    """Mean −log π of a sampled token: the entropy per token, nats."""
    every = [d.logp.double() for several in drafts for d in several]
    return round(-float(sum(x.sum() for x in every)) / sum(map(len, every)), 4)


def _ordered(bench: Bench, policy: Policy, context: RunContext) -> dict[tuple[int, ...], list[bool]]:
    """By the prompt's tokens, whether the implicit reward puts each held-out pair in order. The reference is that of
    all cells."""
    records = list(read(str(bench.here / HELDOUT)).records)
    groups = encode(records, context.encoder, Silent()).groups
    if not bench.heldout:
        bench.heldout.extend(_of_reference(policy, groups))
    found: dict[tuple[int, ...], list[bool]] = {}
    for group, (chosen, rejected) in zip(groups, _logratios(policy, groups, bench.heldout), strict=True):
        found.setdefault(tuple(group.prompt.tolist()), []).append(chosen > rejected)
    return found


def _accuracy(ordered: Mapping[Any, Sequence[bool]]) -> dict[str, int]:
    """Held-out pairs, and how many of them are in order."""
    return {"n": sum(map(len, ordered.values())), "right": sum(map(sum, ordered.values()))}
