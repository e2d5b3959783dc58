"""`arena-hard`: the score of each player against a baseline by graded verdicts (Li et al. 2024, arXiv:2406.11939).

The judge grades every two answers in both orders, from much better to much worse. Each verdict is a battle that is won,
tied (½) or lost, and a strong verdict counts as three. The score is the mean of all battles. That is also the win rate
of a Bradley–Terry model, because every battle is against the baseline. `style_control.py` fits that model with the
style of both answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from twofold.client.server import Endpoint, Server
from twofold.errors import RecipeError
from twofold.evaluation.answer_style import TokenCounter, styled
from twofold.evaluation.benchmark_matches import (
    BenchmarkSettings,
    lengths_of,
    measure_matches,
    split_lines,
    written,
)
from twofold.evaluation.figures import Difference, Entry, Evaluation, Measure
from twofold.evaluation.parts import WHOLE, Line, Part, Row
from twofold.evaluation.players import REFERENCE, Player, parse_players
from twofold.evaluation.published_rows import BenchmarkItem, items_of, load
from twofold.evaluation.style_control import StyleControl, StyleScore
from twofold.judges.base import MatchResult
from twofold.judges.language_model import Match, ModelJudge, Rubric, refuse_pictures
from twofold.judges.matchups import Matchup, Referee, Results
from twofold.judges.registry import WIN_RATE, parse_judge
from twofold.judges.servers import OPTIONAL, PairwiseKind
from twofold.ledger import Ledger
from twofold.progress import Progress
from twofold.records import transcript_of
from twofold.settings import with_keywords
from twofold.statistics import Estimate, PairedTest, bca_bounds, bootstrap_ratio

NAME = "arena-hard"
STRONG = 3
"""The weight of a strong verdict."""
RESAMPLES, SWAPS = 2000, 10_000
JUDGE_TOKENS = 4096
Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ArenaHardSettings(BenchmarkSettings):
    """`judge` is one `llm:URL#NAME`. `against` is the baseline, which is required: the questions have no answers."""

    max_new_tokens: int = 4096


@dataclass(frozen=True)
class Battles:
    """A measure of `evaluation/figures.py`: the points won in `counts` battles [items]; both are 0 without a verdict.
    Items of one of the `prompts` may be correlated."""

    points: Sequence[float]
    counts: Sequence[int]
    prompts: Sequence[int]

    def estimate(self) -> Estimate:
        """BCa bootstrap over prompts. `n` is the number of prompts with a verdict."""
        points, counts = self._by_prompt
        known = counts > 0
        return bootstrap_ratio(points[known], counts[known])

    def against(self, other: Battles) -> Difference | None:
        """`other` minus this on the prompts on which both have verdicts, with a bootstrap over prompts and random
        exchanges of the two players on each prompt. None if there are none."""
        if list(dict.fromkeys(self.prompts)) != list(dict.fromkeys(other.prompts)):
            return None
        (a, n), (b, m) = self._by_prompt, other._by_prompt
        both = (n > 0) & (m > 0)
        if not both.any():
            return None
        a, n, b, m = a[both], n[both], b[both], m[both]
        units, rng = len(a), np.random.default_rng(0)
        value = float(b.sum() / m.sum() - a.sum() / n.sum())
        draw = rng.multinomial(units, np.full(units, 1 / units), size=RESAMPLES)
        moved = (draw @ b) / (draw @ m) - (draw @ a) / (draw @ n)
        with np.errstate(invalid="ignore"):
            left_out = (b.sum() - b) / (m.sum() - m) - (a.sum() - a) / (n.sum() - n)
        low, high, how = bca_bounds(value, moved, left_out, 0.95)
        swap = rng.integers(0, 2, (SWAPS, units))
        shifted = swap @ (a - b), swap @ (n - m)
        swapped = (b.sum() + shifted[0]) / (m.sum() + shifted[1]) - (a.sum() - shifted[0]) / (n.sum() - shifted[1])
        as_far = int((np.abs(swapped) >= abs(value) - 1e-9).sum())
        only = int((a / n > b / m).sum()), int((b / m > a / n).sum())
        test = PairedTest(*only, (as_far + 1) / (SWAPS + 1), units, f"exchanges of players, {SWAPS} random")
        return Difference(Estimate(value, low, high, units, None, f"paired bootstrap over items 95%, {how}"), test)

    @cached_property
    def _by_prompt(self) -> tuple[Array, Array]:
        places: dict[int, int] = {}
        at = [places.setdefault(prompt, len(places)) for prompt in self.prompts]
        points, counts = np.zeros(len(places)), np.zeros(len(places))
        np.add.at(points, at, self.points)
        np.add.at(counts, at, self.counts)
        return points, counts


@with_keywords(ArenaHardSettings)
def arena_hard(models: Sequence[str], data: str, how: ArenaHardSettings) -> Evaluation:
    """Arena-Hard's score of each player against the baseline `against`, and of each category.

    `models` are players (docs/evaluation.md); `data` is the published question.jsonl. Scores have a bootstrap over
    prompts, every two players a randomization test with Holm's correction. Where the tokens of all answers are known,
    there are scores at equal style too. Raises DataError for a row without an id or a prompt, RecipeError for another
    judge than one `llm:`, ServerError for answers that are missing.
    """
    return arena_hard_figures(measure_arena_hard(models, items_of(NAME, load(NAME, data).records), how, WHOLE), how)


def measure_arena_hard(
    models: Sequence[str], items: Sequence[BenchmarkItem], how: ArenaHardSettings, part: Part
) -> dict[str, Line]:
    """Every answer of each player with both verdicts on it."""
    if how.against is None or how.baseline.kind == REFERENCE:
        remedy = "add --against PLAYER, such as model_answer/gpt-4-0314.jsonl of arena-hard-v0.1"
        raise RecipeError("requires the baseline", where="--task arena-hard", remedy=remedy)
    kinds = [parse_judge(name, WIN_RATE) for name in how.judges]
    if len(kinds) != 1 or kinds[0].name != PairwiseKind.name:
        what, remedy = "requires one judge that grades two answers", "write --judge llm:URL#NAME"
        raise RecipeError(what, where="--task arena-hard", remedy=remedy)
    measured, counter = measure_matches(models, items, how, part, open_grades), TokenCounter()
    for player in dict.fromkeys(player.at(0.0) for player in parse_players(models)):
        line, files = measured[player.name], (_file(player), _file(how.baseline))
        measured[player.name] = replace(line, rows=styled(line.rows, items, files, counter))
    return measured


def _file(player: Player) -> str | None:
    return player.model if player.kind == "file" else None


def arena_hard_figures(measured: Mapping[str, Line], how: ArenaHardSettings) -> Evaluation:
    """Scores and tests of what was measured."""
    lines, about = split_lines(measured, how)
    control = _control([line.rows for line in lines.values()])
    if control is None:
        how.progress.warn(f"no style-controlled score: {_why_not(lines)}")
    else:
        about["style_control"] = control.about()
    return written(NAME, Evaluation.of(_entries(lines, control)), about, how)


def open_grades(how: BenchmarkSettings, ledger: Ledger, stack: ExitStack) -> Referee:
    """The referee of a language model that grades two answers in both orders."""
    endpoint = Endpoint.of(parse_judge(how.judges[0], WIN_RATE).argument)
    server = stack.enter_context(Server(endpoint, how.retry, optional=OPTIONAL))
    rubric = Rubric.load("grade", Path(how.rubric) if how.rubric else None)
    judge = ModelJudge(server, rubric, max_tokens=JUDGE_TOKENS)

    def decide(contests: Sequence[Matchup], progress: Progress) -> Results:
        for contest in contests:
            refuse_pictures(contest.prompt, contest.source)
        matches = [Match(c.prompt, transcript_of(c.own), transcript_of(c.other), c.truth) for c in contests]
        return [_result(both) for both in judge.collected(judge.grades(matches, ledger), len(matches), progress)]

    return Referee({"kind": "llm, five grades", **judge.provenance}, decide, lambda: [judge.spend])


def battles_of(orders: Sequence[str] | None) -> list[float]:
    """The points of each battle from the verdicts with the player's answer as A and as B; two ties without verdicts,
    which only equal texts have."""
    if orders is None:
        return [0.5, 0.5]
    points: list[float] = []
    for own, verdict in zip("AB", orders, strict=True):
        better = verdict.partition(">")[0] if ">" in verdict else ""
        share = 0.5 if not better else float(better == own)
        points += [share] * (STRONG if ">>" in verdict else 1)
    return points


def _result(both: tuple[str | None, str | None] | None) -> MatchResult | None:
    if both is None or both[0] is None or both[1] is None:
        return None
    orders = both[0], both[1]
    mean = fmean(battles_of(orders))
    return MatchResult(0.5 + 0.5 * ((mean > 0.5) - (mean < 0.5)), orders)


def _entries(lines: Mapping[str, Line], control: StyleControl | None) -> list[Entry]:
    known = [[{**row, "battles": battles_in(row)} for row in line.rows] for line in lines.values()]
    subsets = list(dict.fromkeys(row["subset"] for rows in known for row in rows))
    several = [[[row for row in rows if row["subset"] == x] for rows in known] for x in subsets * (len(subsets) > 1)]
    figures = [_measures(rows, _control(rows) if control is not None else None) for rows in several]
    entries: list[Entry] = []
    for player, (name, line) in enumerate(lines.items()):
        rows = known[player]
        about = {
            "length": fmean(lengths_of(rows, "own")), "other_length": fmean(lengths_of(rows, "other")),
            "subsets": {
                x: {metric: measure.estimate().as_dict() for metric, measure in own[player].items()}
                for x, own in zip(subsets, figures, strict=False) if own[player]
            },
            "sampling": line.about["sampling"],
        }  # fmt: skip
        entries.append(Entry(name, _measures(known, control)[player], about=about, counts=_counts(rows), rows=rows))
    return entries


def _measures(players: Sequence[Sequence[Row]], control: StyleControl | None) -> list[dict[str, Measure]]:
    """The scores of each player; none for one without a verdict."""
    found: list[dict[str, Measure]] = []
    for player, rows in enumerate(players):
        measures: dict[str, Measure] = {"score": _battles(rows)}
        if control is not None:
            measures["style_score"] = StyleScore(control, player, equal=False)
            measures["equal_style_score"] = StyleScore(control, player, equal=True)
        found.append(measures if any(battles_in(row) for row in rows) else {})
    return found


def _control(players: Sequence[Sequence[Row]]) -> StyleControl | None:
    """The fit of all players with their styles; None without a style, or where it has no finite optimum."""
    rows = [(player, row, battles_in(row)) for player, own in enumerate(players) for row in own]
    if any(row.get(key) is None for _, row, _ in rows for key in ("style", "other_style")):
        return None
    if not all(any(each == player and battles for each, _, battles in rows) for player in range(len(players))):
        return None
    control = StyleControl(
        len(players), [player for player, _, _ in rows], [sum(battles) for _, _, battles in rows],
        [len(battles) for _, _, battles in rows], [row["style"] for _, row, _ in rows],
        [row["other_style"] for _, row, _ in rows], [row["index"] for _, row, _ in rows],
    )  # fmt: skip
    return control if control.is_finite else None


def _why_not(lines: Mapping[str, Line]) -> str:
    for name, line in lines.items():
        unknown = [row for row in line.rows if row["style"] is None or row["other_style"] is None]
        if unknown:
            whose = name if unknown[0]["style"] is None else "the baseline"
            return f"the tokens of answers of {whose} are not in `metadata` of a file, and {TokenCounter().lacks}"
    return "a style separates all wins from losses, so the fit has no finite optimum"


def battles_in(row: Row) -> list[float]:
    """The points of each battle of a row; none without a verdict."""
    return [] if row["share"] is None else battles_of(row["orders"])


def _battles(rows: Sequence[Row]) -> Battles:
    battles = [battles_in(row) for row in rows]
    return Battles([sum(points) for points in battles], list(map(len, battles)), [row["index"] for row in rows])


def _counts(rows: Sequence[Row]) -> dict[str, int]:
    points = [point for row in rows for point in row["battles"]]
    strong = sum(">>" in verdict for row in rows for verdict in row["orders"] or ())
    return {
        "wins": points.count(1.0), "ties": points.count(0.5), "losses": points.count(0.0), "strong": strong,
        "missing": sum(row["share"] is None for row in rows), "truncated": sum(row["cut"] for row in rows),
    }  # fmt: skip
