"""Solutions in steps, each rated as right or wrong: process supervision as it is published.

TRL's stepwise supervision has `prompt`, `completions` (the steps) and `labels`. PRM800K (Lightman et al. 2023,
arXiv:2305.20050) has `question` and `label` with the candidates of each step, Math-Shepherd (Wang et al. 2023,
arXiv:2312.08935) `input` with the mark ки after each step and `label` with + or - instead of it, ProcessBench (Zheng et
al. 2024, arXiv:2412.06559) `problem`, `steps` and `label`, the place of the first wrong step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from twofold.data import chat
from twofold.data.shapes.fields import Fields, is_number
from twofold.data.shapes.shape import Shape
from twofold.records import Steps, ranked

MARK = "ки"
_RATINGS = {"+": 1.0, "-": 0.0}
_FIRST = re.compile(r"\s*(?=Step 1\s*:)")


def _stepwise(row: Fields) -> Steps:
    steps, labels = _listed(row, "completions"), _listed(row, "labels")
    if len(labels) != len(steps) and not row.faults:
        reason = f"has {len(labels)} labels for {len(steps)} steps"
        row.fault("labels", reason, "give each step true, false, a number from 0 to 1, or null where it is unrated")
    return _made(row, "prompt", steps, [_label(row, f"labels[{n}]", each) for n, each in enumerate(labels, 1)])


def _first_error(row: Fields) -> Steps:
    """The steps before the first wrong one are right, those behind it are unrated."""
    steps, first = _listed(row, "steps"), row.row["label"]
    if not isinstance(first, int) or isinstance(first, bool) or not -1 <= first < max(len(steps), 1):
        row.fault("label", "is not the place of a step", "write the place of the first wrong step from 0, or -1")
        first = -1
    wrong = len(steps) if first < 0 else first
    labels = [1.0 if at < wrong else 0.0 if at == wrong else None for at in range(len(steps))]
    return _made(row, "problem", steps, labels)


def _marked(row: Fields) -> Steps:
    """A text with a mark after each step, and the same text with ratings instead of marks."""
    if not _is_marked(row.row):
        remedy = "write it and `label` as texts, or remove the row"
        row.fault("input", f"is no text with {MARK} after each step", remedy)
        return Steps("", (), (), row.source)
    *parts, rest = row.row["input"].split(MARK)
    labels, at = list[float | None](), 0
    for number, part in enumerate(parts, 1):
        at += len(part)
        rating = _RATINGS.get(row.row["label"][at : at + 1])
        if rating is None or row.row["label"][at - len(part) : at] != part:
            reason = f"is not the input with + or - after step {number}"
            row.fault("label", reason, f"write the input again, with + or - instead of each {MARK}")
            break
        labels.append(rating)
        at += 1
    if rest.strip():
        row.fault("input", f"has text behind its last {MARK}", f"end the last step with {MARK}")
    problem, *first = _FIRST.split(parts[0], maxsplit=1)
    if not first:
        row.fault("input", "has no `Step 1:`, where the solution begins", "mark where it begins")
    steps = [text.strip() for text in (*first, *parts[1:])]
    return _made(row.spread({"prompt": problem}), "prompt", steps, labels[: len(steps)])


def _candidates(row: Fields) -> Steps:
    """The chosen candidate of each step; of the last step without one, the first that is rated. Rating 0 (neutral) is
    right, as in the paper's appendix on the reward of a solution."""
    if not _has_candidates(row.row):
        remedy = 'write {"problem": "…"} as question and {"steps": [{"completions": […]}]} as label, or remove the row'
        row.fault("label", "and `question` are not a problem and the candidates of its steps", remedy)
        return Steps("", (), (), row.source)
    steps, labels, unread = list[Any](), list[float | None](), 0
    for number, step in enumerate(row.row["label"]["steps"], 1):
        candidates, chosen = step.get("completions") or [], step.get("chosen_completion")
        if step.get("human_completion"):
            steps.append(step["human_completion"].get("text"))
            labels.append(1.0)
            unread += len(candidates)
            continue
        rated = [n for n, each in enumerate(candidates) if each.get("rating") is not None]
        place = chosen if chosen is not None else next(iter(rated), None)
        if not isinstance(place, int) or not 0 <= place < len(candidates):
            if chosen is not None:
                reason = f"names candidate {chosen!r} of {len(candidates)}"
                row.fault(f"label.steps[{number}]", reason, "name a candidate by its place from 0")
            break
        steps.append(candidates[place].get("text"))
        labels.append(_rating(row, f"label.steps[{number}].rating", candidates[place].get("rating")))
        unread += len(rated) - (place in rated)
        if chosen is None:
            break
    if unread:
        reason = f"has {unread} further rated candidates, and only the chosen steps are read"
        row.remark(
            "label", reason, "write a row with its own steps for each candidate to use them", "unread candidates"
        )
    return _made(row.spread({"problem": row.row["question"]["problem"]}), "problem", steps, labels)


def _made(row: Fields, asked: str, steps: Sequence[Any], labels: Sequence[float | None]) -> Steps:
    named = {ranked(place): step for place, step in enumerate(steps)}
    for name, step in named.items():
        if not isinstance(step, str):
            row.fault(name, f"is {chat.kind(step)}, not the text of a step", "write each step as text")
    if not row.faults and not any(label is not None for label in labels):
        row.fault("labels", "rate no step", "rate a step, or remove the row", "no rated step")
    if row.faults:
        return Steps("", (), (), row.source)
    prompt, texts = row.spread(named).turns(asked, *named)
    prompt = row.with_tools(prompt, row.row.get("tools"))
    return Steps(prompt, tuple(text for text in texts if isinstance(text, str)), tuple(labels), row.source)


def _listed(row: Fields, field: str) -> Sequence[Any]:
    value = row.row.get(field)
    if isinstance(value, list | tuple) and value:
        return value
    reason = "is empty" if isinstance(value, list | tuple) else f"is {chat.kind(value)}, not a list"
    row.fault(field, reason, "list the steps of one solution, and a label for each", "no rated step")
    return ()


def _label(row: Fields, field: str, value: Any) -> float | None:
    if value is None or isinstance(value, bool) or (is_number(value) and 0 <= value <= 1):
        return None if value is None else float(value)
    reason = f"is {value:g}" if is_number(value) else f"is {chat.kind(value)}"
    remedy = "write true for a right step, false for a wrong one, a probability, or null where it is unrated"
    row.fault(field, f"{reason}, not true, false or a probability", remedy)
    return None


def _rating(row: Fields, field: str, value: Any) -> float | None:
    if value in (-1, 0, 1, None) and not isinstance(value, bool):
        return None if value is None else float(value >= 0)
    row.fault(field, "is none of -1, 0 and 1", "write -1 for a wrong step, 1 for a right one, 0 for a neutral one")
    return None


def _is_marked(row: Mapping[str, Any]) -> bool:
    return all(isinstance(row[key], str) for key in ("input", "label")) and MARK in row["input"]


def _has_candidates(row: Mapping[str, Any]) -> bool:
    question, label = row["question"], row["label"]
    if not (isinstance(question, Mapping) and isinstance(label, Mapping) and "problem" in question):
        return False
    steps = label.get("steps")
    return isinstance(steps, list | tuple) and all(_is_step(step) for step in steps)


def _is_step(step: Any) -> bool:
    if not isinstance(step, Mapping):
        return False
    candidates, own = step.get("completions"), step.get("human_completion")
    parts = [*(candidates or ()), own or {}] if isinstance(candidates, list | tuple | None) else [None]
    return all(isinstance(part, Mapping) for part in parts)


def _beside(*names: str) -> Any:
    return lambda row: names


SHAPES = (
    Shape("prompt + completions (steps) + labels", ("prompt", "completions", "labels"), _stepwise, ("system", "tools")),
    Shape("problem + steps + label (ProcessBench)", ("problem", "steps", "label"), _first_error,
          beside=_beside("final_answer_correct", "generator")),
    Shape("question + label of steps (PRM800K)", ("question", "label"), _candidates, (), _has_candidates,
          _beside("generation", "is_quality_control_question", "is_initial_screening_question")),
    Shape("input + label with marks (Math-Shepherd)", ("input", "label"), _marked, (), _is_marked, _beside("task")),
)  # fmt: skip
