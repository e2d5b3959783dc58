"""`math`: problems of MATH (Hendrycks et al. 2021, arXiv:2103.03874) and MATH-500, by level and subject.

There are three rules. *boxed* reads only the last `\\boxed{…}` of a completion, *math* any final answer as
`verifier:math` does (`rewards/mathematics.py`), and *math_verify* is math-verify on both whole texts, the metric of
that name of lm-eval's minerva_math. A reference answer that is no formula is compared as text by the first two.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from twofold.data.readers import rows as rows_in
from twofold.errors import DataError, RecipeError
from twofold.evaluation.answers import Answered, Rule, measure_answers
from twofold.evaluation.figures import BinaryOutcomes, Entry, Evaluation
from twofold.evaluation.parts import WHOLE, Line, Part
from twofold.evaluation.pass_at_k import PassAtK, PassAtKSettings, Sampled, measure_counts, pass_at_k_figures
from twofold.evaluation.problems import PromptSettings
from twofold.evaluation.rows import Data, rows_of
from twofold.records import Task
from twofold.rewards.final_answer import boxed, short, spoken
from twofold.rewards.mathematics import MathVerifier, formula, require_math_verify, solvable, spoken_formula
from twofold.rewards.notation import formula_of
from twofold.settings import with_keywords

METRICS = ("boxed", "math", "math_verify")
VOTED = ("boxed", "math")
"""The metrics whose answers can be counted."""
LEVEL = re.compile(r"^\s*level\b", re.IGNORECASE)
Row = dict[str, Any]

_CHOICE = re.compile(r"\([a-z]\)")
_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s?\{([^{}]*)\}|\\(?:left|right|[,;:! ])|[\s$]")


@dataclass(frozen=True, kw_only=True)
class MathSettings(PromptSettings):
    """As for `accuracy`; `metrics` are some of METRICS, None is all. `split` is that of a hub data set."""

    preset: str = "math"
    max_new_tokens: int = 1024
    metrics: Sequence[str] | None = None
    split: str | None = None


@dataclass(frozen=True, kw_only=True)
class MathPassAtKSettings(PassAtKSettings):
    """As for `pass_at_k`, by *boxed* and *math*."""

    preset: str = "math"
    max_new_tokens: int = 1024
    split: str | None = None


@with_keywords(MathSettings)
def math_accuracy(models: Sequence[str], data: Data, how: MathSettings) -> Evaluation:
    """How many problems of MATH each player solves, greedy if it has no temperature; and of each level and subject.

    `models` are players (docs/evaluation.md), the first the baseline; `data` are rows with problem, and solution or
    answer. Intervals and tests as for `accuracy`. Raises RecipeError where math-verify is not installed, DataError for
    a row without a final answer, before anything is drawn.
    """
    return math_figures(measure_math(models, rows_of(data, "math"), how, WHOLE), how)


def measure_math(models: Sequence[str], problems: Sequence[Task], how: MathSettings, part: Part) -> dict[str, Line]:
    """Every problem's answer by each model, with the verdicts on it."""
    metrics = list(dict.fromkeys(how.metrics or METRICS))
    unknown = next((name for name in metrics if name not in METRICS), None)
    if unknown is not None:
        raise RecipeError(f"{unknown!r} is no metric", where="--metrics", remedy=f"some of {', '.join(METRICS)}")
    labels = _checked(problems, how.split)
    with grader() as rules:

        def judged(name: str, found: Sequence[Answered]) -> list[Row]:
            return [
                {"model": name, "name": row.name, **labels.get(row.name, {}), "prompt": row.prompt,
                 "completion": row.completion, "answer": row.answer,
                 **{metric: rules[metric](row.completion, row.answer) for metric in metrics},
                 "truncated": row.truncated, "tokens": row.tokens}
                for row in found
            ]  # fmt: skip

        return measure_answers(models, problems, how, part, judged)


def math_figures(measured: Mapping[str, Line], how: MathSettings) -> Evaluation:
    """The table of what was measured."""
    entries = [_entry(name, line.rows, line.about) for name, line in measured.items()]
    return Evaluation.of(entries, max_new_tokens=how.max_new_tokens)


def measure_math_samples(
    models: Sequence[str], problems: Sequence[Task], how: MathPassAtKSettings, part: Part
) -> dict[str, Line]:
    """What the samples of every problem answer, by each model."""
    labels = _checked(problems, how.split)
    with grader() as rules:

        def count(task: Task, texts: Sequence[str]) -> dict[str, Sampled]:
            return {metric: _counted(task, texts, metric, rules[metric]) for metric in VOTED}

        lines = measure_counts(models, problems, how, part, count)
    return {
        name: replace(line, rows=[{**row, **labels.get(row["name"], {})} for row in line.rows])
        for name, line in lines.items()
    }


def math_sample_figures(measured: Mapping[str, Line], how: MathPassAtKSettings) -> Evaluation:
    """pass@k and maj@k of what was measured; in `subsets` those of each level and subject."""
    whole = pass_at_k_figures(measured, how)
    for model, line in zip(whole.figures["models"], measured.values(), strict=True):
        model["subsets"] = {}
        for subset, rows in _subsets(line.rows).items():
            part = PassAtK.of(rows)
            model["subsets"][subset] = {
                f"{f['figure']} {f['metric']}": part.estimate(kind, f["metric"], int(k)).as_dict()
                for f in model["figures"]
                for kind, _, k in (f["figure"].partition("@"),)
            }
    return whole


@contextmanager
def grader() -> Iterator[dict[str, Rule]]:
    """The rules by name, in one process that compares."""
    with MathVerifier() as verifier:

        @lru_cache(maxsize=4096)
        def last_box(box: str, answer: str) -> bool:
            return _right(verifier, f"\\boxed{{{box}}}", answer)

        def in_box(completion: str, answer: str) -> bool:
            box = boxed(completion)
            return box is not None and last_box(box, answer)

        def anywhere(completion: str, answer: str) -> bool:
            return _right(verifier, completion, answer)

        yield dict(zip(METRICS, (in_box, anywhere, verifier.whole), strict=True))


def _right(verifier: MathVerifier, completion: str, answer: str) -> bool:
    """Whether final answers are equal: by algebra, or as text where the reference answer is no formula, or words."""
    try:
        if verifier.right(completion, answer):
            return True
        as_text = formula(answer).kind == "words"
    except DataError:
        as_text = True
    part = spoken(completion) if as_text else None
    return part is not None and _plain(boxed(part) or part) == _plain(_final(answer))


def _plain(text: str) -> str:
    """A final answer as text, without spaces, case, commands that only set type, and brackets around one letter."""
    bare = "".join(_TEXT.sub(lambda found: found[1] or "", text).casefold().split()).rstrip(".")
    return bare[1] if _CHOICE.fullmatch(bare) else bare


def _final(answer: str) -> str:
    """The final answer of a reference answer as text."""
    box = boxed(answer)
    return answer if box is None else box


def _checked(problems: Sequence[Task], split: str | None) -> dict[str, dict[str, str]]:
    """The level and subject of each problem, by name. Raises DataError for a reference answer that has no final one."""
    require_math_verify("--task math")
    for problem in problems:
        if not _plain(_final(problem.answer)):
            remedy = "write it in \\boxed{…} at the end of `solution`, or as `answer`"
            raise DataError("the row has no final answer", where=str(problem.source), remedy=remedy)
        if boxed(problem.answer) is None:
            try:
                solvable(problem.answer, str(problem.source))
            except DataError:
                if len(problem.answer) > len(short(problem.answer)):
                    raise  # a worked solution without a box
    return labels_of(problems, split or "test")


def labels_of(problems: Sequence[Task], split: str) -> dict[str, dict[str, str]]:
    """`level` and `subject` of the rows behind `problems` that have them, by name. Published rows have `type` for a
    subject, and levels as `Level 5`. Records that were made in memory have neither."""
    found: dict[str, dict[str, str]] = {}
    wanted = {str(problem.source): problem.source for problem in problems}
    for file in {source.file for source in wanted.values() if Path(source.file).exists() or "/" in source.file}:
        most = max(source.row for source in wanted.values() if source.file == file)
        for number, row in rows_in(file, split):
            if number > most:
                break
            if isinstance(row, Mapping) and (name := f"{file}:{number}") in wanted:
                found[name] = _labels(row)
    return found


def _labels(row: Mapping[str, Any]) -> dict[str, str]:
    level, subject = row.get("level"), row.get("subject", row.get("type"))
    told = {} if level in (None, "") else {"level": f"level {LEVEL.sub('', str(level)).strip()}"}
    return told | ({} if subject in (None, "") else {"subject": str(subject)})


def _counted(task: Task, texts: Sequence[str], metric: str, right: Rule) -> Sampled:
    """Votes: right samples are one answer, wrong ones as many as their formulas differ in writing."""
    keys = [_key(text, metric) for text in texts]
    wins = [key is not None and right(text, task.answer) for text, key in zip(texts, keys, strict=True)]
    wrong = Counter(key for key, won in zip(keys, wins, strict=True) if key is not None and not won)
    return Sampled(str(task.source), sum(wins), tuple(sorted(wrong.values(), reverse=True)), keys.count(None))


def _key(text: str, metric: str) -> str | None:
    """The final answer of a sample as its vote; None without one."""
    part = boxed(text) if metric == "boxed" else spoken(text)
    if part is None:
        return None
    formula = formula_of(part) if metric == "boxed" else spoken_formula(text)
    return _plain(part) if formula is None else formula.text


def _subsets(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of each level, then of each subject, sorted by name."""
    found: dict[str, list[Row]] = {}
    for label in ("level", "subject"):
        for name in sorted({row[label] for row in rows if label in row}):
            found[name] = [row for row in rows if row.get(label) == name]
    return found


def _entry(name: str, rows: Sequence[Row], prompting: Mapping[str, Any]) -> Entry:
    metrics = [key for key in (rows[0] if rows else ()) if key in METRICS]

    def outcomes(some: Sequence[Row]) -> dict[str, BinaryOutcomes]:
        prompts = [row["prompt"] for row in some]
        return {metric: BinaryOutcomes([row[metric] for row in some], prompts) for metric in metrics}

    subsets = {
        subset: {metric: each.estimate().as_dict() for metric, each in outcomes(some).items()}
        for subset, some in _subsets(rows).items()
    }
    return Entry(
        name,
        outcomes(rows),
        about={"subsets": subsets, "prompting": {**prompting, "first prompt": rows[0]["prompt"] if rows else ""}},
        counts={"truncated": sum(row["truncated"] for row in rows)},
        rows=rows,
    )
