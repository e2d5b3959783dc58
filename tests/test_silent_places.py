"""Where mutants are not drawn: what no run can tell, and nothing beside it."""

from __future__ import annotations

import pytest

from scripts.silent_places import SilentPlaces, is_change

SOURCE = """\
from typing import TYPE_CHECKING, cast, overload

if TYPE_CHECKING:
    LIMIT = 1

T = TypeVar("T", bound="Thing")

@overload
def f(x: int = 2) -> None: ...
def f(x: int | None = 3, *y: int | str) -> int | None:
    z: list[int | str] = cast(list[int | str], x or 4)
    for a, b in zip(z, y, strict=True):
        pass
    for a, b in zip(z, y, strict=False):
        pass
    return load(z, strict=True)

@lru_cache(maxsize=5)
@lru_cache(8 << 9)
def g(x, other):
    same = x.dtype == other
    return x.shape != other.shape or same != x
"""
COUNTED = """\
def h(x, n):
    if len(x) == 60 or len(x) > 70 or n == 60 or x.sum() == 60:
        return AutoModel.from_config(x, trust_remote_code=False, revision="r")
    return len([y for y in x if y == 60]) > 70 or world().size == 61 or x == 60
"""


def places(operator: str, text: str, source: str = SOURCE) -> list[bool]:
    """For each occurrence of `text` in `source`, whether a change there is silent."""
    silent, found = SilentPlaces(source), list[bool]()
    for number, line in enumerate(source.splitlines(), 1):
        found += [silent.holds(operator, (number, i)) for i in range(len(line)) if line.startswith(text, i)]
    return found


@pytest.mark.parametrize(
    ("operator", "text", "expected"),
    [
        ("NumberReplacer", "1", [True]),  # for the type checker
        ("NumberReplacer", "2", [True]),  # of an overload
        ("NumberReplacer", "3", [False]),  # a default
        ("NumberReplacer", "4", [False]),
        ("NumberReplacer", "5", [True]),  # the size of a cache
        ("NumberReplacer", "9", [True]),
        ("ReplaceBinaryOperator_LShift_Add", "<<", [True]),
        ("ReplaceBinaryOperator_BitOr_Add", "|", [True] * 5),  # annotations, the type of a cast
        ("ReplaceOrWithAnd", " or ", [False, False]),
        ("ReplaceTrueWithFalse", "True", [True, False]),  # of a zip, of another function
        ("ReplaceFalseWithTrue", "False", [False]),
        ("DropKeywordArgument", "strict=", [True, True, False]),
        ("DropKeywordArgument", "maxsize=", [True]),
        ("DropKeywordArgument", "bound=", [True]),
        ("ReplaceComparisonOperator_Eq_Is", "==", [True]),
        ("ReplaceComparisonOperator_Eq_NotEq", "==", [False]),
        ("ReplaceComparisonOperator_NotEq_IsNot", "!=", [False, False]),
    ],
)
def test_what_no_run_can_tell(operator: str, text: str, expected: list[bool]) -> None:
    assert places(operator, text) == expected


@pytest.mark.parametrize(
    ("change", "text", "constant", "expected"),
    [
        ("Eq_LtE", "== 60", 0, [True, True, False, False, False]),  # of a length, a count, a sum, and of no count
        ("Eq_LtE", "== 60", 1, [False] * 5),
        ("Eq_GtE", "== 60", 0, [False] * 5),
        ("Eq_Is", "== 60", 0, [False] * 5),
        ("Gt_NotEq", "> 70", 0, [True, True]),
        ("Gt_NotEq", "> 70", 1, [False, False]),
        ("Gt_GtE", "> 70", 0, [False, False]),
        ("Eq_LtE", "== 61", 1, [True]),  # there is at least one process
        ("Eq_LtE", "== 61", 2, [False]),
    ],
)
def test_comparisons_that_say_the_same_of_every_count(
    change: str, text: str, constant: int, expected: list[bool]
) -> None:
    compared = f"{text.split()[0]} {constant:<2}"
    source = COUNTED.replace(text, compared)
    assert places(f"core/ReplaceComparisonOperator_{change}", compared, source) == expected


@pytest.mark.parametrize(
    ("compared", "expected"),
    [
        ("(a is None) == (b not in c)", True), ("(not a) == (b == 'x')", True), ("('x' != a) == (b is None)", True),
        ("(a < 2) == (b is None)", False),  # of tensors neither is one value
        ("a == (b is None)", False), ("(a is None) == b", False), ("(a is None) == (b is None) == c", False),
    ],
)  # fmt: skip
def test_truth_values_are_one_object(compared: str, *, expected: bool) -> None:
    at = compared.index(") == ") + 2 if ") == " in compared else compared.index("== ")
    silent = SilentPlaces(compared)
    assert silent.holds("core/ReplaceComparisonOperator_Eq_Is", (1, at)) is expected
    assert not silent.holds("core/ReplaceComparisonOperator_Eq_NotEq", (1, at))
    assert not silent.holds("core/ReplaceComparisonOperator_Eq_Is", (1, 1))


def test_another_change_of_a_comparison_is_seen() -> None:
    source = "if len(some(a, b=1)) == 0: pass"
    assert places("DropKeywordArgument", "b=1", source) == [False]
    assert places("core/NumberReplacer", "0: pass", source) == [False]


def test_a_default_may_be_left_out_and_not_be_another() -> None:
    assert places("DropKeywordArgument", "trust_remote_code=", COUNTED) == [True]
    assert places("DropKeywordArgument", "revision=", COUNTED) == [False]
    assert places("core/ReplaceFalseWithTrue", "False, revision", COUNTED) == [False]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("x = 1e308", "x = 1e+308", False), ("f( a,b)", "f(a, b)", False), ("f(a, *, b)", "f(a, |, b)", False),
        ("x = 1", "x = 2", True), ("a", "b", True),
    ],
)  # fmt: skip
def test_changes_of_nothing_are_none(before: str, after: str, *, expected: bool) -> None:
    assert is_change(before, after) is expected
