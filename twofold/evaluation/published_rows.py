"""The rows of published benchmarks, from the user's copy of their files."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from twofold import disk
from twofold.data.formats import Table
from twofold.data.issues import Issue, IssueError
from twofold.data.readers import rows
from twofold.errors import DataError
from twofold.evaluation.length_control import GamedRows
from twofold.records import Demonstration, Record, Request, Source

GAMED = "df_gamed.csv"
MOST_BYTES = 2**28
REFERENCES = "reference_answer"
"""The folder of MT-Bench's reference answers, next to its questions."""
REFERENCED = ("math", "reasoning", "coding")
"""The categories of MT-Bench whose judge reads reference answers."""
PUBLISHED_AT = {
    "alpaca-eval": "alpaca_eval_gpt4_baseline.json of tatsu-lab/alpaca_eval has `instruction` and `output`",
    "arena-hard": "question.jsonl of lmarena/arena-hard-auto has uid, category and prompt",
    "mt-bench": "question.jsonl of FastChat's llm_judge/data/mt_bench has question_id, category and two `turns`",
}
"""Where each file is, and what its rows have."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class BenchmarkItem:
    """A row of a benchmark: its record, its place among all rows, counted from 0, its subset, and its id, if it has
    one."""

    record: Record
    index: int
    subset: str
    name: str


@dataclass(frozen=True)
class MtQuestion(BenchmarkItem):
    """A question of MT-Bench: the second turn, and the reference answers to both, if there are some."""

    second: str
    references: tuple[str, str] | None = None

    def truth(self, turn: int) -> str | None:
        """What the judge reads of them for turn 0 or 1."""
        if self.references is None or turn == 0:
            return None if self.references is None else self.references[0]
        return "To the first question:\n{}\n\nTo the second question:\n{}".format(*self.references)


def load(task: str, source: str, limit: int | None = None) -> Table:
    """The prompts of a benchmark with the baseline's answers where the file has them. Raises DataError naming file,
    row and key of the first fault."""
    records: list[Record] = []
    for number, row in rows(source):
        if limit is not None and len(records) == limit:
            break
        if isinstance(row, Issue):
            if row.severity == "error":
                raise IssueError(row)
            continue
        records.append(_RECORDS[task](row, Source(source, number), PUBLISHED_AT[task]))
    if not records:
        raise DataError("has no rows", where=source, remedy=PUBLISHED_AT[task])
    return Table(records, task, source, hashlib.sha256(Path(disk.real(Path(source))).read_bytes()).hexdigest())


def items_of(task: str, records: Sequence[Record]) -> list[BenchmarkItem]:
    """The records of `load` with their subsets. Raises DataError where there are none."""
    known = _rows_behind(records, task)
    found: list[BenchmarkItem] = []
    for index, record in enumerate(records):
        row = known[record.source.row]
        found.append(BenchmarkItem(record, index, str(row.get(_SUBSETS[task]) or ""), _name(row)))
    return found


def _rows_behind(records: Sequence[Record], task: str) -> dict[int, dict[str, Any]]:
    """The rows of the records' file by number."""
    if not records:
        raise DataError("no rows", where=task, remedy=PUBLISHED_AT[task])
    return {number: row for number, row in rows(records[0].source.file) if not isinstance(row, Issue)}


def published_answers(file: str, several: Sequence[BenchmarkItem]) -> list[str] | None:
    """The answers to `several` in a file of the benchmark's own form: AlpacaEval's outputs by instruction, Arena-Hard's
    answers by uid or question_id. None for a file of another form. Raises DataError for a missing answer."""
    known: dict[str, str] = {}
    for number, row in rows(file):
        if isinstance(row, Issue) or not ("choices" in row or "messages" in row or "instruction" in row):
            return None
        text = _answer(row)
        key = row.get("instruction") or _name(row)
        if not key or not isinstance(key, str):
            return None
        if text is None:
            remedy = "each row needs an answer: `output`, or the assistant's last message, or a turn of `choices`"
            raise DataError("has no answer", where=f"{file}:{number}", remedy=remedy)
        known[key] = text
    missing = [item for item in several if _key(item, known) not in known]
    if missing:
        what = f"has no answer to {len(missing)} of {len(several)} prompts, the first of {missing[0].record.source}"
        raise DataError(what, where=file, remedy="add these rows, or use --limit")
    return [known[_key(item, known)] for item in several]


def fields_of(file: str, several: Sequence[BenchmarkItem], key: str) -> dict[int, tuple[str, Any]]:
    """Where a file's rows have a key: the row's place in the file and the value, by the index of the item."""
    known: dict[str, tuple[str, Any]] = {}
    for number, row in rows(file):
        if not isinstance(row, Issue) and key in row:
            known[_name(row)] = f"{file}:{number}", row[key]
    return {item.index: known[item.name] for item in several if item.name in known}


def mt_questions(records: Sequence[Record]) -> list[MtQuestion]:
    """The records of `load` with their second turns. Reference answers, for REFERENCED, are those of
    reference_answer/*.jsonl next to the file, else of the rows themselves (`reference`). Raises DataError for a
    question_id that occurs twice, for several files of references, and where there are no records."""
    known = _rows_behind(records, "mt-bench")
    answers = _reference_answers(Path(records[0].source.file).parent / REFERENCES)
    found: list[MtQuestion] = []
    seen: set[str] = set()
    for index, record in enumerate(records):
        row = known[record.source.row]
        name, own = str(row["question_id"]), row.get("reference")
        if name in seen:
            raise DataError(f"repeats question_id {name}", where=str(record.source), remedy="remove one of the rows")
        seen.add(name)
        given = (str(own[0]), str(own[1])) if isinstance(own, list) and len(own) > 1 else None
        told = answers.get(name, given) if row["category"] in REFERENCED else None
        found.append(MtQuestion(record, index, row["category"], name, row["turns"][1], told))
    return found


def turns_in(row: Row) -> list[str] | None:
    """The turns of a row's first choice, as FastChat writes answers; None for another form."""
    try:
        turns = row["choices"][0]["turns"]
    except (KeyError, IndexError, TypeError):
        return None
    texts = [turn.get("content") if isinstance(turn, dict) else turn for turn in turns]
    return [text for text in texts if isinstance(text, str)] if isinstance(turns, list) else None


def _reference_answers(folder: Path) -> dict[str, tuple[str, str]]:
    files = sorted(folder.glob("*.jsonl"))
    if len(files) > 1:
        what = f"has {len(files)} files of reference answers: {', '.join(path.name for path in files)}"
        raise DataError(what, where=str(folder), remedy="keep the one that the judge shall read, as gpt-4.jsonl")
    found: dict[str, tuple[str, str]] = {}
    for path in files:
        for number, row in rows(str(path)):
            if isinstance(row, Issue):
                raise IssueError(row)
            turns = turns_in(row)
            if turns is None or len(turns) < 2 or "question_id" not in row:
                remedy = "use reference_answer/gpt-4.jsonl of FastChat, or remove the folder"
                raise DataError(
                    "has no question_id with two turns in `choices`", where=f"{path}:{number}", remedy=remedy
                )
            found[str(row["question_id"])] = turns[0], turns[1]
    return found


def items(task: str) -> Callable[[Sequence[Record]], list[BenchmarkItem]]:
    """`items_of` of one benchmark."""
    return partial(items_of, task)


def gamed_rows(data: str) -> GamedRows | None:
    """AlpacaEval's `df_gamed.csv` next to the file `data`; None if there is none. A row without a preference has only
    a difficulty. Raises DataError naming line and column of another missing value."""
    path = Path(data).parent / GAMED
    if not path.is_file():
        return None
    features: list[tuple[float, float, float]] = []
    shares: list[float] = []
    difficulty: dict[int, float] = {}
    table = csv.DictReader(StringIO(disk.read_text(path, MOST_BYTES), newline=""))
    for row in table:
        number = table.line_num
        value = partial(_number, row, f"{path}:{number}")
        hard = value("instruction_difficulty")
        difficulty.setdefault(int(value("index")), hard)
        if row.get("preference") in ("", "nan", "NaN"):
            continue
        share = value("preference")
        if not 0 <= share <= 1:
            remedy = "download the published file again: preferences are from 0 to 1"
            raise DataError(f"preference {share:g} is not from 0 to 1", where=f"{path}:{number}", remedy=remedy)
        features.append((float(np.tanh(value("std_delta_len"))), hard, 0.0))
        shares.append(share)
    if not shares:
        raise DataError("has no rows", where=str(path), remedy=f"download {GAMED} of tatsu-lab/alpaca_eval")
    return GamedRows(np.array(features), np.array(shares), difficulty)


def refuse_unknown_difficulty(several: Sequence[BenchmarkItem], gamed: GamedRows) -> None:
    """Raise DataError for an instruction without a difficulty."""
    for item in several:
        if item.index not in gamed.difficulty:
            what = f"{GAMED} has no instruction_difficulty of index {item.index}"
            remedy = "use the file of the same 805 instructions, or remove it: then there is no length-controlled rate"
            raise DataError(what, where=str(item.record.source), remedy=remedy)


def _answer(row: Row) -> str | None:
    if "choices" in row:
        turns = turns_in(row)
        return turns[0] if turns else None
    if "messages" in row:
        messages = row["messages"]
        last = messages[-1] if isinstance(messages, list) and messages else None
        content = last.get("content") if isinstance(last, dict) and last.get("role") == "assistant" else None
        content = content.get("answer") if isinstance(content, dict) else content
        return content if isinstance(content, str) else None
    output = row.get("output")
    return output if isinstance(output, str) else None


def _key(item: BenchmarkItem, known: Mapping[str, str]) -> str:
    return item.name if item.name in known else str(item.record.prompt)


def _name(row: Row) -> str:
    """The id of a row, "" without one."""
    name = row.get("uid", row.get("question_id"))
    return "" if name is None else str(name)


def text_of(row: Row, key: str, where: str, remedy: str, *, empty: bool = False) -> str:
    """A text of a row. Raises DataError for another value, and for a missing one, or an `empty` one if not allowed."""
    value = row.get(key)
    if isinstance(value, str) and (empty or value.strip()):
        return value
    if value is None:
        what = f"lacks the key `{key}`"
    else:
        what = f"has {_named(value)} as `{key}`, not a text" if not isinstance(value, str) else f"`{key}` is empty"
    raise DataError(what, where=where, remedy=remedy)


def _alpaca_eval(row: Row, source: Source, remedy: str) -> Record:
    prompt = text_of(row, "instruction", str(source), remedy)
    if "output" not in row:
        return Request(prompt, source)
    return Demonstration(prompt, text_of(row, "output", str(source), remedy, empty=True), source)


def _arena_hard(row: Row, source: Source, remedy: str) -> Record:
    if not _name(row):
        raise DataError("lacks the key `uid`", where=str(source), remedy=remedy)
    text_of(row, "category", str(source), remedy)
    turns = row.get("turns")
    if "prompt" not in row and isinstance(turns, list) and len(turns) == 1 and isinstance(turns[0], dict):
        return Request(text_of(turns[0], "content", str(source), remedy), source)
    return Request(text_of(row, "prompt", str(source), remedy), source)


def _mt_bench(row: Row, source: Source, remedy: str) -> Record:
    where, turns = str(source), row.get("turns")
    if row.get("question_id") in (None, ""):
        raise DataError("lacks the key `question_id`", where=where, remedy=remedy)
    text_of(row, "category", where, remedy)
    if not isinstance(turns, list) or len(turns) != 2 or not all(isinstance(t, str) and t.strip() for t in turns):
        raise DataError("`turns` are not two texts", where=where, remedy=remedy)
    return Request(turns[0], source)


def _number(row: Mapping[str, str | None], where: str, key: str) -> float:
    try:
        number = float(row[key] or "")
    except (KeyError, ValueError):
        what = f"has no number in column `{key}`"
        raise DataError(what, where=where, remedy=f"download {GAMED} of tatsu-lab/alpaca_eval again") from None
    if not np.isfinite(number):
        raise DataError(f"column `{key}` is not finite", where=where, remedy="download the file again")
    return number


def _named(value: Any) -> str:
    return {list: "a list", dict: "an object"}.get(type(value), json.dumps(value, default=str)[:40])


_RECORDS: Mapping[str, Callable[[Row, Source, str], Record]] = {
    "alpaca-eval": _alpaca_eval,
    "arena-hard": _arena_hard,
    "mt-bench": _mt_bench,
}
_SUBSETS = {"alpaca-eval": "dataset", "arena-hard": "category"}
