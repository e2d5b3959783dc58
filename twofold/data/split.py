"""Two sides of the data that share no prompt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from twofold.data.digests import Collected, Digests, firsts
from twofold.data.grams import composed
from twofold.data.lazy import Concat, Subset, subset
from twofold.data.order import permutation
from twofold.errors import DataError, LeakError
from twofold.records import Demonstration, Prompt, Record, text_of

R = TypeVar("R", bound=Record)
_MARKS = ".,;:!?…\"'`“”‘’«»¿¡"
"""What may end or begin a word and leave it the same; signs of arithmetic are not among them."""


def prompt_key(prompt: Prompt) -> str:
    """What makes two prompts the same problem: their words, whatever the spacing, the system message, the wrapping of a
    text into a chat, or the form of accented letters."""
    if isinstance(prompt, str):
        turns = [prompt]
    else:
        turns = [m.content + m.more for m in prompt if m.role not in ("system", "developer", "tools")]
    return composed("\n".join(" ".join(turn.split()) for turn in turns))


def problem(record: Record) -> str:
    """The key that must be in only one split: the prompt, or the text of a record without one."""
    key = prompt_key(record.prompt)
    return key if key or not isinstance(record, Demonstration) else text_of(record.completion)


def loose_problem(record: Record) -> str:
    """What makes two problems alike: the words of `problem`, whatever their case and the marks around them."""
    key = problem(record)
    return " ".join(filter(None, (word.strip(_MARKS) for word in key.casefold().split()))) or key


def split_by_prompt(
    records: Sequence[R], *, count: int | None = None, fraction: float | None = None, seed: int
) -> tuple[Sequence[R], Sequence[R]]:
    """`count` rows, or a `fraction` of them, and the others, each in the order of `records`.

    All rows of a prompt stay on one side, so where prompts repeat the first side may come out smaller than asked for.
    Raises DataError where a side would be empty.
    """
    if (count is None) == (fraction is None):
        raise ValueError("give either a count or a fraction")
    wanted = count if count is not None else round((fraction or 0.0) * len(records))
    if not 0 < wanted < len(records):
        raise DataError(
            f"cannot put {wanted} of {len(records)} rows on one side and keep some for the other",
            where="",
            remedy=f"ask for 1 to {len(records) - 1} rows" if len(records) > 1 else "provide more rows",
        )
    first = _first_side(records, wanted, seed)
    if not first.any():
        raise DataError(
            f"every prompt has more rows than the {wanted} asked for, and a prompt is never put on two sides",
            where="",
            remedy="ask for more rows",
        )
    return subset(records, np.flatnonzero(first)), subset(records, np.flatnonzero(~first))


def _first_side(records: Sequence[Record], wanted: int, seed: int) -> NDArray[np.bool_]:
    """Which rows [n] are on the first side: whole problems, in a random order, as long as they fit."""
    _, problem_of, sizes = np.unique(firsts(problems(records)), return_inverse=True, return_counts=True)
    chosen, taken, size_of = np.zeros(len(sizes), bool), 0, sizes.tolist()
    for index in permutation(len(sizes), seed, 0):
        if taken + size_of[index] <= wanted:
            chosen[index], taken = True, taken + size_of[index]
    return chosen[problem_of]


def problems(records: Sequence[Record]) -> Digests:
    """The digest of each record's problem [n, 2]."""
    if isinstance(records, Subset):
        return problems(records.of)[records.places]
    if isinstance(records, Concat):
        return np.concatenate([problems(part) for part in records.parts])
    known: Digests | None = getattr(records, "problems", None)
    if known is not None:
        return known
    made = Collected()
    for record in records:
        made.add(problem(record))
    return made.array()


def overlaps(train: Sequence[Record], evaluation: Sequence[Record]) -> list[tuple[Record, Record]]:
    """Each evaluation record whose prompt is trained on, after the first training record that has it."""
    found = firsts(np.concatenate([problems(train), problems(evaluation)]))[len(train) :]
    return [(train[found[place]], evaluation[place]) for place in np.flatnonzero(found < len(train)).tolist()]


def alike(train: Sequence[Record], evaluation: Sequence[Record]) -> int:
    """How many evaluation records have a prompt that is trained on, but for case, spacing and punctuation."""
    if not evaluation:
        return 0
    made = Collected()
    for record in chain(train, evaluation):
        made.add(loose_problem(record))
    return int((firsts(made.array())[len(train) :] < len(train)).sum())


def refuse_overlap(train: Sequence[Record], evaluation: Sequence[Record]) -> None:
    """Raise LeakError, naming the first rows, where anything would be evaluated on a prompt that is trained on."""
    found = overlaps(train, evaluation)
    if not found:
        return
    named = ", ".join(f"{e.source} = {t.source}" for t, e in found[:3]) + (" …" if len(found) > 3 else "")
    raise LeakError(
        f"{len(found)} of {len(evaluation)} evaluation rows have a prompt that is trained on: {named}",
        where=found[0][1].source.file,
        remedy="remove these rows from the training data, or evaluate on others",
    )
