r"""An answer as one formula that a computer algebra system reads whole, or none.

`1 1/2`, `1{,}234`, `5e3`, `50%`, `2 or 3`, `3/4 cups` and `\dfrac34` are written as it expects them; what it would read
in part, as `2 hours 30 minutes`, is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import gcd

from twofold.rewards.numerals import PARTS, alike, listed, numerals, plainer, untagged

LONGEST, DEEPEST = 500, 15
"""Characters and brackets within brackets of a formula: what is more takes a parser seconds."""

TIME = re.compile(r"(\d{1,2})[:：](\d\d)(?:[:：](\d\d))?\s?([ap]\.?m\.?)?", re.IGNORECASE)
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|normal)?|mathrm|mathbf|mbox|operatorname)\s?\{([^{}]*)\}")
_COMMANDS = re.compile(r"\\([a-zA-Z]+)")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_GROUPS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])|(?<![\d.])\d{1,3}(?: \d{3})+(?![\d ])")
_MIXED = re.compile(r"(?<![\d./])(\d{1,15}) (\d{1,15}) ?/ ?(\d{1,15})(?![\d./])")
_POWER_OF_TEN = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)[eE]([-+]?\d{1,4})(?!\w)")
_SQRT = re.compile(r"(?<![\\a-zA-Z])sqrt\(([^()]*)\)|√\(?([\w.]+)\)?")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_UNIT = re.compile(r"(?<=[\d})%]) ?(?!and|or)[A-Za-z]{2,}(?:[ /](?:per )?[A-Za-z]{2,})*(?:\^\{?[23]\}?)?$")

_PLAIN_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SIGNS = {
    "\u2212": "-", "\u2013": "-", "×": r"\times ", "·": r"\cdot ", "÷": "/", "π": r"\pi ", "∞": r"\infty ",
    "≤": r"\le ", "≥": r"\ge ", "±": r"\pm ", "°": r"^\circ ", "∪": r"\cup ", "½": " 1/2", "¼": " 1/4", "¾": " 3/4",
    "⅓": " 1/3", "⅔": " 2/3", "**": "^", "{,}": ",", r"\,": " ", r"\;": " ", r"\:": " ", r"\!": "", r"\ ": " ",
    "~": " ", "\u00a0": " ", "\u2009": " ", "\u202f": " ", r"\left": "", r"\right": "", r"\dfrac": r"\frac",
    r"\tfrac": r"\frac", r"\cfrac": r"\frac", r"\$": "", r"\displaystyle": "", r"\qquad": " ", r"\quad": " ",
    "infinity": r"\infty ",
}  # fmt: skip
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SCALED = re.compile(rf"(\d|\}}) ?({'|'.join(_SCALES)})s?\b")
_NAMED = re.compile(r"(?<![\\A-Za-z])(pi|sin|cos|tan|log|ln|exp|infty|theta|alpha|beta)(?![A-Za-z])")
_UNENDING = re.compile(r"\d\.\d+ ?(?:\.\.\.|…|\\l?dots)")
_REPEATING = re.compile(r"(\d{0,15})\.(\d{0,15})\\(?:overline|bar)\s?\{(\d{1,15})\}")
_BASED = re.compile(r"([0-9A-F]{1,40})_\{?(\d{1,2})\}?")
_DATE = re.compile(r"\d{4}[-/]\d{1,2}[-/]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}")
_ODD = re.compile(r"\d[A-Za-z]\d|\d'\d|\d\.\d+\.\d|\d_\d{3}|[^\x00-\x7f]|(?<![_\d])\d+ +\d")
"""Hexadecimal, feet and inches, versions, other scripts, two numbers with nothing between them."""
_RATIO = re.compile(r"\d{1,15}(?: ?[:：] ?\d{1,15})+")
_SPLIT = re.compile(r" (?:and|or) ")
_KNOWN = re.compile(
    "frac|sqrt|binom|times|cdot|div|pi|theta|alpha|beta|gamma|delta|lambda|mu|sigma|phi|omega|infty|[lg]eq?|neq?|[lg]t|[pm]m"
    "|circ|(?:arc)?(?:sin|cos|tan)|cot|sec|csc|log|ln|exp|cup|cap|in|math[a-z]+|begin|end|[lc]?dots|emptyset"
    "|varnothing|angle|[lr](?:floor|ceil)|vert|sum|prod|int|lim|pmod"
)
_VALUE_WORDS = re.compile(
    r"\b(?:half|halves|thirds?|quarters?|root|squared|cubed|power|factorial|minus|negative|least|most|than|more|less"
    rf"|dozens?|lakhs?|crores?|[bm]n|mil|{PARTS})\b",
    re.IGNORECASE,
)
_ALGEBRA = re.compile(r"\d\s?!|[<>≤≥≠±√=]|^[-\u2212\u2013] ")


@dataclass(frozen=True, slots=True)
class Formula:
    """An answer as `text`, and whether it is a number, a percent, a time, a ratio, words or a formula."""

    text: str
    kind: str


def formula_of(part: str) -> Formula | None:
    """A final answer as a formula; None if it is none, or if only a part of it could be read."""
    part = untagged(alike(part).strip()).strip("*`_ \n")
    if not part or len(part) > LONGEST or not _balanced(part):
        return None
    line = plainer(part)
    inside = numerals(line)
    if _VALUE_WORDS.search(line) or _UNENDING.search(line):
        return None
    alone = len(inside) == 1 and inside[0].text is not None and not listed(line, inside[0])
    if alone and not _ALGEBRA.search(line):
        percent = re.match(r"[)}\s]*(?:%|percent\b)", line[inside[0].end :])
        return Formula(f"{inside[0].text}{'%' if percent else ''}", "percent" if percent else "number")
    if time := TIME.fullmatch(line.strip(" $.{}")):
        hours, minutes, seconds, half = time.groups()
        half = "" if half is None else half.replace(".", "").lower()
        return Formula(f"{int(hours)}:{minutes}:{seconds or '00'}{half}", "time")
    if _DATE.fullmatch(line.strip(" $.{}")):
        return Formula(line.strip(" $.{}"), "words")
    if _RATIO.fullmatch(line.strip(" $.{}")):
        parts = [int(each) for each in re.findall(r"\d+", line)]
        return Formula(":".join(str(each // max(1, gcd(*parts))) for each in parts), "ratio")
    return _formula(part)


def _formula(part: str) -> Formula | None:
    words = _TEXT.fullmatch(part.strip("$ ."))
    if words and not any(map(str.isdecimal, words[1])):
        return Formula(" ".join(words[1].casefold().split()), "words")
    if based := _BASED.fullmatch(part.strip("$ .")):
        return Formula(f"{based[1]}_{based[2]}", "words")
    text = re.sub(r"(?<!\\)\\[()\[\]]|\$", "", part)
    text = text.replace(r",\! ", ",").replace(r"\! ", "")
    text = _REPEATING.sub(_fraction, text)
    text = " ".join(_TEXT.sub(r" \1 ", text).split())
    rows = text.split(r"\\")  # of a matrix
    for sign, plain in _SIGNS.items():
        rows = [row.replace(sign, plain) for row in rows]
    text = " ".join(r" \\ ".join(rows).split())
    text = _SUPERSCRIPT.sub(lambda m: f"^{{{m[0].translate(_PLAIN_SUPERSCRIPTS)}}}", text)
    text = re.sub(r"[€£¥₹]", "", text).strip().rstrip(".,;").strip()
    text = _SQRT.sub(lambda m: rf"\sqrt{{{m[1] or m[2]}}}", text)
    text = _POWER_OF_TEN.sub(r"\1\\times 10^{\2}", text)
    while _SCALED.search(text):  # hundred thousand
        text = _SCALED.sub(lambda m: rf"{m[1]}\times 10^{{{_SCALES[m[2]]}}}", text)
    text = _SPLIT.sub(", ", text)
    text = _MIXED.sub(r"(\1+\\frac{\2}{\3})", text)
    text = re.sub(r"(?<!\\)%| percent\b", r"\\%", _GROUPS.sub(lambda m: re.sub("[, ]", "", m[0]), text))
    text = _NAMED.sub(r"\\\1 ", text)
    text = text if "," in text else _UNIT.sub("", text)
    if "=" in text and not re.search(r"[A-Za-z<>]", re.sub(r"\\[a-zA-Z]+", "", text)):
        text = text.rpartition("=")[2].strip()  # a sum and what it makes
    if not text or _WORD.search(re.sub(r"\\(?:begin|end)\s?\{[a-z]+\}|\\math[a-z]+", "", text)):
        return None
    if not all(map(_KNOWN.fullmatch, _COMMANDS.findall(text))):
        return None
    if _ODD.search(text):
        return None
    return Formula(" ".join(text.split()), "formula")


def _fraction(match: re.Match[str]) -> str:
    """A decimal that repeats as a fraction."""
    whole, once, again = match.groups()
    numerator = int(f"0{whole}{once}{again}") - int(f"0{whole}{once}")
    return rf"\frac{{{numerator}}}{{{'9' * len(again)}{'0' * len(once)}}}"


def _balanced(text: str) -> bool:
    depth = deepest = 0
    for sign in re.findall(r"\\.|[{}()\[\]]", text):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        deepest += sign in "{(["
        if depth < 0:
            return False
    return depth == 0 and deepest <= DEEPEST
