"""All records of a source as groups, in one pass, with counts of what was left out, cut or merged."""

from __future__ import annotations

import gc
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

from twofold.batch import Group
from twofold.data.supervision import supervised
from twofold.data.tokenize import EncodedRow, Encoder, completions
from twofold.data.turns import GUESS_REMEDY, PromptTally, described, guessed
from twofold.data.weights import Weights
from twofold.errors import DataError
from twofold.progress import Progress, Silent
from twofold.records import Record

AT_ONCE = 256
"""Rows that are tokenized together."""


@dataclass(frozen=True)
class Spread:
    """Mean and maximum of a length, in tokens."""

    mean: float
    max: int


@dataclass(frozen=True)
class Encoded:
    """Groups, and what it took to make them: counts of rows, except `merged` and `stop_cut`, which count completions.

    `dropped` names rows that do not fit; `merged` completions were tokenized on their own, because the tokenizer would
    have merged their beginning into the prompt's end; `stop_cut` ones have lost their stop token. `forms` counts how
    prompts were put, and `guesses` what made that a guess, with the first row of each kind. `weights` are the groups'.
    """

    groups: Sequence[Group]
    rows: int
    dropped: tuple[str, ...]
    cut_prompt: int
    cut_completion: int
    stop_cut: int
    merged: int
    prompt_tokens: Spread
    completion_tokens: Spread
    forms: Mapping[str, int]
    guesses: Mapping[str, tuple[int, str]]
    weights: Weights

    @classmethod
    def of(cls, groups: Sequence[Group], facts: Mapping[str, Any]) -> Encoded:
        """`groups` with the facts from `Keep`."""
        spreads = {name: Spread(**facts[name]) for name in ("prompt_tokens", "completion_tokens")}
        guesses = {guess: (count, first) for guess, (count, first) in facts["guesses"].items()}
        made = {"dropped": tuple(facts["dropped"]), "guesses": guesses, "weights": Weights.of(facts["weights"])}
        return cls(groups, **{**facts, **made, **spreads})

    @property
    def num_groups(self) -> int:
        return len(self.groups)

    def counts(self) -> dict[str, Any]:
        """Everything but the groups, ready for JSON."""
        figures = asdict(replace(self, groups=[]))
        del figures["groups"], figures["weights"]
        if self.weights.weighted:
            figures["weights"] = self.weights.as_dict()
        return {"rows": figures.pop("rows"), "used": self.num_groups, **figures}


Keep = Callable[[Iterator[Group], Callable[[], dict[str, Any]]], Sequence[Group]]
"""What holds the groups as they come; the facts about all of them can be asked when they have."""


def encode(
    records: Sequence[Record],
    encoder: Encoder,
    progress: Progress | None = None,
    *,
    keep: Keep = lambda groups, _: list(groups),
    workers: int = 0,
) -> Encoded:
    """The groups of `records`, with counts of rows left out, truncated or merged. `progress` gets one line for each
    kind. `workers` is the number of processes that tokenize; 0 means this one.

    Raises DataError for the first row that cannot be used, for one that is too long where truncation is refused, and
    where no row is left.
    """
    progress = progress or Silent()
    tally = _Tally()
    progress.begin("tokenize", len(records) if isinstance(records, list) else None)
    with _old_objects_left_out():
        groups = keep(_groups(records, _How(encoder, workers), tally, progress), tally.facts)
    progress.end("tokenize")
    encoded = Encoded.of(groups, tally.facts())
    tell(encoded, encoder.settings.max_length, progress)
    if not groups:
        remedy = f"raise max_length (now {encoder.settings.max_length})" if encoded.rows else "provide rows"
        raise DataError(f"no row is left of {encoded.rows}", where="", remedy=remedy)
    return encoded


@contextmanager
def _old_objects_left_out() -> Iterator[None]:
    """The collector searches only what is made meanwhile: with the modules of torch and transformers, some 700,000
    objects, it would search all of them again every few thousand rows."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _groups(records: Iterable[Record], how: _How, tally: _Tally, progress: Progress) -> Iterator[Group]:
    with how.rows(records) as made:
        for chunk, rows in made:
            turns = (turn for record in chunk for turn in supervised(record, how.encoder.settings.loss_on))
            for turn, fitted in zip(turns, rows, strict=True):
                tally.add(turn, fitted)
                if fitted.group is not None:
                    yield fitted.group
            progress.advance("tokenize", len(chunk))


@dataclass(frozen=True)
class _How:
    """Which tokenizer, and how many additional processes."""

    encoder: Encoder
    workers: int

    @contextmanager
    def rows(self, records: Iterable[Record]) -> Iterator[Iterator[tuple[list[Record], list[EncodedRow]]]]:
        """Every chunk of `records`, and what becomes of its turns."""
        arriving = iter(records)
        chunks = iter(lambda: list(islice(arriving, AT_ONCE)), [])
        if not self.workers:
            yield ((chunk, self.encoder.rows(chunk)) for chunk in chunks)
            return
        from twofold.data.workers import workers

        with workers(self.encoder, self.workers) as several:
            yield several.rows(chunks)


class _Tally:
    """Counts of rows as they become groups."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(("rows", "cut_prompt", "cut_completion", "stop_cut", "merged"), 0)
        self._dropped: list[str] = []
        self._prompts_put = PromptTally()
        self._prompts, self._completions = array("q"), array("q")
        self._weights = Weights()

    def add(self, record: Record, fitted: EncodedRow) -> None:
        self._counts["rows"] += 1
        self._prompts_put.add(fitted.form, fitted.guess, str(record.source))
        if fitted.group is None:
            self._dropped.append(str(record.source))
            return
        self._counts["cut_prompt"] += fitted.cut_prompt
        self._counts["cut_completion"] += fitted.stop_cut > 0
        self._counts["stop_cut"] += fitted.stop_cut
        self._counts["merged"] += fitted.merged
        self._weights.add(fitted.group.weight)
        self._prompts.append(fitted.group.prompt.numel())
        self._completions.extend([tokens.numel() for tokens in completions(fitted.group)])

    def facts(self) -> dict[str, Any]:
        """Everything but the groups, ready for JSON."""
        spreads = {"prompt_tokens": _spread(self._prompts), "completion_tokens": _spread(self._completions)}
        put = {"forms": dict(self._prompts_put.forms), "guesses": self._prompts_put.guesses}
        return {**self._counts, "dropped": self._dropped, **spreads, **put, "weights": self._weights.as_dict()}


def described_in_all(several: Iterable[Encoded], encoder: Encoder) -> str:
    """How the prompts of `several` are put, in words."""
    forms = sum((Counter(each.forms) for each in several), Counter[str]())
    return described(forms, has_template=encoder.turns.has_template)


def tell(encoded: Encoded, limit: int, progress: Progress) -> None:
    """Report each kind of change to rows to `progress`. Raises DataError where all rows have weight 0."""
    if encoded.weights.nothing:
        what, remedy = "the weight of every row that is left is 0", "provide rows that count"
        raise DataError(what, where=str(next(iter(encoded.groups)).name), remedy=remedy)
    if encoded.weights.weighted:
        progress.note(encoded.weights.words())
    if encoded.dropped:
        names = ", ".join(encoded.dropped[:3]) + (" …" if len(encoded.dropped) > 3 else "")
        progress.warn(f"{len(encoded.dropped)} of {encoded.rows} rows dropped: longer than {limit} tokens ({names})")
    if encoded.cut_prompt:
        progress.warn(f"{encoded.cut_prompt} of {encoded.rows} prompts cut from the left to fit {limit} tokens")
    if encoded.stop_cut:
        progress.warn(f"{encoded.stop_cut} completions cut to fit {limit} tokens: they have no stop token")
    for warning in guessed(encoded.guesses):
        progress.warn(f"{warning} → {GUESS_REMEDY}")
    if encoded.merged:
        progress.note(f"{encoded.merged} completions tokenized on their own: the tokenizer merges them into the prompt")


def _spread(lengths: Sequence[int]) -> dict[str, float]:
    return {"mean": sum(lengths) / len(lengths) if lengths else 0.0, "max": max(lengths, default=0)}
