"""How reliable a judge is, on pairs whose better answer people have chosen, and how far the judges of a panel agree.

A labeled pair is a game of its chosen answer against its rejected one, so a share of 1 is the right verdict.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import combinations
from operator import eq
from typing import Any

import numpy as np

from twofold.evaluation.games import LABELS, Game, Shares, length_controlled, order_agreement
from twofold.statistics import (
    cohens_kappa,
    fleiss_kappa,
    krippendorffs_alpha,
    mean_by_cluster,
    mirrored_kappa,
    share_by_cluster,
)

BINS = 10
"""Bins of confidence from ½ to 1."""


def reliability(games: Sequence[Game], own: Sequence[bool | None] = ()) -> dict[str, Any]:
    """The figures of a judge on labeled pairs, as in JSON.

    `accuracy` is the share of right verdicts, a tie is none; `kappa` is Cohen's over both directions of a pair.
    `orders` are the verdicts in both orders; `lengths` and `calibration` are described at their functions. `own` is
    whether the chosen answer is the judge's own (False: the rejected one, None: neither or both).
    """
    prompts = [game.prompt for game in games]
    shares = [game.share for game in games]
    found: dict[str, Any] = {
        "accuracy": share_by_cluster([share == 1 for share in shares], prompts).as_dict(),
        "kappa": mirrored_kappa(shares, [1.0] * len(games), clusters=prompts).as_dict(),
        "ties": shares.count(0.5),
    }
    if (orders := order_agreement(games)) is not None:
        flipped = [_flipped(game.orders) for game in games if game.orders is not None]
        of = [game.prompt for game in games if game.orders is not None]
        found["orders"] = {"flips": share_by_cluster(flipped, of).as_dict(), **orders.as_dict()}
    if games:
        found["lengths"] = _lengths(games)
    known = [game for game in games if game.probability is not None]
    if known:
        found["calibration"] = calibration(
            [g.probability for g in known if g.probability is not None], [g.prompt for g in known]
        )
    preference = _self_preference(games, own)
    return found if preference is None else {**found, "self_preference": preference}


def calibration(probabilities: Sequence[float], clusters: Sequence[Hashable] = ()) -> dict[str, Any]:
    """Of the probabilities that a judge gives to the right answers: the Brier score, mean (1 − p)², and the expected
    calibration error over ten bins of confidence, max(p, 1 − p) (Guo et al. 2017, arXiv:1706.04599).

    p = ½ is half right. ¼ is the Brier score of probabilities that are all ½.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    confidence, right = np.maximum(p, 1 - p), 0.5 + 0.5 * np.sign(p - 0.5)
    place = np.minimum((2 * BINS * (confidence - 0.5)).astype(int), BINS - 1)
    bins = [
        {"confidence": float(confidence[here].mean()), "right": float(right[here].mean()), "n": int(here.sum())}
        for here in (place == b for b in range(BINS))
        if here.any()
    ]
    error = sum(each["n"] * abs(each["right"] - each["confidence"]) for each in bins) / len(p)
    return {"brier": mean_by_cluster(((1 - p) ** 2).tolist(), clusters).as_dict(), "ece": error, "bins": bins}


def _flipped(orders: tuple[str, str]) -> bool:
    """Whether the verdict changes with the order of the answers."""
    return orders not in (("A", "B"), ("B", "A"), ("tie", "tie"))


def _lengths(games: Sequence[Game]) -> dict[str, Any]:
    """The accuracy where the longer answer is the right one, where the shorter one is, and their difference.

    `equal` is the share that the right answer gets at equal lengths, a tie ½, and `slope` the weight of the length in
    the log-odds of a verdict (`games.length_controlled`): 0 without a bias, above 0 for longer answers.
    """
    accuracy: dict[str, Any] = {}
    for name, sign in (("longer_right", 1), ("shorter_right", -1)):
        some = [g for g in games if (g.length > g.other) - (g.length < g.other) == sign]
        accuracy[name] = share_by_cluster([g.share == 1 for g in some], [g.prompt for g in some]).as_dict()
    equal = length_controlled(games).as_dict()
    slope = {name: equal.pop(name) for name in ("slope", "slope_low", "slope_high")}
    return {**accuracy, "equal": equal, **slope}


def _self_preference(games: Sequence[Game], own: Sequence[bool | None]) -> dict[str, Any] | None:
    """The judge's share for its own answers minus people's, over pairs in which exactly one answer is its own. None if
    there are none. Source: Panickssery et al. 2024, arXiv:2404.13076."""
    some = [(game, mine) for game, mine in zip(games, own, strict=False) if mine is not None]
    if not some:
        return None
    prompts = [game.prompt for game, _ in some]
    judge = [game.share if mine else 1 - game.share for game, mine in some]
    excess = [share - float(mine) for share, (_, mine) in zip(judge, some, strict=True)]
    return {
        "judge": mean_by_cluster(judge, prompts).as_dict(),
        "people": share_by_cluster([mine for _, mine in some], prompts).as_dict(),
        "excess": mean_by_cluster(excess, prompts).as_dict(),
    }


def panel(names: Sequence[str], games: Sequence[Game]) -> dict[str, Any] | None:
    """The agreement of a panel's judges on the games on which they have voted, as in JSON; None without a panel.

    Fleiss' κ is over the games with all votes; Krippendorff's α counts the squared difference of two shares. `pairs`
    have Cohen's κ of every two judges, and the share of equal verdicts.
    """
    voted = [game for game in games if game.votes]
    if len(names) < 2 or not voted:
        return None
    votes, prompts = [game.votes for game in voted], [game.prompt for game in voted]
    pairs: list[dict[str, Any]] = []
    for a, b in combinations(range(len(names)), 2):
        both = [(x, y, p) for x, y, p in ((v[a], v[b], p) for v, p in zip(votes, prompts, strict=True))
                if x is not None and y is not None]  # fmt: skip
        ours, theirs = [LABELS[x] for x, _, _ in both], [LABELS[y] for _, y, _ in both]
        of = [p for _, _, p in both]
        same = share_by_cluster([*map(eq, ours, theirs)], of)
        kappa = cohens_kappa(ours, theirs, clusters=of)
        pairs.append({"a": names[a], "b": names[b], "kappa": kappa.as_dict(), "same": same.as_dict()})
    return {
        "judges": list(names),
        "fleiss_kappa": fleiss_kappa(votes, clusters=prompts).as_dict(),
        "krippendorff_alpha": krippendorffs_alpha(votes, distance="interval", clusters=prompts).as_dict(),
        "pairs": pairs,
    }


def by_judge(names: Sequence[str], games: Sequence[Game]) -> list[dict[str, Any]]:
    """The win rate by each judge of a panel, on the games on which it has voted."""
    found: list[dict[str, Any]] = []
    for place, name in enumerate(names) if len(names) > 1 else ():
        own = [
            Game(g.item, g.prompt, vote, g.length, g.other)
            for g in games
            if g.votes and (vote := g.votes[place]) is not None
        ]
        if own:
            found.append({"judge": name, **Shares(own).estimate().as_dict()})
    return found
