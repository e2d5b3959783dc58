"""Models' likelihoods of given text: held-out `preference` accuracy, and `perplexity`.

Log-probabilities are of a completion's tokens given its prompt, its stop token among them. The implicit reward is
Σ log π − Σ log π_ref (DPO's without its β, which changes no order): arXiv:2305.18290, section 4. Rows count here as in
training: one of weight 2 as the row twice, one of probability p as p of the row and 1 − p of the row in the other
order. Perplexities are of texts, and read only the weight.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from twofold.batch import PROBABILITY, WEIGHT, Group, Role
from twofold.data.tokenize import TokenizeSettings
from twofold.data.turns import ChatChoice
from twofold.evaluation.figures import BinaryOutcomes, Entry, Evaluation, Measure, Ratio
from twofold.evaluation.parts import WHOLE, Line, Part, grain_of
from twofold.evaluation.rows import Data, rows_of
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.progress import Progress, Silent, counted
from twofold.records import Record
from twofold.sampling.named_model import open_model
from twofold.settings import with_keywords

CHUNK = 256
SIDES = {Role.CHOSEN: "chosen", Role.REJECTED: "rejected", Role.DEMONSTRATION: "completion"}


@dataclass(frozen=True, kw_only=True)
class PerplexitySettings:
    """`max_length` is the tokens of a row's side at most; a longer row raises DataError. `style` puts text prompts as
    data.chat of a recipe does."""

    max_length: int = 4096
    style: ChatChoice = "auto"
    progress: Progress = field(default_factory=Silent)


@dataclass(frozen=True, kw_only=True)
class PreferenceSettings(PerplexitySettings):
    """With a `reference`, a model of any kind, the implicit reward is counted too, its prompts put as the model's
    own."""

    reference: str | None = None


@with_keywords(PreferenceSettings)
def preference(models: Sequence[str], data: Data, how: PreferenceSettings) -> Evaluation:
    """How often each model gives chosen a higher likelihood than rejected, on held-out pairs.

    `models` are folders, run directories or hub names, `data` pairs.
    Shares have Wilson's intervals (pairs of one prompt are alike), every two models an exact
    paired test per metric, with Holm's correction over all.
    """
    return preference_figures(measure_preference(models, rows_of(data, "preference"), how, WHOLE), how)


@with_keywords(PerplexitySettings)
def perplexity(models: Sequence[str], data: Data, how: PerplexitySettings) -> Evaluation:
    """Perplexity, and nats per completion, of each side of the rows under each model.

    `models` are folders, run directories or hub names, `data` pairs or completions. Ratios have bootstrap intervals
    over prompts, every two models sign flips per figure, where their tokens allow it, with Holm's correction over all.
    """
    return perplexity_figures(measure_perplexity(models, rows_of(data, "perplexity"), how, WHOLE), how)


def measure_perplexity(
    models: Sequence[str], records: Sequence[Record], how: PerplexitySettings, part: Part
) -> dict[str, Line]:
    """The likelihoods of each model for every row."""
    return {name: _likely(name, records, how, part)[1] for name in dict.fromkeys(models)}


def measure_preference(
    models: Sequence[str], pairs: Sequence[Record], how: PreferenceSettings, part: Part
) -> dict[str, Line]:
    """The same, with the reference's likelihoods for the prompts as each model reads them."""
    found: dict[str, Line] = {}
    bases: dict[ChatChoice, Line] = {}
    for name in dict.fromkeys(models):
        choice, line = _likely(name, pairs, how, part)
        if how.reference is not None:
            if choice not in bases:
                bases[choice] = _likely(how.reference, pairs, replace(how, style=choice), part)[1]
            base = bases[choice]
            rows = [{**row, "reference": ref["logp"]} for row, ref in zip(line.rows, base.rows, strict=True)]
            line = Line(rows, weights=line.weights + base.weights)
        found[name] = line
    return found


def perplexity_figures(measured: Mapping[str, Line], how: PerplexitySettings) -> Evaluation:
    """The table of what was measured."""
    return Evaluation.of([perplexity_entry(name, list(map(Likely.of, line.rows))) for name, line in measured.items()])


def preference_figures(measured: Mapping[str, Line], how: PreferenceSettings) -> Evaluation:
    """The table of what was measured."""
    entries: list[Entry] = []
    for name, line in measured.items():
        policy = list(map(Likely.of, line.rows))
        refs = [Likely.of({**row, "logp": row["reference"]}) for row in line.rows if "reference" in row]
        entries.append(preference_entry(name, policy, refs if how.reference is not None else None))
    return Evaluation.of(entries)


def _likely(name: str, records: Sequence[Record], how: PerplexitySettings, part: Part) -> tuple[ChatChoice, Line]:
    """The likelihoods of a model, and its prompting."""
    how.progress.note(f"{name}: {counted(len(part.of(records)), 'row')}")
    model = open_model(name, TokenizeSettings(max_length=how.max_length, truncation="refuse"), how.style)
    weights, choice = part.weights(model), model.encoder.turns.choice

    def work(some: Sequence[Record]) -> list[dict[str, Any]]:
        groups = [model.encoder.group(record) for record in some]
        return [row.as_dict() for row in likelihoods(model.policy, groups)]

    size, bar = grain(len(records)), ("log-probabilities", how.progress)
    return choice, Line(part.rows((name, weights, choice), records, size, work, bar), weights=weights)


def grain(total: int) -> int:
    """Rows that share packs, which decide the last digits: shards share none."""
    return grain_of(total, CHUNK)


@dataclass(frozen=True, slots=True)
class Likely:
    """A row: by side, the log-probability in nats and the tokens. Rows with the same `prompt` are alike. `numbers` are
    the row's weight and probability, if it has them."""

    name: str
    prompt: Hashable
    logp: Mapping[str, float]
    tokens: Mapping[str, int]
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def weight(self) -> float:
        return self.numbers.get(WEIGHT, 1.0)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Likely:
        """From what `as_dict` made."""
        numbers = {name: row[name] for name in (WEIGHT, PROBABILITY) if name in row}
        return cls(row["name"], row["prompt"], row["logp"], row["tokens"], numbers)

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON, its prompt as a digest."""
        digest = sha256(self.prompt).hexdigest()[:16] if isinstance(self.prompt, bytes) else self.prompt
        sides = {"logp": dict(self.logp), "tokens": dict(self.tokens)}
        return {"name": self.name, "prompt": digest, **sides, **self.numbers}


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
            numbers = {name: value for name, value in group.numbers.items() if name in (WEIGHT, PROBABILITY)}
            found.append(Likely(group.name, group.prompt.numpy().tobytes(), sums, lengths, numbers))
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
    first = next(iter(leads.values()))
    rows = [
        {**line, **{metric: lead[i] > 0 for metric, lead in leads.items()}}
        for i, line in enumerate(_lines(name, policy, reference))
    ]
    return Entry(
        name,
        {metric: _outcomes(policy, lead) for metric, lead in leads.items()},
        counts={"ties": sum(d == 0 for d in first)},
        rows=rows,
    )


def perplexity_entry(name: str, found: Sequence[Likely]) -> Entry:
    """By side: e to the mean nats of a token over all tokens; the same of a completion's own mean, where every
    completion counts alike; and the nats of a whole completion, which do not hang on the tokenizer."""
    measures: dict[str, Measure] = {}
    prompts = [row.prompt for row in found]
    counts = [row.weight for row in found]
    for side in found[0].logp:
        nats = [-row.weight * row.logp[side] for row in found]
        tokens = [float(row.tokens[side]) for row in found]
        weighted = [row.weight * row.tokens[side] for row in found]
        own = [-row.weight * row.logp[side] / row.tokens[side] for row in found]
        measures[f"{side}_perplexity"] = Ratio(nats, weighted, True, tokens, prompts)
        measures[f"{side}_perplexity_per_completion"] = Ratio(own, counts, True, tokens, prompts)
        measures[f"{side}_nats_per_completion"] = Ratio(nats, counts, prompts=prompts)
    return Entry(name, measures, rows=_lines(name, found, None))


def _outcomes(rows: Sequence[Likely], leads: Sequence[float]) -> BinaryOutcomes:
    """Which rows are in order; as their weights and probabilities count them, where they have any."""
    right, prompts = [lead > 0 for lead in leads], [row.prompt for row in rows]
    if all(value == 1 for row in rows for value in row.numbers.values()):
        return BinaryOutcomes(right, prompts)
    sure = [row.numbers.get(PROBABILITY, 1.0) for row in rows]
    credit = [p if lead > 0 else 1 - p if lead < 0 else 0.0 for lead, p in zip(leads, sure, strict=True)]
    return BinaryOutcomes(right, prompts, [row.weight for row in rows], credit)


def _scores(row: Likely, *, per_token: bool = False) -> dict[str, float]:
    return {side: logp / row.tokens[side] if per_token else logp for side, logp in row.logp.items()}


def _lead(scores: Mapping[str, float]) -> float:
    return scores["chosen"] - scores["rejected"]


def _lines(name: str, policy: Sequence[Likely], reference: Sequence[Likely] | None) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for i, row in enumerate(policy):
        line: dict[str, Any] = {"model": name, "name": row.name, **row.numbers}
        for side in row.logp:
            line |= {f"{side}_logp": row.logp[side], f"{side}_tokens": row.tokens[side]}
            if reference is not None:
                line[f"reference_{side}_logp"] = reference[i].logp[side]
        lines.append(line)
    return lines
