"""What models find likely in text that they did not write: held-out `preference` accuracy, and `perplexity`.

Log-probabilities are of a completion's tokens given its prompt, its stop token among them. The implicit reward is
Σ log π − Σ log π_ref (DPO's without its β, which changes no order): arXiv:2305.18290, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from twofold.batch import Group, Role
from twofold.data.tokenize import TokenizeSettings
from twofold.data.turns import ChatChoice
from twofold.evaluation.figures import BinaryOutcomes, Entry, Evaluation, Measure, Ratio
from twofold.evaluation.rows import Data, rows_of
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.progress import Progress, Silent, counted
from twofold.records import Record
from twofold.sampling.named_model import open_model

CHUNK = 256
SIDES = {Role.CHOSEN: "chosen", Role.REJECTED: "rejected", Role.DEMONSTRATION: "completion"}


@dataclass(frozen=True)
class _Reading:
    """How models read rows: tokens at most, how text prompts are put, and who hears of it."""

    max_length: int
    style: ChatChoice
    progress: Progress


def preference(
    models: Sequence[str], data: Data, *,
    reference: str | None = None, max_length: int = 4096, style: ChatChoice = "auto", progress: Progress | None = None,
) -> Evaluation:  # fmt: skip
    """How often each model finds the chosen of held-out pairs likelier than the rejected.

    `models` and `reference` are folders, run directories or hub names, `data` pairs; with a reference the implicit
    reward is counted too, its prompts put as the model's own. `style` puts text prompts as data.chat of a recipe does.
    Shares have Wilson's intervals (pairs of one prompt are alike), every two models an exact
    paired test per metric, with Holm's correction over all. A row longer than `max_length` tokens raises DataError.
    """
    pairs, how = rows_of(data, "preference"), _Reading(max_length, style, progress or Silent())
    entries: list[Entry] = []
    bases: dict[ChatChoice, list[Likely]] = {}
    for name in dict.fromkeys(models):
        choice, found = _likely(name, pairs, how)
        if reference is not None and choice not in bases:
            bases[choice] = _likely(reference, pairs, replace(how, style=choice))[1]
        entries.append(preference_entry(name, found, bases.get(choice)))
    return Evaluation.of(entries)


def perplexity(
    models: Sequence[str], data: Data, *,
    max_length: int = 4096, style: ChatChoice = "auto", progress: Progress | None = None,
) -> Evaluation:  # fmt: skip
    """Perplexity, and nats per completion, of each side of the rows under each model.

    `models` are folders, run directories or hub names, `data` pairs or completions. Ratios have bootstrap intervals
    over rows, every two models sign flips per figure, where their tokens allow it, with Holm's correction over all. A
    row longer than `max_length` tokens raises DataError. `style` puts text prompts as data.chat of a recipe does.
    """
    records, how = rows_of(data, "perplexity"), _Reading(max_length, style, progress or Silent())
    return Evaluation.of([perplexity_entry(name, _likely(name, records, how)[1]) for name in dict.fromkeys(models)])


def _likely(name: str, records: Sequence[Record], how: _Reading) -> tuple[ChatChoice, list[Likely]]:
    """What a model finds likely, and how it was put to it."""
    how.progress.note(f"{name}: {counted(len(records), 'row')}")
    model = open_model(name, TokenizeSettings(max_length=how.max_length, truncation="refuse"), how.style)
    groups = [model.encoder.group(record) for record in records]
    return model.encoder.turns.choice, likelihoods(model.policy, groups, how.progress)


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


def preference_entry(name: str, policy: Sequence[Likely], reference: Sequence[Likely] | None = None) -> Entry:
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


def perplexity_entry(name: str, found: Sequence[Likely]) -> Entry:
    """By side: e to the mean nats of a token over all tokens; the same of a completion's own mean, where every
    completion counts alike; and the nats of a whole completion, which do not hang on the tokenizer."""
    measures: dict[str, Measure] = {}
    for side in found[0].logp:
        nats = [-row.logp[side] for row in found]
        tokens = [float(row.tokens[side]) for row in found]
        ones = [1.0] * len(found)
        own = [-row.logp[side] / row.tokens[side] for row in found]
        measures[f"{side}_perplexity"] = Ratio(nats, tokens, True, tokens)
        measures[f"{side}_perplexity_per_completion"] = Ratio(own, ones, True, tokens)
        measures[f"{side}_nats_per_completion"] = Ratio(nats, ones)
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
