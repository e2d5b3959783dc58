"""What a run says in plain words: what improved, by how much, whether chance explains it, and what to worry about."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from twofold.reports.run import Comparison, RunData
from twofold.reports.significance import SIGNIFICANT, Family, Verdict, headline_metric
from twofold.reports.tables import (
    BASE,
    METRICS,
    Entry,
    against,
    entries,
    interval,
    is_share,
    p_value,
    percent,
    points,
    unique,
)
from twofold.statistics import Estimate, wilson

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
    adjusted: float | None = None
    """Holm's p over all tests of the page; None without a test, or where it is the only one."""

    @property
    def difference(self) -> str:
        """Percentage points gained over the base, with their sign; empty without a base."""
        return points(self.estimate.value - self.base.value) if self.base else ""


@dataclass(frozen=True, slots=True)
class Worry:
    """Something that a reader should know before believing the figures; `run` is empty where it concerns all."""

    run: str
    text: str


def findings(runs: Sequence[RunData]) -> list[Finding]:
    """Each trained model against the base it is compared with, in the order of the runs."""
    models, family = entries([r.results for r in runs]), Family.of(runs)
    metric = headline_metric(models)
    bases = {e.label: e for e in models if e.run is None}
    found: list[Finding] = []
    for entry in models:
        if entry.run is None or metric is None or metric not in entry.estimates:
            continue
        label = f"{BASE} of {entry.label}" if f"{BASE} of {entry.label}" in bases else BASE
        base = bases[label].estimates.get(metric) if label in bases else None
        test = against(list(family.tests), entry.label, label, metric)
        adjusted = family.adjusted(test) if len(family.tests) > 1 else None
        told = (base, test, family.verdict(test), *_heldout(runs[entry.run]), adjusted)
        found.append(Finding(entry, metric, entry.estimates[metric], *told))
    return found or [
        Finding(Entry(name, i, {}), HELDOUT, heldout, before=before)
        for i, (run, name) in enumerate(zip(runs, unique([r.name for r in runs]), strict=True))
        for heldout, before in [_heldout(run)]
        if heldout
    ]


def between(runs: Sequence[RunData]) -> list[str]:
    """Sentences on the paired tests between up to four trained models, on the metric that leads the page."""
    trained, family = {e.label for e in entries([r.results for r in runs]) if e.run is not None}, Family.of(runs)
    if len(trained) > FEW:
        return []
    return [_sentence(c, family) for c in family.tests if {c.a, c.b} <= trained]


def lead(runs: Sequence[RunData]) -> str:
    """The page in a sentence or two: the best model against its base, and against the next best."""
    found = findings(runs)
    if not found:
        return ""
    ranked = sorted(found, key=lambda f: f.estimate.value, reverse=True)
    best = ranked[0]
    if not is_share(best.metric, best.estimate):
        return ""
    told = f"{_subject(best, len(runs))} {_did(best)} {percent(best.estimate.value)} of {best.estimate.n:,}"
    told += f" {'pairs' if best.metric == HELDOUT else 'problems'}{_against_base(best)}."
    return f"{told} {_against_next(runs, ranked)}".strip()


def _subject(best: Finding, runs: int) -> str:
    return "The trained model" if runs == 1 else best.entry.label


def _did(best: Finding) -> str:
    return "orders" if best.metric == HELDOUT else "solves"


def _against_base(best: Finding) -> str:
    if best.base is None:
        return ""
    gain = 100 * (best.estimate.value - best.base.value)
    size = f"{abs(gain):.1f} points {'more' if gain > 0 else 'fewer'} than its base" if gain else "as many as its base"
    words = {
        "better": f": chance does not explain the gain ({_p(best)})",
        "worse": f": chance does not explain the loss ({_p(best)})",
        "unclear": f": chance alone explains a difference like this ({_p(best)})",
        "untested": "; no paired test was made",
    }
    return f", {size}{words[best.verdict]}"


def _p(best: Finding) -> str:
    if best.test is None:
        return ""
    adjusted = best.test.p_value if best.adjusted is None else best.adjusted
    return f"{'Holm’s' if best.adjusted is not None else 'McNemar’s'} p = {p_value(adjusted)}"


def _against_next(runs: Sequence[RunData], ranked: Sequence[Finding]) -> str:
    if len(ranked) < 2:
        return ""
    family, (best, second) = Family.of(runs), ranked[:2]
    test = family.find(best.entry.label, second.entry.label)
    if test is None:
        return f"{second.entry.label} comes next; no paired test between the two was made."
    if test.only_a == test.only_b == 0:
        return f"{second.entry.label} solves exactly the same problems."
    clear = (family.adjusted(test) or 0.0) < SIGNIFICANT
    return f"{second.entry.label} comes next, {'beyond chance' if clear else 'no further away than chance explains'}."


FINDING_COLUMNS = ("model", "metric", "#n", "#value", "95% interval", "#against base", "#p", "#Holm p", "verdict")


def finding_row(found: Finding) -> tuple[str, ...]:
    """A finding under FINDING_COLUMNS; a dash where there was no test, or only one."""
    p = p_value(found.test.p_value) if found.test else "–"
    adjusted = p_value(found.adjusted) if found.adjusted is not None else "–"
    difference = found.difference or (
        points(found.estimate.value - found.before) if found.before is not None and not found.entry.estimates else "–"
    )
    return (found.entry.label, found.metric, str(found.estimate.n), percent(found.estimate.value),
            interval(found.estimate), difference, p, adjusted, found.verdict)  # fmt: skip


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


def _sentence(c: Comparison, family: Family) -> str:
    told = family.sentence(c)
    clear = (family.adjusted(c) or 0.0) < SIGNIFICANT
    if c.only_b < c.only_a:
        c = c.turned
    if c.only_b == 0:
        return f"{c.b} and {c.a} solve exactly the same problems."
    first = f"{c.b} alone solves {c.only_b:,} problem{'s' if c.only_b > 1 else ''}, {c.a} alone {c.only_a:,} ({told}): "
    return first + (f"{c.b} is better." if clear else "chance alone explains a difference like this.")


def _unfinished(run: RunData) -> Iterator[str]:
    if not run.train and not run.results.models:
        yield "there is nothing to report yet: no metrics and no results"
    elif not run.results.models and not run.results.heldout:
        missing = "the run has not finished" if run.results.step is None else "nothing was held out or evaluated"
        yield f"no final results: {missing}"


def _few(run: RunData) -> Iterator[str]:
    policy = run.results.model("policy")
    wide = [e for m, e in policy.estimates.items() if m in METRICS and e.high - e.low > 2 * WIDE] if policy else []
    if wide:
        half = 50 * (wide[0].high - wide[0].low)
        yield f"{wide[0].n:,} problems place an accuracy only within ±{half:.0f} points"


def _peaked(run: RunData) -> Iterator[str]:
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
            yield f"{peak} and ended at {percent(values[-1])}: an earlier checkpoint is better"
            return


def _form_only(run: RunData) -> Iterator[str]:
    tests = {c.metric: c for c in run.results.comparisons if (c.a, c.b) == (BASE, "policy")}
    if not tests.keys() >= set(METRICS):
        return
    gained = tests["strict"].p_value < SIGNIFICANT and tests["strict"].only_b > tests["strict"].only_a
    if gained and tests["flexible"].p_value >= SIGNIFICANT:
        yield "strict accuracy rose but flexible did not: the model learnt the form of the answer, not to solve more"


def _chosen_sinks(run: RunData) -> Iterator[str]:
    start, end = _ends(run, "chosen_logp")
    warned = any("chosen" in w for w in run.results.warnings)
    if not warned and start - end > max(NEGLIGIBLE_NATS, 0.2 * abs(start)):
        yield f"chosen completions lost {start - end:.1f} nats of log-probability since the start of training"


def _fell(run: RunData) -> Iterator[str]:
    """What the analysis of the fall found, at the end of a run that warned of it."""
    verdict, remedy = (run.results.displacement.get(k) for k in ("verdict", "remedy"))
    if verdict and remedy:
        yield f"why chosen fell: {verdict}; what helps: {remedy}"


def _drafts(run: RunData) -> Iterator[str]:
    start, end = _ends(run, "draft_length")
    if start > 0 and max(end / start, start / max(end, 1e-9)) > 1.5:
        yield f"drafts went from {start:.0f} to {end:.0f} tokens: what changed may be length"
    cut = _ends(run, "truncated")[1]
    if cut > 0.1:
        yield f"{percent(cut)} of the last drafts hit the length limit and taught nothing"
    said = run.final_samples.values()
    late = sum(s.truncated for s in said)
    if late > 0.05 * len(said):
        yield f"{late:,} of {len(said):,} evaluated completions were cut at the length limit"


def _too_easy(run: RunData) -> Iterator[str]:
    values = run.series(HELDOUT, "evaluation")[1]
    if values and values[-1] > 0.995:
        yield "held-out preference accuracy is nearly 100%: the pairs may be told apart by form alone"


def _length_alone(run: RunData) -> Iterator[str]:
    """A reward model that does no better than the rule that the longer answer wins, or that the shorter does."""
    if reward := run.results.reward:
        longer = reward.longer_wins.value
        rule, share = ("longer", longer) if longer >= 0.5 else ("shorter", 1 - longer)
        if not share < reward.accuracy.low:
            right = f"is right in {percent(share)} of the comparisons"
            yield f"“the {rule} answer wins” {right}: this may be all it learned"


CHECKS = (_unfinished, _peaked, _chosen_sinks, _fell, _drafts, _form_only, _too_easy, _length_alone, _few)


def _ends(run: RunData, key: str) -> tuple[float, float]:
    """Means over the first and the last tenth of a training metric; NaN, which trips no check, below ten points."""
    values = run.series(key)[1]
    tenth = len(values) // 10
    if not tenth:
        return math.nan, math.nan
    return math.fsum(values[:tenth]) / tenth, math.fsum(values[-tenth:]) / tenth
