"""Where the analyses draw their lines: counts, ties, thresholds and the sentences beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from twofold.analysis.causes import Patterns, likeness, opening, shared
from twofold.analysis.credit import Credited, CreditedRow, Parting, ledger, parting, partings
from twofold.analysis.displacement import CAUSES, Cause, Change, Displacement, displacement, split
from twofold.batch import Branch, Group, Role
from twofold.statistics import Estimate, mean_interval


@pytest.mark.parametrize(
    ("chosen", "rejected", "num"),
    [([], [], 0), ([], [1], 0), ([1], [2], 0), ([1, 2], [1, 3], 1), ([1, 2], [1, 2, 3], 2), ([1, 2, 3], [1, 2], 2),
     ([1, 2], [1, 2], 2), ([1, 5, 2], [1, 6, 2], 1)],
)  # fmt: skip
def test_how_many_tokens_both_begin_with(chosen: list[int], rejected: list[int], num: int) -> None:
    assert opening(chosen, rejected) == num


@pytest.mark.parametrize(
    ("chosen", "rejected", "mask"),
    [([1, 2, 1], [3, 1], [0, 0, 1]), ([1, 2], [2, 1], [1, 0]), ([1, 2, 3], [3, 2, 1], [1, 0, 0]),
     ([9, 1, 8, 2], [1, 7, 2], [0, 1, 0, 1])],
)  # fmt: skip
def test_of_several_common_subsequences_the_one_that_ends_last(
    chosen: list[int], rejected: list[int], mask: list[int]
) -> None:
    assert shared(chosen, rejected).tolist() == [bool(m) for m in mask]
    assert likeness(chosen, rejected) == 2 * sum(mask) / (len(chosen) + len(rejected))


def test_patterns_are_runs_of_up_to_three_tokens_counted_once_a_pair() -> None:
    """The second pair says 2 on both sides; what stands twice counts once."""
    known = Patterns([([1, 1, 2, 3], [4]), ([2], [2, 5])])
    assert known.won == dict.fromkeys([(1,), (2,), (3,), (1, 1), (1, 2), (2, 3), (1, 1, 2), (1, 2, 3)], 1)
    assert known.lost == {(4,): 1, (5,): 1, (2, 5): 1}


def test_a_token_is_under_the_pattern_that_leads_most_and_the_shorter_of_equals() -> None:
    """5 6 7 is rejected 9 times; its 6 alone 3 more times, so that it leads there; 5 6 7 leads nowhere."""
    mine = ([1, 5, 6, 7, 8], [2])
    known = Patterns([mine, *[([3], [5, 6, 7])] * 9, *[([3], [6])] * 3])
    assert known.contested(*mine) == [None, (5,), (6,), (7,), None]
    assert Patterns([mine, *[([3], [5, 6, 7])] * 9, *[([5], [3])] * 2]).contested(*mine) == [
        None, (5, 6), (6,), (7,), None,
    ]  # fmt: skip


def test_only_whole_patterns_of_three_count() -> None:
    """Each part is chosen as often as it is rejected, the run of three never: it alone leads; runs of four are none."""
    mine = ([5, 6, 7, 8], [2])
    parts = [([5, 6], [3]), ([6, 7, 8], [3])] * 9
    assert Patterns([mine, *[([3], [5, 6, 7, 8])] * 9, *parts]).contested(*mine) == [(5, 6, 7)] * 3 + [None]


def test_a_pattern_counts_as_rejected_by_others_only() -> None:
    """In 8 pairs of 9 a coin's chance is 10/512, in 8 of 8 1/256: its own pair is no toss."""
    mine = ([5], [2])
    assert Patterns([mine, *[([3], [5])] * 8]).contested(*mine) == [(5,)]
    assert Patterns([mine, ([5], [2]), *[([3], [5])] * 8]).contested(*mine) == [None]


def credited(role: Role, tokens: list[int], credit: list[float], rank: int = 0) -> Credited:
    return Credited(role, rank, tuple(tokens), np.zeros(len(tokens)), np.array(credit))


def row(name: str, *completions: Credited) -> CreditedRow:
    return CreditedRow(name, (0,), completions)


def test_which_rows_have_ends() -> None:
    ranks = [credited(Role.RANKED, [i], [0.0], i) for i in range(3)]
    chosen, rejected = credited(Role.CHOSEN, [1], [0.0]), credited(Role.REJECTED, [2], [0.0])
    assert row("a", chosen, rejected).ends == (chosen, rejected)
    assert row("a", *ranks).ends == (ranks[0], ranks[2])
    for other in ([rejected, chosen], [chosen], ranks[:1], [ranks[0], chosen], [chosen, rejected, ranks[0]]):
        assert row("a", *other).ends is None
    assert [c.label for c in (chosen, ranks[2], credited(Role.TRUTH, [1], [0.0]))] == ["chosen", "rank 3", "truth"]


def test_the_ledger_lists_ten_single_tokens_that_stand_in_ten_rows_by_default() -> None:
    """Tokens 1 to 11 earn 1 to 11 in each of ten rows, 20 in nine of them."""
    tokens = [[*range(1, 12), *([20] if i else [])] for i in range(10)]
    rows = [row(str(i), credited(Role.CHOSEN, t, list(map(float, t)))) for i, t in enumerate(tokens)]
    found = ledger(rows, lambda gram: "+".join(map(str, gram)))
    assert found.counted == 11
    assert [p.tokens for p in found.credited] == [(n,) for n in range(11, 1, -1)]
    assert [p.text for p in found.credited] == [str(n) for n in range(11, 1, -1)]
    assert found.blamed == ()


def test_one_row_is_no_interval() -> None:
    rows = [row("a", credited(Role.CHOSEN, [1, 2], [1.0, 1.0])), row("b", credited(Role.CHOSEN, [2], [1.0]))]
    assert [p.tokens for p in ledger(rows, str, fewest=1).credited] == [(2,)]


@pytest.mark.parametrize(("least", "listed"), [(0.0, True), (0.99, True), (1.0, False)])
def test_what_is_listed_surely_earns_more_than_the_least(least: float, listed: bool) -> None:
    rows = [row(str(i), credited(Role.CHOSEN, [1, 2], [1.0, -1.0])) for i in range(4)]
    found = ledger(rows, str, fewest=4, least=least)
    assert ([p.tokens for p in found.credited], [p.tokens for p in found.blamed]) == (
        ([(1,)], [(2,)]) if listed else ([], [])
    )


def test_equals_stand_in_the_order_of_their_tokens_and_zero_is_nothing() -> None:
    rows = [row(str(i), credited(Role.CHOSEN, [3, 1, 2, 6, 5, 4], [1.0, 1.0, 0.0, -1.0, -1.0, 0.0])) for i in range(4)]
    found = ledger(rows, str, fewest=4)
    assert [p.tokens for p in found.credited] == [(1,), (3,)]
    assert [p.tokens for p in found.blamed] == [(5,), (6,)]


def test_a_parting_in_full() -> None:
    found = parting(
        row("a", credited(Role.CHOSEN, [1, 2, 3], [0.5, 1.0, 2.0]), credited(Role.REJECTED, [1, 4], [0.5, -1.0]))
    )
    assert found == Parting("a", 4.0, {"opening": 0.0, "first": 2.0, "middle": 2.0, "ending": 0.0}, 1, 0, (3, 2))


def test_partings_are_means_with_intervals() -> None:
    def of(opening: int, first: float) -> Parting:
        parts = {"opening": 0.0, "first": first, "middle": 1.0, "ending": 0.0}
        return Parting("a", first + 1.0, parts, opening, 0, (4, 4))

    found = partings([of(0, 1.0), of(2, 3.0)])
    assert found.margin == mean_interval([2.0, 4.0])
    assert found.parts["first"] == mean_interval([1.0, 3.0])
    assert found.opening == mean_interval([0, 2])
    assert found.tokens == {"opening": 0.25, "first": 0.25, "middle": 0.5, "ending": 0.0}
    assert found.as_dict() == {
        "margin": found.margin.as_dict(), "opening": found.opening.as_dict(),
        "parts": {n: {"credit": e.as_dict(), "tokens": found.tokens[n]} for n, e in found.parts.items()},
    }  # fmt: skip


def change(chosen: float, lost: tuple[float, float, float, float], likeness: float = 0.0, tokens: int = 10) -> Change:
    return Change("a", chosen, 0.0, dict(zip((*CAUSES, "elsewhere"), lost, strict=True)), likeness, tokens)


@pytest.mark.parametrize(
    ("told", "likely"),
    [
        (change(-0.009, (1, 0, 0, 0)), ""),
        (change(-0.011, (1, 0, 0, 0)), "pattern"),
        (change(-1.0, (1, 0, 0, 0), likeness=0.8), "near-equal"),
        (change(-1.0, (1, 0, 0, 0), likeness=0.79), "pattern"),
        (change(-1.0, (0.5, 0.5, 0, 0)), "pattern"),
        (change(-1.0, (0, 0.5, 0.3, 0.2)), "shared"),
        (change(-1.0, (0.2, 0, 0.5, 0.3)), "opening"),
        (change(-1.0, (0.49, 0.2, 0.2, 0.11)), "elsewhere"),
        (change(-1.0, (0, 0, 0.4, 0.6), tokens=20), "elsewhere"),  # 0.05 nats a token
        (change(-1.0, (0, 0, 0.4, 0.6), tokens=21), "length"),
    ],
)
def test_the_likely_cause_of_one_pair_at_its_bounds(told: Change, likely: str) -> None:
    assert told.likely == likely


def estimate(value: float, low: float | None = None, high: float | None = None) -> Estimate:
    return Estimate(value, value if low is None else low, value if high is None else high, 12, None, "by hand")


def answer(
    chosen: float, causes: dict[str, tuple[float, float, float]], pairs: tuple[Change, ...] = ()
) -> Displacement:
    """`causes`: share of the nats with the lower end of its interval, and share of the tokens."""
    known = {n: Cause(estimate(v, low, 0.9), t) for n, (v, low, t) in causes.items()}
    some = estimate(0.0)
    return Displacement(estimate(chosen), some, some, known, {}, some, some, (), pairs)


REST = {"pattern": (0.1, 0.0, 0.1), "shared": (0.1, 0.0, 0.1), "opening": (0.1, 0.0, 0.1), "elsewhere": (0.1, 0.0, 0.1)}
FELL = "chosen fell 2.3 nats in the mean of 12 pairs; "


@pytest.mark.parametrize(
    ("causes", "cause", "verdict", "remedy"),
    [
        ({"pattern": (0.7, 0.5, 0.4)}, "pattern",
         "70% (50% to 90%) of what it lost is on patterns that are chosen here and rejected in other pairs; they are "
         "40% of its tokens",
         "read the pairs that hold these patterns, whose labels may contradict each other; where they are noise, "
         "objective.label_smoothing or robust_dpo"),
        ({"shared": (0.7, 0.5, 0.4)}, "shared",
         "70% (50% to 90%) of what it lost is on tokens that are also in rejected: pushed down with it; they are 40% "
         "of its tokens",
         "hold chosen up with objective.nll=1 under dpo, or with dpop, nca or cal_dpo; leave out the pairs that are "
         "most alike"),
        ({"opening": (0.7, 0.5, 0.4)}, "opening",
         "70% (50% to 90%) of what it lost is on the first 5 tokens: the policy has come to open its answers in "
         "another way; they are 40% of its tokens",
         "fit the policy to chosen first (objective.kind=sft), or prefer among answers of its own"),
        ({"pattern": (0.7, 0.4, 0.4)}, "", None, None),  # no more than its share of the tokens
        ({"shared": (0.7, 0.4, 0.5)}, "shared", None, None),  # but half of all tokens
        ({"opening": (0.7, 0.4, 0.5)}, "", None, None),  # which says nothing of a short answer
        ({"elsewhere": (0.7, 0.6, 0.1)}, "", None, None),
    ],
)  # fmt: skip
def test_what_is_named_and_what_to_do(
    causes: dict[str, Any], cause: str, verdict: str | None, remedy: str | None
) -> None:
    found = answer(-2.34, {**REST, **causes})
    assert found.cause == cause
    if verdict is not None:
        assert (found.verdict, found.remedy) == (FELL + verdict, remedy)
    elif not cause:
        assert found.verdict == FELL + "what it lost is on no one kind of token"
        assert found.remedy == (
            "train less or with a lower learning rate, or hold chosen up with objective.nll=1 under dpo"
        )


@pytest.mark.parametrize(("chosen", "told"), [(0.0, "+0.00"), (1.5, "+1.50")])
def test_without_a_fall_nothing_is_named(chosen: float, told: str) -> None:
    found = answer(chosen, {**REST, "pattern": (0.7, 0.5, 0.4)})
    assert (found.cause, found.remedy) == ("", "")
    assert found.verdict == f"chosen has not fallen: {told} nats in the mean"


def group(name: str, chosen: list[int], rejected: list[int]) -> Group:
    branches = (Branch(torch.tensor(rejected), Role.REJECTED), Branch(torch.tensor(chosen), Role.CHOSEN))
    return Group(name, torch.tensor([0]), branches)


def test_results_hold_the_pairs_that_fell_most() -> None:
    """Twelve pairs that fell by 0 to 11 nats: ten are named, the worst first; likely causes by how often they are."""
    groups = [group(f"row {i}", [100 + i, 200 + i], [300 + i]) for i in range(12)]
    changes = [(np.array([-float(i), 0.0]), np.array([0.5])) for i in range(12)]
    told = split(groups, changes).as_dict()
    assert [p["name"] for p in told["worst"]] == [f"row {i}" for i in range(11, 1, -1)]
    assert told["worst"][0] == {
        "name": "row 11", "chosen": -11.0, "rejected": 0.5, "likeness": 0.0, "tokens": 2, "likely": "opening",
        "lost": {"pattern": 0.0, "shared": 0.0, "opening": 11.0, "elsewhere": 0.0},
    }  # fmt: skip
    assert told["likely"] == {"opening": 11}
    assert told["fell"]["count"] == 11
    assert told["chosen"]["value"] == pytest.approx(-5.5)
    assert told["rejected"]["value"] == 0.5
    assert told["patterns"] == []
    assert set(told) == {
        "verdict", "cause", "remedy", "chosen", "rejected", "fell", "alike", "unlike", "causes", "positions",
        "patterns", "likely", "worst",
    }  # fmt: skip


def test_the_five_patterns_that_lost_most_in_words() -> None:
    """Six tokens that others reject lose 1 to 6 nats; a token that gains loses nothing."""
    mine = group("mine", [11, 12, 13, 14, 15, 16], [9])
    others = [group(f"other {i}", [8], [token, 99]) for i in range(8) for token in range(11, 17)]
    found = split(
        [mine], [(-np.arange(1.0, 7.0), np.zeros(1))], others=[*others, mine], text=lambda t: f"<{t.tolist()}>"
    )
    assert [(p.tokens, p.text, p.nats, p.chosen, p.rejected) for p in found.patterns] == [
        ((10 + n,), f"<[{10 + n}]>", float(n), 1, 8) for n in (6, 5, 4, 3, 2)
    ]
    told = found.as_dict()["patterns"][0]
    assert told == {"text": "<[16]>", "nats": 6.0, "chosen": 1, "rejected": 8}
    assert split([mine], [(-np.arange(1.0, 7.0), np.zeros(1))], others=others).patterns[0].text == "(16,)"


def test_pairs_their_changes_and_their_tokens_belong_together() -> None:
    one, two = group("a", [1, 2], [3]), group("b", [1], [3])
    changes = (np.zeros(2), np.zeros(1))
    for groups, told in (([one, two], [changes]), ([one], [changes, changes]), ([two], [(np.zeros(2), np.zeros(1))])):
        with pytest.raises(ValueError):
            split(groups, told)


def test_the_halves_that_are_more_and_less_alike() -> None:
    """Likeness 2/3, ½, 0: the odd pair counts as unlike."""
    groups = [group("a", [1, 2, 3], [4, 5, 6]), group("b", [1, 2, 3], [1, 2, 6]), group("c", [1, 2], [1, 3])]
    found = split(
        groups, [(np.full(3, -1.0), np.zeros(3)), (np.full(3, -2.0), np.zeros(3)), (np.full(2, -4.0), np.zeros(2))]
    )
    assert [p.likeness for p in found.pairs] == [0.0, 2 / 3, 0.5]
    assert (found.alike.value, found.alike.n) == (-6.0, 1)
    assert found.unlike == mean_interval([-8.0, -3.0])


@pytest.mark.parametrize(("pairs", "long", "positions"), [(5, 5, 2), (6, 4, 1), (60, 6, 2), (60, 5, 1), (66, 6, 1)])
def test_a_position_needs_five_pairs_and_a_tenth_of_them(pairs: int, long: int, positions: int) -> None:
    groups = [group(str(i), [1, 2] if i < long else [1], [3]) for i in range(pairs)]
    changes = [(np.full(2 if i < long else 1, -1.0), np.zeros(1)) for i in range(pairs)]
    assert len(split(groups, changes).positions["chosen"]) == positions


def test_positions_end_at_128() -> None:
    groups = [group(str(i), list(range(130)), [3]) for i in range(5)]
    found = split(groups, [(np.arange(130.0), np.zeros(1))] * 5)
    assert [e.value for e in found.positions["chosen"]] == list(map(float, range(128)))


def test_what_cannot_be_displaced_is_refused_in_words() -> None:
    with pytest.raises(ValueError) as error:
        displacement(None, [])  # type: ignore[arg-type]  # nothing is asked of it
    assert str(error.value) == "displacement needs pairs, and a reference or its log-probabilities on each of them"
    lone = Group("lone", torch.tensor([0]), (Branch(torch.tensor([1]), Role.CHOSEN),))
    with pytest.raises(ValueError) as error:
        split([lone], [(np.zeros(1), np.zeros(1))])
    assert str(error.value) == "lone is neither a pair nor a ranking"
