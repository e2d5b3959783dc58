"""Checks whether two mathematical answers are equal with math-verify (an optional extra), in a process that can be
killed.

`final_answer` and `notation` first decide which part of a text is the answer and how to read it: math-verify reads
`12:30` as 12. Plain numbers, percents, ratios and times are compared without math-verify. Some expressions keep a
computer algebra system busy forever; evaluation must not wait for them.
"""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
from contextlib import suppress
from decimal import Decimal
from functools import lru_cache
from importlib.util import find_spec
from typing import IO, Any

from twofold.errors import DataError, RecipeError
from twofold.rewards.final_answer import boxed, last_sentence, marked, short, spoken
from twofold.rewards.notation import Formula, formula_of

START_SECONDS = 60.0
MOST_BYTES = 4 * 2**30
MOST_WORDS = 12
"""A ground truth without a mark that has more words is a worked solution, whose last formula is the answer."""
TINY = 1e-4
RANGE = re.compile(r"\d[\d.]*(?:\\?%)? ?- ?\d[\d.]*(?:\\?%)?")
"""`3-4`: a difference, or from 3 to 4."""
UNREADABLE = "unreadable"
WHOLE = "whole"
"""Marks texts from which math-verify extracts the answers itself."""
REMEDY = "math reads one formula, time or number behind `####` or in \\boxed{…}; for words evaluate with --metrics text"


def require_math_verify(where: str) -> None:
    """Raise RecipeError if the package that reads formulas is not installed."""
    if find_spec("math_verify") is None:
        remedy = "pip install 'twofold[math]', or judge with verifier or verifier:flexible"
        raise RecipeError("the package math-verify is not installed", where=where, remedy=remedy)


class MathVerifier:
    """Compares answers in one child process. A comparison that takes longer than `timeout` seconds counts as unequal.

    A context manager. `timeouts` counts the comparisons that were given up.
    """

    def __init__(self, timeout: float = 5.0) -> None:
        require_math_verify("verifier:math")
        self.timeout, self.timeouts = timeout, 0
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> MathVerifier:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    def __call__(self, prompt: str, completion: str, truth: str | None) -> float:
        """1 where `right`, else 0."""
        assert truth is not None, "checked before anything is rated"
        return float(self.right(completion, truth))

    def right(self, completion: str, answer: str) -> bool:
        """Whether the final answer of `completion` equals the ground truth's, both read whole. Raises DataError for a
        ground truth that is no formula."""
        gold, given = formula(answer), spoken_formula(completion)
        if given is None:
            return False
        known = _equal(gold, given)
        return self._by_algebra(gold.text, given.text) if known is None else known

    def whole(self, completion: str, answer: str) -> bool:
        """Whether math-verify finds an answer in the whole `completion` that equals one in the whole `answer`: its own
        extraction and comparison, as the metric math_verify of lm-eval's minerva_math."""
        return self._by_algebra(answer, completion, WHOLE)

    def _by_algebra(self, gold: str, given: str, *whole: str) -> bool:
        child = self._child or self._start()
        try:
            child.stdin.write(json.dumps([gold, given, *whole]).encode() + b"\n")  # type: ignore[union-attr]  # a pipe, as opened
            child.stdin.flush()  # type: ignore[union-attr]
            said = self._read(child, self.timeout)
        except OSError:
            said = None
        if said is None:
            self.timeouts += 1
            self._kill()
        if said == UNREADABLE:
            raise DataError(f"the answer {gold!r} is no formula that math-verify reads", where="", remedy=REMEDY)
        return said is True

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "twofold.rewards.mathematics"]
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        if self._read(self._child, START_SECONDS) is not True:
            self._kill()
            raise RecipeError("math-verify does not start", where="verifier:math", remedy="install it again")
        return self._child

    def _read(self, child: subprocess.Popen[bytes], seconds: float) -> Any | None:
        """One line of the child's as JSON; None if it takes too long or dies. A line is far below a pipe's size."""
        out: IO[bytes] = child.stdout  # type: ignore[assignment]  # a pipe, as opened
        if not select.select([out], [], [], seconds)[0]:
            return None
        line = out.readline()
        return json.loads(line) if line else None

    def _kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with suppress(OSError):  # of a question that a dead child has not read
                        pipe.close()


@lru_cache(maxsize=4096)
def formula(answer: str) -> Formula:
    """The final answer of a ground truth. Raises DataError where it is no formula, or where there are several."""
    golds = dict.fromkeys(formula_of(boxed(part) or part) for part in marked(answer)) or {_unmarked(answer): None}
    if len(golds) > 1:
        raise DataError(f"the answer {short(answer)!r} has several final answers", where="", remedy=REMEDY)
    if (gold := next(iter(golds))) is None or RANGE.fullmatch(gold.text):
        raise DataError(f"the answer {short(answer)!r} is no formula that can be read whole", where="", remedy=REMEDY)
    return gold


def _unmarked(answer: str) -> Formula | None:
    """A whole short answer, or its text after the equals sign; for a worked solution its end."""
    if len(answer.split()) > MOST_WORDS:
        return spoken_formula(answer)
    whole = formula_of(answer)
    return formula_of(last_sentence(answer) or "") if whole is None and "=" in answer else whole


def spoken_formula(completion: str) -> Formula | None:
    """The final answer of a completion; None where it gives none that is a formula."""
    part = spoken(completion)
    return None if part is None else formula_of(boxed(part) or part)


def solvable(answer: str, where: str) -> None:
    """Raise DataError at `where` unless `answer` is a formula to compare with."""
    try:
        formula(answer)
    except DataError as error:
        raise DataError(error.what, where=where, remedy=error.remedy) from None


def _equal(gold: Formula, given: Formula) -> bool | None:
    """Whether two answers are equal, where that needs no algebra; else None."""
    kinds = {gold.kind, given.kind}
    if gold.text == given.text and kinds != {"words", "number"}:
        return True
    if kinds & {"time", "ratio", "words"}:
        return False
    if kinds <= {"number", "percent"}:
        values = [Decimal(each.text.rstrip("%")) for each in (gold, given)]
        if values[0] == values[1] or len(kinds) == 1:
            return values[0] == values[1]
        percent, number = values if gold.kind == "percent" else values[::-1]
        return percent == number * 100
    return None


def serve(questions: IO[str], replies: IO[str]) -> None:
    """The child's life: a line `true` once it is ready, then one for each line of [ground truth, answer], or of whole
    texts with the mark WHOLE."""
    import resource

    from math_verify import LatexExtractionConfig, parse, verify

    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))

    ours: Any = {"parsing_timeout": None}  # the parent keeps the time

    def reply(said: bool | str) -> None:
        replies.write(json.dumps(said) + "\n")
        replies.flush()

    def parsed(formula: str) -> list[Any]:
        text = "$" + formula.replace("\\%", "%").replace("%", "\\%") + "$"
        whole: Any = {"extraction_config": [LatexExtractionConfig()], "fallback_mode": "no_fallback"}
        return parse(text, **whole, **ours)

    reply(True)
    for line in questions:
        try:
            gold, given, *marks = json.loads(line)
            if marks:
                reply(bool(verify(parse(gold, **ours), parse(given, **ours), timeout_seconds=None)))
                continue
            gold, given = parsed(gold), parsed(given)
            reply(
                bool(verify(gold, given, timeout_seconds=None)) and _same_size(gold[0], given[0])
                if gold
                else UNREADABLE
            )
        except Exception:  # whatever a computer algebra system raises: no answer was found equal
            reply(False)


def _same_size(gold: Any, given: Any) -> bool:
    """Whether two numbers that math-verify finds equal, to six decimals, are so where both are tiny, too."""
    try:
        a, b = (abs(each.doit().evalf()) for each in (gold, given))
        return bool(max(a, b) >= TINY or abs(a - b) <= 1e-6 * max(a, b))
    except (AttributeError, TypeError, ValueError):  # no numbers
        return True


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
