r"""Finds the final answer in a text: after `####`, in `\boxed{…}`, on a line `A:`, or in its last sentence.

If several lines with `####` differ, none is final. Of several boxes or lines `A:` the last one is used.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

from twofold.rewards.numerals import last_numeral, numerals, plainer

SEVERAL = 16
"""Maximum number of markers to read in one reference answer."""
TAIL = 4000
"""Number of characters at the end of a completion to search for an answer without a marker."""

_SPAN = re.compile(r"\$\$(.{1,1000}?)\$\$|\$([^$]{1,1000})\$|\\\((.{1,1000}?)\\\)|\\\[(.{1,1000}?)\\\]", re.DOTALL)
_STATED = re.compile(r"\b(?:final answer|answer)(?:\s+is\b:?|\s*[:：]|\*\*\s*[:：]?|\s*[:：]\*\*)", re.IGNORECASE)
_SIGN = re.compile(
    r"[-+*/^=×·÷±<>≤≥:,()\[\]{}|\u2212]+|[b-hj-z]|(?:[ap]\.?m|percent|(?:m|b|tr)illions?|thousands?|hundreds?)[.,]?",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(r"[A-Za-z]\s?=")
_CALL = re.compile(r"[A-Za-z]\([^()]{0,20}\)")
_VARIABLE = re.compile(r"(?<![A-Za-z\\])[b-hj-zB-HJ-Z](?![A-Za-z])")
_OPERATION = re.compile(r"[\^+*/\-\u2212\d]")
MOST_LEFT = 200
HASHES = "####"
BOX = re.compile(r"\\(?:boxed|fbox)\s?\{")
SENTENCE = re.compile(r"(?:(?<=[.?])|(?<=[^\\]!))\s+")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)


def marked(text: str) -> list[str]:
    """The distinct marked final answers of a reference answer: those after `####`, else its last box, else its last
    `A:`."""
    one = next((part for part in (boxed(text), behind_a(text)) if part is not None), None)
    return list(dict.fromkeys(behind_hashes(text)))[:SEVERAL] or ([] if one is None else [one])


def behind_hashes(text: str) -> list[str]:
    """The text after each `####` to the end of its line, or on the next line that is not empty."""
    lines = [line.strip() for line in text.splitlines()]
    return [_behind(HASHES, n, lines).strip("# ") for n, line in enumerate(lines) if HASHES in line]


def behind_a(text: str) -> str | None:
    """The text of the last line `A: …`, or of the next line that is not empty; None without such a line."""
    lines = [line.strip() for line in text.splitlines()]
    last = next((n for n in range(len(lines) - 1, -1, -1) if lines[n].startswith("A:")), None)
    return None if last is None else _behind("A:", last, lines)


def boxed(text: str) -> str | None:
    r"""What the last `\boxed{…}` holds, its braces balanced; None without one that ends."""
    start = _last(BOX, text)
    if start is None:
        return None
    depth = 1
    for brace in _BRACES.finditer(text, start.end()):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[start.end() : brace.start()].strip()
    return None


def last_sentence(text: str) -> str | None:
    """The last sentence with a digit, or its text after the last equals sign; None without one."""
    sentence = next(_backwards(text), None)
    return None if sentence is None else behind_equals(sentence)


def behind_equals(sentence: str) -> str:
    """The text after the last equals sign of a sum or of `x = …`. An equation, or several unknowns, are returned
    unchanged."""
    before, equals, last = sentence.replace("≈", "=").rpartition("=")
    several = len(_UNKNOWN.findall(sentence)) > 1
    left = _CALL.sub("f", before.rpartition("=")[2][-MOST_LEFT:])
    equation = _VARIABLE.search(left) and _OPERATION.search(left)
    return sentence if not equals or several or equation or before.endswith(tuple("<>!")) else last.strip()


def _backwards(text: str) -> Iterator[str]:
    for line in reversed(text.splitlines()):
        yield from (part for part in reversed(SENTENCE.split(line.strip())) if any(map(str.isdecimal, part)))


def _behind(mark: str, number: int, lines: list[str]) -> str:
    rest = lines[number].rpartition(mark)[2].strip()
    return rest or next((line for line in lines[number + 1 :] if line), "")


def spoken(text: str) -> str | None:
    """Where a completion gives its final answer: in whichever of `####` and `\\boxed{…}` comes last, else behind
    "answer is", else in its last formula or its last sentence; None where it gives none."""
    hashes, box = text.rfind(HASHES), _last(BOX, text)
    if box is not None and box.start() > hashes:
        return boxed(text)
    if hashes >= 0:
        return _unpunctuated(behind_hashes(text[text.rfind("\n", 0, hashes) + 1 :])[-1])
    tail = text[-TAIL:]
    stated = _last(_STATED, tail)
    if stated and (one := _expression(SENTENCE.split(tail[stated.end() :].strip().partition("\n")[0])[0])):
        return one
    spans = [next(filter(None, m.groups())) for m in _SPAN.finditer(tail)]
    if spans and not any(map(str.isdecimal, tail.rpartition(spans[-1])[2])):
        return behind_equals(spans[-1])
    sentence = last_sentence(tail)
    return None if sentence is None else _expression(sentence)


def _expression(sentence: str) -> str | None:
    """The formula that ends a sentence, but for a few words behind it."""
    span = _last(_SPAN, sentence)
    if span and not any(map(str.isdecimal, sentence[span.end() :])):
        return behind_equals(next(filter(None, span.groups())))
    words = behind_equals(_unpunctuated(sentence)).split()
    end = next((n for n in range(len(words), 0, -1) if _mathematical(words[n - 1])), 0)
    start = next((n for n in range(end, 0, -1) if not _mathematical(words[n - 1])), 0)
    expression = " ".join(words[start:end])
    alone = [each for each in numerals(plainer(expression)) if each.text is not None]
    among = last_numeral(sentence)  # of 2 hours 30 minutes, 30 is a part
    return None if not expression or (alone and among and among.text is None) else expression


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def _mathematical(word: str) -> bool:
    return any(map(str.isdecimal, word)) or "\\" in word or _SIGN.fullmatch(word) is not None


def _unpunctuated(text: str) -> str:
    return text.strip().rstrip(".,;:!*`_ ").lstrip("*`_ ")


def short(text: str, width: int = 60) -> str:
    """A text as errors show it: one line, cut."""
    line = " ".join(text[: 4 * width].split())
    return line if len(line) <= width else line[: width - 1] + "…"
