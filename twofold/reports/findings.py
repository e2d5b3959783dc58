"""The findings of a report in plain words: what improved, by how much, whether it is statistically significant, and
warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twofold.reports.checks import CHECKS, HELDOUT
from twofold.reports.languages import Phrase, phrase
from twofold.reports.run import Comparison, RunData
from twofold.reports.significance import SIGNIFICANT, Family, Verdict, headline_metric
from twofold.reports.tables import (
    BASE,
    Entry,
    against,
    entries,
    interval,
    is_share,
    p_is,
    p_value,
    percent,
    points,
    unique,
)
from twofold.statistics import Estimate

FEW = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """A trained model against its base: one card at the top of the page.

    `heldout` is its preference accuracy on unseen pairs, `before` the same before training. Without judged problems
    that accuracy is the `estimate`, and `metric` is HELDOUT.
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
    """A warning that a reader should know before trusting the metrics. `run` is empty if it concerns all runs."""

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
    what = "{who} orders {share} of {n} pairs" if best.metric == HELDOUT else "{who} solves {share} of {n} problems"
    who = phrase("The trained model") if len(runs) == 1 else best.entry.label
    first = phrase(what, who=who, share=percent(best.estimate.value), n=f"{best.estimate.n:,}")
    whole = first + _against_base(best) + phrase(".")
    following = _against_next(runs, ranked)
    return whole + " " + following if following else whole


def _against_base(best: Finding) -> Phrase:
    if best.base is None:
        return Phrase("", "")
    gain = 100 * (best.estimate.value - best.base.value)
    size = ", {points} points more than its base" if gain > 0 else ", {points} points fewer than its base"
    told = phrase(size, points=f"{abs(gain):.1f}") if gain else phrase(", as many as its base")
    if best.verdict == "untested" or best.test is None:
        return told + phrase("; no paired test was made")
    words = {
        "better": ": chance does not explain the gain ({p})",
        "worse": ": chance does not explain the loss ({p})",
        "unclear": ": chance explains a difference like this ({p})",
    }
    return told + phrase(words[best.verdict], p=_p(best.test, best.adjusted))


def _p(test: Comparison, adjusted: float | None) -> Phrase:
    if adjusted is None:
        return phrase("McNemar’s {p}", p=p_is(test.p_value))
    return phrase("Holm’s {p}", p=p_is(adjusted))


def _against_next(runs: Sequence[RunData], ranked: Sequence[Finding]) -> Phrase | None:
    if len(ranked) < 2:
        return None
    family, (best, second) = Family.of(runs), ranked[:2]
    test = family.find(best.entry.label, second.entry.label)
    if test is None:
        words = "{model} comes next; no paired test between the two was made."
    elif test.only_a == test.only_b == 0:
        words = "{model} solves exactly the same problems."
    elif (family.adjusted(test) or 0.0) < SIGNIFICANT:
        words = "{model} comes next, beyond chance."
    else:
        words = "{model} comes next, no further away than chance explains."
    return phrase(words, model=second.entry.label)


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


@dataclass(frozen=True, slots=True)
class Review:
    """The results of `CHECKS` on runs: warnings, checks that ran, and required checks that could not run."""

    worries: tuple[Worry, ...]
    looked: tuple[str, ...]
    unseen: tuple[str, ...]

    @property
    def words(self) -> str:
        """The sentence if there is no warning."""
        checked = _listed(self.looked)
        if self.worries:
            return ""
        if self.unseen:
            unseen = _listed(self.unseen)
            return phrase(
                "No warning, but {unseen} could not be checked. Checked: {checked}.", unseen=unseen, checked=checked
            )
        return phrase("Nothing to worry about in what was checked: {checked}.", checked=checked)


def _listed(names: Sequence[str]) -> Phrase:
    return Phrase(", ".join(names), "、".join(phrase(name).zh for name in names))


def review(runs: Sequence[RunData], names: Sequence[str]) -> Review:
    """The warnings that the runs recorded, and those from their curves, counts and completions."""
    found: list[Worry] = []
    looked, unseen = dict.fromkeys(c.name for c in CHECKS), dict[str, None]()
    for run, name in zip(runs, names, strict=True):
        answers = {check: check.look(run) for check in CHECKS}
        for check, answer in answers.items():
            if answer is None:
                looked.pop(check.name, None)
                unseen |= {check.name: None} if check.always else {}
        texts = [*run.results.warnings, *(text for answer in answers.values() for text in answer or ()), *run.faults]
        found += [Worry(name if len(runs) > 1 else "", text) for text in texts]
    return Review(tuple(dict.fromkeys(found)), tuple(looked), tuple(unseen))


def worries(runs: Sequence[RunData], names: Sequence[str]) -> list[Worry]:
    """Warnings that a reader should know before trusting the metrics of `runs`."""
    return list(review(runs, names).worries)


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
        return phrase("{b} and {a} solve exactly the same problems.", b=c.b, a=c.a)
    count = "{b} but not {a} solves {n} problems" if c.only_b > 1 else "{b} but not {a} solves {n} problem"
    first = phrase(count, a=c.a, b=c.b, n=f"{c.only_b:,}")
    second = phrase(", {a} but not {b} {n} ({p}): ", a=c.a, b=c.b, n=f"{c.only_a:,}", p=told)
    verdict = phrase("{b} is better.", b=c.b) if clear else phrase("chance explains a difference like this.")
    return first + second + verdict
