"""Runs each model on the same problems, prompted as the settings require."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from twofold.data.formats import read
from twofold.data.tokenize import Encoder
from twofold.data.turns import ChatChoice
from twofold.errors import DataError, RecipeError
from twofold.evaluation.prompting import PLACE, PRESETS, Prompting, drawn
from twofold.progress import Progress, Silent, counted
from twofold.records import Task
from twofold.sampling.base import Sampler, Sampling
from twofold.sampling.named_model import NamedModel, open_model

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """How models are prompted with problems, and how long an answer may be.

    `preset` names one of PRESETS, with templates that `template` overrides. `style` is data.chat of a recipe: each
    model reads text problems as in its training (auto), as bare text, or in its chat template. `shots` worked examples
    from the rows `examples` come before each problem, in an order from `seed`. `prompted` adds lines for the first
    model with these numbers of examples.
    """

    preset: str = "answers"
    template: str | None = None
    style: ChatChoice = "auto"
    shots: int = 0
    prompted: Sequence[int] = ()
    examples: str | None = None
    max_new_tokens: int = 256
    seed: int = 0
    progress: Progress = field(default_factory=Silent)


Work = Callable[[str, Sampler, NamedModel, Prompting], T]


def each_model(
    models: Sequence[str], problems: Sequence[Task], how: PromptSettings, temperature: float, work: Work[T]
) -> dict[str, T]:
    """The result of `work` for each line of the table, by name, with a sampler at this temperature. More lines of the
    first model follow its own. One model is in memory at a time."""
    further = [k for k in how.prompted if k != how.shots]
    pool = _pool(how) if max([how.shots, *further]) > 0 else []

    def of(model: str, lines: Mapping[str, int]) -> dict[str, T]:
        opened = open_model(model, chat=how.style)
        found: dict[str, T] = {}
        for name, shots in lines.items():
            how.progress.note(f"{name}: {counted(len(problems), 'problem')}")
            prompting = _prompting(how, problems, opened.encoder, (pool, shots))
            sampling = Sampling(temperature=temperature, max_new_tokens=how.max_new_tokens, stop=prompting.stop)
            found[name] = work(name, opened.sampler(sampling, how.progress.note), opened, prompting)
        return found

    found: dict[str, T] = {}
    for i, model in enumerate(dict.fromkeys(models)):
        more = {f"{model}, {k or 'zero'}-shot": k for k in further} if i == 0 else {}
        found |= of(model, {model: how.shots, **more})
    return found


def _prompting(
    how: PromptSettings, problems: Sequence[Task], encoder: Encoder, worked: tuple[Sequence[Task], int]
) -> Prompting:
    preset, turns = PRESETS[how.preset], encoder.turns
    chats = any(not isinstance(problem.prompt, str) for problem in problems)
    chat = turns.renders or (chats and how.style == "auto")
    if chat and not turns.has_template:
        what, remedy = "the rows are chats, and the model has no chat template", "use text prompts"
        raise RecipeError(what, where="--style", remedy=remedy)
    template = how.template if how.template is not None else preset.chat if chat else preset.text
    if PLACE not in template:
        raise RecipeError(f"lacks {PLACE}", where="--template", remedy=f"write {PLACE} for the problem")
    pool, shots = worked
    return Prompting(template, chat, drawn(pool, problems, shots, how.seed) if shots else (), turns)


def _pool(how: PromptSettings) -> list[Task]:
    """All worked examples."""
    name = how.examples or PRESETS[how.preset].source
    if name is None:
        raise RecipeError("no worked examples", where="--shots and --prompted", remedy="name a file: --examples FILE")
    found = [record for record in read(name).records if isinstance(record, Task)]
    if not found:
        raise DataError("holds no worked examples", where=name, remedy="rows need a prompt and an answer")
    return found
