"""`alpaca-eval`: AlpacaEval 2's win rate against the reference answers, plain and length-controlled.

Dubois et al. 2024, arXiv:2404.04475. A preference is the judge's probability for the model's answer (`llm-prob:`), or
1, ½ or 0 by a judge without probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from twofold.evaluation.benchmark_matches import (
    BenchmarkSettings,
    MeanScore,
    counts_of,
    lengths_of,
    measure_matches,
    share_of,
    split_lines,
    subsets_of,
    written,
)
from twofold.evaluation.figures import Entry, Evaluation, Measure
from twofold.evaluation.games import ONE_SIDED
from twofold.evaluation.length_control import GamedRows, LengthControl
from twofold.evaluation.parts import WHOLE, Line, Part, Row
from twofold.evaluation.published_rows import (
    GAMED,
    BenchmarkItem,
    gamed_rows,
    items_of,
    load,
    refuse_unknown_difficulty,
)
from twofold.settings import with_keywords

NAME = "alpaca-eval"


@dataclass(frozen=True, kw_only=True)
class AlpacaEvalSettings(BenchmarkSettings):
    """As for all judged benchmarks."""

    max_new_tokens: int = 2048


@with_keywords(AlpacaEvalSettings)
def alpaca_eval(models: Sequence[str], data: str, how: AlpacaEvalSettings) -> Evaluation:
    """AlpacaEval 2's win rate of each player, and its length-controlled win rate if `df_gamed.csv` is next to the file.

    `models` are players (docs/evaluation.md); `data` is the file of reference outputs. Rates have Student's interval or
    a bootstrap over instructions, every two players a paired test per rate with Holm's correction.
    Raises DataError for a row without an instruction or an output, RecipeError for a name that is no judge, ServerError
    for answers that are missing.
    """
    items = items_of(NAME, load(NAME, data).records)
    return alpaca_eval_figures(measure_alpaca_eval(models, items, how, WHOLE), how)


def measure_alpaca_eval(
    models: Sequence[str], items: Sequence[BenchmarkItem], how: AlpacaEvalSettings, part: Part
) -> dict[str, Line]:
    """Every answer of each player with the verdict on it."""
    gamed = gamed_rows(items[0].record.source.file)
    if gamed is not None:
        refuse_unknown_difficulty(items, gamed)
    return measure_matches(models, items, how, part)


def alpaca_eval_figures(measured: Mapping[str, Line], how: AlpacaEvalSettings) -> Evaluation:
    """Rates and tests of what was measured."""
    lines, about = split_lines(measured, how)
    gamed = gamed_rows(next(iter(lines.values())).rows[0]["source"][0])
    if gamed is None:
        how.progress.warn(f"{GAMED} of tatsu-lab/alpaca_eval is not next to the data: no length-controlled win rate")
    for name, line in lines.items() if gamed is not None else ():
        if _one_sided(line.rows):
            what = "answers are almost always longer (or shorter) than the baseline's"
            how.progress.warn(f"{name}: {what}: the length-controlled win rate reaches beyond what was seen")
    entries = [_entry(name, line.rows, line.about, gamed) for name, line in lines.items()]
    return written(NAME, Evaluation.of(entries), about, how)


def _one_sided(rows: Sequence[Row]) -> bool:
    """Whether almost all differences in length have one sign."""
    gaps = [own - other for own, other in zip(lengths_of(rows, "own"), lengths_of(rows, "other"), strict=True)]
    longer, shorter = fmean(gap > 0 for gap in gaps), fmean(gap < 0 for gap in gaps)
    return min(longer, shorter) < ONE_SIDED < max(longer, shorter)


def _entry(name: str, rows: Sequence[Row], line: Mapping[str, Any], gamed: GamedRows | None) -> Entry:
    shares, indices = [share_of(row) for row in rows], [row["index"] for row in rows]
    known = [share for share in shares if share is not None]
    lengths, others = lengths_of(rows, "own"), lengths_of(rows, "other")
    measures: dict[str, Measure] = {"win_rate": MeanScore(shares, indices)}
    about: dict[str, Any] = {
        "standard_error": stdev(known) / len(known) ** 0.5 if len(known) > 1 else 0.0,
        "discrete_win_rate": fmean((share > 0.5) + 0.5 * (share == 0.5) for share in known),
        "length": fmean(lengths), "other_length": fmean(others), "subsets": subsets_of(rows),
        "sampling": line["sampling"],
    }  # fmt: skip
    if gamed is not None:
        controlled = LengthControl(shares, lengths, others, indices, gamed)
        measures["lc_win_rate"] = controlled
        about["length_control"] = controlled.about()
    return Entry(name, measures, about=about, counts=counts_of(rows), rows=rows)
