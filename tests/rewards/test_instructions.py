"""Rules that a program can check: what obeys, what does not, and what is no rule."""

from __future__ import annotations

import pytest

from twofold.errors import DataError
from twofold.rewards.instructions import InstructionReward, judge, readable
from twofold.rewards.verifier import Verdict


@pytest.mark.parametrize(
    ("rules", "obeying", "other"),
    [
        ("at most 3 words", "one two  three", "one two three four"),
        ("at least 2 lines", "a\n\nb", "a\n\n"),
        ("exactly 2 bullets", "- a\n* b", "- a\n- b\n3. c"),
        ("exactly 1 bullet", "1) a", "-a"),
        ("lowercase", "all small, 3.", "All small"),
        ("lowercase", "é", "12 + 3"),
        ("uppercase", "LOUD!", "LOUd!"),
        ('starts with "Dear"', "Dear me", "dear me"),
        ('ends with "?"', "Is it so?  \n", "Is it so? Yes."),
        ('with "sea"', "The Sea.", "A season."),
        ('without "the"', "These others", "So is The end"),
        ('with "a  b"', "say a  b", "say a b"),
        ('with "a; b";  ends   with "?"', "say a; b?", "say a, b?"),
        ('with "a; b"\nat most 3 words', "say a; b", "say a; b too"),
        ('at most 3 words; ends with "?"\nlowercase', "is it so?", "is it so now?"),
    ],
)
def test_a_rule_tells_completions_apart(rules: str, obeying: str, other: str) -> None:
    assert (judge(obeying, rules).strict, judge(other, rules).strict) == (True, False)
    assert judge(obeying, rules).flexible


def test_flexible_lets_introductions_and_asterisks_go() -> None:
    text = "Sure, here it is:\n**small words**\nHope that helps!"
    assert not judge(text, "at most 2 words; lowercase").strict
    assert judge(text, "at most 2 words; lowercase").flexible
    assert not judge("Four Words Of Mine\nand four more words", "at most 2 words").flexible


@pytest.mark.parametrize("text", ["", " \n "])
def test_an_empty_completion_obeys_nothing(text: str) -> None:
    for rules in ("at most 3 words", 'without "the"'):
        assert judge(text, rules) == Verdict(strict=False, flexible=False)


@pytest.mark.parametrize(
    "rules", ["", " ;\n", "be brief", "at most fifteen words", "without the", "at most 3 words; 18"]
)
def test_what_is_no_rule_is_refused_where_it_stands(rules: str) -> None:
    with pytest.raises(DataError) as error:
        readable(rules, "rows.jsonl:3")
    assert error.value.where == "rows.jsonl:3"
    assert "at most 15 words" in str(error.value)


def test_a_reward_is_0_or_1_by_its_metric() -> None:
    text = "Sure:\nyes"
    assert InstructionReward()("", text, "at most 1 word") == 0
    assert InstructionReward("flexible")("", text, "at most 1 word") == 1
