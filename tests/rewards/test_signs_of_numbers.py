"""Numbers in signs of other forms: full width, other hyphens and slashes, characters that no one sees."""

from __future__ import annotations

import pytest

from twofold.errors import DataError
from twofold.rewards.mathematics import formula
from twofold.rewards.verifier import flexible, strict, truth

SAME = {
    "－5": "-5", "﹣5": "-5", "\u20115": "-5", "\u20105": "-5", "-\u200e5": "-5", "\u2212\u200f5": "-5",
    "３．５": "3.5", "５，０００": "5000", "1，234": "1234", "1\u066b5": "1.5", "1\u066c234": "1234", "1\u2007234":
    "1234",
    "1\u3000234": "1234", "1\u200b8": "18", "1\u2060234": "1234", "2\u00ad34": "234", "＄５": "5",
    "（５）": "5", "5％": "5",
}  # fmt: skip
PARTS = (
    "1\u2019234", "1\u02bc234", "1\u2032234", "18 ½", "18⅓", "18 ⅓", "3／4", "3\u20444", "3\u22154", "3\u22364", "3：4",
    "2\u22c59", "2\u22199", "2\u22179", "2✕9", "3\u20145", "3\u20115", "3～5", "3〜5", "10＾2", "10⁻⁶", "⁻5", "5₂",
    "5\u0305", "∛8", "-|5|", "5;6", "5&6",
)  # fmt: skip


@pytest.mark.parametrize(("written", "number"), SAME.items())
def test_a_number_in_other_signs_is_that_number(written: str, number: str) -> None:
    assert (truth(f"#### {written}"), flexible(f"It is {written}")) == (number, number)
    assert formula(written).text.rstrip("%") == number


@pytest.mark.parametrize("written", PARTS)
def test_no_part_of_a_number_is_read(written: str) -> None:
    assert (flexible(f"It is {written}"), strict(f"#### {written}")) == (None, None)
    with pytest.raises(DataError, match="is no plain number"):
        truth(f"#### {written}")


@pytest.mark.parametrize(
    ("written", "text", "kind"),
    [
        ("18 ⅓", r"(18+\frac{1}{3})", "formula"),
        ("3／4", "3/4", "formula"),
        ("5％", "5%", "percent"),
        ("3\u22364", "3:4", "ratio"),
    ],
)
def test_formulas_take_other_signs(written: str, text: str, kind: str) -> None:
    read = formula(written)
    assert (read.text, read.kind) == (text, kind)


@pytest.mark.parametrize("behind", ["\u200b8", "\u2060000", "，000", "／4", " , 000", "/ 2", "\u20145"])
def test_strict_reads_no_number_that_goes_on_unseen(behind: str) -> None:
    assert strict(f"#### 5{behind}") is None
