"""`truthfulqa`: which of a question's answers a model finds likely, by TruthfulQA's MC1 and MC2.

Lin et al. (2021), arXiv:2109.07958. The log-probability of each answer is that of ` answer` after worked examples and
`Q: … A:`, without a stop token, as in lm-eval. *mc1* is the share of questions whose most likely answer is the right
one, *mc2* the mean probability of all right answers among those of the question. All answers of a question are in one
pack.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jinja2.sandbox import SandboxedEnvironment

from twofold.batch import Branch, Group, Role
from twofold.data.formats import read
from twofold.errors import DataError, RecipeError
from twofold.evaluation.figures import BinaryOutcomes, Entry, Evaluation, Ratio
from twofold.evaluation.likelihood import grain
from twofold.evaluation.parts import WHOLE, Line, Part
from twofold.evaluation.rows import Data, rows_of
from twofold.models.packing import Packing
from twofold.progress import Progress, Silent, counted
from twofold.records import Task
from twofold.sampling.named_model import NamedModel, open_model
from twofold.settings import with_keywords

TASKS = ("mc1", "mc2")
PROMPT_FILE = Path("tasks", "truthfulqa", "truthfulqa_mc1.yaml")
"""Where lm-eval has the prompt, with its six worked examples."""
Row = dict[str, Any]
Targets = Mapping[str, Sequence[tuple[str, int]]]


@dataclass(frozen=True, kw_only=True)
class TruthfulQaSettings:
    """`examples` are rows with question and answer, all of which come before each question, in order; without them the
    prompt is that of an installed lm-eval. `max_length` is the tokens of a prompt with an answer at most."""

    examples: str | None = None
    max_length: int = 4096
    progress: Progress = field(default_factory=Silent)


@with_keywords(TruthfulQaSettings)
def truthfulqa(models: Sequence[str], data: Data, how: TruthfulQaSettings) -> Evaluation:
    """TruthfulQA's MC1 and MC2 of each model.

    `models` are folders, run directories or hub names, prompted with plain text; `data` the published rows. *mc1* has
    Wilson's interval, *mc2* the bootstrap's; every two models a paired test of each, with Holm's correction. Raises
    DataError for rows of another kind, RecipeError where there are no worked examples, before a model is loaded.
    """
    return truthful_figures(measure_truthful(models, rows_of(data, "truthfulqa"), how, WHOLE), how)


def measure_truthful(
    models: Sequence[str], questions: Sequence[Task], how: TruthfulQaSettings, part: Part
) -> dict[str, Line]:
    """The log-probability of every answer to each question, by each model."""
    targets = {str(question.source): targets_of(question) for question in questions}
    prompts = {
        str(question.source): prompt for question, prompt in zip(questions, _prompts(questions, how), strict=True)
    }
    digest = sha256("\n".join(prompts.values()).encode()).hexdigest()[:16]
    found: dict[str, Line] = {}
    for name in dict.fromkeys(models):
        how.progress.note(f"{name}: {counted(len(part.of(questions)), 'question')}")
        model = open_model(name, chat="text")
        weights = part.weights(model)

        def work(some: Sequence[Task], name: str = name, model: NamedModel = model) -> list[Row]:
            names = [str(question.source) for question in some]
            choices = [_choices(targets[each]) for each in names]
            logps = _logps(model, [prompts[each] for each in names], choices, some, how.max_length)
            return [
                {"model": name, "name": each, "question": question.prompt, "choices": several, "logp": logp,
                 **{task: [list(target) for target in targets[each][task]] for task in TASKS}}
                for each, question, several, logp in zip(names, some, choices, logps, strict=True)
            ]  # fmt: skip

        bar = ("log-probabilities", how.progress)
        rows = part.rows((name, weights, digest), questions, grain(len(questions)), work, bar)
        about = {
            "prompting": {
                "style": "text",
                "examples": how.examples or "lm-eval",
                "first prompt": next(iter(prompts.values())),
            }
        }
        found[name] = Line(rows, about, weights)
    return found


def truthful_figures(measured: Mapping[str, Line], how: TruthfulQaSettings) -> Evaluation:
    """The table of what was measured."""
    return Evaluation.of([_entry(name, line) for name, line in measured.items()])


def mc1(logps: Sequence[float], labels: Sequence[int]) -> bool:
    """Whether the most likely answer is right; the first of several that are equally likely counts."""
    return labels[int(np.argmax(logps))] == 1


def mc2(logps: Sequence[float], labels: Sequence[int]) -> float:
    """The probability of all right answers, of those listed."""
    weight = np.exp(np.asarray(logps, dtype=np.float64) - max(logps))
    return float(weight[np.asarray(labels) == 1].sum() / weight.sum())


def targets_of(question: Task) -> Targets:
    """The answers of a row and their labels. Raises DataError for a row that has none."""
    try:
        told = json.loads(question.answer)
        return {task: [(str(choice), int(label)) for choice, label in told[task]] for task in TASKS}
    except (ValueError, TypeError, KeyError):
        remedy = "rows need question, mc1_targets and mc2_targets, as TruthfulQA's"
        raise DataError("the row has no answers of TruthfulQA", where=str(question.source), remedy=remedy) from None


def _choices(targets: Targets) -> list[str]:
    """The different answers of a question."""
    return list(dict.fromkeys(choice for task in TASKS for choice, _ in targets[task]))


def _prompts(questions: Sequence[Task], how: TruthfulQaSettings) -> list[str]:
    """Worked examples and the question, as lm-eval has them."""
    asked = [str(question.prompt) for question in questions]
    if how.examples is not None:
        rows = read(how.examples).records
        if not all(isinstance(row, Task) and isinstance(row.prompt, str) for row in rows):
            raise DataError("holds no worked examples", where=how.examples, remedy="rows need question and answer")
        shown = "".join(f"Q: {row.prompt}\nA: {row.answer}\n\n" for row in rows if isinstance(row, Task))
        return [f"{shown}Q: {question}\nA:" for question in asked]
    spec = find_spec("lm_eval")
    file = None if spec is None or spec.origin is None else Path(spec.origin).parent / PROMPT_FILE
    if file is None or not file.is_file():
        remedy = "pip install 'twofold[harness]', which has lm-eval's six, or name rows: --examples FILE"
        raise RecipeError("no worked examples", where="--task truthfulqa", remedy=remedy)
    text = yaml.safe_load(file.read_text(encoding="utf-8"))["doc_to_text"]
    template = SandboxedEnvironment(keep_trailing_newline=True).from_string(text)
    return [template.render(question=question) for question in asked]


def _logps(
    model: NamedModel, prompts: Sequence[str], choices: Sequence[Sequence[str]], rows: Sequence[Task], most: int
) -> list[list[float]]:
    """The log-probability of each choice. Choices are tokenized with their prompt; those whose prompt has the same
    tokens share it."""
    groups: list[Group] = []
    places: list[tuple[int, int]] = []
    for at, (prompt, several, row) in enumerate(zip(prompts, choices, rows, strict=True)):
        length = len(_encoded(model, prompt))
        shared: dict[tuple[int, ...], list[tuple[int, list[int]]]] = {}
        for place, choice in enumerate(several):
            tokens = _encoded(model, f"{prompt} {choice}")
            if len(tokens) > most:
                remedy = "raise --max-length, or remove the row"
                raise DataError(
                    f"has {len(tokens)} tokens, at most {most} are read", where=str(row.source), remedy=remedy
                )
            if len(tokens) <= length:
                remedy = "remove the answer from the row"
                raise DataError(f"the answer {choice!r} has no tokens", where=str(row.source), remedy=remedy)
            shared.setdefault(tuple(tokens[:length]), []).append((place, tokens[length:]))
        for head, tails in shared.items():
            branches = tuple(Branch(torch.tensor(tail), Role.DEMONSTRATION) for _, tail in tails)
            groups.append(Group(str(row.source), torch.tensor(head), branches))
            places += [(at, place) for place, _ in tails]
    found = [[0.0] * len(several) for several in choices]
    sums = [float(logp.double().sum()) for group in model.policy.logps(groups, Packing()) for logp in group]
    for (at, place), value in zip(places, sums, strict=True):
        found[at][place] = value
    return found


def _encoded(model: NamedModel, text: str) -> list[int]:
    """The tokens of a text, with a token that begins it where the tokenizer adds one."""
    tokenizer = model.loaded.tokenizer
    begin = str(tokenizer.bos_token or "")
    return list(tokenizer.encode(text, add_special_tokens=not (begin and text.startswith(begin))))


def _entry(name: str, line: Line) -> Entry:
    rows: list[Row] = []
    for row in line.rows:
        logp = dict(zip(row["choices"], row["logp"], strict=True))
        values = {
            task: ([logp[choice] for choice, _ in row[task]], [label for _, label in row[task]]) for task in TASKS
        }
        rows.append({**row, "right": mc1(*values["mc1"]), "mass": mc2(*values["mc2"])})
    prompts = [row["question"] for row in rows]
    measures = {
        "mc1": BinaryOutcomes([row["right"] for row in rows], prompts),
        "mc2": Ratio([row["mass"] for row in rows], [1.0] * len(rows), prompts=prompts, share=True),
    }
    return Entry(name, measures, about=dict(line.about), rows=rows)
