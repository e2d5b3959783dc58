"""The embedded task: two-step arithmetic stories whose answer can be worked out in two lines or blurted out in one.

A problem belongs to exactly one split, decided by a checksum of its calculation. So no story of one split, and not even
the same calculation in other words, can occur in another.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal, TypeAlias
from zlib import crc32

from twofold.ledger import write_rows
from twofold.records import Demonstration, Pair, Source, Task

Split: TypeAlias = Literal["base", "train", "generator", "test"]

_SHARES: dict[Split, range] = {
    "base": range(0, 12),
    "train": range(12, 15),
    "generator": range(15, 17),
    "test": range(17, 20),
}
"""Twentieths of all calculations: for the base model, the pairs, sampling, and the test set."""

_NAMES = ("Ann", "Ben", "Cara", "Dan", "Eva", "Finn", "Gus", "Ida", "Jon", "Kim", "Leo", "Mia")
_THINGS = ("pens", "cards", "eggs", "figs", "nuts", "hats", "keys", "cups", "maps", "toys")

_STORIES: tuple[tuple[str, float, str], ...] = (
    ("++", 0.4, "{name} has {a} {things}, gets {b}, then {c} more. How many in all?"),
    ("++", 0.6, "{name} saw {a} {things} at noon, {b} at six and {c} at ten. How many?"),
    ("+-", 0.4, "{name} has {a} {things}, buys {b} and sells {c}. How many now?"),
    ("+-", 0.3, "{name} found {a} {things}, then {b} more, but lost {c}. How many left?"),
    ("-+", 0.4, "{name} had {a} {things}, gave away {b} and got {c}. How many now?"),
    ("-+", 0.6, "{name} lost {b} of {a} {things} and then bought {c}. How many now?"),
    ("*+", 0.4, "{name} has {a} bags of {b} {things} and {c} more. How many in all?"),
    ("*-", 0.6, "{name} fills {a} boxes with {b} {things} and sells {c}. How many left?"),
    ("+*", 0.3, "{name} makes {a} red and {b} blue {things} a day. How many in {c} days?"),
    ("+*", 0.4, "{c} bags hold {a} red and {b} blue {things} each. How many has {name}?"),
    ("-*", 0.6, "{name} gets {a} {things} a day and uses {b}. How many after {c} days?"),
    ("-*", 0.4, "{c} boxes held {a} {things} each, {name} took {b} from each. How many left?"),
)
"""Operators, share of people who work such a story out on paper, and the story."""
_OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


@dataclass(frozen=True, slots=True)
class Problem:
    """A story and the calculation that answers it."""

    prompt: str
    steps: tuple[str, ...]
    number: int
    worked_share: float
    """The share of such problems that the corpus answers in steps."""

    @property
    def worked(self) -> str:
        """The answer in steps, ended as GSM8K ends its answers."""
        return "\n".join((*self.steps, self.terse))

    @property
    def terse(self) -> str:
        """The terse answer."""
        return f"#### {self.number}"


def problems(split: Split, count: int, *, seed: int = 0) -> list[Problem]:
    """The first `count` different problems of (split, seed): a longer list continues a shorter one."""
    found: dict[str, Problem] = {}
    stream = _stream(split, seed)
    while len(found) < count:
        problem = next(stream)
        found.setdefault(problem.prompt, problem)
    return list(found.values())


def tasks(split: Split, count: int, *, seed: int = 0) -> list[Task]:
    """Problems with their worked answers as ground truth."""
    return [
        Task(problem.prompt, problem.worked, _source(split, row))
        for row, problem in enumerate(problems(split, count, seed=seed), 1)
    ]


def demonstrations(split: Split, count: int, *, seed: int = 0) -> list[Demonstration]:
    """Problems answered in steps or tersely, as often as each is (`worked_share`). Every answer is right."""
    style = Random(f"{split} style {seed}")
    return [
        Demonstration(
            problem.prompt,
            problem.worked if style.random() < problem.worked_share else problem.terse,
            _source(split, row),
        )
        for row, problem in enumerate(problems(split, count, seed=seed), 1)
    ]


def pairs(tasks: Sequence[Task], samples: Sequence[str]) -> list[Pair]:
    """The ground truth preferred to a sample per task; a task whose sample is the ground truth itself makes no pair."""
    return [
        Pair(task.prompt, task.answer, sample, task.source)
        for task, sample in zip(tasks, samples, strict=True)
        if sample != task.answer
    ]


def write_files(folder: Path, counts: Mapping[Split, int], *, seed: int = 0) -> dict[Split, Path]:
    """Write `train.jsonl` and so on, a `{"prompt", "answer"}` with the worked answer per line; returns their paths."""
    paths: dict[Split, Path] = {}
    for split, count in counts.items():
        rows = ({"prompt": task.prompt, "answer": task.answer} for task in tasks(split, count, seed=seed))
        paths[split] = folder / f"{split}.jsonl"
        write_rows(paths[split], rows)
    return paths


def split_of(operators: str, numbers: tuple[int, int, int]) -> Split:
    """The split that owns a calculation."""
    twentieth = crc32(f"{operators} {numbers}".encode()) % 20
    return next(split for split, share in _SHARES.items() if twentieth in share)


def _source(split: Split, row: int) -> Source:
    return Source(f"demo/{split}", row)


def _stream(split: Split, seed: int) -> Iterator[Problem]:
    random = Random(f"{split} {seed}")
    while True:
        operators, worked_share, story = random.choice(_STORIES)
        numbers = _numbers(operators, random)
        name, things = random.choice(_NAMES), random.choice(_THINGS)
        if split_of(operators, numbers) != split:
            continue
        a, b, c = numbers
        middle = _OPERATORS[operators[0]](a, b)
        number = _OPERATORS[operators[1]](middle, c)
        if middle > 1 and number > 0:
            steps = (f"{a}{operators[0]}{b}={middle}", f"{middle}{operators[1]}{c}={number}")
            prompt = story.format(name=name, things=things, a=a, b=b, c=c)
            yield Problem(prompt, steps, number, worked_share)


def _numbers(operators: str, random: Random) -> tuple[int, int, int]:
    match operators:
        case "*+" | "*-":
            return random.randint(2, 9), random.randint(2, 9), random.randint(2, 12)
        case "+*" | "-*":
            return random.randint(2, 12), random.randint(2, 9), random.randint(2, 9)
        case _:
            return random.randint(5, 39), random.randint(2, 12), random.randint(2, 12)
