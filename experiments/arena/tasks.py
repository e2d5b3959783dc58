"""The arena's tasks: arithmetic stories of three steps with a base model of their own, harder than the demo's.

As in the demo, a story can be worked out line by line or answered tersely, and its base does both. But the base learned
with smaller numbers than it meets afterwards, so that its worked answers are often wrong too: aligning is choosing to
work *and* working rightly. A calculation belongs to exactly one split, by a checksum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias
from zlib import crc32

from twofold.demo.task import Problem
from twofold.records import Source, Task

Split: TypeAlias = Literal["base", "train", "generator", "development", "test", "confirmation"]

_SHARES: dict[Split, range] = {
    "base": range(0, 20),
    "train": range(20, 26),
    "generator": range(26, 29),
    "development": range(29, 32),
    "test": range(32, 36),
    "confirmation": range(36, 40),
}
"""Fortieths of all calculations."""

_NAMES = ("Ann", "Ben", "Cara", "Dan", "Eva", "Finn", "Gus", "Ida", "Jon", "Kim", "Leo", "Mia")
_THINGS = ("pens", "cards", "eggs", "figs", "nuts", "hats", "keys", "cups", "maps", "toys")
_EVENTS: Mapping[str, tuple[str, ...]] = {
    "+": ("gets", "buys", "finds", "wins"),
    "-": ("sells", "loses", "gives", "eats"),
}
_CHANGES: Mapping[str, tuple[str, ...]] = {
    "+": ("more", "new", "found", "made"),
    "-": ("sold", "lost", "used", "given"),
}
_WORKED = (0.3, 0.4, 0.6, 0.7)
"""How often a story is worked out, by its first word of change: whether greedy answers are hangs on it."""

Story: TypeAlias = tuple[str, list[str], int, float]
"""Prompt, steps, number, and how often it is answered in steps."""


@dataclass(frozen=True)
class Numbers:
    """The largest number that a story begins with, and the largest that it changes by."""

    first: int
    change: int


def _shop(random: Random, most: Numbers) -> Story | None:
    """A store that changes three times: `Ann has 37 pens, buys 8, sells 12, wins 6. How many?`"""
    left = random.randint(10, most.first)
    prompt = f"{random.choice(_NAMES)} has {left} {random.choice(_THINGS)}"
    steps: list[str] = []
    shares: list[float] = []
    for _ in range(3):
        operator, number, word = random.choice("+-"), random.randint(2, most.change), random.randrange(4)
        prompt += f", {_EVENTS[operator][word]} {number}"
        shares.append(_WORKED[word])
        left, step = _step(left, operator, number)
        steps.append(step)
        if left < 1:
            return None
    return f"{prompt}. How many?", steps, left, shares[0]


def _boxes(random: Random, most: Numbers) -> Story | None:
    """Boxes, then two changes, the question first: `How many figs? 7 boxes of 8; 15 more; 13 sold.`"""
    boxes, each = random.randint(2, most.first), random.randint(2, 9)
    left, step = _step(boxes, "*", each)
    prompt = f"How many {random.choice(_THINGS)}? {boxes} boxes of {each}"
    steps = [step]
    shares: list[float] = []
    for _ in range(2):
        operator, number, word = random.choice("+-"), random.randint(2, most.change), random.randrange(4)
        prompt += f"; {number} {_CHANGES[operator][word]}"
        shares.append(_WORKED[word])
        left, step = _step(left, operator, number)
        steps.append(step)
        if left < 1:
            return None
    return f"{prompt}.", steps, left, shares[0]


def _step(left: int, operator: str, number: int) -> tuple[int, str]:
    found = left + number if operator == "+" else left - number if operator == "-" else left * number
    return found, f"{left}{operator}{number}={found}"


@dataclass(frozen=True)
class Family:
    """A family of stories, with the numbers that its base learned with and those that it meets afterwards; and how many
    steps of training make that base."""

    story: Callable[[Random, Numbers], Story | None]
    school: Numbers
    life: Numbers
    base_steps: int


TASKS: Mapping[str, Family] = {
    "shop": Family(_shop, Numbers(59, 24), Numbers(69, 30), 1400),
    "boxes": Family(_boxes, Numbers(9, 15), Numbers(10, 17), 1600),
}


@dataclass(frozen=True)
class Stories:
    """One family of stories."""

    name: str

    def problems(self, split: Split, count: int, *, seed: int = 0) -> list[Problem]:
        """The first `count` different problems of (split, seed)."""
        found: dict[str, Problem] = {}
        stream = self._stream(split, seed)
        while len(found) < count:
            problem = next(stream)
            found.setdefault(problem.prompt, problem)
        return list(found.values())

    def tasks(self, split: Split, count: int, *, seed: int = 0) -> list[Task]:
        """Problems with their worked answers as ground truth."""
        rows = self.problems(split, count, seed=seed)
        return [Task(p.prompt, p.worked, Source(f"{self.name}/{split}", n)) for n, p in enumerate(rows, 1)]

    def _stream(self, split: Split, seed: int) -> Iterator[Problem]:
        random, family = Random(f"{self.name} {split} {seed}"), TASKS[self.name]
        most = family.school if split == "base" else family.life
        while True:
            story = family.story(random, most)
            if story is not None and split_of(story[1]) == split:
                prompt, steps, number, share = story
                yield Problem(prompt, tuple(steps), number, share)


def split_of(steps: list[str]) -> Split:
    """The split that owns a calculation."""
    fortieth = crc32(" ".join(steps).encode()) % 40
    return next(split for split, share in _SHARES.items() if fortieth in share)
