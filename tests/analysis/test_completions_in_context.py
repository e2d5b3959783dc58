"""Completions with tokens between them that are not scored, rows with numbers, and what listings are made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from support import tiny
from twofold.analysis import explain_model, explanation
from twofold.analysis.causes import Patterns, likeness, opening, shared
from twofold.analysis.credit import Credited, CreditedRow, Parting, ledger, parting, partings, token_rewards
from twofold.analysis.displacement import split
from twofold.analysis.explanation import MOST_TOKENS, explain
from twofold.batch import Aside, Branch, Group, Role
from twofold.errors import DataError
from twofold.models.packing import Packing
from twofold.models.reference import with_reference
from twofold.records import Request, Source
from twofold.statistics import bootstrap_ratio, clustered_mean, clustered_share, mean_by_cluster, share_by_cluster


def text(ids: Sequence[int]) -> str:
    return "".join(chr(96 + i) for i in ids)


def credited(role: Role, tokens: Sequence[int], credit: Sequence[float], **more: Any) -> Credited:
    return Credited(role, 0, tuple(tokens), np.zeros(len(tokens)), np.array(credit), **more)


def shown(*between: tuple[int, tuple[int, ...]], tokens: Sequence[int] = (1, 2, 3, 4)) -> dict[str, Any]:
    said = credited(Role.DRAFT, tokens, [1.0] * len(tokens), between=between)
    rows = [CreditedRow("a", (7, 8), (said,))]
    (told,) = explain(rows, tiny.groups((2, 1)), text, beta=1.0).as_dict(text)["rows"]
    return told["completions"][0]


def test_tokens_in_between_are_context_before_a_token() -> None:
    found = shown((1, (5, 6)), (3, (9,)))
    assert found["context"] == [{"before": 1, "text": "ef"}, {"before": 3, "text": "i"}]
    assert [t["text"] for t in found["tokens"]] == ["a", "b", "c", "d"]
    assert "context" not in shown()
    assert shown((4, (5,)))["context"] == [{"before": 4, "text": "e"}]
    assert "context" not in shown((2, ()))


def test_context_beyond_the_bound_is_not_shown() -> None:
    """800 tokens are: what is before the 801st is not of them."""
    long = [1 + i % 3 for i in range(MOST_TOKENS + 4)]
    found = shown((MOST_TOKENS - 1, (5,)), (MOST_TOKENS, (6,)), (MOST_TOKENS + 2, (7,)), tokens=long)
    assert found["context"] == [{"before": MOST_TOKENS - 1, "text": "e"}]
    assert (found["length"], len(found["tokens"])) == (MOST_TOKENS + 4, MOST_TOKENS)
    assert [t["id"] for t in found["tokens"]] == long[:MOST_TOKENS]


def test_pieces_are_read_behind_what_is_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt first, then what is in between; an empty text in between leaves what was before."""
    calls = list[Any]()

    def pieces(before: Sequence[int], tokens: Sequence[int], decode: Any) -> list[str]:
        calls.append((tuple(before), tuple(tokens)))
        return [decode([t]) for t in tokens]

    monkeypatch.setattr(explanation, "pieces", pieces)
    found = shown((1, (5, 6)), (2, ()), (3, (9,)))
    assert calls == [((7, 8), (1,)), ((5, 6), (2,)), ((5, 6), (3,)), ((9,), (4,))]
    assert [t["text"] for t in found["tokens"]] == ["a", "b", "c", "d"]


def test_asides_of_a_branch_are_between_its_tokens() -> None:
    (group,) = tiny.groups((3, 4))
    asides = (Aside(1, torch.tensor([5, 6])), Aside(4, torch.tensor([7])))
    branch = replace(group.branches[0], asides=asides, token_columns={"ref_logp": torch.zeros(4, dtype=torch.float64)})
    (row,) = token_rewards(tiny.policy(), [replace(group, branches=(branch,))], beta=1.0)
    assert row.completions[0].between == ((1, (5, 6)), (4, (7,)))
    assert row.completions[0].tokens == tuple(branch.tokens.tolist())
    assert row.prompt == tuple(group.prompt.tolist())


def test_numbers_of_a_row_are_shown_with_it() -> None:
    plain = CreditedRow("a", (1,), (credited(Role.DRAFT, [1], [1.0]),))
    weighed = replace(plain, name="b", numbers={"weight": 2.0, "margin": 0.5})
    found = explain([plain, weighed], tiny.groups((1, 1), (1, 1)), text, beta=1.0)
    first, second = found.as_dict(text)["rows"]
    assert found.has_numbers
    assert ("numbers" in first, second["numbers"]) == (False, {"weight": 2.0, "margin": 0.5})
    assert not explain([plain], tiny.groups((1, 1)), text, beta=1.0).has_numbers
    columns = {"weight": 2.0, "probability": 0.75}
    sides = (Role.CHOSEN, Role.REJECTED)
    branches = tuple(Branch(torch.tensor([4]), r, {"ref_logp": torch.zeros(1)}, columns) for r in sides)
    (row,) = token_rewards(tiny.policy(), [Group("c", torch.tensor([1]), branches)], beta=1.0)
    assert dict(row.numbers) == columns


def test_credit_is_of_the_packs_that_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, groups, packs = tiny.policy(), tiny.pairs(2), list[Any]()
    known = with_reference(groups, policy.logps(groups, Packing()))
    whole = type(policy).logps
    monkeypatch.setattr(type(policy), "logps", lambda self, some, packing=None: packs.append(packing) or whole(
        self, some, packing))  # fmt: skip
    token_rewards(policy, known, beta=0.1)
    token_rewards(policy, known, beta=0.1, packing=Packing(tokens=33))
    assert packs == [Packing(), Packing(tokens=33)]


def pair(name: str, prompt: int, margin: float) -> CreditedRow:
    sides = (credited(Role.CHOSEN, [1], [margin]), credited(Role.REJECTED, [2], [0.0]))
    return CreditedRow(name, (prompt,), sides)


def test_figures_of_pairs_are_over_prompts() -> None:
    """Two pairs of one prompt, one of another; one is in order, one level, one not."""
    rows = [pair("a", 1, 2.0), pair("b", 1, 0.0), pair("c", 2, -1.0)]
    groups = [
        Group(r.name, torch.tensor(r.prompt), tuple(Branch(torch.tensor(c.tokens), c.role) for c in r.completions))
        for r in rows
    ]
    found = explain(rows, groups, text, beta=0.5)
    assert found.accuracy == clustered_share([1, 0], [2, 1])
    assert found.partings is not None
    assert found.partings.margin == clustered_mean([2.0, -1.0], [2, 1])
    assert found.rewards == {
        "chosen": mean_by_cluster([2.0, 0.0, -1.0], [1, 1, 2]),
        "rejected": mean_by_cluster([0.0, 0.0, 0.0], [1, 1, 2]),
    }  # fmt: skip
    changes = [[c.credit / 0.5 for c in row.completions] for row in rows]
    assert found.displacement == split(groups, changes, text=lambda ids: text(ids.tolist()))
    assert found.displacement is not None
    assert found.displacement.chosen.value == pytest.approx((4.0 + 0.0 - 2.0) / 3)
    assert found.displacement.chosen.clusters == 2


def test_every_part_of_partings_is_over_prompts() -> None:
    def of(margin: float, opening: int) -> Parting:
        parts = {"opening": margin / 8, "first": margin / 4, "middle": margin / 2, "ending": margin / 8}
        return Parting("a", margin, parts, opening, 1, (6, 4))

    found = partings([of(8.0, 1), of(16.0, 2), of(-8.0, 0)], ["x", "x", "y"])
    assert found.margin == clustered_mean([24.0, -8.0], [2, 1])
    assert dict(found.parts) == {
        "opening": clustered_mean([3.0, -1.0], [2, 1]), "first": clustered_mean([6.0, -2.0], [2, 1]),
        "middle": clustered_mean([12.0, -4.0], [2, 1]), "ending": clustered_mean([3.0, -1.0], [2, 1]),
    }  # fmt: skip
    assert found.opening == clustered_mean([3.0, 0.0], [2, 1])
    assert dict(found.tokens) == pytest.approx({
        "opening": (2 + 4 + 0) / 30, "first": 6 / 30, "middle": (4 + 2 + 6) / 30, "ending": 6 / 30,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "rejected", "opening", "ending", "parts"),
    [
        ([1, 2, 9], [1, 3, 9], 1, 1, (0.0, 2.0, 0.0, 4.0)), ([1, 9, 9], [2, 9], 0, 1, (0.0, 1.0, 2.0, 4.0)),
        ([1, 9], [2, 9, 9], 0, 1, (0.0, 1.0, 0.0, 2.0)), ([1], [2], 0, 0, (0.0, 1.0, 0.0, 0.0)),
        ([1, 2, 3], [1, 2, 3], 3, 0, (7.0, 0.0, 0.0, 0.0)),
    ],
)  # fmt: skip
def test_where_two_answers_part(
    chosen: list[int], rejected: list[int], opening: int, ending: int, parts: tuple[float, ...]
) -> None:
    """The tokens of chosen earn 1, 2, 4, those of rejected nothing."""
    sides = (
        credited(Role.CHOSEN, chosen, [1.0, 2.0, 4.0][: len(chosen)]),
        credited(Role.REJECTED, rejected, [0.0] * len(rejected)),
    )
    found = parting(CreditedRow("a", (0,), sides))
    assert found is not None
    assert (found.opening, found.ending) == (opening, ending)
    if chosen != rejected and opening:
        parts = (1.0, *parts[1:])
    assert tuple(found.parts.values()) == parts
    assert found.lengths == (len(chosen), len(rejected))


def test_a_listing_ends_at_its_length_and_skips_what_overlaps() -> None:
    """Runs of one to three tokens: 1 2 3 is surest, so that its parts are left out; 8 of other rows is next."""
    rows = [CreditedRow(str(i), (0,), (credited(Role.CHOSEN, [1, 2, 3], [1.0, 1.0, 1.0]),)) for i in range(4)]
    rows += [CreditedRow(str(i), (0,), (credited(Role.CHOSEN, [8], [0.5]),)) for i in range(4, 8)]
    found = ledger(rows, text, lengths=range(1, 4), fewest=4)
    assert [(p.tokens, p.text, p.rows) for p in found.credited] == [((1, 2, 3), "abc", 4), ((8,), "h", 4)]
    assert (found.counted, found.blamed) == (7, ())
    assert [p.tokens for p in ledger(rows, text, lengths=range(1, 4), fewest=4, top=1).credited] == [(1, 2, 3)]
    assert ledger(rows, text, lengths=range(1, 4), fewest=4, top=0).credited == ()


def test_patterns_of_a_pair_that_rejects_them_too() -> None:
    """5 is rejected in nine others; here both sides have it."""
    mine = ([5, 1], [5, 2])
    known = Patterns([mine, *[([3], [5])] * 9])
    assert known.contested(*mine) == [None, None]
    assert (known.won[(5,)], known.lost[(5,)]) == (0, 9)
    assert (opening(*mine), shared(*mine).tolist(), likeness(*mine)) == (1, [False, False], 0.5)


def test_prompts_without_answers_are_named_by_the_first_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row without an answer is enough; a problem's answer counts as one."""
    rows = [Request("p", Source("one.jsonl", 1)), Request("q", Source("two.jsonl", 1))]
    (full,) = tiny.groups((2, 1))
    solved = replace(full, branches=(), truth=torch.tensor([5, 6]))
    groups = [full, solved]
    calls = list[Any]()
    monkeypatch.setattr(explain_model, "encode", lambda *given: calls.append(given) or SimpleNamespace(groups=groups))
    encoder: Any = object()
    progress: Any = object()
    first, second = explain_model._groups(rows, encoder, progress)
    assert calls == [(rows, encoder, progress)]
    assert first is full
    assert [(b.role, b.tokens.tolist()) for b in second.branches] == [(Role.TRUTH, [5, 6])]
    groups.append(replace(full, branches=()))
    with pytest.raises(DataError) as refused:
        explain_model._groups(rows, encoder, progress)
    assert (refused.value.what, refused.value.where) == ("contains only prompts", "one.jsonl")


def test_patterns_that_lost_as_much_are_in_the_order_of_their_tokens() -> None:
    """Summed over pairs: 12 loses 1 and 2, 11 loses 3."""
    sides = (Role.CHOSEN, Role.REJECTED)

    def pair_of(name: str, chosen: list[int], rejected: list[int]) -> Group:
        return Group(name, torch.tensor([0]), tuple(
            Branch(torch.tensor(t), r) for t, r in zip((chosen, rejected), sides, strict=True)))  # fmt: skip

    mine = [pair_of("a", [12, 50, 11], [9]), pair_of("b", [12], [9])]
    others = [pair_of(f"{t} {i}", [8], [t, 99]) for i in range(12) for t in (11, 12)]
    up = [np.array([-1.0, -7.0, -3.0]), np.array([-2.0])]
    found = split(mine, [(u, np.zeros(1)) for u in up], others=others)
    assert [(p.tokens, p.nats, p.chosen, p.rejected) for p in found.patterns] == [
        ((11,), 3.0, 1, 12), ((12,), 3.0, 2, 12),
    ]  # fmt: skip
    assert found.causes["pattern"].nats.value == pytest.approx(6 / 13)
    assert found.causes["pattern"].tokens == pytest.approx(3 / 4)


def test_every_figure_of_a_displacement_is_over_prompts() -> None:
    """Five pairs of two prompts; 9 is also in rejected, which makes c, d and e more alike."""
    roles, prompts = (Role.CHOSEN, Role.REJECTED), [1, 1, 1, 2, 2]
    sides = [([10], [20]), ([11], [21]), ([12, 9], [22, 9]), ([13, 9], [23, 9]), ([14, 9], [24, 9])]
    groups = [
        Group(str(i), torch.tensor([p]), tuple(Branch(torch.tensor(t), r) for t, r in zip(s, roles, strict=True)))
        for i, (p, s) in enumerate(zip(prompts, sides, strict=True))
    ]
    ups, downs = [[-1.0], [2.0], [-4.0, -1.0], [-2.0, 3.0], [0.0, -3.0]], [[1.0], [0.0], [2.0, 0.5], [4.0, 0], [1, 0]]
    found = split(groups, [(np.array(u), np.array(d)) for u, d in zip(ups, downs, strict=True)])
    assert found.chosen == mean_by_cluster([-1.0, 2.0, -5.0, 1.0, -3.0], prompts)
    assert found.rejected == mean_by_cluster([1.0, 0.0, 2.5, 4.0, 1.0], prompts)
    assert found.fell == share_by_cluster([True, False, True, False, True], prompts)
    assert found.alike == mean_by_cluster([-5.0, 1.0], [1, 2])
    assert found.unlike == mean_by_cluster([-3.0, -1.0, 2.0], [2, 1, 1])
    whole = [1.0, 0.0, 5.0, 2.0, 3.0]
    lost = {"pattern": [0.0] * 5, "shared": [0, 0, 1.0, 0, 3.0], "opening": [1.0, 0, 4.0, 2.0, 0], "elsewhere": [0] * 5}
    shares = {"pattern": 0.0, "shared": 3 / 8, "opening": 5 / 8, "elsewhere": 0.0}
    for name, cause in found.causes.items():
        assert cause.nats == bootstrap_ratio(lost[name], whole, clusters=prompts), name
        assert cause.tokens == shares[name]
    assert found.positions == {
        "chosen": (mean_by_cluster([-1.0, 2.0, -4.0, -2.0, 0.0], prompts),),
        "rejected": (mean_by_cluster([1.0, 0.0, 2.0, 4.0, 1.0], prompts),),
    }  # fmt: skip
