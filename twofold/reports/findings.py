"""What a run says in plain words: what improved, by how much, whether chance explains it, and what to worry about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from twofold.reports.run import Comparison, RunData
from twofold.reports.tables import (
    BASE,
    METRICS,
    Entry,
    against,
    comparisons,
    entries,
    p_value,
    percent,
    points,
    unique,
)
from twofold.statistics import Estimate, mcnemar, wilson

Verdict = Literal["better", "worse", "unclear", "untested"]
SIGNIFICANT = 0.05
WIDE = 0.05
HELDOUT = "heldout/accuracy"
NEGLIGIBLE_NATS = 2.0
FEW = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """A trained model against its base: one card at the top of the page.

    `heldout` is its preference accuracy on unseen pairs, `before` the same before training. Where no problems were
    judged that accuracy is the `estimate` itself, and `metric` is HELDOUT.
    """

    entry: Entry
    metric: str
    estimate: Estimate
    base: Estimate | None = None
    test: Comparison | None = None
    verdict: Verdict = "untested"
    heldout: Estimate | None = None
    before: float | None = None

    @property
    def difference(self) -> str:
        """Percentage points gained over the base, with their sign; empty without a base."""
        return points(self.estimate.value - self.base.value) if self.base else ""


@dataclass(frozen=True, slots=True)
class Worry:
    """Something that a reader should know before believing the figures; `run` is empty where it concerns all."""

    run: str
    text: str


def headline_metric(models: Sequence[Entry]) -> str | None:
    """The metric that leads the page: strict, else flexible, else whatever there is."""
    known = {metric for entry in models for metric in entry.estimates}
    return next((m for m in METRICS if m in known), min(known, default=None))


def findings(runs: Sequence[RunData]) -> list[Finding]:
    """Each trained model against the base it is compared with, in the order of the runs."""
    models, tests = entries([r.results for r in runs]), all_tests(runs)
    metric = headline_metric(models)
    bases = {e.label: e for e in models if e.run is None}
    found: list[Finding] = []
    for entry in models:
        if entry.run is None or metric is None or metric not in entry.estimates:
            continue
        label = f"{BASE} of {entry.label}" if f"{BASE} of {entry.label}" in bases else BASE
        base = bases[label].estimates.get(metric) if label in bases else None
        test = against(tests, entry.label, label, metric)
        heldout = _heldout(runs[entry.run])
        found.append(Finding(entry, metric, entry.estimates[metric], base, test, _verdict(test), *heldout))
    return found or [
        Finding(Entry(name, i, {}), HELDOUT, heldout, before=before)
        for i, (run, name) in enumerate(zip(runs, unique([r.name for r in runs]), strict=True))
        for heldout, before in [_heldout(run)]
        if heldout
    ]


def between(runs: Sequence[RunData]) -> list[str]:
    """Sentences on the paired tests between up to four trained models, on the metric that leads the page."""
    models = entries([r.results for r in runs])
    trained, metric = {e.label for e in models if e.run is not None}, headline_metric(models)
    if len(trained) > FEW:
        return []
    return [_sentence(c) for c in all_tests(runs) if c.metric == metric and {c.a, c.b} <= trained]


def all_tests(runs: Sequence[RunData]) -> list[Comparison]:
    """The paired tests that the runs hold, and those between up to four runs that their judged samples allow."""
    tests = comparisons([r.results for r in runs])
    policies = [(e, runs[e.run]) for e in entries([r.results for r in runs]) if e.run is not None]
    if len(policies) > FEW:
        return tests
    for i, (a, run_a) in enumerate(policies):
        for b, run_b in policies[i + 1 :]:
            for metric in METRICS:
                if not against(tests, b.label, a.label, metric) and a.run != b.run:
                    tests += _from_samples((a, run_a), (b, run_b), metric)
    return tests


def worries(runs: Sequence[RunData], names: Sequence[str]) -> list[Worry]:
    """The warnings that the runs recorded, and what their curves and figures say besides."""
    many = len(runs) > 1
    found: list[Worry] = []
    for run, name in zip(runs, names, strict=True):
        derived = [w for check in CHECKS for w in check(run)]
        found += [Worry(name if many else "", text) for text in (*run.results.warnings, *derived, *run.faults)]
    return list(dict.fromkeys(found))


def _heldout(run: RunData) -> tuple[Estimate | None, float | None]:
    """Held-out preference accuracy at the end, and before the first step."""
    steps, values = run.series(HELDOUT, "evaluation")
    return run.results.heldout.get("accuracy"), values[0] if steps[:1] == [0] else None


def _verdict(test: Comparison | None) -> Verdict:
    if test is None:
        return "untested"
    if test.p_value >= SIGNIFICANT:
        return "unclear"
    return "better" if test.only_b > test.only_a else "worse"


def _sentence(c: Comparison) -> str:
    if c.only_b < c.only_a:
        c = Comparison(c.b, c.a, c.metric, c.only_b, c.only_a, c.p_value, c.test)
    if c.only_b == 0:
        return f"{c.b} and {c.a} solve exactly the same problems."
    told = f"{c.b} alone solves {c.only_b:,} problems, {c.a} alone {c.only_a:,} (McNemar p = {p_value(c.p_value)}): "
    return told + (f"{c.b} is better." if c.p_value < SIGNIFICANT else "chance alone explains a difference like this.")


def _from_samples(a: tuple[Entry, RunData], b: tuple[Entry, RunData], metric: str) -> list[Comparison]:
    """McNemar's test between two runs, if both kept a verdict on every problem that their figures count."""
    verdicts = [run.final_samples for _, run in (a, b)]
    sizes = {e.estimates[metric].n if metric in e.estimates else -1 for e, _ in (a, b)}
    if sizes != {len(verdicts[0])} or verdicts[0].keys() != verdicts[1].keys() or not verdicts[0]:
        return []
    left, right = ([bool(getattr(v[name], metric)) for name in verdicts[0]] for v in verdicts)
    test = mcnemar(left, right)
    return [Comparison(a[0].label, b[0].label, metric, test.only_a, test.only_b, test.p_value, test.test)]


def _unfinished(run: RunData) -> list[str]:
    if not run.train and not run.results.models:
        return ["there is nothing to report yet: no metrics and no results"]
    measured = run.results.models or run.results.heldout
    return [] if measured else ["no final results: the run has not finished, or was not evaluated"]


def _few(run: RunData) -> list[str]:
    policy = run.results.model("policy")
    wide = [e for m, e in policy.estimates.items() if m in METRICS and e.high - e.low > 2 * WIDE] if policy else []
    if not wide:
        return []
    half = 50 * (wide[0].high - wide[0].low)
    return [f"{wide[0].n:,} problems place an accuracy only within ±{half:.0f} points"]


def _peaked(run: RunData) -> list[str]:
    """Accuracy that was clearly higher on the way than at the end."""
    for key in ("exact_match/strict", "exact_match/flexible", HELDOUT):
        steps, values = run.series(key, "evaluation")
        if len(values) < 3 or not all(0 <= v <= 1 for v in values):
            continue
        sizes = run.series("exact_match/n" if key.startswith("exact") else "heldout/n", "evaluation")[1]
        n = round(min(sizes, default=200))
        best = max(range(len(values)), key=values.__getitem__)
        if wilson(round(values[best] * n), n).low > wilson(round(values[-1] * n), n).high:
            peak = f"{key} peaked at step {steps[best]:,.0f} ({percent(values[best])})"
            return [f"{peak} and ended at {percent(values[-1])}: an earlier checkpoint is better"]
    return []


def _form_only(run: RunData) -> list[str]:
    tests = {c.metric: c for c in run.results.comparisons if (c.a, c.b) == (BASE, "policy")}
    if not tests.keys() >= set(METRICS):
        return []
    gained = tests["strict"].p_value < SIGNIFICANT and tests["strict"].only_b > tests["strict"].only_a
    if gained and tests["flexible"].p_value >= SIGNIFICANT:
        return ["strict accuracy rose but flexible did not: the model learnt the form of the answer, not to solve more"]
    return []


def _chosen_sinks(run: RunData) -> list[str]:
    if any("chosen" in w for w in run.results.warnings):
        return []
    start, end = _ends(run, "chosen_logp")
    if start - end > max(NEGLIGIBLE_NATS, 0.2 * abs(start)):
        return [f"chosen completions lost {start - end:.1f} nats of log-probability since the start of training"]
    return []


def _fell(run: RunData) -> list[str]:
    """What the analysis of the fall found, at the end of a run that warned of it."""
    verdict, remedy = (run.results.displacement.get(k) for k in ("verdict", "remedy"))
    return [f"why chosen fell: {verdict}; what helps: {remedy}"] if verdict and remedy else []


def _drafts(run: RunData) -> list[str]:
    found: list[str] = []
    start, end = _ends(run, "draft_length")
    if start > 0 and max(end / start, start / max(end, 1e-9)) > 1.5:
        found.append(f"drafts went from {start:.0f} to {end:.0f} tokens: what changed may be length")
    cut = _ends(run, "truncated")[1]
    if cut > 0.1:
        found.append(f"{percent(cut)} of the last drafts hit the length limit and taught nothing")
    said = run.final_samples.values()
    late = sum(s.truncated for s in said)
    if said and late > 0.05 * len(said):
        found.append(f"{late:,} of {len(said):,} evaluated completions were cut at the length limit")
    return found


def _too_easy(run: RunData) -> list[str]:
    values = run.series(HELDOUT, "evaluation")[1]
    if values and values[-1] > 0.995:
        return ["held-out preference accuracy is nearly 100%: the pairs may be told apart by form alone"]
    return []


def _length_alone(run: RunData) -> list[str]:
    """A reward model that does no better than the rule that the longer answer wins, or that the shorter does."""
    reward = run.results.reward
    if reward is None:
        return []
    longer, accuracy = reward.longer_wins.value, reward.accuracy
    if max(longer, 1 - longer) < accuracy.low:
        return []
    rule, share = ("longer", longer) if longer >= 0.5 else ("shorter", 1 - longer)
    return [f"“the {rule} answer wins” is right in {percent(share)} of the comparisons: this may be all it learned"]


CHECKS = (_unfinished, _peaked, _chosen_sinks, _fell, _drafts, _form_only, _too_easy, _length_alone, _few)


def _ends(run: RunData, key: str) -> tuple[float, float]:
    """Means over the first and the last tenth of a training metric; NaN, which trips no check, below ten points."""
    values = run.series(key)[1]
    tenth = len(values) // 10
    if not tenth:
        return math.nan, math.nan
    return math.fsum(values[:tenth]) / tenth, math.fsum(values[-tenth:]) / tenth
