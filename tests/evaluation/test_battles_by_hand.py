"""Battles of two players, resampled by hand; and who has which battles, styles and counts in the table."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from support.heard import Heard
from twofold.evaluation import arena_hard as module
from twofold.evaluation.arena_hard import ArenaHardSettings, Battles, measure_arena_hard
from twofold.evaluation.parts import WHOLE, Line
from twofold.statistics import bca_bounds, bootstrap_ratio


def test_a_score_is_over_prompts_with_a_battle() -> None:
    """Prompt 3 has two items with 1 of 1 and 1 of 3 points, prompt 5 one point of one, prompt 4 no verdict."""
    found = Battles([1.0, 0.0, 1.0, 1.0], [1, 0, 3, 1], [3, 4, 3, 5]).estimate()
    assert found == bootstrap_ratio([2.0, 1.0], [4.0, 1.0])
    assert (found.value, found.n) == (0.6, 2)


A = Battles([1.5, 0.5, 1.0, 0.0, 3.0, 1.0], [2, 2, 4, 0, 4, 1], [9, 8, 7, 6, 5, 4])
B = Battles([1.0, 1.5, 4.0, 2.0, 3.0, 0.5], [2, 2, 4, 2, 6, 1], [9, 8, 7, 6, 5, 4])
COMMON = [0, 1, 2, 4, 5]
"""All but the fourth, on which the first player has no verdict."""


def share(battles: Battles, often: Any) -> float:
    points = sum(int(k) * battles.points[i] for k, i in zip(often, COMMON, strict=True))
    return points / sum(int(k) * battles.counts[i] for k, i in zip(often, COMMON, strict=True))


def test_a_difference_resamples_prompts_and_exchanges_players() -> None:
    rng = np.random.default_rng(0)
    moved = [share(B, often) - share(A, often) for often in rng.multinomial(5, [0.2] * 5, size=2000)]
    swaps = rng.integers(0, 2, (10_000, 5))
    without = [[int(i != out) for i in range(5)] for out in range(5)]
    left_out = [share(B, often) - share(A, often) for often in without]
    value = share(B, [1] * 5) - share(A, [1] * 5)
    low, high, how = bca_bounds(value, np.array(moved), np.array(left_out), 0.95)
    found = A.against(B)
    assert found is not None
    difference = found.difference
    assert (difference.value, difference.low, difference.high) == pytest.approx((value, low, high), abs=1e-12)
    assert difference.method == f"paired bootstrap over items 95%, {how}"
    assert (difference.n, difference.count, difference.clusters) == (5, None, None)
    far = 0
    for swap in swaps.tolist():
        sides = [(B, A) if exchanged else (A, B) for exchanged in swap]
        a, n = (
            sum(getattr(side[0], name)[i] for side, i in zip(sides, COMMON, strict=True))
            for name in ("points", "counts")
        )
        b, m = (
            sum(getattr(side[1], name)[i] for side, i in zip(sides, COMMON, strict=True))
            for name in ("points", "counts")
        )
        far += abs(b / m - a / n) >= abs(value) - 1e-9
    assert found.test.p_value == (far + 1) / 10_001
    assert 0.2 < found.test.p_value < 1
    assert far % 2 == 1  # for an even count, "| 1" adds one too
    assert (found.test.only_a, found.test.only_b, found.test.n) == (3, 2, 5)
    assert found.test.test == "exchanges of players, 10000 random"


def test_prompts_in_another_order_or_number_are_not_compared() -> None:
    one = Battles([1.0, 0.0], [2, 2], [1, 2])
    for prompts in ([2, 1], [1, 3], [0, 2], [3, 4]):
        other = Battles([1.0, 0.0], [2, 2], prompts)
        assert one.against(other) is other.against(one) is None
    twice = Battles([1.0, 1.0, 0.0], [2, 2, 2], [1, 1, 2])
    found = one.against(twice)
    assert found is not None
    assert found.difference.value == pytest.approx(2 / 6 - 1 / 4)


def test_one_battle_of_each_is_enough() -> None:
    """Five prompts on which the second player wins its only battle: swaps are as far with a chance of 2 in 32."""
    lost, won = (Battles([points] * 5, [1] * 5, range(5)) for points in (0.0, 1.0))
    found = lost.against(won)
    assert found is not None
    assert (found.difference.value, found.difference.low, found.difference.high) == (1.0, 1.0, 1.0)
    assert (found.test.only_a, found.test.only_b, found.test.n) == (0, 5, 5)
    assert found.test.p_value == pytest.approx(2 / 32, abs=0.01)


def row(index: int, orders: tuple[str, str] | None, **more: Any) -> dict[str, Any]:
    return {"share": 0.5, "orders": orders, "index": index, "subset": "a", "own": "abcd", "other": "ab", "cut": False,
            "style": [1, 0, 0, 0], "other_style": [2, 0, 0, 0], **more}  # fmt: skip


def test_counts_of_battles() -> None:
    rows = [
        row(0, ("A>>B", "A>B")),
        row(1, ("A=B", "B>>A"), cut=True),
        row(2, None, share=None),
        row(3, None, cut=True),
    ]
    known = [{**each, "battles": module.battles_in(each)} for each in rows]
    assert [each["battles"] for each in known] == [[1, 1, 1, 0], [0.5, 1, 1, 1], [], [0.5, 0.5]]
    assert module._counts(known) == {"wins": 6, "ties": 3, "losses": 1, "strong": 2, "missing": 1, "truncated": 2}
    assert module._battles(rows) == Battles([3.0, 3.5, 0.0, 1.0], [4, 4, 0, 2], [0, 1, 2, 3])


def test_a_table_has_scores_of_subsets_lengths_and_sampling() -> None:
    """Of one subset there is none; a player without a verdict on a subset has no score of it."""
    rows = [row(0, ("A>B", "A>B")), row(1, ("A>>B", "B>A"), subset="b", own="ab")]
    silent = [row(0, ("A>B", "B>A")), row(1, None, subset="b", share=None)]
    lines = {"m": Line(rows, {"sampling": {"kind": "file"}}), "n": Line(silent, {"sampling": {"kind": "model"}})}
    one, two = module._entries(lines, None)
    assert (one.name, one.about["length"], one.about["other_length"]) == ("m", 3.0, 2.0)
    assert (one.about["sampling"], two.about["sampling"]) == ({"kind": "file"}, {"kind": "model"})
    assert one.measures == {"score": Battles([1.0, 4.0], [2, 4], [0, 1])}
    assert {name: figures["score"]["value"] for name, figures in one.about["subsets"].items()} == {"a": 0.5, "b": 1.0}
    assert list(two.about["subsets"]) == ["a"]
    assert (one.counts["strong"], two.counts["missing"]) == (1, 1)
    assert [each["battles"] for each in two.rows] == [[1.0, 1.0], []]
    (alone,) = module._entries({"m": Line(rows[:1], {"sampling": {}})}, None)
    assert alone.about["subsets"] == {}


def test_a_style_is_controlled_where_all_players_have_styles_and_battles() -> None:
    rows = [row(n, ("A>B", "A=B"), style=[30 + 7 * n, 0, n % 3, 0]) for n in range(6)]
    rows[3] = {**rows[3], "orders": ("B>>A", "A>B")}
    control = module._control([rows, [{**each, "orders": ("B>A", "A>B")} for each in rows]])
    assert control is not None
    assert (control.players, control.numbers, control.questions) == (2, [0] * 6 + [1] * 6, [*range(6)] * 2)
    assert control.points[:4] == [1.5, 1.5, 1.5, 0.0]
    assert (control.counts[:4], control.counts[6:]) == ([2, 2, 2, 4], [2] * 6)
    assert (control.styles[1], control.others[1]) == ([37, 0, 1, 0], [2, 0, 0, 0])
    for key in ("style", "other_style"):
        assert module._control([rows, [{**rows[0], key: None}, *rows[1:]]]) is None
    assert module._control([rows, [{**each, "share": None} for each in rows]]) is None
    measures = module._measures([rows, [{**each, "share": None} for each in rows]], control)
    assert (list(measures[0]), measures[1]) == (["score", "style_score", "equal_style_score"], {})
    styled: Any = [measures[0][name] for name in ("style_score", "equal_style_score")]
    assert [(each.player, each.equal, each.control is control) for each in styled] == [
        (0, False, True),
        (0, True, True),
    ]


def test_players_are_greedy_and_their_files_have_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first line of a player is measured at temperature 0; only of files are styles looked up."""
    calls = list[Any]()

    def measured(models: Any, items: Any, how: Any, part: Any, opening: Any) -> dict[str, Line]:
        calls.append((models, items, part, opening))
        return {"m@temperature:0": Line([{"n": 1}], {"a": 1}, "w"), "a.jsonl": Line([{"n": 2}]), "spend": Line([])}

    def styled(rows: Any, items: Any, files: Any, counter: Any) -> list[Any]:
        calls.append((rows, files))
        return [*rows, "styled"]

    monkeypatch.setattr(module, "measure_matches", measured)
    monkeypatch.setattr(module, "styled", styled)
    how = ArenaHardSettings(judge="llm:http://h/v1#j", against="base.jsonl")
    found = measure_arena_hard(["m", "a.jsonl", "m"], [], how, WHOLE)
    assert calls == [
        (["m", "a.jsonl", "m"], [], WHOLE, module.open_grades), ([{"n": 1}], (None, "base.jsonl")),
        ([{"n": 2}], ("a.jsonl", "base.jsonl")),
    ]  # fmt: skip
    assert found["m@temperature:0"] == Line([{"n": 1}, "styled"], {"a": 1}, "w")  # type: ignore[list-item]
    assert found["spend"] == Line([])


def test_a_table_without_styles_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    monkeypatch.setattr(module, "TokenCounter", lambda: SimpleNamespace(lacks="nothing counts"))
    rows = [row(0, ("A>B", "A>B"), style=None)]
    line = Line(rows, {"sampling": {}, "judge": {"kind": "llm"}, "against": "b"})
    how = ArenaHardSettings(judge="llm:http://h/v1#j", against="b", samples=3, seed=7, rubric="r.md", progress=heard)
    found = module.arena_hard_figures({"m": line}, how).figures
    assert heard.warnings == [
        "no style-controlled score: the tokens of answers of m are not in `metadata` of a file, and nothing counts"
    ]
    assert (found["benchmark"], found["samples"], found["seed"], found["rubric"]) == ("arena-hard", 3, 7, "r.md")
    assert "style_control" not in found
