"""Formats metrics for readers, and makes the rows of tables on the page, in the card and in the terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from twofold.reports.run import Comparison, Results, RunData
from twofold.statistics import Estimate, mean_interval

BASE, POLICY = "base", "policy"
METRICS = ("strict", "flexible")
RESULT_COLUMNS = ("model", "n", "accuracy", "95% interval", "McNemar p against base")
WATCHED = {
    "loss": "loss",
    "margin": "margin",
    "accuracy": "preference accuracy",
    "chosen_reward": "implicit reward, chosen",
    "rejected_reward": "implicit reward, rejected",
    "kendall_tau": "Kendall's τ of rankings",
    "best_reward": "implicit reward, best of a ranking",
    "worst_reward": "implicit reward, worst of a ranking",
    "desirable_reward": "implicit reward, desirable",
    "undesirable_reward": "implicit reward, undesirable",
    "z0": "KL estimate (z₀)",
    "draft_reward": "implicit reward, samples",
    "truth_reward": "implicit reward, ground truth",
    "chosen_logp": "log-probability, chosen",
    "rejected_logp": "log-probability, rejected",
    "draft_logp": "log-probability, samples",
    "demonstration_logp": "log-probability, demonstrations",
    "draft_kl": "KL of samples from the reference",
    "draft_length": "length of samples",
}
SEED_COLUMNS = ("model", "seeds", "mean accuracy", "95% interval", "against base", "95% interval")


@dataclass(frozen=True, slots=True)
class Entry:
    """A model on the page: `label` is its name there, `run` the index of the run that made it (None for a base)."""

    label: str
    run: int | None
    estimates: Mapping[str, Estimate]


def labels(results: Sequence[Results]) -> list[dict[str, str]]:
    """For each run, what its models are called on a page of all of them.

    With several runs a policy has its run's name. A base model that differs from the first run's has the name of its
    run.
    """
    if len(results) == 1:
        return [{m.name: m.name for m in results[0].models}]
    first = next((m for r in results for m in r.models if m.name == BASE), None)
    tables: list[dict[str, str]] = []
    for result, own in zip(results, unique([r.name for r in results]), strict=True):
        base = result.model(BASE)
        alone = first and base and base.estimates != first.estimates
        special = {POLICY: own, BASE: f"{BASE} of {own}" if alone else BASE}
        tables.append({m.name: special.get(m.name, m.name) for m in result.models})
    return tables


def unique(names: Sequence[str]) -> list[str]:
    """The names, a repeated one with its number."""
    seen: Counter[str] = Counter()
    told: list[str] = []
    for name in names:
        seen[name] += 1
        told.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return told


def entries(results: Sequence[Results]) -> list[Entry]:
    """The models of one run or several, each label once, bases first."""
    found: dict[str, Entry] = {}
    for i, (result, names) in enumerate(zip(results, labels(results), strict=True)):
        for model in result.models:
            label, run = names[model.name], None if model.name == BASE else i
            found.setdefault(label, Entry(label, run, model.estimates))
    return sorted(found.values(), key=lambda entry: entry.run is not None)


def comparisons(results: Sequence[Results]) -> list[Comparison]:
    """The paired tests of all runs, each once, with the names that `labels` gives."""
    renamed = [
        replace(c, a=names.get(c.a, c.a), b=names.get(c.b, c.b))
        for r, names in zip(results, labels(results), strict=True)
        for c in r.comparisons
    ]
    return list(dict.fromkeys(renamed))


def against(tests: Sequence[Comparison], model: str, other: str, metric: str) -> Comparison | None:
    """The test of `model` (as b) against `other` (as a), turned round where it was run the other way."""
    for c in tests:
        if c.metric == metric and (c.a, c.b) == (other, model):
            return c
        if c.metric == metric and (c.b, c.a) == (other, model):
            return c.turned
    return None


def results_rows(results: Sequence[Results], metric: str = "strict") -> list[tuple[str, ...]]:
    """Rows under RESULT_COLUMNS, base first; a dash where something was not measured."""
    tests = comparisons(results)
    rows: list[tuple[str, ...]] = []
    for entry in entries(results):
        if estimate := entry.estimates.get(metric):
            test = against(tests, entry.label, BASE, metric)
            p = p_value(test.p_value) if test else "–"
            rows.append((entry.label, str(estimate.n), percent(estimate.value), interval(estimate), p))
    return rows


def seed_rows(methods: Mapping[str, Sequence[Results]], metric: str = "strict") -> list[tuple[str, ...]]:
    """Rows under SEED_COLUMNS for the runs of each method over seeds; t intervals over seeds.

    The difference is taken per seed, between each run's policy and its own base. A base that is the same model under
    every seed is one measurement, with its own interval over problems.
    """
    rows: list[tuple[str, ...]] = []
    for name, runs in methods.items():
        own, policies = _measured(runs, BASE, metric), _measured(runs, POLICY, metric)
        if own and not rows:
            single = len({e.value for e in own}) == 1
            rows.append((BASE, *(_one(own[0]) if single else _mean([e.value for e in own])), "–", "–"))
        if len(own) == len(policies):
            gain = mean_interval([b.value - a.value for a, b in zip(own, policies, strict=True)])
            difference = (points(gain.value), interval(gain, signed=True))
        else:
            difference = ("–", "–")
        if policies:
            rows.append((name, *_mean([e.value for e in policies]), *difference))
    return rows


def watched(results: Results) -> dict[str, Estimate]:
    """The means over the last steps for the table, by label, in a fixed order."""
    return {words: results.training[name] for name, words in WATCHED.items() if name in results.training}


def percent(share: float) -> str:
    """A share as a percentage with one decimal."""
    return f"{100 * share:.1f}%" if math.isfinite(share) else "–"


def points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−") if math.isfinite(difference) else "–"


def interval(estimate: Estimate, signed: bool = False) -> str:
    """The interval of a share (or, `signed`, of a difference of shares) in percent."""
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return "unbounded"
    if signed:
        return f"{points(estimate.low)} … {points(estimate.high)}"
    return f"{100 * max(0.0, estimate.low):.1f} – {100 * min(1.0, estimate.high):.1f}%"


SMALLEST_P = 0.001


def p_value(p: float) -> str:
    """A p-value with three decimals; a smaller one is `< 0.001`."""
    if not math.isfinite(p):
        return "–"
    return f"{p:.3f}" if p >= SMALLEST_P else f"< {SMALLEST_P}"


def p_is(p: float) -> str:
    """A p-value in a sentence: `p = 0.012` or `p < 0.001`."""
    told = p_value(p)
    return f"p {told}" if told.startswith("<") else f"p = {told}"


def number(value: float) -> str:
    """A figure with at least three digits."""
    told = f"{value:,.0f}" if 100 <= abs(value) < math.inf else f"{value:.3g}"
    return told.replace("-", "−")


def signed(value: float) -> str:
    """A figure with its sign and three digits."""
    return f"{value:+.3g}".replace("-", "−") if value else "0"


def is_share(name: str, estimate: Estimate) -> bool:
    """Whether an estimate is a proportion, shown in percent."""
    return estimate.count is not None or name in METRICS or name.endswith("accuracy")


def duration(run: RunData) -> str:
    """Wall-clock time of all steps, from timings.jsonl; empty without it."""
    seconds = sum(run.series("seconds", "timing")[1])
    if seconds <= 0:
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _measured(runs: Sequence[Results], model: str, metric: str) -> list[Estimate]:
    return [m.estimates[metric] for r in runs if (m := r.model(model)) and metric in m.estimates]


def _mean(values: Sequence[float]) -> tuple[str, str, str]:
    mean = mean_interval(values)
    return str(mean.n), percent(mean.value), interval(mean)


def _one(estimate: Estimate) -> tuple[str, str, str]:
    return "1", percent(estimate.value), interval(estimate)
