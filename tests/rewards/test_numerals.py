"""Plain numbers in a line: read whole with their sign and without separators, or as a part of something else."""

from __future__ import annotations

import pytest

from twofold.rewards.numerals import AROUND, LONGEST, Numeral, digits, goes_on, last_numeral, numerals, plainer


@pytest.mark.parametrize(
    ("number", "plain"),
    [
        ("1,234.50", "1234.50"), ("1.234,50", "1234.50"), ("1.234.567", "1234567"), ("1 234", "1234"), ("12.5", "12.5"),
        ("1,234", "1234"), (".5", ".5"), ("٣.٤", "3.4"), ("\uff11\uff12", "12"), ("1,234,567.8", "1234567.8"),
    ],
)  # fmt: skip
def test_separators_are_dropped(number: str, plain: str) -> None:
    assert digits(number) == plain


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("18", "18"), ("a 18 b", None), ("a 18 bc", "18"),
        ("-18", "-18"), ("\u221218", "-18"), ("\u201318", "-18"), ("$-18", "-18"),
        ("-$18", "-18"), ("($18)", "18"), ("(-18)", "-18"), ('"18"', "18"), ("£1,000.50", "1000.50"),
        ("x-18", None), ("ab-18", "18"), ("3-18", None), ("3 - 18", None), (")-18", None), ("=-18", "-18"),
        ("a cab-18", "18"),
        ("= -18", "-18"), ("= - 18", None), ("total - 18", "18"), ("*-18", None), ("^-18", None), ("_-18", None),
        ("x18", None), ("}18", None), ("]18", None), (")18", None), ("$x$18", "18"), ("x $18", "18"), ("x$18", "18"),
        (r"\frac 18", None), ("minus 18", None), ("Negative 18", None), ("2 hours 18", None), ("3 or 18", None),
        ("3 out of 18", None), ("remainder 18", "18"), ("5 remainder 18", None), ("2 and 18", "18"),
        ("a:18", "18"), ("a: 18", "18"), ("12:18", None), ("at 12:18", None), ("at 1:18", None),
        ("12 :18", "18"), ("12: 18", "18"), ("12 : 18", None),
        ("1,18", None), ("1, 18", "18"), ("a,18", "18"), ("a, 18", "18"), (" ,18", "18"), ("1.. 18", "18"),
        ("* 18", "18"), ("*18", "18"), ("a *18", "18"), ("a * 18", None), ("a* 18", None), ("a*18", None),
        ("+18", "18"), ("+ 18", "18"), ("a +18", "18"), ("a + 18", None), ("=+18", "18"), ("(+18", "18"),
        ("a+18", None),
        ("> 18", "18"), (">> 18", "18"), ("-> 18", "18"), ("=> 18", "18"), ("x > 18", None), ("<b> 18", "18"),
        ("</answer>18", "18"), ("<<18", "18"), ("< 18", None), ("x < 18", None), ("x = 18", "18"), ("x <= 18", None),
        ("x >= 18", None), ("x != 18", None), ("x == 18", "18"), ("/ 18", None), ("/18", None), ("÷ 18", None),
        ("√ 18", None), ("± 18", None), ("≤ 18", None), ("≥ 18", None), ("≠ 18", None), ("~ 18", "18"), ("≈ 18", "18"),
        ("≈ - 18", None), ("18 - ", "18"), ("18 -", "18"), ("18.", "18"), ("18, 000", None), ("GPT-18", "18"),
    ],
)  # fmt: skip
def test_what_stands_left_of_a_number(line: str, found: str | None) -> None:
    last = last_numeral(line)
    assert last is not None
    assert last.text == found


@pytest.mark.parametrize(
    ("right", "decimals", "more"),
    [
        ("", False, False), (" eggs", False, False), ("km", False, False), ("km2", False, True), ("x", False, True),
        ("foo", False, True), ("m", False, True), ("mm", False, False), ("th", False, False), ("%", False, False),
        ("^2", False, True), (" ^2", False, True), ("²", False, True), ("½", False, True), (r"\pi", False, True),
        ("+1", False, True), (" + 1", False, True), ("+", False, False), ("*2", False, True), ("* 2", False, True),
        (" * 2", False, True), ("-1", False, True), (" - 1", False, True), ("- 1", False, False),
        ("-year", False, False),
        ("-x", False, True), ("/2", False, True), ("/h ", False, True), ("/hour", False, False), (":30", False, True),
        (": 30", False, False), (" : 30", False, True), (",5", False, True), (", 5", False, True), (",-5", False, True),
        (".5", False, True), (". 5", False, False), ("_2", False, True), (" 5", False, True), (" ,5", False, True),
        ("<5", False, True), ("</b>", False, False), (">5", False, True), (">>5", False, False), (" ≤ x", False, True),
        (" and 5", False, True), (" or -5", False, True), (" to $5", False, True), (" by 5", False, True),
        (" out of 5", False, True), (" x 5", False, True), (" and eggs", False, False), (" and a half", False, True),
        (" squared", False, True), (" fifths", False, True), (" halves", False, True), (" million", False, True),
        ("k", False, True), (" hundred", False, True), ("分之", False, True), (" x", False, True), (" m", False, False),
        (" a", False, False), (" b.", False, False), (" hours 30", False, True), (" in 30", False, False),
        (" feet and 3", False, True), ("' 3", False, True), ("...", True, True), ("…", True, True),
        ("...", False, False),
        (") + 1", False, True), ("%^2", False, True), ("}", False, False), ("°C", False, False),
    ],
)  # fmt: skip
def test_what_stands_right_of_a_number(right: str, decimals: bool, more: bool) -> None:
    assert goes_on(right, decimals) is more
    assert decimals or goes_on(right) is more


def test_the_first_two_numbers_of_a_line_and_where_they_stand() -> None:
    assert numerals("a 18 be; -2.50; c 3") == [Numeral("18", 2, 4), Numeral("-2.50", 10, 14)]
    assert numerals("3/4") == [Numeral(None, 0, 1), Numeral(None, 2, 3)]
    assert numerals("none") == []
    assert last_numeral("none") is None
    assert last_numeral("a 18 be") == Numeral("18", 2, 4)


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        (r"\boxed{1{,}234}", " {1,234}"), (r"\left( 3 \right)", "(3)"), (r"\[5\]", "$5$"), (r"\(5\)", "$5$"),
        (r"5\,000", "5 000"), ("5~km", "5 km"), (r"5\%", "5%"), (r"\$5", "$5"), ("**5**", "5"), ("a**b", "a**b"),
        ("2**3", "2**3"), (r"90^\circ", "90°"), (r"90^{\circ}", "90°"), (r"90\degree", "90°"), (r"\approx 5", "≈ 5"),
        ("<b>5</b>", "5"), ("5 cm^2", "5 cm"), ("5 m^{3}", "5 m"), ("x^2", "x^2"), ("5 (a)^2", "5 (a)^2"),
        (r"\text{5}", " {5}"), (r"5 \! x", "5  x"), ("`5`", "5"), (r"\mathrm{5}", " {5}"), (r"1,\! 234", "1,234"),
    ],
)  # fmt: skip
def test_marks_that_change_no_number_are_dropped(line: str, plain: str) -> None:
    assert plainer(line) == plain


def test_what_is_looked_at_is_bounded() -> None:
    """Beyond the bounds on either side nothing counts, and a number that begins out there is none."""
    assert (AROUND, LONGEST) == (64, 4000)
    for line, whole in (
        ("9" * LONGEST, True), ("9" * (LONGEST + 1), False), ("-" + "9" * (LONGEST - 1), True),
        ("x" * 99 + " " + "9" * (LONGEST - AROUND), True), ("x" * 99 + " " + "9" * (LONGEST - AROUND + 1), False),
        ("9 " * LONGEST + "x 5", True),
    ):  # fmt: skip
        last = last_numeral(line)
        assert last is not None
        assert (last.text is not None) is whole
        assert last.text is None or line.endswith(last.text)
    assert last_numeral("9" * (LONGEST + 1)) == Numeral(None, 0, LONGEST)
    layout = last_numeral("5" + r"\!" * AROUND + "x")  # which is dropped before it is looked at
    assert layout == Numeral("5", 0, 1)
    assert last_numeral("5" + r"\!" * (AROUND - 1) + "+x") == Numeral(None, 0, 1)
