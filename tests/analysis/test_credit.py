"""Token rewards telescope to DPO's implicit reward and are advantages; what phrases earn, and where pairs part."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from support import tiny
from support.golden import expected, given
from twofold.analysis.credit import (
    PARTS,
    Credited,
    CreditedRow,
    Planted,
    ledger,
    parting,
    partings,
    token_rewards,
)
from twofold.analysis.explanation import explain, pieces
from twofold.batch import Branch, Group, Role
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import with_reference
from twofold.objectives import DPO


def said(role: Role, tokens: list[int], credit: list[float], rank: int = 0) -> Credited:
    return Credited(role, rank, tuple(tokens), np.zeros(len(tokens)), np.array(credit))


def pair(name: str, chosen: tuple[list[int], list[float]], rejected: tuple[list[int], list[float]]) -> CreditedRow:
    return CreditedRow(name, (0,), (said(Role.CHOSEN, *chosen), said(Role.REJECTED, *rejected, 1)))


@pytest.mark.parametrize(("beta", "exact"), [(0.5, True), (0.1, False)])
def test_token_rewards_sum_to_the_reward_that_dpo_compares(beta: float, exact: bool) -> None:
    """Through the same forward: to the last bit where β is a power of two, which may be multiplied first or last."""
    policy, reference, groups = tiny.policy(0), tiny.policy(1), tiny.pairs(6)
    rows = token_rewards(policy, groups, beta=beta, reference=reference)
    known = with_reference(groups, reference.logps(groups, Packing()))
    assert [c.credit.tolist() for r in token_rewards(policy, known, beta=beta) for c in r.completions] == [
        c.credit.tolist() for r in rows for c in r.completions
    ]
    loss = DPO(beta=beta)(*policy(known))
    for side, index in (("chosen", 0), ("rejected", 1)):
        want = loss.metrics[f"{side}_reward"].value.tolist()
        found = [row.completions[index].reward for row in rows]
        assert found == (want if exact else pytest.approx(want, rel=1e-12, abs=1e-14))
    margins = [p.margin for row in rows if (p := parting(row))]
    assert margins == pytest.approx(loss.metrics["margin"].value.tolist(), rel=1e-12)


def test_rewards_need_a_reference() -> None:
    with pytest.raises(ValueError, match="need a reference"):
        token_rewards(tiny.policy(), tiny.pairs(1), beta=0.1)


def test_golden_two_token_mdp() -> None:
    """arXiv:2404.12358, equations 5, 6, 7 and 10, from the other end. Over whole sequences the optimum is
    π*(y) = π_ref(y)·exp(r(y)/β)/Z, with V(s₀) = β·log Z. Of two models that are these tables, the token rewards must be
    the advantages V(s′) − V(s) and r − V(s), and their sums r − V(s₀). States: 0 and 1 after the first token, 3 before.
    """
    case, want = given("rtoq.two_token_mdp"), expected("rtoq.two_token_mdp")
    beta, reward = case["beta"], case["terminal_reward"]
    ref = {a + b: case["ref_first"][int(a)] * case["ref_second"][a][int(b)] for a in "01" for b in "01"}
    weight = {y: p * math.exp(reward[y] / beta) for y, p in ref.items()}
    first = [weight[a + "0"] + weight[a + "1"] for a in "01"]
    value = beta * math.log(sum(first))
    tables = {
        "policy": ([w / sum(first) for w in first], {a: [weight[a + b] / first[int(a)] for b in "01"] for a in "01"}),
        "reference": (case["ref_first"], case["ref_second"]),
    }
    models = {}
    for name, (begin, then) in tables.items():
        table = torch.full((4, 4), -1e4, dtype=torch.float64)
        table[2, 2] = 0
        for state, probabilities in ((3, begin), (0, then["0"]), (1, then["1"])):
            table[state, :2] = torch.tensor(probabilities, dtype=torch.float64).log()
        models[name] = Policy(tiny.chain(table))
    branches = tuple(Branch(torch.tensor([int(a), int(b)]), Role.DRAFT) for a in "01" for b in "01")
    (row,) = token_rewards(
        models["policy"], [Group("mdp", torch.tensor([3]), branches)], beta=beta, reference=models["reference"]
    )
    found = {"".join(map(str, c.tokens)): c for c in row.completions}
    assert value == pytest.approx(want["V_s0"], rel=1e-9)
    for y, c in found.items():
        a, b = int(y[0]), int(y[1])
        assert c.credit[0] == pytest.approx(want["token_advantage_first"][a], rel=1e-9)
        assert c.credit[1] == pytest.approx(want["token_advantage_second"][y[0]][b], rel=1e-9)
        assert c.reward == pytest.approx(want["implicit_return"][y], rel=1e-9)
        assert c.reward == pytest.approx(reward[y] - value, rel=1e-9)
        assert value + c.credit[0] == pytest.approx(want["V_after"][y[0]], rel=1e-9)
        assert value + beta * c.logp[0] == pytest.approx(want["Q_s0"][a], rel=1e-9)
        assert math.exp(c.logp[0]) == pytest.approx(want["pi_first"][a], rel=1e-9)
        assert math.exp(c.logp[1]) == pytest.approx(want["pi_second"][y[0]][b], rel=1e-9)


def test_what_a_phrase_earns() -> None:
    """7 earns 2 and 4 in the first row (6 on 2), 1 in the second: 7 on 3. Around the mean 7/3 the rows stand at 4/3 and
    −4/3; (16/9 + 16/9)·2 is their spread, over 3 occurrences t(0.975, 1 df) = 12.706 of its root."""
    rows = [
        pair("a", ([7, 5, 7], [2.0, -1.0, 4.0]), ([5], [-3.0])),
        pair("b", ([5], [-2.0]), ([7, 5], [1.0, -2.0])),
    ]
    found = ledger(rows, str, fewest=2)
    (blamed,) = ledger(rows, str, fewest=2, top=1).blamed
    assert blamed.tokens == (5,)
    assert (blamed.credit.n, blamed.better, blamed.worse, blamed.rows) == (4, 2, 2, 2)
    assert blamed.credit.value == pytest.approx(-2.0)
    assert (blamed.credit.low, blamed.credit.high) == (-2.0, -2.0)
    assert found.counted == 2
    assert found.credited == ()  # the interval of 7 holds 0
    (seven,) = ledger([*rows * 20], str, fewest=2).credited
    assert seven.credit.value == pytest.approx(7 / 3)
    assert seven.credit.low == pytest.approx(7 / 3 - 2.022690920 * math.sqrt(40 * 16 / 9 * 40 / 39) / 60, rel=1e-6)
    assert ledger(rows, str, fewest=3).counted == 0
    assert ledger(rows * 20, str, fewest=2, least=3.0).blamed == ()


def test_phrases_are_in_the_order_of_what_they_surely_earn() -> None:
    """Over 40 rows 1 earns 2 or 8, 2 always 3, 3 always 1. Six more rows in which 1 earns −30 or 44 raise its mean, and
    lower what it surely earns below 3: the surest leads, not the largest mean. What costs is in the same order."""
    sides = [([2.0, 8.0][i % 2], 3.0, 1.0) for i in range(40)]
    rows = [pair(str(i), ([1, 2, 3], list(s)), ([4, 5, 6], [-x for x in s])) for i, s in enumerate(sides)]
    wild = [pair(str(i), ([1], [s]), ([4], [-s])) for i, s in enumerate([-30.0, 44.0] * 3)]

    def order(rows: list[CreditedRow], **how: int) -> list[list[tuple[int, ...]]]:
        found = ledger(rows, str, fewest=2, **how)
        return [[p.tokens for p in side] for side in (found.credited, found.blamed)]

    assert order(rows) == [[(1,), (2,), (3,)], [(4,), (5,), (6,)]]
    assert order([*rows, *wild]) == [[(2,), (1,), (3,)], [(5,), (4,), (6,)]]
    assert order([*rows, *wild], top=1) == [[(2,)], [(5,)]]


def test_every_occurrence_counts_on_its_side() -> None:
    """Once for each place that it stands in; chosen, desirable, demonstrations and truths are what is better."""
    better = [Role.CHOSEN, Role.DESIRABLE, Role.DEMONSTRATION, Role.TRUTH]
    worse = [Role.REJECTED, Role.UNDESIRABLE]
    sides = [said(role, [7, 5, 7], [-1.0, 0.0, -1.0]) for role in better]
    sides += [said(role, [7], [-1.0]) for role in worse] + [
        said(Role.RANKED, [7], [-1.0]),
        said(Role.DRAFT, [7], [-1.0]),
    ]
    found = ledger([CreditedRow(str(i), (0,), tuple(sides)) for i in range(3)], str, fewest=3)
    (seven,) = found.blamed
    assert (seven.tokens, seven.better, seven.worse, seven.rows, seven.credit.n) == ((7,), 3 * 8, 3 * 2, 3, 3 * 12)
    assert seven.credit.value == -1.0


def test_a_phrase_is_told_once() -> None:
    """1 2 3 9 always stand together: of all they hold the surest is told, and nothing within, around or behind it."""
    rows = [pair(str(i), ([1, 2, 3, 9], [1.0, 2.0, 3.0, 0.0]), ([4, 5], [-1.0 - i % 2, -1.0])) for i in range(12)]
    found = ledger(rows, str, lengths=range(2, 4), fewest=10)
    assert [p.tokens for p in found.credited] == [(1, 2, 3)]
    assert found.credited[0].credit.value == 6.0
    assert [p.tokens for p in found.blamed] == [(4, 5)]
    assert found.counted == 6


def test_a_phrase_that_also_stands_alone_is_told_beside_the_one_it_goes_on_from() -> None:
    """2 3 follows on 1 2, but stands in twelve more rows without it: it is a phrase of its own."""
    sides = [[1, 2, 3], [2, 3]] * 12
    rows = [pair(str(i), (s, [float(t) for t in s]), ([9, 9], [0.0, 0.0])) for i, s in enumerate(sides)]
    found = ledger(rows, str, lengths=range(2, 3), fewest=10)
    assert [(p.tokens, p.credit.value, p.credit.n) for p in found.credited] == [((2, 3), 5.0, 24), ((1, 2), 3.0, 12)]


def test_the_margin_by_parts() -> None:
    """1 2 open both; 3 and 6 differ first; 9 ends both."""
    row = pair("a", ([1, 2, 3, 4, 9], [0.5, 0.25, 1.0, 2.0, 4.0]), ([1, 2, 6, 9], [0.5, 0.25, -1.0, 3.0]))
    found = parting(row)
    assert found is not None
    assert (found.opening, found.ending) == (2, 1)
    assert found.parts == {"opening": 0.0, "first": 2.0, "middle": 2.0, "ending": 1.0}
    assert found.margin == 5.0
    told = partings([found, found])
    assert {name: e.value for name, e in told.parts.items()} == found.parts
    assert told.tokens == pytest.approx({"opening": 4 / 9, "first": 2 / 9, "middle": 1 / 9, "ending": 2 / 9})


def test_an_answer_that_the_other_goes_on_from_has_no_first_token_of_its_own() -> None:
    """1 2 against 1 2 3 4: both begin with 1 2, and only one side has a token that differs first."""
    found = parting(pair("a", ([1, 2], [0.5, 0.25]), ([1, 2, 3, 4], [0.5, 0.25, 2.0, 1.0])))
    assert found is not None
    assert found.parts == {"opening": 0.0, "first": -2.0, "middle": -1.0, "ending": 0.0}
    told = partings([found])
    assert told.tokens == pytest.approx({"opening": 4 / 6, "first": 1 / 6, "middle": 1 / 6, "ending": 0.0})
    same = parting(pair("b", ([1, 2], [0.5, 0.25]), ([1, 2], [0.5, 0.25])))
    assert same is not None
    assert partings([same]).tokens == {"opening": 1.0, "first": 0.0, "middle": 0.0, "ending": 0.0}


@pytest.mark.parametrize("seed", range(5))
def test_parts_always_add_up(seed: int) -> None:
    noise = np.random.default_rng(seed)
    for _ in range(50):
        sides = [noise.integers(0, 3, size=noise.integers(1, 7)).tolist() for _ in range(2)]
        row = pair("a", *((s, noise.normal(size=len(s)).tolist()) for s in sides))
        found = parting(row)
        assert found is not None
        assert sum(found.parts.values()) == pytest.approx(found.margin, abs=1e-12)
        assert sum(partings([found]).tokens.values()) == pytest.approx(1.0)
        assert set(found.parts) == set(PARTS)


def test_a_ranking_parts_at_its_ends_and_answers_part_nowhere() -> None:
    ranks = [said(Role.RANKED, [i, 9], [1.0 - i, 0.5], i) for i in range(3)]
    found = parting(CreditedRow("r", (0,), tuple(ranks)))
    assert found is not None
    assert found.margin == 2.0
    assert [c.label for c in ranks] == ["rank 1", "rank 2", "rank 3"]
    assert parting(CreditedRow("d", (0,), (said(Role.DEMONSTRATION, [1], [1.0]),))) is None


def test_the_rank_of_a_planted_token() -> None:
    values = np.array([0.0, -1.0, 2.0, -1.0, 3.0])
    assert (Planted(values, 1).rank, Planted(values, 1).auc) == (1.5, 3.5 / 4)
    assert (Planted(values, 4).rank, Planted(values, 4).auc) == (5.0, 0.0)
    assert (Planted(values, 0).rank, Planted(values, 0).auc) == (3.0, 0.5)


def test_pieces_join_to_what_is_said_and_characters_stay_whole() -> None:
    """Tokens are bytes here: é is two of them, and the second shows it."""

    def decode(ids: object) -> str:
        return bytes(ids).decode(errors="replace")  # type: ignore[call-overload]  # a sequence of small integers

    assert pieces(list(b"ask"), list("aé\n!".encode()), decode) == ["a", "", "é", "\n", "!"]


def test_an_explanation_tells_what_its_parts_tell() -> None:
    policy, reference, groups = tiny.policy(0), tiny.policy(1), tiny.pairs(12)
    rows = token_rewards(policy, groups, beta=0.1, reference=reference)
    found = explain(rows, groups, lambda ids: " ".join(map(str, ids)), beta=0.1, fewest=3)
    told = found.as_dict(lambda ids: " ".join(map(str, ids)), shown=[2])
    assert told["n"] == 12
    margins = [row.completions[0].reward - row.completions[1].reward for row in rows]
    assert told["partings"]["margin"]["value"] == pytest.approx(float(np.mean(margins)))
    assert told["accuracy"]["count"] == sum(m > 0 for m in margins)
    (shown,) = told["rows"]
    assert [t["credit"] for t in shown["completions"][0]["tokens"]] == rows[2].completions[0].credit.tolist()
    assert shown["chosen_change"] == pytest.approx(rows[2].completions[0].reward / 0.1)
    assert told["displacement"]["chosen"]["value"] == pytest.approx(told["rewards"]["chosen"]["value"] / 0.1)
    with pytest.raises(ValueError, match="no rows"):
        explain([], [], str, beta=0.1)


def test_single_answers_are_credited_without_comparison() -> None:
    groups = tiny.groups((3, 4), (2, 5))
    rows = token_rewards(tiny.policy(0), groups, beta=0.1, reference=tiny.policy(1))
    found = explain(rows, groups, str, beta=0.1)
    assert (found.accuracy, found.partings, found.displacement) == (None, None, None)
    assert list(found.rewards) == ["demonstration"]
    truth = [replace(g, branches=(replace(g.branches[0], role=Role.TRUTH),)) for g in groups]
    assert token_rewards(tiny.policy(0), truth, beta=0.1, reference=tiny.policy(1))[0].completions[0].label == "truth"
