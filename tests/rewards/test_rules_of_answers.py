"""Rules of instructions at their bounds, and how a rule that there is not is shown."""

from __future__ import annotations

from typing import Any

import pytest

from twofold.errors import DataError
from twofold.rewards import ifeval
from twofold.rewards.instructions import REMEDY, InstructionReward, checks, judge, readable
from twofold.rewards.verifier import Verdict


def refused(call: Any, *given: Any) -> tuple[str, str, str]:
    with pytest.raises(DataError) as error:
        call(*given)
    return error.value.what, error.value.where, error.value.remedy


def test_no_rule_and_a_rule_that_is_none_are_named() -> None:
    assert refused(checks, " ;\n") == ("the answer holds no rule", "", REMEDY)
    assert refused(checks, "lowercase; be  brief") == ("the rule 'be brief' cannot be checked", "", REMEDY)
    assert refused(checks, "x" * 60)[0] == f"the rule {'x' * 60!r} cannot be checked"
    assert refused(checks, "x" * 61)[0] == f"the rule {'x' * 60 + '…'!r} cannot be checked"
    assert refused(readable, "be brief", "f:3") == ("the rule 'be brief' cannot be checked", "f:3", REMEDY)
    for none in ("at most 1234567 words", "at most 3 letters", "At most 3 words", 'with ""', "at most three words"):
        assert refused(checks, none)[0] == f"the rule {none!r} cannot be checked"


@pytest.mark.parametrize(
    ("rule", "numbers"),
    [("at most 2 words", [1, 2]), ("at least 2 words", [2, 3]), ("exactly 2 words", [2]), ("exactly 1 word", [1])],
)
def test_counts_at_their_bounds(rule: str, numbers: list[int]) -> None:
    assert [n for n in (1, 2, 3) if judge(" ".join("a" * n), rule).strict] == numbers


@pytest.mark.parametrize(
    ("text", "lines", "bullets"),
    [("a\n \nb", 2, 0), ("- a\n* b\n• c\n1. d\n2) e", 5, 5), ("-a\n-\n  - b\n10. c", 4, 2), ("- a\ntext", 2, 1)],
)
def test_lines_and_bullets_are_counted(text: str, lines: int, bullets: int) -> None:
    for unit, number in (("line", lines), ("bullet", bullets)):
        assert judge(text, f"exactly {number} {unit}s").strict
        assert not judge(text, f"exactly {number + 1} {unit}s").strict


def test_words_stand_alone_whatever_their_case() -> None:
    assert judge("The C++ way", 'with "c++"').strict
    assert not judge("Seaside", 'with "sea"').strict
    assert judge("Seaside", 'without "sea"').strict
    assert judge("a.sea,b", 'with "sea"').strict
    assert not judge("sea_1", 'with "sea"').strict


def test_the_loose_verdict_is_of_any_variant_and_the_strict_one_of_all_rules() -> None:
    """Without the first line, the last, both, and without asterisks."""
    rules = 'lowercase; at most 1 line; without "hi"'
    assert judge("Hi\nso", rules) == judge("so\nHi", rules) == judge("Hi\nso\nHi", rules) == Verdict(False, True)
    assert judge("Hi\nso\nso\nHi", rules) == Verdict(False, False)
    assert judge("so*", 'ends with "so"') == Verdict(False, True)
    assert judge("so", rules) == Verdict(True, True)


def test_instructions_of_ifeval_are_judged_strictly_and_loosely(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them; their packages are required where rows are read."""
    rules = ' [{"kind": "punctuation:no_comma"}, {"kind": "startend:quotation"}]'
    assert judge('"a"', rules) == Verdict(True, True)
    assert judge('"a", b', rules) == judge('"a, b"', rules) == Verdict(False, False)
    assert judge('Yes,\n"a"', rules) == Verdict(False, True)
    required = list[Any]()
    monkeypatch.setattr(ifeval, "require_packages", required.append)
    readable(rules, "f:1")
    assert required == [ifeval.instructions_of(rules)]
    assert InstructionReward("strict")("p", 'Yes,\n"a"', rules) == 0.0
    assert InstructionReward("flexible")("p", 'Yes,\n"a"', rules) == 1.0
