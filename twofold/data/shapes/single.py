"""Rows with at most one completion: demonstrations, labeled completions, problems with answers, plain text, only
prompts.

TRL's prompt-completion, unpaired preference, language modeling and prompt-only types; GSM8K's question and answer;
IFEval's prompts with instructions to check; TruthfulQA's questions with choices.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache, partial
from typing import Any

from twofold.data.issues import LONGEST_NAME
from twofold.data.shapes.fields import Fields
from twofold.data.shapes.shape import Shape
from twofold.records import Demonstration, Labelled, Request, Task

ANSWERS = ("chosen", "rejected", "completion", "completions", "answer", "answers", "response", "output", "text")


def _demonstration(row: Fields) -> Demonstration:
    prompt, (completion,) = row.turns("prompt", "completion")
    if row.row.get("label", "") is None:
        row.fault("label", "is null", "fill `label` or remove the column", "missing field")
    return Demonstration(row.with_tools(prompt, row.row.get("tools")), completion, row.source)


def _labelled(row: Fields) -> Labelled:
    prompt, (completion,) = row.turns("prompt", "completion")
    prompt, (desirable, probability) = row.with_tools(prompt, row.row.get("tools")), row.label("label")
    return Labelled(prompt, completion, desirable, row.source, probability)


def _task(row: Fields, asked: str) -> Task:
    prompt, (answer,) = row.turns(asked, "answer")
    if not isinstance(answer, str):
        row.fault("answer", "is no single text, by which an answer could be checked", "write the answer as text")
        answer = ""
    return Task(row.with_tools(prompt, row.row.get("tools")), answer, row.source)


def _checked(row: Fields) -> Task:
    """A reference completion, and what a verifier checks."""
    prompt, (completion,) = row.turns("prompt", "completion")
    answer = row.row["answer"]
    if isinstance(answer, str):
        row.filled("answer", answer)
    else:
        remedy = "write what a verifier checks as text: a result, rules, tests"
        row.fault("answer", "is null" if answer is None else "is no text", remedy)
    return Task(row.with_tools(prompt, row.row.get("tools")), str(answer), row.source, completion)


def _instructed(row: Fields) -> Task:
    """The answer is the instructions as JSON, each with its arguments that are not null."""
    prompt, _ = row.turns("prompt")
    kinds, arguments = row.row["instruction_id_list"], row.row["kwargs"]
    if not (isinstance(kinds, list) and kinds and all(isinstance(kind, str) for kind in kinds)):
        row.fault("instruction_id_list", "is no list of names", 'write a list, as ["punctuation:no_comma"]')
    elif not (isinstance(arguments, list) and all(isinstance(each, Mapping) for each in arguments)):
        row.fault(
            "kwargs", "is no list of objects", "write the arguments of each instruction as an object, {} for none"
        )
    elif len(kinds) != len(arguments):
        reason = f"has {len(arguments)} objects for {len(kinds)} instructions"
        row.fault("kwargs", reason, "write one object for each instruction, {} for no arguments")
    else:
        filled = [{k: v for k, v in each.items() if v is not None and k != "kind"} for each in arguments]
        told = [{"kind": kind, **each} for kind, each in zip(kinds, filled, strict=True)]
        return Task(prompt, json.dumps(told, ensure_ascii=False, default=str), row.source)
    return Task(prompt, "", row.source)


def _choices(row: Fields) -> Task:
    """The answer is the choices as JSON, each with its label: lists of both, or objects of labels by choice."""
    prompt, _ = row.turns("question")
    told: dict[str, list[list[Any]]] = {}
    for name in ("mc1", "mc2"):
        field, value = f"{name}_targets", row.row[f"{name}_targets"]
        told[name] = _labeled(value)
        labels = [label for _, label in told[name]]
        texts = all(isinstance(choice, str) and choice.strip() for choice, _ in told[name])
        if not texts or not all(isinstance(label, int | float) and label in (0, 1) for label in labels):
            row.fault(field, "is no list of texts with labels 0 and 1", 'write {"choices": ["…"], "labels": [1]}')
        elif 1 not in labels:
            row.fault(field, "has no right answer", "give one answer the label 1")
    return Task(prompt, json.dumps(told, ensure_ascii=False, default=str), row.source)


def _labeled(value: Any) -> list[list[Any]]:
    """Choices with their labels; what is neither lists of both nor an object is one choice without a label."""
    if isinstance(value, Mapping) and set(value) != {"choices", "labels"}:
        return [[choice, label] for choice, label in value.items()]
    lists = [value["choices"], value["labels"]] if isinstance(value, Mapping) else []
    whole = [each for each in lists if isinstance(each, Sequence) and not isinstance(each, str)]
    if len(whole) == 2 and len(whole[0]) == len(whole[1]):
        return [[choice, label] for choice, label in zip(*whole, strict=True)]
    return [[value, None]]


def _text(row: Fields) -> Demonstration:
    """Text that answers nothing: all of it is supervised, after the token that begins a document."""
    text = row.completion("text")
    if isinstance(text, tuple):
        row.fault("text", "is a chat, not text", "call the column `messages`")
    return Demonstration("", row.filled("text", text) if isinstance(text, str) else "", row.source)


def _request(row: Fields) -> Request:
    prompt, _ = row.turns("prompt")
    return Request(row.with_tools(prompt, row.row.get("tools")), row.source)


def _no_completion(row: Mapping[str, Any]) -> bool:
    """Whether no further column is, or by its name looks like, an answer to the prompt."""
    names = (str(k).lower() for k in row if k != "prompt" and len(k) <= LONGEST_NAME)
    return not any(map(_looks_like_an_answer, names))


@lru_cache(256)
def _looks_like_an_answer(name: str) -> bool:
    return bool(get_close_matches(name, ANSWERS, cutoff=0.75))


def _no_answers(row: Mapping[str, Any]) -> bool:
    """Whether the row has no unordered completions in addition to the reference answer; those need a judge."""
    return "prompt" not in row or not isinstance(row.get("answers"), list | tuple)


def _no_prompt(row: Mapping[str, Any]) -> bool:
    return "prompt" not in row


def _class(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The class of a text is no label of its quality, unless it is a boolean."""
    return () if isinstance(row.get("label"), bool) else ("label",)


LABELLED = (Shape("prompt + completion + label", ("prompt", "completion", "label"), _labelled, ("system", "tools")),)
CHECKED = (
    Shape(
        "prompt + completion + answer", ("prompt", "completion", "answer"), _checked, ("system", "tools"),
        fits=lambda row: isinstance(row["answer"], str | float | int),
    ),
)  # fmt: skip
DEMONSTRATIONS = (Shape("prompt + completion", ("prompt", "completion"), _demonstration, ("system", "tools")),)
TASKS = tuple(
    Shape(f"{asked} + answer", (asked, "answer"), partial(_task, asked=asked), ("system", "tools"), fits=_no_answers)
    for asked in ("prompt", "question")
)
INSTRUCTED = (
    Shape(
        "prompt + instruction_id_list (IFEval)", ("prompt", "instruction_id_list", "kwargs"), _instructed, ("system",)
    ),
)
CHOICES = (
    Shape(
        "question + mc1_targets + mc2_targets (TruthfulQA)", ("question", "mc1_targets", "mc2_targets"), _choices,
        beside=lambda _: ("mc0_targets", "best_answer"),
    ),
)  # fmt: skip
ALONE = (
    Shape("text", ("text",), _text, fits=_no_prompt, beside=_class),
    Shape("prompt", ("prompt",), _request, ("system", "tools"), _no_completion),
)
