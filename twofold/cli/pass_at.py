"""`twofold evaluate --pass-at`: many samples per problem, pass@k and maj@k with intervals, and paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from twofold.cli.terminal import results, table
from twofold.errors import RecipeError

if TYPE_CHECKING:
    from twofold.evaluation.pass_at_k import PassAtK, Sampled
    from twofold.rewards.verifier import Metric

METRICS: tuple[Metric, ...] = ("strict", "flexible")
KINDS = ("pass", "maj")


@dataclass(frozen=True)
class Drawing:
    """How completions are sampled, and for which k they count."""

    ks: tuple[int, ...]
    samples: int
    temperature: float
    seed: int

    @classmethod
    def of(cls, ks: str | None, samples: int | None, temperature: float, seed: int) -> Drawing | None:
        """From what the terminal says; None without --pass-at."""
        if ks is None:
            if samples is not None or temperature != 1.0 or seed != 0:
                raise RecipeError(
                    "--samples, --temperature and --seed go with --pass-at",
                    where="twofold evaluate",
                    remedy="add --pass-at 1,2,4,8, or leave them out: exact match is greedy",
                )
            return None
        try:
            wanted = tuple(sorted({int(k) for k in ks.split(",")}))
        except ValueError:
            raise RecipeError(f"{ks!r} is no list of numbers", where="--pass-at", remedy="write 1,2,4,8") from None
        if wanted[0] < 1:
            raise RecipeError("k must be ≥ 1", where="--pass-at")
        if samples is not None and samples < wanted[-1]:
            remedy = f"draw at least {wanted[-1]}"
            raise RecipeError(f"pass@{wanted[-1]} needs more than {samples} samples", where="--samples", remedy=remedy)
        return cls(wanted, samples or wanted[-1], temperature, seed)


def summarize(found: Mapping[str, PassAtK], drawing: Drawing) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
    """The figures and the problems behind them, once shown."""
    from twofold.evaluation.figures import corrected
    from twofold.evaluation.pass_at_k import compare

    asked: list[tuple[str, Metric, int]] = [
        (kind, metric, k) for metric in METRICS for kind in KINDS for k in drawing.ks
    ]
    models = [_object(name, result, asked) for name, result in found.items()]
    comparisons = corrected(
        [
            {"a": a, "b": b, **_figure(kind, metric, k), **compare(found[a], found[b], kind, metric, k).as_dict()}
            for a, b in combinations(found, 2)
            for kind, metric, k in asked
        ]
    )
    _show(models, comparisons)
    about = {"samples": drawing.samples, "temperature": drawing.temperature, "seed": drawing.seed}
    rows: list[Mapping[str, Any]] = [
        {"model": model["name"], **problem} for model in models for problem in model["problems"]
    ]
    return {**about, "models": models, "comparisons": comparisons}, rows


def _object(name: str, result: PassAtK, asked: Sequence[tuple[str, Metric, int]]) -> dict[str, Any]:
    figures = [_figure(*each) | result.estimate(*each).as_dict() for each in asked]
    counts = zip(*(result.problems[metric] for metric in METRICS), strict=True)
    problems = [{"name": both[0].name} | {m: _counts(p) for m, p in zip(METRICS, both, strict=True)} for both in counts]
    return {"name": name, "truncated": result.truncated, "figures": figures, "problems": problems}


def _counts(problem: Sampled) -> dict[str, Any]:
    return {"right": problem.right, "wrong": list(problem.wrong), "silent": problem.silent}


def _figure(kind: str, metric: str, k: int) -> dict[str, Any]:
    return {"figure": f"{kind}@{k}", "metric": metric}


def _show(models: Sequence[Mapping[str, Any]], comparisons: Sequence[Mapping[str, Any]]) -> None:
    out = results()
    rows = table("model", "figure", "metric", "#n", "#value", "95% interval")
    for model in models:
        for f in model["figures"]:
            rows.add_row(model["name"], f["figure"], f["metric"], str(f["n"]), f"{f['value']:.1%}", _interval(f))
    out.print(rows, markup=False)
    if comparisons:
        from twofold.reports.tables import p_value

        several = "p_holm" in comparisons[0]
        pairs = table("a", "b", "figure", "metric", "#b − a", "95% interval", "#p, paired", *(["#Holm"] * several))
        for c in comparisons:
            d = c["difference"]
            told = f"{d['value']:+.1%}", _interval(d), p_value(c["p_value"])
            told += (p_value(c["p_holm"]),) if several else ()
            pairs.add_row(c["a"], c["b"], c["figure"], c["metric"], *told)
        out.print(pairs, markup=False)


def _interval(figure: Mapping[str, Any]) -> str:
    return f"{figure['low']:.1%} … {figure['high']:.1%}"
