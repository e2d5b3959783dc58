"""Broken files as people bring them, each with its one fault: forty that no run trains on, others warned of."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from dataclasses import field as made_by
from typing import Any

GOOD = {"prompt": "Which city is on the Seine?", "chosen": "It is Paris", "rejected": "It is Rome."}
ASK = {"role": "user", "content": "Which city?"}
CHAT = {"prompt": [ASK], "chosen": [{"role": "assistant", "content": "Paris"}], "rejected": "Rome"}
RANKED = {"prompt": "a", "completions": ["x", "y", "z"], "ranks": [1, 2, 3]}
DIALOGUE = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}
SHAREGPT = {
    "conversations": [{"from": "human", "value": "q"}],
    "chosen": {"from": "gpt", "value": "a"},
    "rejected": {"from": "gpt", "value": "b"},
}
OPENAI = {
    "input": {"messages": [ASK]},
    "preferred_output": [{"role": "assistant", "content": "a"}],
    "non_preferred_output": [{"role": "assistant", "content": "b"}],
}
LABEL = {"prompt": "Which city?", "completion": "Paris", "label": True}


def good(number: int, **changes: Any) -> dict[str, Any]:
    """One of many sound rows, all different, with `changes`; a field changed to `...` is left out."""
    row = {**GOOD, "prompt": f"{GOOD['prompt']} ({number})", **changes}
    return {k: v for k, v in row.items() if v is not ...}


def lines(*rows: Any, end: str = "\n") -> bytes:
    return ("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + end).encode()


@dataclass(frozen=True)
class Broken:
    """A file and its one fault."""

    data: bytes
    row: int
    field: str
    check: str
    remedy: str
    severity: str = "error"
    name: str = "rows.jsonl"
    columns: dict[str, str] = made_by(default_factory=dict)
    encode: dict[str, Any] | None = None
    against: bytes = b""


def third(check: str, name: str, remedy: str, severity: str = "error", **changes: Any) -> Broken:
    """Two sound rows and a third that is not."""
    return Broken(lines(good(1), good(2), good(3, **changes)), 3, name, check, remedy, severity)


def chat(check: str, name: str, remedy: str, **changes: Any) -> Broken:
    return Broken(lines(CHAT, {**CHAT, **changes}), 2, name, check, remedy)


SHORT: dict[str, Any] = {"max_length": 60}
BROKEN = {
    "a field is missing": third("missing field", "rejected", "add `rejected`", rejected=...),
    "a field has another name": third("missing field", "chosen", "did you mean `chosen`?", chosen=..., choosen="a"),
    "a field is null": third("missing field", "chosen", "fill `chosen` or remove the row", chosen=None),
    "a field is a number": third("mistyped field", "chosen", "write it as", chosen=3),
    "a field is an object": third("mistyped field", "rejected", "write it as", rejected={"text": "a"}),
    "an answer is empty": third("empty field", "chosen", "remove the row", chosen=""),
    "an answer is white space": third("empty field", "rejected", "remove the row", rejected=" \n\t"),
    "a prompt is white space": third("empty prompt", "prompt", "fill it", "warning", prompt="  "),
    "chosen is rejected": third("chosen = rejected", "rejected", "remove the row", rejected="It is Paris "),
    "a row is there twice": Broken(lines(good(1), good(2), good(1)), 3, "", "duplicate", "remove the row", "warning"),
    "a pair is there both ways": Broken(
        lines(good(1), good(2), good(1, chosen="It is Rome.", rejected="It is Paris")),
        *(3, "", "contradiction", "keep the row that is right"),
    ),
    "an answer is good and bad": Broken(
        lines(LABEL, {**LABEL, "label": False}), 2, "label", "contradiction", "keep the row that is right"
    ),
    "a label is a word": Broken(lines(LABEL, {**LABEL, "label": "perhaps"}), 2, "label", "mistyped field", "true"),
    "a control character": third("control character", "chosen", "clean the text", "warning", chosen="Pa\x00ris"),
    "a broken decoder's mark": third("control character", "prompt", "clean the text", "warning", prompt="Caf\ufffd"),
    "an unknown role": chat("unknown role", "prompt", "roles are", prompt=[{"role": "boss", "content": "a"}]),
    "no assistant turn": chat("no assistant turn", "chosen", "", chosen=[{"role": "user", "content": "a"}]),
    "a chat without messages": chat("empty field", "chosen", "remove the row", chosen=[]),
    "a message without content": chat("mistyped field", "prompt", "write messages as", prompt=[{"role": "user"}]),
    "a message with a number": chat(
        "mistyped field", "prompt", "write messages as", prompt=[{"role": "user", "content": 3}]
    ),
    "a prompt that is answered": chat(
        "unanswerable prompt", "prompt", "user turn", prompt=[ASK, {"role": "assistant", "content": "a"}]
    ),
    "mixed formats": Broken(
        lines(good(1), good(2), {"question": "a", "answer": "b"}), 3, "", "mixed formats", "keep one shape per file"
    ),
    "no known columns": Broken(lines({"foo": 1, "bar": 2}), 1, "", "unknown shape", "common shapes"),
    "a column map that misses": Broken(
        lines(good(1)), 1, "prompt", "missing field", "did you mean `prompt`?", columns={"prompt": "promt"}
    ),
    "bad JSON": Broken(lines(good(1), '{"prompt": oops}', good(2)), 2, "", "bad JSON", "one JSON object per line"),
    "a row that is a list": Broken(lines(good(1), "[1, 2]", good(2)), 2, "", "bad JSON", "write rows as"),
    "a byte order mark": Broken(
        b"\xef\xbb\xbf" + lines(good(1), good(2)), 1, "", "BOM", "save as UTF-8 without BOM", "warning"
    ),
    "a byte that is not UTF-8": Broken(
        lines(good(1)) + b'{"prompt": "caf\xe9", "chosen": "a", "rejected": "b"}\n', 2, "", "bad UTF-8", "save the file"
    ),
    "the last line cut": Broken(
        lines(good(1), '{"prompt": "a", "cho', end=""), 2, "", "truncated last line", "copy or write the file again"
    ),
    "an empty file": Broken(b"", 0, "", "no rows", "check the file and the split"),
    "a gzip file cut": Broken(
        gzip.compress(lines(*map(good, range(2000))), mtime=0)[:-3000],
        -1, "", "unreadable", "copy or write", name="rows.jsonl.gz"
    ),
    "parquet that is none": Broken(b"PAR1 oops", 0, "", "unreadable", "copy or write", name="rows.parquet"),
    "CSV with too many cells": Broken(
        b"prompt,chosen,rejected\na,b,c\nd,e, no,f\n", 3, "", "bad CSV", "between quotes", name="rows.csv"
    ),
    "evaluated on what was trained on": Broken(
        lines(good(1), good(2)), 2, "prompt", "overlap", "remove the row here or there", against=lines(good(2))
    ),
    "longer than the model": Broken(
        lines(good(1), good(2, chosen="long " * 20)), 2, "", "over-long", "raise max_length", "warning", encode=SHORT
    ),
    "the stop token alone": Broken(
        lines(good(1), good(2, chosen="</s>")), 2, "chosen", "no supervised token", "remove the row", encode={}
    ),
    "a stop token in the text": Broken(
        lines(good(1), good(2, chosen="Paris</s> or not")), 2, "chosen", "stop token inside", "remove it", encode={}
    ),
    "a template that never stops": Broken(
        lines(CHAT), 0, "", "stop token missing", "let the template end", "warning", encode={"stops": False}
    ),
    # Five that nobody asked for.
    "a field twice in a row": Broken(
        lines(good(1), '{"prompt": "a", "chosen": "b", "chosen": "c", "rejected": "d"}', good(2)),
        *(2, "chosen", "field twice", "keep one of them"),
    ),
    "half a character": Broken(
        lines(good(1), '{"prompt": "a", "chosen": "b \\ud83d", "rejected": "c"}'),
        *(2, "chosen", "bad UTF-8", "write the text again"),
    ),
    "UTF-16, as Windows saves it": Broken(
        lines(good(1)).decode().encode("utf-16"), 1, "", "bad UTF-8", "save the file as UTF-8"
    ),
    "length tells good from bad": Broken(
        lines(*(good(n, chosen="It is Paris, of course.") for n in range(120))),
        *(0, "", "length bias", "balance the lengths", "warning"),
    ),
    "nested a thousand deep": Broken(
        lines(good(1), '{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}"), 2, "", "bad JSON", "one JSON object"
    ),
    "a tool call that would be lost": chat(
        "malformed tool call", "prompt", "write calls as",
        prompt=[ASK, {"role": "assistant", "content": "", "tool_calls": [{"id": 1}]}, ASK],
    ),
    "a turn with half a weight": chat(
        "mistyped field", "chosen", "write 0 or false",
        prompt=[ASK], chosen=[{"role": "assistant", "content": "a", "weight": 0.5}],
    ),
    "reasoning of a user": chat(
        "misplaced key", "prompt", "belongs to the assistant", prompt=[{**ASK, "reasoning_content": "x"}],
    ),
    "a ranking that ties": Broken(
        lines(RANKED, {**RANKED, "prompt": "b", "completions": ["x", "y", "x"]}),
        *(2, "completions[3]", "same rank", "remove one of them"),
    ),
    "raw dialogues that share nothing": Broken(
        lines(DIALOGUE, {"chosen": "hello", "rejected": "there"}), 2, "chosen", "mistyped field", "write it as raw HH"
    ),
    "no preferred output": Broken(
        lines(OPENAI, {**OPENAI, "preferred_output": []}), 2, "preferred_output", "empty field", "remove the row"
    ),
    "a label is a number": Broken(
        lines(LABEL, {**LABEL, "prompt": "b", "label": 2}), 2, "label", "mistyped field", "write true for good"
    ),
    "no number": Broken(
        lines(good(1), '{"prompt": NaN, "chosen": "a", "rejected": "b"}'), 2, "prompt", "mistyped field", "as text"
    ),
    "a list of answers": third("mistyped field", "chosen", "write messages as", chosen=["a", "b"]),
    "a dialogue without an answer": Broken(
        lines({"messages": [ASK, {"role": "assistant", "content": "a"}]}, {"messages": [ASK]}),
        *(2, "messages", "no assistant turn", "end it with one assistant message"),
    ),
    "a role from elsewhere": Broken(
        lines(SHAREGPT, {**SHAREGPT, "chosen": {"from": "alien", "value": "a"}}),
        *(2, "chosen", "unknown role", "roles are"),
    ),
    "an array cut": Broken(
        json.dumps([good(1), good(2)])[:-20].encode(), 0, "", "bad JSON", "one JSON object", name="rows.json"
    ),
    "CSV with an empty cell": Broken(
        b"prompt,chosen,rejected\na,b,c\nd,,f\n", 3, "chosen", "missing field", "fill `chosen`", name="rows.csv"
    ),
    "CSV with too few cells": Broken(
        b"prompt,chosen,rejected\na,b,c\nd,e\n", 3, "", "bad CSV", "between quotes", name="rows.csv"
    ),
    "CSV with an open quote": Broken(
        b'prompt,chosen,rejected\na,b,c\nd,"e,f\n', 3, "", "bad CSV", "between quotes", name="rows.csv"
    ),
    "gzip that is none": Broken(lines(good(1)), 1, "", "unreadable", "copy or write", name="rows.jsonl.gz"),
    "a pointer instead of the file": Broken(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n",
        *(1, "", "unreadable", "git lfs pull"),
    ),
    "a page that says not found": Broken(b"<html>404</html>\n", 1, "", "bad JSON", "one JSON object per line"),
}  # fmt: skip
FATAL = {name: case for name, case in BROKEN.items() if case.severity == "error"}
