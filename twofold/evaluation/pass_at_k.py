"""`pass_at_k`: the probability that one of k samples solves a problem, from n ≥ k, and maj@k: that their vote does.

pass@k is unbiased for every k up to n: it is the share of all k-subsets of the samples with a correct one. maj@k is the
share of k-subsets whose most frequent answer is correct; tied answers share the subset. Problems are the units of
intervals.

Source: Chen et al. (2021), arXiv 2107.03374, equation 1; Wang et al. (2022), arXiv 2203.11171, for the vote.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from hashlib import sha256
from itertools import combinations, product
from typing import Any, TypeAlias

from twofold.errors import DataError, RecipeError
from twofold.evaluation.exact_match import CHUNK, Codec, refuse_unreadable
from twofold.evaluation.figures import Difference, Evaluation, Ratio, corrected
from twofold.evaluation.parts import WHOLE, Line, Part
from twofold.evaluation.player_answers import AnswerBook
from twofold.evaluation.players import Player
from twofold.evaluation.problems import PromptSettings, each_model, each_other, in_order
from twofold.evaluation.prompting import Prompting, Put
from twofold.evaluation.rows import Data, rows_of
from twofold.progress import Progress, Silent
from twofold.records import Task, final_text, shown
from twofold.rewards.verifier import Metric, flexible, strict, truth
from twofold.sampling.base import Sampler
from twofold.sampling.named_model import NamedModel
from twofold.settings import with_keywords
from twofold.statistics import Estimate, share_by_cluster

METRICS: tuple[Metric, ...] = ("strict", "flexible")
KINDS = ("pass", "maj")


@dataclass(frozen=True, kw_only=True)
class PassAtKSettings(PromptSettings):
    """`samples` of each problem, by default as many as the largest k, are drawn at `temperature` by `seed`."""

    ks: Sequence[int] = (1,)
    samples: int | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        most = max(self.ks, default=0)
        if min(self.ks, default=0) < 1:
            raise RecipeError("k must be ≥ 1", where="--pass-at", remedy="write 1,2,4,8")
        if self.samples is not None and self.samples < most:
            what = f"pass@{most} needs more than {self.samples} samples"
            raise RecipeError(what, where="--samples", remedy=f"draw at least {most}")


@with_keywords(PassAtKSettings)
def pass_at_k(models: Sequence[str], data: Data, how: PassAtKSettings) -> Evaluation:
    """pass@k and maj@k of each player for every k, by the strict and the flexible rule.

    `models` are players (docs/evaluation.md) that sample, `data` are problems with answers. Means over problems have
    bootstrap intervals, every two models sign flips per figure, with Holm's correction over all. Raises DataError for
    rows of another kind, or an answer that holds no number, before anything is drawn.
    """
    return pass_at_k_figures(measure_samples(models, rows_of(data, "answers"), how, WHOLE), how)


def measure_samples(
    models: Sequence[str], problems: Sequence[Task], how: PassAtKSettings, part: Part
) -> dict[str, Line]:
    """What the samples of every problem answer, by each model."""
    refuse_unreadable(problems)
    return measure_counts(models, problems, how, part, by_number)


def measure_counts(
    models: Sequence[str], problems: Sequence[Task], how: PassAtKSettings, part: Part, count: Count
) -> dict[str, Line]:
    """What the samples of every problem answer, by each model, as `count` counts them."""

    def sampled(name: str, sampler: Sampler, model: NamedModel, prompting: Prompting) -> Line:
        weights = part.weights(model)

        def work(some: Sequence[Task]) -> list[dict[str, Any]]:
            put = [prompting.of(task) for task in some]
            codec = Put(model.encoder, prompting)
            return _solved(sampler, put, codec, _samples(how), how.seed, count).rows()

        size = max(1, CHUNK // _samples(how))
        return Line(part.rows((name, weights), problems, size, work, ("pass@k", how.progress)), weights=weights)

    def written(name: str, player: Player, book: AnswerBook) -> Line:
        found, n = book.of(player), _samples(how)
        if min(map(len, found)) < n:
            what = f"{name} has fewer than {n} answers to a prompt"
            raise RecipeError(what, where="--pass-at", remedy="leave it out, or ask for a smaller k")
        texts = [[final_text(answer.completion) for answer in several] for several in found]
        cut = tuple(sum(answer.truncated for answer in several) for several in found)
        return Line(_of_texts(part.of(problems), texts, cut, count).rows(), weights=book.weights(player))

    others = each_other(models, problems, how, (how.temperature, _samples(how)), written, part)
    return in_order(models, each_model(models, problems, how, how.temperature, sampled) | others)


def pass_at_k_figures(measured: Mapping[str, Line], how: PassAtKSettings) -> Evaluation:
    """The table of what was measured."""
    samples, found = _samples(how), {name: PassAtK.of(line.rows) for name, line in measured.items()}
    metrics = list(next(iter(found.values())).problems)
    wanted = [(kind, metric, k) for metric, kind, k in product(metrics, KINDS, how.ks)]
    tests = [
        {"a": a, "b": b, **_figure(*each), **compare(found[a], found[b], *each).as_dict()}
        for a, b in combinations(found, 2)
        for each in wanted
    ]
    models_told = [
        {"name": name, "truncated": result.truncated,
         "figures": [_figure(*each) | result.estimate(*each).as_dict() for each in wanted],
         "problems": result.counts()}
        for name, result in found.items()
    ]  # fmt: skip
    drawn = {"samples": samples, "temperature": how.temperature, "seed": how.seed}
    figures = {"max_new_tokens": how.max_new_tokens, **drawn, "models": models_told, "comparisons": corrected(tests)}
    return Evaluation(figures, [{"model": m["name"], **problem} for m in models_told for problem in m["problems"]])


def _samples(how: PassAtKSettings) -> int:
    return how.samples or max(how.ks)


def _figure(kind: str, metric: str, k: int) -> dict[str, Any]:
    return {"figure": f"{kind}@{k}", "metric": metric}


def estimate_pass_at_k(n: int, right: int, k: int) -> float:
    """1 − C(n − right, k) / C(n, k) as a product, which does not overflow."""
    if not (0 <= right <= n and 1 <= k <= n):
        raise ValueError(f"needs 0 ≤ right ≤ n and 1 ≤ k ≤ n, got n {n}, right {right}, k {k}")
    if n - right < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - right + 1, n + 1))


def estimate_maj_at_k(right: int, wrong: Sequence[int], silent: int, k: int) -> float:
    """The share of all k-subsets in which the `right` samples win the vote; with m others on a par it counts 1/(m+1).

    `wrong` are how often each other answer was given, `silent` samples gave none and have no vote.
    """
    n = right + sum(wrong) + silent
    if min(right, silent, *wrong) < 0 or not 1 <= k <= n:
        raise ValueError(f"needs counts ≥ 0 and 1 ≤ k ≤ {n}, got k {k}")
    won = sum(
        math.comb(right, votes)
        * math.fsum(ways / (tied + 1) for tied, ways in _rivals(wrong, silent, votes, k - votes))
        for votes in range(1, min(right, k) + 1)
    )
    return won / math.comb(n, k)


def _rivals(wrong: Sequence[int], silent: int, votes: int, rest: int) -> list[tuple[int, int]]:
    """(m, in how many ways) `rest` further samples can be such that m other answers have `votes` and none has more."""
    ways: Counter[tuple[int, int]] = Counter({(0, s): math.comb(silent, s) for s in range(min(silent, rest) + 1)})
    for count in wrong:
        grown: Counter[tuple[int, int]] = Counter()
        for (tied, used), number in ways.items():
            for drawn in range(min(count, votes, rest - used) + 1):
                grown[tied + (drawn == votes), used + drawn] += number * math.comb(count, drawn)
        ways = grown
    return [(tied, number) for (tied, used), number in ways.items() if used == rest]


@dataclass(frozen=True, slots=True)
class Sampled:
    """One problem: the number of samples with its answer, with each other answer, and with none."""

    name: str
    right: int
    wrong: tuple[int, ...]
    silent: int

    @property
    def n(self) -> int:
        return self.right + sum(self.wrong) + self.silent

    @classmethod
    def of(cls, name: str, counts: Mapping[str, Any]) -> Sampled:
        return cls(name, counts["right"], tuple(counts["wrong"]), counts["silent"])

    def as_dict(self) -> dict[str, Any]:
        return {"right": self.right, "wrong": list(self.wrong), "silent": self.silent}


Count: TypeAlias = Callable[[Task, Sequence[str]], Mapping[str, Sampled]]
"""Counts the answers of samples to a problem by each of several rules."""


@dataclass(frozen=True)
class PassAtK:
    """What came of n samples for each problem, by rule: those of `rewards/verifier.py`, or others."""

    problems: Mapping[str, tuple[Sampled, ...]]
    samples: int
    truncated: int
    """Completions that ran out of tokens."""
    _values: dict[tuple[str, str, int], list[float]] = field(default_factory=dict, compare=False, repr=False)
    cut: tuple[int, ...] = field(default=(), compare=False, repr=False)
    """The same of each problem."""
    prompts: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """A digest of each problem's prompt: problems with the same prompt count as one in intervals and tests."""

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> PassAtK:
        """From the `rows` of problems."""
        metrics = [key for key, value in (rows[0] if rows else {}).items() if isinstance(value, Mapping)]
        problems = {metric: tuple(Sampled.of(row["name"], row[metric]) for row in rows) for metric in metrics}
        cut, prompts = tuple(row["truncated"] for row in rows), tuple(row.get("prompt", row["name"]) for row in rows)
        return cls(problems, problems[metrics[0]][0].n, sum(cut), cut=cut, prompts=prompts)

    def rows(self) -> list[dict[str, Any]]:
        """Each problem by itself, with all that the figures need."""
        several = zip(self.counts(), self.cut, self.prompts, strict=True)
        return [{**problem, "truncated": cut, "prompt": prompt} for problem, cut, prompt in several]

    def values(self, kind: str, metric: str, k: int) -> list[float]:
        """pass@k or maj@k (`kind`: pass, maj) of each problem."""
        known = self._values.get((kind, metric, k))
        if known is None:
            one = _pass if kind == "pass" else _maj
            known = self._values[kind, metric, k] = [one(p, k) for p in self.problems[metric]]
        return known

    def counts(self) -> list[dict[str, Any]]:
        """Each problem by name, with how many samples were right, wrong (by answer) and silent under either rule."""
        return [
            {"name": problem.name, **{metric: rows[i].as_dict() for metric, rows in self.problems.items()}}
            for i, problem in enumerate(next(iter(self.problems.values())))
        ]

    def estimate(self, kind: str, metric: str, k: int) -> Estimate:
        """The mean over problems, with a bootstrap interval over prompts; Wilson's where all or none are solved."""
        values = self.values(kind, metric, k)
        if set(values) in ({0.0}, {1.0}):
            return share_by_cluster([value == 1 for value in values], self.prompts)
        return self.measure(kind, metric, k).estimate()

    def measure(self, kind: str, metric: str, k: int) -> Ratio:
        """The mean as a ratio."""
        values = self.values(kind, metric, k)
        return Ratio(values, [1.0] * len(values), prompts=self.prompts, share=True)


def _pass(problem: Sampled, k: int) -> float:
    return estimate_pass_at_k(problem.n, problem.right, k)


def _maj(problem: Sampled, k: int) -> float:
    return estimate_maj_at_k(problem.right, problem.wrong, problem.silent, k)


def solve(
    sampler: Sampler, tasks: Sequence[Task], codec: Codec, samples: int, *,
    progress: Progress | None = None, seed: int = 0,
) -> PassAtK:  # fmt: skip
    """Draw `samples` completions for each task, its prompt prefilled once, and count what they answer.

    Raises DataError for a task whose answer holds no number, before the first token is drawn.
    """
    refuse_unreadable(tasks)
    progress = progress or Silent()
    progress.begin("pass@k", len(tasks))
    rows: list[dict[str, Any]] = []
    width = max(1, CHUNK // samples)
    for start in range(0, len(tasks), width):
        part = tasks[start : start + width]
        rows += _solved(sampler, part, codec, samples, seed, by_number).rows()
        progress.advance("pass@k", len(part), **{metric: _share(rows, metric) for metric in METRICS})
    progress.end("pass@k")
    return PassAtK.of(rows)


def _solved(
    sampler: Sampler, tasks: Sequence[Task], codec: Codec, samples: int, seed: int, count: Count
) -> PassAtK:  # fmt: skip
    completions = sampler.sample([codec.prompt(task.prompt) for task in tasks], samples=samples, seed=(seed, 0))
    texts = [
        [codec.parted(task.prompt, drawn.tokens).answer for drawn in several]
        for task, several in zip(tasks, completions, strict=True)
    ]
    return _of_texts(tasks, texts, tuple(sum(drawn.truncated for drawn in several) for several in completions), count)


def _of_texts(
    tasks: Sequence[Task], texts: Sequence[Sequence[str]], cut: tuple[int, ...], count: Count
) -> PassAtK:  # fmt: skip
    """What these answers to each problem are. `cut` counts those of each that ran out of tokens."""
    counts = [count(task, several) for task, several in zip(tasks, texts, strict=True)]
    problems = {metric: tuple(each[metric] for each in counts) for metric in counts[0]}
    return PassAtK(problems, len(texts[0]), sum(cut), cut=cut, prompts=_digests(tasks))


def _digests(tasks: Sequence[Task]) -> tuple[str, ...]:
    return tuple(sha256(repr(shown(task.prompt)).encode()).hexdigest()[:16] for task in tasks)


def compare(a: PassAtK, b: PassAtK, kind: str, metric: str, k: int) -> Difference:
    """Two models on the same problems in the same order; DataError for different ones."""
    names = [[p.name for p in x.problems[metric]] for x in (a, b)]
    if names[0] != names[1]:
        what, remedy = "the two models were sampled on different problems", "sample both on the same file"
        raise DataError(what, where="", remedy=remedy)
    tested = a.measure(kind, metric, k).against(b.measure(kind, metric, k))
    assert tested is not None  # both count problems
    return replace(tested, difference=replace(tested.difference, method=f"paired {tested.difference.method}"))


def by_number(task: Task, texts: Sequence[str]) -> dict[str, Sampled]:
    """What samples answer by the strict and the flexible rule."""
    return {metric: _counted(task, texts, metric) for metric in METRICS}


def _counted(task: Task, texts: Sequence[str], metric: Metric) -> Sampled:
    """Answers are compared as in the verifier: by their text (strict), or by their value (flexible)."""
    keys = [_key(text, metric) for text in texts]
    counts = Counter(key for key in keys if key is not None)
    answer = truth(task.answer)
    right = counts.pop(answer if metric == "strict" else Decimal(answer), 0)
    return Sampled(str(task.source), right, tuple(sorted(counts.values(), reverse=True)), keys.count(None))


def _key(text: str, metric: Metric) -> str | Decimal | None:
    if metric == "strict":
        return strict(text)
    number = flexible(text)
    return None if number is None else Decimal(number)


def _share(rows: Sequence[Mapping[str, Any]], metric: str) -> float:
    problems = [Sampled.of(row["name"], row[metric]) for row in rows]
    return sum(p.right for p in problems) / max(1, sum(p.n for p in problems))
