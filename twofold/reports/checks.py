"""Checks of a finished run for possible problems, one small function per problem.

A check returns sentences that a reader should know before trusting the metrics. It returns none if there is no problem,
and None if the run lacks the data for the check.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from twofold.progress import counted
from twofold.reports.rates import unusual_rate
from twofold.reports.run import RunData, mapping
from twofold.reports.significance import SIGNIFICANT
from twofold.reports.tables import BASE, METRICS, percent
from twofold.statistics import wilson

HELDOUT = "heldout/accuracy"
WIDE = 0.05
"""Half-width of an interval that is too wide to be informative."""
NEGLIGIBLE_NATS = 2.0
FELL = 0.02
"""Drop of an accuracy from its best to its last value that causes a warning."""
MANY = 0.05
"""Share of truncated or repetitive completions that causes a warning."""
SHUT = 0.9
"""Share of prompts or samples without a gradient that causes a warning."""
LONGEST_CIRCLE, SHORTEST_CIRCLES = 60, 24
"""Length of a repeated stretch in characters: one copy, and in total."""

Answer = Iterable[str] | None


@dataclass(frozen=True)
class Check:
    """A check: its `name` and its function. `always`: a run without the data for it is not known to be sound."""

    name: str
    look: Callable[[RunData], Answer]
    always: bool = False


def unfinished(run: RunData) -> Answer:
    measured = any(key.startswith(("heldout/", "exact_match/")) for line in run.evaluations for key in line)
    if run.results.models or run.results.heldout or run.results.reward:
        return []
    if not len(run.train) and not run.evaluations:
        return ["there is nothing to report yet: no metrics and no results"]
    if run.results.step is None:
        return ["no final results: the run has not finished"]
    if not measured:
        return ["nothing was measured on rows that training has not seen: set data.heldout, or evaluation.tasks"]
    return []


def rows_left_out(run: RunData) -> Answer:
    """Rows that were too long, and truncation."""
    limit = mapping(mapping(run.settings.get("data")).get("tokenize")).get("max_length")
    longest = f"{limit} tokens (data.tokenize.max_length)" if isinstance(limit, int) else "data.tokenize.max_length"
    told: list[str] = []
    looked = False
    for name, counts in mapping(run.environment.get("tokens")).items():
        rows = _count(mapping(counts).get("rows"))
        if not rows:
            continue
        looked = True
        dropped, cut = counts.get("dropped"), _count(counts.get("cut_prompt"))
        out = len(dropped) if isinstance(dropped, list) else _count(dropped)
        of = f"of {rows:,} {name} rows"
        if out:
            told.append(f"{out:,} {of} ({percent(out / rows)}) were left out: longer than {longest}")
        if cut:
            told.append(
                f"{cut:,} {of} ({percent(cut / rows)}) lost the beginning of their prompt: longer than {longest}"
            )
        if stops := _count(counts.get("stop_cut")):
            told.append(f"{stops:,} completions {of} were cut and do not end: longer than {longest}")
    return told if looked else None


def few_items(run: RunData) -> Answer:
    """Metrics on too few items to be informative."""
    policy, told = run.results.model("policy"), list[str]()
    measured = {"problems": [e for m, e in policy.estimates.items() if m in METRICS] if policy else []}
    pairs = "held-out comparisons" if run.results.reward else "held-out pairs"
    measured[pairs] = [e for name, e in run.results.heldout.items() if name == "accuracy"]
    for words, estimates in measured.items():
        wide = [e for e in estimates if e.high - e.low > 2 * WIDE]
        if wide:
            half = 50 * (wide[0].high - wide[0].low)
            told.append(f"{wide[0].n:,} {words} place an accuracy only within ±{half:.0f} points")
    return told if any(measured.values()) else None


def falls(run: RunData) -> Answer:
    """Held-out accuracy that was higher, or held-out loss that was lower, earlier in training than at the end."""
    told, looked = list[str](), False
    for key in ("exact_match/strict", "exact_match/flexible", HELDOUT):
        steps, values = run.series(key, "evaluation")
        if len(values) < 2 or not all(0 <= v <= 1 for v in values):
            continue
        looked = True
        best = max(range(len(values)), key=values.__getitem__)
        if values[best] - values[-1] >= FELL and not any(told):
            told.append(_fall(run, key, (steps[best], values[best], values[-1])))
    steps, values = run.series("heldout/loss", "evaluation")
    if len(values) > 2 and min(values) > 0:
        looked, low = True, values.index(min(values))
        if values[-1] > 1.1 * values[low]:
            rose = f"rose from {values[low]:.3f} (step {steps[low]:,.0f}) to {values[-1]:.3f}"
            told.append(f"the loss on held-out rows {rose}: the run was too long")
    return told if looked else None


def _fall(run: RunData, key: str, how: tuple[float, float, float]) -> str:
    """`how`: the step of the best value, that value, and the last one."""
    step, best, last = how
    sizes = run.series("exact_match/n" if key.startswith("exact") else "heldout/n", "evaluation")[1]
    n = round(min(sizes, default=200))
    name = "held-out accuracy" if key == HELDOUT else key
    told = f"{name} peaked at step {step:,.0f} ({percent(best)}) and ended at {percent(last)}"
    if wilson(round(best * n), n).low > wilson(round(last * n), n).high:
        return f"{told}: an earlier checkpoint is better"
    of = f" of {n:,} {'problems' if key.startswith('exact') else 'pairs'}" if sizes else ""
    return f"{told}{of}: chance may explain it; training.best_metric={key} would keep the best step"


def chosen_sinks(run: RunData) -> Answer:
    start, end = _ends(run, "chosen_logp")
    warned = any("chosen" in w for w in run.results.warnings)
    verdict, remedy = (run.results.displacement.get(k) for k in ("verdict", "remedy"))
    told = [f"why chosen fell: {verdict}; what helps: {remedy}"] if verdict and remedy else []
    if not warned and start - end > max(NEGLIGIBLE_NATS, 0.2 * abs(start)):
        told.append(f"chosen completions lost {start - end:.1f} nats of log-probability since the start of training")
    return None if math.isnan(start) else told


def cut_off(run: RunData) -> Answer:
    """Completions that reached the length limit, among the last samples and in evaluations."""
    told, looked = list[str](), False
    cut = run.series("truncated")[1]
    if cut:
        looked, last = True, _last(cut)
        if last > MANY:
            dropped = mapping(run.settings.get("algorithm")).get("drop_truncated")
            left = " and taught nothing" if dropped else ""
            told.append(
                f"{percent(last)} of the last samples hit the length limit{left}: raise sampling.max_new_tokens"
            )
    samples = run.final_samples.values()
    if samples:
        looked, late = True, sum(s.truncated for s in samples)
        if late > MANY * len(samples):
            told.append(f"{late:,} of {len(samples):,} evaluated completions were cut at the length limit")
    for name in ("heldout", *([] if samples else ["exact_match"])):
        shares = run.series(f"{name}/truncated", "evaluation")[1]
        looked = looked or bool(shares)
        if shares and shares[-1] > MANY:
            told.append(f"{percent(shares[-1])} of the evaluated completions ({name}) were cut at the length limit")
    return told if looked else None


def draft_length(run: RunData) -> Answer:
    start, end = _ends(run, "draft_length")
    if start > 0 and max(end / start, start / max(end, 1e-9)) > 1.5:
        return [f"samples went from {start:.0f} to {end:.0f} tokens: what changed may be length"]
    return None if math.isnan(start) else []


def shut_gates(run: RunData) -> Answer:
    """Samples without a gradient."""
    algorithm = mapping(run.settings.get("algorithm"))
    generator = mapping(algorithm.get("generator"))
    told, looked = list[str](), bool(run.series("drafts")[0] or run.series("truncated")[0])
    right, active = run.series("right")[1], run.series("active")[1]
    open_to = "wrong" if generator.get("direction") == "down" else "right"
    if right and generator.get("gate") in ("verifier", "judge"):
        passed = [1 - r if open_to == "wrong" else r for r in right]
        if max(passed) == 0:
            told.append(f"the gate never opened: no sample of any step was {open_to}, so the generator taught nothing")
        elif max(_last(passed), math.fsum(passed) / len(passed)) < 1 - SHUT:
            share = math.fsum(passed) / len(passed)
            told.append(f"the gate was nearly shut: {percent(share)} of the samples were {open_to} and could teach")
    if active and max(active) == 0 and not told:
        told.append("no sample was ever pushed: the gap to the ground truth was never positive (`active` is 0)")
    for key, words in TEACHES_NOTHING.items():
        values = run.series(key)[1]
        if values and math.fsum(values) / len(values) >= SHUT:
            told.append(f"in {percent(math.fsum(values) / len(values))} of the prompts {words}")
    return told if looked or right or active else None


TEACHES_NOTHING = {
    "zero_variance": "all completions were rated alike, from which nothing is learned",
    "no_pair": "no two samples were ranked, so there was no pair to train on",
}
"""Shares of a step's prompts, and the problem if they are near 1."""


def repetition(run: RunData) -> Answer:
    """Final completions that repeat themselves, are empty, or are all identical."""
    samples, told = list(run.final_samples.values()), list[str]()
    if not samples:
        return None
    first = min(s.step for s in run.samples)
    before = [s for s in run.samples if s.step == first < samples[0].step]
    for words, bad in (("repeat themselves to the end", circles), ("are empty", lambda text: not text.strip())):
        now, then = (sum(bad(s.completion) for s in said) for said in (samples, before))
        if now > max(MANY * len(samples), 1):
            told.append(
                f"{now:,} of {len(samples):,} evaluated completions {words}"
                + (f" ({then:,} before training)" if before else "")
            )
    [(text, same)] = Counter(s.completion.strip() for s in samples).most_common(1)
    answers = {s.answer for s in samples}
    if text and len(samples) > 3 and len(answers) > 1 and same > len(samples) / 2:
        told.append(f"{same:,} of {len(samples):,} evaluated completions are one and the same text")
    return told


def circles(text: str) -> bool:
    """Whether a text ends in a stretch of up to 60 characters, repeated at least four times, with 24 characters or more
    in total."""
    end = text.rstrip()
    for period in range(1, LONGEST_CIRCLE + 1):
        run = period
        while run < len(end) and end[-run - 1] == end[-run - 1 + period]:
            run += 1
            if run >= max(4 * period, SHORTEST_CIRCLES):
                return True
    return False


def form_only(run: RunData) -> Answer:
    tests = {c.metric: c for c in run.results.comparisons if (c.a, c.b) == (BASE, "policy")}
    if not tests.keys() >= set(METRICS):
        return None
    gained = tests["strict"].p_value < SIGNIFICANT and tests["strict"].only_b > tests["strict"].only_a
    if gained and tests["flexible"].p_value >= SIGNIFICANT:
        return [
            "strict accuracy rose but flexible did not: the model learned the form of the answer, not to solve more"
        ]
    return []


def too_easy(run: RunData) -> Answer:
    values = run.series(HELDOUT, "evaluation")[1]
    if values and values[-1] > 0.995:
        return ["held-out preference accuracy is nearly 100%: the form may be enough to distinguish the pairs"]
    return [] if values else None


def length_alone(run: RunData) -> Answer:
    """A reward model that is no better than the rule that the longer (or the shorter) completion wins."""
    if not (reward := run.results.reward):
        return None
    longer = reward.longer_wins.value
    rule, share = ("longer", longer) if longer >= 0.5 else ("shorter", 1 - longer)
    if share < reward.accuracy.low:
        return []
    return [f"“the {rule} answer wins” is right in {percent(share)} of the comparisons: this may be all it learned"]


def rate(run: RunData) -> Answer:
    """An unusual learning rate for full fine-tuning or an adapter."""
    found = unusual_rate(run.settings, _count(run.environment.get("parameters")))
    if found is None:
        return None
    way, words = found
    effect = {"low": "little may have been learned", "high": "the model may have been damaged"}
    return [f"the learning rate is {way}, {words}, and {effect[way]}"] if way else []


def overlap(run: RunData) -> Answer:
    """Evaluation rows that were also training rows: in this run, or in an earlier stage with another split of the file.

    Within a run, a prompt in both splits is an error before the first step, and a near-duplicate is counted. For
    earlier stages only the files can be compared.
    """
    data, own = mapping(run.settings.get("data")), _hashes(run.environment)
    if not own:
        return None
    near = mapping(run.environment.get("alike")).items()
    told = [
        f"{counted(count, f'{name} row')} {'differs' if count == 1 else 'differ'} from what was trained on by case, "
        "spacing or punctuation only"
        for name, count in near
        if _count(count)
    ]
    sources = {n: d for n, d in own.items() if n in ("heldout", "tasks")}
    told += [
        f"the {name} rows come from a file that was trained on" for name, d in sources.items() if d in _trained(own)
    ]
    if data.get("heldout") and "heldout" not in own:
        sources["heldout"] = next(iter(_trained(own)), "")
    path = mapping(run.settings.get("model")).get("path")
    stage = Path(path).parent if isinstance(path, str) and Path(path).is_dir() else None
    earlier = _trained(_hashes(_object(stage / "environment.json"))) if stage else set[str]()
    for name, digest in sources.items():
        if stage and digest in earlier and not (name == "heldout" and _same_split(stage, run)):
            told.append(f"the base ({stage.name}) was trained on the file that the {name} rows come from")
    return told


def _hashes(environment: Mapping[str, Any]) -> dict[str, str]:
    """The SHA-256 of each table of rows, by its use."""
    tables = mapping(environment.get("data")).items()
    return {str(name): digest for name, t in tables if isinstance(digest := mapping(t).get("sha256"), str)}


def _trained(hashes: Mapping[str, str]) -> set[str]:
    return {digest for name, digest in hashes.items() if name.startswith(("train", "generator"))}


def _same_split(stage: Path, run: RunData) -> bool:
    """Whether an earlier run left the same rows out."""
    try:
        then = mapping(yaml.safe_load((stage / "resolved.yaml").read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    keys = ("heldout", "limit", "split")
    rows = [[mapping(s.get("data")).get(key) for key in keys] + [s.get("seed")] for s in (then, run.settings)]
    return rows[0] == rows[1]


def _object(path: Path) -> Mapping[str, Any]:
    try:
        return mapping(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return {}


CHECKS = (
    Check("final results", unfinished),
    Check("rows left out or cut", rows_left_out, always=True),
    Check("size of what was measured on", few_items),
    Check("falls on the way", falls),
    Check("log-probability of chosen", chosen_sinks),
    Check("completions cut off", cut_off),
    Check("length of samples", draft_length),
    Check("shut gates", shut_gates),
    Check("repetition", repetition),
    Check("form without skill", form_only),
    Check("pairs too easy", too_easy),
    Check("length only", length_alone),
    Check("learning rate", rate),
    Check("overlap with training", overlap),
)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _last(values: list[float]) -> float:
    """The mean over the last tenth of a series."""
    tenth = max(1, len(values) // 10)
    return math.fsum(values[-tenth:]) / tenth


def _ends(run: RunData, key: str) -> tuple[float, float]:
    """Means over the first and the last tenth of a training metric. With less than ten points they are NaN, which
    triggers no check."""
    values = run.series(key)[1]
    tenth = len(values) // 10
    if not tenth:
        return math.nan, math.nan
    return math.fsum(values[:tenth]) / tenth, _last(values)
