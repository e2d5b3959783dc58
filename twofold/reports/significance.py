"""Tests which differences between models are statistically significant: paired tests on the same items with Holm's
correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from twofold.reports.languages import phrase
from twofold.reports.run import Comparison, RunData
from twofold.reports.tables import METRICS, Entry, against, comparisons, entries, p_is, p_value
from twofold.statistics import holm, mcnemar

Verdict = Literal["better", "worse", "unclear", "untested"]
SIGNIFICANT = 0.05
MOST_PAIRED = 8
"""Runs that are all tested against each other; of more, each against its base only."""


def headline_metric(models: Sequence[Entry]) -> str | None:
    """The page's main metric: strict, else flexible, else any other."""
    known = {metric for entry in models for metric in entry.estimates}
    return next((m for m in METRICS if m in known), min(known, default=None))


def all_tests(runs: Sequence[RunData]) -> list[Comparison]:
    """The paired tests that the runs hold, and those between runs that their judged samples allow."""
    tests = comparisons([r.results for r in runs])
    policies = [(e, runs[e.run]) for e in entries([r.results for r in runs]) if e.run is not None]
    if len(policies) > MOST_PAIRED:
        return tests
    for i, (a, run_a) in enumerate(policies):
        for b, run_b in policies[i + 1 :]:
            for metric in METRICS:
                if not against(tests, b.label, a.label, metric) and a.run != b.run:
                    tests += _from_samples((a, run_a), (b, run_b), metric)
    return tests


@dataclass(frozen=True)
class Family:
    """The tests that the top of a page draws its verdicts from: those on one metric, with Holm's adjusted p-values."""

    tests: Mapping[Comparison, float]

    @classmethod
    def of(cls, runs: Sequence[RunData]) -> Family:
        """All tests of `runs` on the metric that leads their page."""
        metric = headline_metric(entries([r.results for r in runs]))
        tests = [c for c in all_tests(runs) if c.metric == metric and 0 <= c.p_value <= 1]
        return cls(dict(zip(tests, holm([c.p_value for c in tests]), strict=True)))

    def find(self, a: str, b: str) -> Comparison | None:
        """The test between `a` and `b`, whichever came first."""
        return next((c for c in self.tests if {c.a, c.b} == {a, b}), None)

    def adjusted(self, test: Comparison | None) -> float | None:
        """Holm's p of a test, turned round or not."""
        found = self.find(test.a, test.b) if test else None
        return self.tests[found] if found else None

    def verdict(self, test: Comparison | None) -> Verdict:
        """The verdict of a test on its `b`, after Holm's correction."""
        adjusted = self.adjusted(test)
        if test is None or adjusted is None:
            return "untested"
        if adjusted >= SIGNIFICANT:
            return "unclear"
        return "better" if test.only_b > test.only_a else "worse"

    def sentence(self, test: Comparison) -> str:
        """The p-value of a test in words, with Holm's where there are several tests."""
        adjusted = self.adjusted(test)
        plain = phrase("McNemar {p}", p=p_is(test.p_value))
        if adjusted is None or len(self.tests) < 2:
            return plain
        return plain + phrase(", {p} by Holm over {n} tests", p=p_value(adjusted), n=len(self.tests))


def _from_samples(a: tuple[Entry, RunData], b: tuple[Entry, RunData], metric: str) -> list[Comparison]:
    """McNemar's test between two runs, if both kept a verdict on every problem that their figures count."""
    verdicts = [run.final_samples for _, run in (a, b)]
    sizes = {e.estimates[metric].n if metric in e.estimates else None for e, _ in (a, b)}
    if sizes != {len(verdicts[0])} or verdicts[0].keys() != verdicts[1].keys() or not verdicts[0]:
        return []
    left, right = ([bool(getattr(v[name], metric)) for name in verdicts[0]] for v in verdicts)
    test = mcnemar(left, right)
    return [Comparison(a[0].label, b[0].label, metric, test.only_a, test.only_b, test.p_value, test.test)]
