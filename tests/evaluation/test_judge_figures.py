"""A judge's figures where several pairs are of one prompt: each interval is over prompts, not over pairs."""

from __future__ import annotations

from typing import Any

import pytest

from twofold.evaluation.games import LABELS, Game, Shares, length_controlled, order_agreement
from twofold.evaluation.judge_figures import by_judge, calibration, panel, reliability
from twofold.statistics import (
    cohens_kappa,
    fleiss_kappa,
    krippendorffs_alpha,
    mean_by_cluster,
    mirrored_kappa,
    share_by_cluster,
)

SHARES = [1.0, 1.0, 0.0, 0.5, 1.0, 0.0, 1.0, 0.5]
PROMPTS = [0, 0, 1, 1, 2, 2, 3, 3]
FIXED, TURNED, FIRST = ("A", "B"), ("B", "A"), ("A", "A")


def games(**more: list[Any]) -> list[Game]:
    """Eight pairs of four prompts; the first answer is longer in every other pair."""
    found: list[Game] = []
    for item, (share, prompt) in enumerate(zip(SHARES, PROMPTS, strict=True)):
        own = {name: values[item] for name, values in more.items()}
        found.append(Game(item, prompt, share, 60 if item % 2 else 40, 50, **own))
    return found


def test_accuracy_and_kappa_are_over_prompts() -> None:
    found = reliability(games())
    assert found["accuracy"] == share_by_cluster([share == 1 for share in SHARES], PROMPTS).as_dict()
    assert found["accuracy"]["clusters"] == 4
    assert found["kappa"] == mirrored_kappa(SHARES, [1.0] * 8, clusters=PROMPTS).as_dict()
    assert found["kappa"] != mirrored_kappa(SHARES, [1.0] * 8).as_dict()
    assert found["ties"] == 2
    assert set(found) == {"accuracy", "kappa", "ties", "lengths"}


def test_flips_are_over_the_prompts_of_both_orders() -> None:
    orders = [FIXED, FIRST, TURNED, None, ("tie", "tie"), ("tie", "A"), None, FIRST]
    made = games(orders=orders)
    flips = [False, True, False, False, True, True]
    told = reliability(made)["orders"]
    assert told.pop("flips") == share_by_cluster(flips, [0, 0, 1, 2, 2, 3]).as_dict()
    agreement = order_agreement(made)
    assert agreement is not None
    assert told == agreement.as_dict()


def test_lengths_are_over_prompts_and_equal_ones_are_of_neither() -> None:
    made = [*games(), Game(8, 4, 1.0, 50, 50)]
    told = reliability(made)["lengths"]
    longer = [share == 1 for share in SHARES[1::2]]
    shorter = [share == 1 for share in SHARES[::2]]
    assert told["longer_right"] == share_by_cluster(longer, PROMPTS[1::2]).as_dict()
    assert told["shorter_right"] == share_by_cluster(shorter, PROMPTS[::2]).as_dict()
    fit = length_controlled(made).as_dict()
    assert {name: told[name] for name in ("slope", "slope_low", "slope_high")} == {
        name: fit.pop(name) for name in ("slope", "slope_low", "slope_high")
    }
    assert told["equal"] == fit


def test_calibration_is_over_prompts() -> None:
    p = [0.9, 0.8, 0.4, None, 0.7, 0.1, 0.95, 0.5]
    known = [(value, prompt) for value, prompt in zip(p, PROMPTS, strict=True) if value is not None]
    found = reliability(games(probability=p))["calibration"]
    assert found == calibration([value for value, _ in known], [prompt for _, prompt in known])
    assert found["brier"]["value"] == pytest.approx(sum((1 - value) ** 2 for value, _ in known) / 7)
    assert found["brier"]["clusters"] == 4


@pytest.mark.parametrize(
    ("probabilities", "bins", "error"),
    [
        ([1.0, 0.0], [(1.0, 0.5, 2)], 0.5), ([0.5], [(0.5, 0.5, 1)], 0.0), ([0.75, 0.75], [(0.75, 1.0, 2)], 0.25),
        ([0.51, 0.56], [(0.51, 1.0, 1), (0.56, 1.0, 1)], 0.465), ([0.96, 0.99], [(0.975, 1.0, 2)], 0.025),
        ([0.25, 0.75], [(0.75, 0.5, 2)], 0.25),
    ],
)  # fmt: skip
def test_confidence_is_in_ten_bins(
    probabilities: list[float], bins: list[tuple[float, float, int]], error: float
) -> None:
    found = calibration(probabilities)
    told = [value for each in found["bins"] for value in (each["confidence"], each["right"], each["n"])]
    assert told == pytest.approx([value for each in bins for value in each])
    assert found["ece"] == pytest.approx(error)


def test_self_preference_is_over_prompts_of_its_own_answers() -> None:
    own = [True, False, True, None, None, False, True, False]
    some = [(share, mine, prompt) for share, mine, prompt in zip(SHARES, own, PROMPTS, strict=True) if mine is not None]
    judge = [share if mine else 1 - share for share, mine, _ in some]
    prompts = [prompt for _, _, prompt in some]
    told = reliability(games(), own)["self_preference"]
    assert told == {
        "judge": mean_by_cluster(judge, prompts).as_dict(),
        "people": share_by_cluster([bool(mine) for _, mine, _ in some], prompts).as_dict(),
        "excess": mean_by_cluster([a - float(bool(b)) for a, (_, b, _) in zip(judge, some, strict=True)],
                                  prompts).as_dict(),
    }  # fmt: skip
    assert "self_preference" not in reliability(games(), [None] * 8)


VOTES = [(1.0, 1.0), (1.0, 0.0), (0.0, 0.0), (0.5, None), (1.0, 1.0), (0.0, 0.5), (1.0, 1.0), (0.0, 0.5)]


def test_a_panel_agrees_over_prompts() -> None:
    made = games(votes=VOTES)
    found = panel(["a", "b"], made)
    assert found is not None
    assert found["judges"] == ["a", "b"]
    assert found["fleiss_kappa"] == fleiss_kappa(VOTES, clusters=PROMPTS).as_dict() != fleiss_kappa(VOTES).as_dict()
    alpha = krippendorffs_alpha(VOTES, distance="interval", clusters=PROMPTS).as_dict()
    assert found["krippendorff_alpha"] == alpha
    assert alpha != krippendorffs_alpha(VOTES, clusters=PROMPTS).as_dict()
    both = [(x, y, p) for (x, y), p in zip(VOTES, PROMPTS, strict=True) if x is not None and y is not None]
    ours, theirs, prompts = [LABELS[x] for x, _, _ in both], [LABELS[y] for _, y, _ in both], [p for _, _, p in both]
    assert found["pairs"] == [{
        "a": "a", "b": "b", "kappa": cohens_kappa(ours, theirs, clusters=prompts).as_dict(),
        "same": share_by_cluster([x == y for x, y in zip(ours, theirs, strict=True)], prompts).as_dict(),
    }]  # fmt: skip


def test_rates_by_judge_are_over_prompts() -> None:
    made = games(votes=VOTES)
    found = by_judge(["a", "b"], made)
    assert [each.pop("judge") for each in found] == ["a", "b"]
    for place, told in enumerate(found):
        own = [Game(g.item, g.prompt, vote, g.length, g.other) for g in made if (vote := g.votes[place]) is not None]
        assert told == Shares(own).estimate().as_dict()
    assert panel(["a", "b"], games()) is None
    assert by_judge(["a", "b"], games()) == []
