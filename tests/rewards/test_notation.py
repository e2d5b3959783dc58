"""Answers as formulas: what each way of writing becomes for a computer algebra system, or that it is none."""

from __future__ import annotations

import pytest

from twofold.rewards.notation import DEEPEST, LONGEST, Formula, formula_of

FORMULAS = {
    # numbers and percents
    "18": "18", " **1,234.50** ": "1234.50", "$18": "18", "5 km": "5", "-7": "-7", "1{,}234": "1234", r"\$5": "5",
    "<b>5</b>": "5", "`12`": "12",
    # mixed numbers and fractions
    "1 1/2": r"(1+\frac{1}{2})", "3/4": "3/4", r"\dfrac34": r"\frac34", r"\tfrac{1}{2}": r"\frac{1}{2}",
    "½": "1/2", "2½": r"(2+\frac{1}{2})", "3/4 cups": "3/4",
    # powers
    "5e3": r"5\times 10^{3}", "1.5E-3": r"1.5\times 10^{-3}", "2^10": "2^10", "x²": "x^{2}", "x⁻¹²": "x^{-12}",
    "5 million": r"5\times 10^{6}", "2 hundred thousand": r"2\times 10^{2}\times 10^{3}", "x**2": "x^2",
    "2 hundred thousand million": r"2\times 10^{2}\times 10^{3}\times 10^{6}",
    "3 trillion": r"3\times 10^{12}", "3 billion": r"3\times 10^{9}",
    # roots, names and signs
    "sqrt(2)": r"\sqrt{2}", "√2": r"\sqrt{2}", "√(x)": r"\sqrt{x}", "2π": r"2\pi", "2pi": r"2\pi",
    "sin(x)": r"\sin (x)",
    "3×4": r"3\times 4", "3·4": r"3\cdot 4", "6÷2": "6/2", "x ≤ 5": r"x \le 5", "±3": r"\pm 3", "∞": r"\infty",
    "x+90°": r"x+90^\circ", "x − 1": "x - 1", r"\left(x\right)": "(x)", r"$x+1$": "x+1", r"\(x+1\)": "x+1",
    # lists and words between
    "2 or 3": "2, 3", "x and y": "x, y", r"\text{x or } 3": "3", "1, 2": "1, 2",
    # thousands
    "x + 1,234,567": "x + 1234567", "x + 1 234": "x + 1234",
    # percents within
    "x + 5%": r"x + 5\%", "x percent": r"x\%",
    # sums and what they make
    "2 + 3 = 5": "5", "x = 5": "x = 5", "2x + 1 = 5": "2x + 1 = 5",
    # repeating decimals
    r"0.\overline{3}": r"\frac{3}{9}", r"1.2\overline{34}": r"\frac{1222}{990}", r"0.1\bar{6}": r"\frac{15}{90}",
    # matrices
    r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}": r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
    "2/3 cm^{2}": "2/3", "1/2 miles per hour": "1/2",
}  # fmt: skip
NONE = [
    "", " ", "**", "2 hours 30 minutes", "five and a half", "half", "a dozen", "paris", "1.333...", r"3.14\ldots",
    "0x1f", "5'11", "1.2.3", "1_000", "12 34x", "äb", "the cat", r"\input{x}", r"\foo", "x}", "{x", "(" * 16 + "x",
    "x" * 501, "5 lakh", "at least 5", "x cm^2", "3x cm",
]  # fmt: skip
KINDS = {
    "18": Formula("18", "number"), "50%": Formula("50%", "percent"), "50 percent": Formula("50%", "percent"),
    "{50}%": Formula("50%", "percent"), "50 percentage": Formula("50", "number"), "x+1": Formula("x+1", "formula"),
    "12:30": Formula("12:30:00", "time"), "09:05:07 p.m.": Formula("9:05:07pm", "time"),
    "3:45 AM": Formula("3:45:00am", "time"),
    "$12:30$.": Formula("12:30:00", "time"), "12:3": Formula("4:1", "ratio"), "6 : 4": Formula("3:2", "ratio"),
    "3:2": Formula("3:2", "ratio"),
    "2:4:6": Formula("1:2:3", "ratio"), "0:0": Formula("0:0", "ratio"), "123:45": Formula("41:15", "ratio"),
    "2024-02-29": Formula("2024-02-29", "words"), "29/2/2024": Formula("29/2/2024", "words"),
    r"\text{Paris  }": Formula("paris", "words"), r"$\text{ New York}$.": Formula("new york", "words"),
    r"\text{3 eggs}": Formula("3", "number"), "1A_{16}": Formula("1A_16", "words"), "101_2": Formula("101_2", "words"),
    "5!": Formula("5!", "formula"), "- 5": Formula("- 5", "formula"), "< 5": Formula("< 5", "formula"),
}  # fmt: skip


@pytest.mark.parametrize("part", FORMULAS)
def test_ways_of_writing_a_formula(part: str) -> None:
    made = formula_of(part)
    assert made is not None
    assert made.text == FORMULAS[part]


@pytest.mark.parametrize("part", NONE)
def test_what_is_no_formula_or_could_be_read_in_part(part: str) -> None:
    assert formula_of(part) is None


@pytest.mark.parametrize("part", KINDS)
def test_kinds_of_answers(part: str) -> None:
    assert formula_of(part) == KINDS[part]


def test_formulas_are_bounded() -> None:
    assert (LONGEST, DEEPEST) == (500, 15)
    assert formula_of("x" + "+x" * 249) is not None
    assert formula_of("2x" + "+x" * 249) is not None
    assert formula_of("x" + "+x" * 249 + "+x") is None
    assert formula_of("(" * 15 + "x" + ")" * 15) is not None
    assert formula_of("(" * 16 + "x" + ")" * 16) is None
    assert formula_of("[" * 8 + "{" * 8 + "x" + "}" * 8 + "]" * 8) is None
    assert formula_of("}x{") is None
    assert formula_of(r"\{x\}") is not None
