"""Judged benchmarks by pairs: every player's answers against the baseline's, with the verdicts on them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from twofold import disk
from twofold.errors import DataError
from twofold.evaluation.figures import Difference, Evaluation
from twofold.evaluation.judging import CHECK_LINE, SPEND_LINE, check_figures, check_line, spend_figures, spend_line
from twofold.evaluation.matches import (
    Drawn,
    MatchSettings,
    is_by_people,
    meet,
    open_book,
    open_judge,
    write_comparisons,
)
from twofold.evaluation.parts import WHOLE, Line, Part, Row
from twofold.evaluation.player_answers import AnswerBook, ledger_path
from twofold.evaluation.players import REFERENCE, Player, parse_player, parse_players
from twofold.evaluation.published_rows import BenchmarkItem, published_answers
from twofold.judges.matchups import Referee
from twofold.ledger import Ledger
from twofold.progress import counted
from twofold.records import Candidate, short_name, transcript_of, unshown
from twofold.statistics import Estimate, bootstrap_ratio, mean_by_cluster, sign_flips

NOTE = "Published prompts may be in a model's pretraining data. Only the training data of run directories are checked."


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings(MatchSettings):
    """The baseline is the player `against`, or the rows' own answers. Players without a temperature are greedy."""

    against: str | None = None

    @property
    def baseline(self) -> Player:
        return parse_player(self.against or REFERENCE).at(0.0)


@dataclass(frozen=True)
class MeanScore:
    """A measure of `evaluation/figures.py`: the mean of scores [items], None without a verdict. Items of one of the
    `prompts` may be correlated."""

    scores: Sequence[float | None]
    prompts: Sequence[int]

    def estimate(self) -> Estimate:
        known = [(score, prompt) for score, prompt in zip(self.scores, self.prompts, strict=True) if score is not None]
        return mean_by_cluster([score for score, _ in known], [prompt for _, prompt in known])

    def against(self, other: MeanScore) -> Difference | None:
        """`other` minus this on the items on which both have a verdict, with random sign flips over prompts. None if
        there are none."""
        a: dict[int, float] = {}
        b: dict[int, float] = {}
        n: dict[int, float] = {}
        for own, score, prompt in zip(self.scores, other.scores, self.prompts, strict=False):
            if own is not None and score is not None:
                a[prompt], b[prompt] = a.get(prompt, 0.0) + own, b.get(prompt, 0.0) + score
                n[prompt] = n.get(prompt, 0.0) + 1
        if not n:
            return None
        moved = [b[prompt] - a[prompt] for prompt in n]
        return Difference(bootstrap_ratio(moved, list(n.values())), sign_flips(list(a.values()), list(b.values())))


OpenReferee: TypeAlias = Callable[[Any, Ledger, ExitStack], Referee]


def measure_matches(
    models: Sequence[str], items: Sequence[BenchmarkItem], how: BenchmarkSettings, part: Part,
    open_referee: OpenReferee = open_judge,
) -> dict[str, Line]:  # fmt: skip
    """Every player's answers against the baseline's, with the judge's verdicts."""
    people, baseline = is_by_people(how, part), how.baseline
    players = list(dict.fromkeys(player.at(0.0) for player in parse_players(models)))
    with ExitStack() as resources:
        names = (*how.judges, baseline.name, *(player.name for player in players))
        ledger = part.ledger or resources.enter_context(Ledger(ledger_path(how.out, names, resources)))
        book = open_book([item.record for item in items], part, how, ledger, resources)
        _put_published(book, [baseline, *players], part.of(items))
        book.check([baseline, *players])
        referee = None if people else open_referee(how, ledger, resources)
        book.draw([baseline, *players])
        drawn = {player: meet(book, player, baseline, how.judges) for player in players}
        if part is WHOLE:
            write_comparisons([m for each in drawn.values() for m in each.matchups], how)
        referee = referee or open_referee(how, ledger, resources)
        file = short_name(items[0].record.source.file)
        common = {
            "judge": dict(referee.provenance),
            "against": f"the answers of {file}" if baseline.kind == REFERENCE else baseline.short,
        }
        found = {
            player.name: Line(
                _labeled(each, each.judged(referee.outcomes(each.matchups, how.progress)), part.of(items)),
                {**common, "sampling": sampling_of(book, player, how)},
                each.weights,
            )
            for player, each in drawn.items()
        }
        return found | check_line(how, referee, part) | spend_line(referee)


def _put_published(book: AnswerBook, players: Sequence[Player], items: Sequence[BenchmarkItem]) -> None:
    """The answers of files in a benchmark's own form."""
    for player in players:
        told = published_answers(player.model, items) if player.kind == "file" else None
        if told is not None:
            digest = hashlib.sha256(disk.real(Path(player.model)).read_bytes()).hexdigest()[:12]
            origin = {"file": player.model, "weights": digest}
            book.put(player, [[Candidate(text, dict(origin))] for text in told])


def sampling_of(book: AnswerBook, player: Player, how: MatchSettings) -> dict[str, Any]:
    """How a player's answers were made, as in results.json."""
    origin = book.of(player)[0][0].origin
    known = {name: value for name, value in origin.items() if name not in ("sample", "row")}
    return {"kind": player.kind, "style": how.style, "max_new_tokens": how.max_new_tokens, **known}


def share_of(row: Row) -> float | None:
    """The preference for the model's answer: the judge's probability, or 1, ½ or 0."""
    return row.get("probability", row["share"])


def counts_of(rows: Sequence[Row]) -> dict[str, int]:
    """Wins, ties, losses, missing verdicts and truncated answers."""
    shares = [share for share in map(share_of, rows) if share is not None]
    return {
        "wins": sum(s > 0.5 for s in shares), "ties": sum(s == 0.5 for s in shares),
        "losses": sum(s < 0.5 for s in shares), "missing": len(rows) - len(shares),
        "truncated": sum(row["cut"] for row in rows), "baseline_truncated": sum(row["other_cut"] for row in rows),
    }  # fmt: skip


def lengths_of(rows: Sequence[Row], side: str) -> list[int]:
    """The characters of each answer: `own`, or `other` for the baseline's."""
    return [len(transcript_of(unshown(row[side]))) for row in rows]


def subsets_of(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """The win rate of each subset; none if there is only one."""
    names = list(dict.fromkeys(row["subset"] for row in rows))
    found: dict[str, dict[str, Any]] = {}
    for name in names if len(names) > 1 else ():
        own = [row for row in rows if row["subset"] == name]
        measure = MeanScore([share_of(row) for row in own], [row["index"] for row in own])
        if any(score is not None for score in measure.scores):
            found[name] = {"win_rate": measure.estimate().as_dict()}
    return found


def split_lines(measured: Mapping[str, Line], how: BenchmarkSettings) -> tuple[dict[str, Line], dict[str, Any]]:
    """The lines of players, and the figures of the judge. Raises DataError if a player has no verdict."""
    lines = dict(measured)
    check = check_figures(lines.pop(CHECK_LINE, None), how, how.judges) | spend_figures(lines.pop(SPEND_LINE, None))
    for name, line in lines.items():
        if all(row["share"] is None for row in line.rows):
            remedy = "label some of OUT/comparisons.jsonl first, or check the judge's server"
            raise DataError("has no verdict", where=name, remedy=remedy)
    first = next(iter(lines.values())).about
    missing = sum(row["share"] is None for line in lines.values() for row in line.rows)
    if missing:
        how.progress.warn(f"{counted(missing, 'contest')} without a verdict are left out of n")
    return lines, {"judge": dict(first["judge"]), "against": first["against"], **check}


def written(benchmark: str, found: Evaluation, about: Mapping[str, Any], how: BenchmarkSettings) -> Evaluation:
    """The evaluation with the name of its benchmark, its judge and settings."""
    settings = {"samples": how.samples, "seed": how.seed, "max_new_tokens": how.max_new_tokens, "rubric": how.rubric}
    return Evaluation({"benchmark": benchmark, **about, **settings, "note": NOTE, **found.figures}, found.rows)


def _labeled(drawn: Drawn, rows: Sequence[Row], items: Sequence[BenchmarkItem]) -> list[Row]:
    """Rows with the index and the subset of their items."""
    known = {item.record.source.row: item for item in items}
    places = [known[row["source"][1]] for row in rows]
    return [
        {"model": drawn.player.name, "name": f"{row['source'][0]}:{row['source'][1]}", **row, "index": item.index,
         "subset": item.subset}
        for row, item in zip(rows, places, strict=True)
    ]  # fmt: skip
