"""How a model is prompted with a problem: a template, worked examples before it, plain text or a chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from twofold.data.formats import read
from twofold.data.reasoning import Parted
from twofold.data.turns import ChatChoice, Turns
from twofold.errors import DataError, RecipeError
from twofold.evaluation.exact_match import Codec
from twofold.records import Message, Prompt, Task, completion_fields, final_text, turns_of

if TYPE_CHECKING:
    from torch import Tensor

PLACE = "{prompt}"
BETWEEN = "\n\n"


@dataclass(frozen=True, slots=True)
class Preset:
    """The default prompting of a task: templates for text and chat, and the sources of problems and examples (None: the
    user names them). `split` is that of the source. `until` ends a completion after the text template."""

    text: str = PLACE
    chat: str = PLACE
    source: str | None = None
    split: str = "test"
    until: tuple[str, ...] = ()


GSM8K = Preset(
    text=f"Question: {PLACE}\nAnswer:",
    chat=f"{PLACE}\n\nReason step by step. End with a line `#### N`, where N is the number alone.",
    source="openai/gsm8k:main",
)
MATH = Preset(
    text=f"Problem:\n{PLACE}\n\nSolution:",
    chat=f"{PLACE}\n\nReason step by step. Write the final answer in \\boxed{{}}.",
    source="DigitalLearningGmbH/MATH-lighteval",
    until=("Problem:",),
)
PRESETS = {
    "answers": Preset(),
    "gsm8k": GSM8K,
    "gsm8k-platinum": replace(GSM8K, source="madrylab/gsm8k-platinum:main"),
    "math": MATH,
    "ifeval": Preset(source="google/IFEval", split="train"),
    "truthfulqa": Preset(source="truthfulqa/truthful_qa:multiple_choice", split="validation"),
    "rewardbench": Preset(source="allenai/reward-bench", split="filtered"),
    "rewardbench2": Preset(source="allenai/reward-bench-2"),
}


@dataclass(frozen=True)
class Prompting:
    """`template` has `{prompt}`, which is replaced by the problem. The worked `examples` come before it. As a `chat`,
    each example is a user's turn and the assistant's answer. As text, an empty line separates them. `turns` converts
    text prompts to chats. A prompt that already has the model's own template is used unchanged, without examples."""

    template: str = PLACE
    chat: bool = False
    examples: tuple[Task, ...] = ()
    turns: Turns | None = None
    until: tuple[str, ...] = ()

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end a completion before it continues with another problem: `until`, or for text with examples
        the beginning of the next one."""
        if self.until or self.chat or not self.examples:
            return self.until
        head = self.template.partition(PLACE)[0].rstrip()
        return (BETWEEN + head,)

    def of(self, task: Task) -> Task:
        """The task with its prompt. Raises DataError for a chat if text is required."""
        if self.chat:
            turns = self._turns(task)
            if turns is None:
                return task
            *before, last = turns
            shown = [turn for example in self.examples for turn in self._worked(example)]
            return replace(task, prompt=(*before, *shown, replace(last, content=self._filled(last.content))))
        worked = [_joined(self._filled(_text(e)), e.answer) + BETWEEN for e in self.examples]
        return replace(task, prompt="".join(worked) + self._filled(_text(task)))

    def cut(self, completion: str) -> str:
        """The completion, without a continuation by another example."""
        for stop in self.stop:
            completion = completion.partition(stop)[0]
        return completion

    def as_dict(self) -> dict[str, Any]:
        """The part that is stored in results, so that the evaluation can be repeated."""
        rows = [str(e.source) for e in self.examples]
        return {"style": "chat" if self.chat else "text", "template": self.template, "shots": len(rows),
                "examples": rows, "stop": list(self.stop)}  # fmt: skip

    def _worked(self, example: Task) -> tuple[Message, ...]:
        asked = _key(example.prompt) if (turns := self._turns(example)) is None else turns[-1].content
        return Message("user", self._filled(asked)), *turns_of(
            example.answer if example.completion is None else example.completion
        )

    def _turns(self, task: Task) -> tuple[Message, ...] | None:
        """The prompt as a chat; None for a text that remains unchanged."""
        prompt = task.prompt if self.turns is None else self.turns.put(task.prompt).prompt
        if not isinstance(prompt, str):
            return prompt
        return (Message("user", prompt),) if self.turns is None else None

    def _filled(self, text: str) -> str:
        return self.template.replace(PLACE, text)


@dataclass(frozen=True)
class Prompter:
    """How models are prompted with `problems`. Worked examples come from the rows `examples`: problems with answers, or
    with `any_rows` any rows that have an answer."""

    problems: Sequence[Task]
    preset: str = "answers"
    template: str | None = None
    style: ChatChoice = "auto"
    examples: str | None = None
    seed: int = 0
    any_rows: bool = False

    def local(self, turns: Turns, shots: int) -> Prompting:
        """For a model in this process."""
        chats = any(not isinstance(problem.prompt, str) for problem in self.problems)
        chat = turns.renders or (chats and self.style == "auto")
        if chat and not turns.has_template:
            what, remedy = "the rows are chats, and the model has no chat template", "use text prompts"
            raise RecipeError(what, where="--style", remedy=remedy)
        return Prompting(self._template(chat), chat, self._drawn(shots), turns, self._until(chat))

    def server(self, raw: bool, shots: int) -> Prompting:
        """For a model behind a server, which gets chats, or text if it is `raw`."""
        return Prompting(self._template(not raw), not raw, self._drawn(shots), until=self._until(not raw))

    def _until(self, chat: bool) -> tuple[str, ...]:
        return () if chat or self.template is not None else PRESETS[self.preset].until

    def _template(self, chat: bool) -> str:
        preset = PRESETS[self.preset]
        template = self.template if self.template is not None else preset.chat if chat else preset.text
        if PLACE not in template:
            raise RecipeError(f"lacks {PLACE}", where="--template", remedy=f"write {PLACE} for the problem")
        return template

    def _drawn(self, shots: int) -> tuple[Task, ...]:
        return drawn(self.pool, self.problems, shots, self.seed) if shots else ()

    @cached_property
    def pool(self) -> list[Task]:
        """All worked examples."""
        name = self.examples or PRESETS[self.preset].source
        if name is None:
            what, where = "no worked examples", "--shots and --prompted" if not self.any_rows else "@shots"
            raise RecipeError(what, where=where, remedy="name a file: --examples FILE")
        rows = read(name).records
        if self.any_rows:
            known = [(row, told[0][1]) for row in rows if (told := completion_fields(row))]
            rows = [Task(row.prompt, final_text(told), row.source, told) for row, told in known]
        found = [record for record in rows if isinstance(record, Task)]
        if not found:
            raise DataError("holds no worked examples", where=name, remedy="rows need a prompt and an answer")
        return found


@dataclass(frozen=True)
class Put:
    """A codec whose completions end where `prompting` ends them."""

    codec: Codec
    prompting: Prompting

    def prompt(self, prompt: Prompt) -> Tensor:
        return self.codec.prompt(prompt)

    def text(self, tokens: Tensor) -> str:
        return self.prompting.cut(self.codec.text(tokens))

    def parted(self, prompt: Prompt, tokens: Tensor) -> Parted:
        parts = self.codec.parted(prompt, tokens)
        return parts._replace(answer=self.prompting.cut(parts.answer))


def drawn(pool: Sequence[Task], problems: Sequence[Task], count: int, seed: int) -> tuple[Task, ...]:
    """`count` examples of `pool`, in an order that is a function of the seed; a larger count begins with a smaller's.

    None of `problems` is shown. Raises DataError where too few remain.
    """
    asked = {_key(p.prompt) for p in problems}
    free = [example for example in pool if _key(example.prompt) not in asked]
    if len(free) < count:
        what = f"{len(free)} of {len(pool)} examples are none of the problems, {count} are wanted"
        raise DataError(what, where=pool[0].source.file if pool else "", remedy="add examples, or use fewer shots")
    order = np.random.default_rng(seed).permutation(len(free))
    return tuple(free[i] for i in order[:count])


def _text(task: Task) -> str:
    if not isinstance(task.prompt, str):
        raise DataError("is a chat, not text", where=str(task.source), remedy="choose --style chat")
    return task.prompt


def _joined(prompt: str, answer: str) -> str:
    """A completion follows its prompt directly, or after a space if the prompt does not end with white space."""
    return prompt + answer if not prompt or prompt[-1].isspace() else f"{prompt} {answer}"


def _key(prompt: Prompt) -> str:
    """Equal for two prompts of the same problem."""
    return prompt.strip() if isinstance(prompt, str) else prompt[-1].content.strip()
