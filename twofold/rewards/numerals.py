"""Plain numbers as texts write them, read whole: `18`, `-7`, `1,234.50`, `$18`, `5 km`, `50%`, `\\boxed{1{,}234}`.

A number that continues on either side is another number or none: `3/4`, `12:30`, `10^6`, `5e3`, `2x+1`, `1,2,3`,
`5 million`. None of these is read by the part of it that looks plain. The context that is read around a number is
bounded, and every pattern is linear in the length of the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from dataclasses import dataclass
from itertools import islice

AROUND = 64
"""Number of characters to read on either side of a number, to decide whether it continues."""
LONGEST = 4000
"""Number of characters of a line to read, up to its last number."""

NUMBER = re.compile(
    r"\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}(?!\d)"
    r"|(?<![\d.,])\d{1,3}(?: \d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|(?<![\w.])\.\d+"
)

_WRAPPERS = re.compile(r"\\(?:boxed|fbox|text(?:bf|it|rm|normal)?|math(?:rm|bf|it|normal)|mbox|bm|boldsymbol)\s?\{")
_LAYOUT = re.compile(
    r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|q?quad|Rightarrow|rightarrow|implies|therefore)(?![a-zA-Z])|\\!"
)
_DEGREES = re.compile(r"\^\s?(?:\\circ(?![a-zA-Z])|\{\s?\\circ\s?\})|\\degree(?![a-zA-Z])")
_AREAS = re.compile(
    r"(\d[ }]{0,2}\{? ?(?:[kcmd]?m|ft|in|yd|mi|units?|inch(?:es)?|feet|miles?|(?:centi|kilo)?met(?:er|re)s?)\}?)"
    r"\^\{?[23]\}?"
)
_FORMS = {
    "-": "\u2010\u2011\ufe63", "/": "\u2044\u2215", "·": "\u2219\u22c5", "×": "\u2715\u2716\u2a2f", "*": "\u2217",
    ":": "\u2236", ".": "\u066b", ",": "\u066c\u201a", "'": "\u02bc\u2019\u2032", "\u2013": "\uff5e\u301c",
    " ": "\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u200a\u205f\u3000",
}  # fmt: skip
_ALIKE = {
    **{0xFF01 + n: chr(0x21 + n) for n in range(94)},
    **{ord(other): sign for sign, others in _FORMS.items() for other in others},
    **dict.fromkeys((0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF)),
}
"""Signs of full width, other hyphens, slashes, dots, apostrophes and spaces as the ones that are read below; without
characters that no one sees: joiners, marks of direction, soft hyphens."""
_DASH = re.compile(r"(?<=\d)[\u2014\u2015](?=\d)")
_TAGS = re.compile(r"</?[A-Za-z]\w{0,20}>|<\|\w{1,30}\|>")
_SPACES = re.compile(r"\\[,;: ]|[~\u00a0\u2009\u202f]")
_DELIMITERS = re.compile(r"\\[()\[\]]|\\\\")
_INNER = re.compile(r"(?<=[{(\[]) | (?=[})\]])")
_BOLD = re.compile(r"(?<![\w)])\*\*|\*\*(?![\w(])|`")
_ESCAPED = re.compile(r"\\([$%#&_])")

_LETTER = "[A-Za-z\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff]"
_SCALE = r"(?:(?:hundred|thousand|million|billion|trillion|lakh|crore|dozen|k|bn|mn)s?\b|[百千万亿萬億])"
PARTS = "(?:four|fif|six|seven|eigh|nin|ten|twelf|hundred|thousand|million)ths"
_UNITS = re.compile(
    "[kcdmn]?m|kg|m?g|m[il]|[cd]l|m?s|mins?|hrs?|secs?|k?mph|km?ph|kmh|lbs?|oz|ft|yds?|gal|[pq]ts?|[kmgt]b|[kmg]?hz|kwh?"
    "|rpm|usd|eur|gbp|cad|aud|inr|rs|dollars?|cents?|euros?|pounds|percent|deg(?:rees)?|st|nd|rd|th|am|pm",
    re.IGNORECASE,
)
_OPENERS = "$€£¥₹({[\"'“‘"

# Right of a number: closers and the signs of units, then what makes it a part of something else.
_CLOSERS = re.compile(r"[)}\]\"'”’$|*_°%]*")
_ATTACHED = re.compile(rf"({_LETTER}+)(\d?)")
_GOES_ON = re.compile(
    r"\s?\^|[²³¹⁰⁴-⁹⁺⁻ⁿ₀-₉\u0300-\u036f]|\s?[½¼¾⅐-⅞↉]|\s?\\[a-zA-Z]|[;&@\\\u2014\u2015]\d"
    r"|\s?[+×·÷±]\s?[\w(\\]|\*[\w(\\]|\s\*\s[\w(\\]"
    rf"|\s?[-\u2212\u2013/](?:[\d(\\$]|{_LETTER}(?!{_LETTER}))|\s[-\u2212\u2013/]\s(?:[\d(\\$]|{_LETTER}(?!{_LETTER}))"
    r"|[:：]\d|\s:\s\d|,\s?[-$]?\d|\.\d|_\w|\s\d|\s,\s?\d|\s?/\s\d"
    r"|\s?(?:<(?![</|]|[\w/]+>)|>(?!>)|[≤≥≠])=?\s?[\w(]"
    r"|\s(?:and|or|to|by|x|out of|versus|vs\.?)\s[-\u2212]?[$€£]?\d"
    r"|\s(?:and\s(?:an?|one|two|three)\s(?:half|third|quarters?|fourths?|fifths?)|squared|cubed|factorial"
    rf"|{PARTS}|thirds|halves)\b"
    rf"|\s?\{{?\s?{_SCALE}|分之"
    rf"|\s(?-i:(?![aImgshlLCFNJWV]\b){_LETTER})(?![\w.'’])",
    re.IGNORECASE,
)
_COMPOUND = re.compile(
    rf"\s?(?!(?:in|for|per|after|at|on|with|from|by|every|each)\b){_LETTER}+\.?,?(?: and)? \d|\s?['\"°]\s?\d"
)
_UNENDING = re.compile(r"\.\.\.|…")

# Left of a number, before signs and opening brackets.
_COMMAND = re.compile(r"\\[a-zA-Z]+\s?$")
_NEGATIVE = re.compile(r"\b(?:minus|negative)\s$", re.IGNORECASE)
_JOINED = re.compile(  # 2 hours 30, 3 out of 4, 5 or 6
    r"\d[ -]?(?:hours?|hrs?|h|min(?:ute)?s?|days?|weeks?|years?|feet|foot|ft|k?m|met(?:er|re)s?|kg|lbs?|pounds?"
    r"|dollars?|or|out of|remainder|r),?(?: and)? $",
    re.IGNORECASE,
)
_OPERAND = re.compile(rf"(?:\d|[)\]}}%°]|(?<!{_LETTER}){_LETTER})$")
_CASED = re.compile(rf"(?:{_LETTER}|\d)$")
_TAG = re.compile(r"</?[\w|-]+$")

_IN = r"[^()\[\]{}]*"
_LISTED = re.compile(  # 0 is the number; (2,x], {x; 2}, x, 2, x \in (2, \infty)
    rf"[(\[{{]{_IN}(?:0{_IN}[,;]|[,;]{_IN}0){_IN}[)\]}}]|(?<![A-Za-z])(?:\\[a-zA-Z]+|[b-zB-HJ-Z])\s?[,;]\s?0"
    r"|0\s?[,;]\s?[-\u2212]?(?:\\[a-zA-Z]+|[b-zB-HJ-Z])(?![A-Za-z])|\\(?:infty|in|cup|cap|setminus)(?![a-zA-Z])|[∞∈∪]"
)


@dataclass(frozen=True, slots=True)
class Numeral:
    """A number in a line: its text without separators and currency, None where it is a part of something else."""

    text: str | None
    start: int
    end: int


def plainer(line: str) -> str:
    """One line without the marks of LaTeX and Markdown that change no number."""
    line = _DELIMITERS.sub("$", _LAYOUT.sub("", alike(line).replace("{,}", ",").replace(r",\! ", ",")))
    line = _DEGREES.sub("°", _WRAPPERS.sub(" {", line)).replace("\\approx", "≈")
    line = untagged(_INNER.sub("", _SPACES.sub(" ", _ESCAPED.sub(r"\1", line))))
    return _AREAS.sub(r"\1", _BOLD.sub("", line))


def alike(text: str) -> str:
    """A text with each sign in the one form of it that is read."""
    return text if text.isascii() else _DASH.sub("\u2013", text.translate(_ALIKE))


def untagged(text: str) -> str:
    """A text without tags, as `<b>`, `</answer>` and `<|im_end|>`."""
    return _TAGS.sub("", text)


def numerals(line: str) -> list[Numeral]:
    """The first two numbers in a line that is already `plainer`: whether there is one, and no other."""
    return [_read(line, match) for match in islice(NUMBER.finditer(line), 2)]


def listed(line: str, number: Numeral) -> bool:
    """Whether the only number of a line is one of several parts: of a point, a list, a set or an interval."""
    before, behind = line[: number.start][-LONGEST:], line[number.end :][:LONGEST]
    return _LISTED.search(f"{before.rstrip('-+')}0{behind}") is not None


def last_numeral(line: str) -> Numeral | None:
    """The last number in a line as it was written; its text is None if more of the line belongs to it than is read."""
    end = next((n for n in range(len(line), 0, -1) if line[n - 1].isdecimal()), None)
    if end is None:
        return None
    start = max(0, end - LONGEST)
    part = plainer(line[start : end + 2 * AROUND])
    last = deque(NUMBER.finditer(part), maxlen=1)[0]
    return Numeral(None, 0, last.end()) if start and last.start() < AROUND else _read(part, last)


def goes_on(right: str, decimals: bool = False) -> bool:
    """Whether the text right of a number (with or without `decimals`) makes it a part of something else."""
    if decimals and _UNENDING.match(right):
        return True
    attached = _ATTACHED.match(right)
    if attached and (len(attached[1]) == 1 or not _UNITS.fullmatch(attached[1]) or attached[2] != ""):
        return True
    rest = right[_CLOSERS.match(right).end() :]  # type: ignore[union-attr]  # it matches nothing, too
    return any(pattern.match(each) for pattern in (_GOES_ON, _COMPOUND) for each in (right, rest))


def digits(number: str) -> str:
    """A number without separators: of two different ones the last is the decimal point."""
    if number.count(".") > 1 or -1 < number.find(".") < number.find(","):
        number = number.replace(".", "").replace(",", ".")
    number = number.replace(",", "").replace(" ", "")
    return number if number.isascii() else "".join(c if c == "." else str(unicodedata.decimal(c)) for c in number)


def _read(line: str, match: re.Match[str]) -> Numeral:
    left, right = line[max(0, match.start() - AROUND) : match.start()], line[match.end() : match.end() + AROUND]
    cut = match[0].startswith("00") and left.rstrip().endswith(",")  # 18, 000
    sign = None if cut or goes_on(right, "." in match[0]) else _sign(left)
    return Numeral(None if sign is None else sign + digits(match[0]), match.start(), match.end())


def _sign(left: str) -> str | None:
    """The sign of a number from the text left of it; None if that makes it a part of something else."""
    body = left.rstrip(_OPENERS)
    opened = left[len(body) :]
    if body.endswith(("-", "\u2212", "\u2013")):
        return _minus(body[:-1])
    apart = body.endswith(" ")
    if not apart and (body.endswith(("}", "]", ")")) or (_CASED.search(body) and "$" not in opened)):
        return None  # an identifier, a product, an argument
    if any(pattern.search(body) for pattern in (_COMMAND, _NEGATIVE, _JOINED)):
        return None
    return "" if _stands_alone(body.rstrip(), tight=not apart) else None


def _minus(before: str) -> str | None:
    """A minus between a number and the text `before`: a sign, a hyphen after a word, or (None) an operator."""
    operand = before.rstrip("({[")
    if operand.endswith(tuple("|^_*/×·÷")) or _OPERAND.search(operand):
        return None
    return "" if before[-1:].isalpha() else "-"


def _stands_alone(body: str, tight: bool) -> bool:
    """Whether no operator, comparison, list or time that ends `body` has the number as its last part."""
    mark, operand = body[-1:], body[:-1]
    before, spaced = operand.rstrip(), operand.endswith(" ")
    match mark:
        case ":" | "：":
            return tight == spaced or not before[-1:].isdecimal()
        case "," | ".":
            return not (tight and before[-1:].isdecimal())
        case "-" | "\u2212" | "\u2013":
            return not _OPERAND.search(before) and not before.endswith(("=", "≈"))
        case "*" | "_":
            return before == "" or (tight and spaced)
        case "+":
            return before == "" or (tight and (spaced or before.endswith(("=", "("))))
        case ">":
            return before == "" or before.endswith((">", "-", "=")) or bool(_TAG.search(operand))
        case "<":
            return operand.endswith("<")
        case "|":
            return not operand.endswith(("-", "\u2212"))
        case ";" | "&" | "@" | "\\":
            return not (tight and before[-1:].isdecimal())
        case "=":
            return not operand.endswith(("<", ">", "!"))
        case _:
            return mark == "" or mark not in "/^×·÷±√∛∜≤≥≠⁻"
