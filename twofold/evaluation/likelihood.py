"""What a model finds likely in text that it did not write: held-out preference accuracy, and perplexity.

Log-probabilities are of a completion's tokens given its prompt, its stop token among them. The implicit reward is
Σ log π − Σ log π_ref (DPO's without its β, which changes no order): arXiv:2305.18290, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twofold.batch import Group, Role
from twofold.evaluation.figures import BinaryOutcomes, Entry, Measure, Ratio
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.progress import Progress, Silent

CHUNK = 256
SIDES = {Role.CHOSEN: "chosen", Role.REJECTED: "rejected", Role.DEMONSTRATION: "completion"}
UNITS = ("perplexity", "perplexity_per_completion", "nats_per_completion")


@dataclass(frozen=True, slots=True)
class Likely:
    """A row: by side, the log-probability in nats and the tokens. Rows with the same `prompt` are alike."""

    name: str
    prompt: bytes
    logp: Mapping[str, float]
    tokens: Mapping[str, int]


def likelihoods(policy: Policy, groups: Sequence[Group], progress: Progress | None = None) -> list[Likely]:
    """Of the compared completions of each group (of a triple, the two that are compared), or of its demonstration."""
    progress = progress or Silent()
    progress.begin("log-probabilities", len(groups))
    found: list[Likely] = []
    for start in range(0, len(groups), CHUNK):
        part = groups[start : start + CHUNK]
        for group, said in zip(part, policy.logps(part, Packing()), strict=True):
            sides = {SIDES[b.role]: logps for b, logps in zip(group.branches, said, strict=True)}
            if "chosen" in sides:
                sides.pop("completion", None)
            sums = {side: float(logps.double().sum()) for side, logps in sides.items()}
            lengths = {side: len(logps) for side, logps in sides.items()}
            found.append(Likely(group.name, group.prompt.numpy().tobytes(), sums, lengths))
        progress.advance("log-probabilities", len(part))
    progress.end("log-probabilities")
    return found


def preference(name: str, policy: Sequence[Likely], reference: Sequence[Likely] | None = None) -> Entry:
    """How often the chosen of a pair leads, strictly: by implicit reward where there is a reference, by
    log-probability, and by log-probability per token. A tie is no success; the ties of the first of these are counted.
    """
    by_token = [_scores(row, per_token=True) for row in policy]
    leads = {"logp": [_lead(_scores(row)) for row in policy], "logp_per_token": [_lead(s) for s in by_token]}
    if reference is not None:
        pairs = zip(policy, reference, strict=True)
        rewards = [{s: row.logp[s] - ref.logp[s] for s in row.logp} for row, ref in pairs]
        leads = {"reward": [_lead(r) for r in rewards], **leads}
    prompts = [row.prompt for row in policy]
    first = next(iter(leads.values()))
    rows = [
        {**line, **{metric: lead[i] > 0 for metric, lead in leads.items()}}
        for i, line in enumerate(_lines(name, policy, reference))
    ]
    return Entry(
        name,
        {metric: BinaryOutcomes([d > 0 for d in lead], prompts) for metric, lead in leads.items()},
        counts={"ties": sum(d == 0 for d in first)},
        rows=rows,
    )


def perplexity(name: str, found: Sequence[Likely]) -> Entry:
    """By side: e to the mean nats of a token over all tokens; the same of a completion's own mean, where every
    completion counts alike; and the nats of a whole completion, which do not hang on the tokenizer."""
    measures: dict[str, Measure] = {}
    for side in found[0].logp:
        nats = [-row.logp[side] for row in found]
        tokens = [float(row.tokens[side]) for row in found]
        ones = [1.0] * len(found)
        own = [n / t for n, t in zip(nats, tokens, strict=True)]
        kinds = (Ratio(nats, tokens, True, tokens), Ratio(own, ones, True, tokens), Ratio(nats, ones))
        measures |= {f"{side}_{unit}": ratio for unit, ratio in zip(UNITS, kinds, strict=True)}
    return Entry(name, measures, rows=_lines(name, found, None))


def _scores(row: Likely, *, per_token: bool = False) -> dict[str, float]:
    return {side: logp / row.tokens[side] if per_token else logp for side, logp in row.logp.items()}


def _lead(scores: Mapping[str, float]) -> float:
    return scores["chosen"] - scores["rejected"]


def _lines(name: str, policy: Sequence[Likely], reference: Sequence[Likely] | None) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for i, row in enumerate(policy):
        line: dict[str, Any] = {"model": name, "name": row.name}
        for side in row.logp:
            line |= {f"{side}_logp": row.logp[side], f"{side}_tokens": row.tokens[side]}
            if reference is not None:
                line[f"reference_{side}_logp"] = reference[i].logp[side]
        lines.append(line)
    return lines
