"""How a problem is put to a model: a template, worked examples before it, plain text or the model's chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from twofold.data.turns import Turns
from twofold.errors import DataError
from twofold.evaluation.exact_match import Codec
from twofold.records import Message, Prompt, Task

if TYPE_CHECKING:
    from torch import Tensor

PLACE = "{prompt}"
BETWEEN = "\n\n"


@dataclass(frozen=True, slots=True)
class Preset:
    """How a task puts its problems unless told otherwise: templates for text and chat, and where problems and examples
    come from (None: the user says)."""

    text: str = PLACE
    chat: str = PLACE
    source: str | None = None


PRESETS = {
    "answers": Preset(),
    "gsm8k": Preset(
        text=f"Question: {PLACE}\nAnswer:",
        chat=f"{PLACE}\n\nReason step by step. End with a line `#### N`, where N is the number alone.",
        source="openai/gsm8k:main",
    ),
}


@dataclass(frozen=True)
class Prompting:
    """`template` holds `{prompt}`, which stands for the problem; `examples` come before it, worked. As a `chat` each
    example is a user's turn and the assistant's answer, as text they are divided by an empty line. `turns` makes chats
    of prompts that are text; what holds the model's own template already is put as it stands, without examples."""

    template: str = PLACE
    chat: bool = False
    examples: tuple[Task, ...] = ()
    turns: Turns | None = None

    @property
    def stop(self) -> tuple[str, ...]:
        """Where a completion ends that goes on with an example of its own: only text with examples needs it."""
        if self.chat or not self.examples:
            return ()
        head = self.template.partition(PLACE)[0].rstrip()
        return (BETWEEN + head,)

    def of(self, task: Task) -> Task:
        """The task as it is put; raises DataError for a chat where text is asked for."""
        if self.chat:
            turns = self._turns(task)
            if turns is None:
                return task
            *before, last = turns
            shown = [turn for example in self.examples for turn in self._worked(example)]
            return replace(task, prompt=(*before, *shown, Message(last.role, self._filled(last.content))))
        worked = [_joined(self._filled(_text(e)), e.answer) + BETWEEN for e in self.examples]
        return replace(task, prompt="".join(worked) + self._filled(_text(task)))

    def cut(self, completion: str) -> str:
        """The completion up to where it would go on with the next example."""
        for stop in self.stop:
            completion = completion.partition(stop)[0]
        return completion

    def as_dict(self) -> dict[str, Any]:
        """What of it stands in results, for a repetition."""
        rows = [str(e.source) for e in self.examples]
        return {"style": "chat" if self.chat else "text", "template": self.template, "shots": len(rows),
                "examples": rows, "stop": list(self.stop)}  # fmt: skip

    def _worked(self, example: Task) -> tuple[Message, Message]:
        asked = _key(example.prompt) if (turns := self._turns(example)) is None else turns[-1].content
        return Message("user", self._filled(asked)), Message("assistant", example.answer)

    def _turns(self, task: Task) -> tuple[Message, ...] | None:
        """The prompt as a chat; None for a text that is to stay as it stands."""
        prompt = task.prompt if self.turns is None else self.turns.put(task.prompt).prompt
        if not isinstance(prompt, str):
            return prompt
        return (Message("user", prompt),) if self.turns is None else None

    def _filled(self, text: str) -> str:
        return self.template.replace(PLACE, text)


@dataclass(frozen=True)
class Put:
    """A codec whose completions end where `prompting` ends them."""

    codec: Codec
    prompting: Prompting

    def prompt(self, prompt: Prompt) -> Tensor:
        return self.codec.prompt(prompt)

    def text(self, tokens: Tensor) -> str:
        return self.prompting.cut(self.codec.text(tokens))


def drawn(pool: Sequence[Task], problems: Sequence[Task], count: int, seed: int) -> tuple[Task, ...]:
    """`count` examples of `pool`, in an order that is a function of the seed; a larger count begins with a smaller's.

    None of `problems` is shown. Raises DataError where too few remain.
    """
    asked = {_key(p.prompt) for p in problems}
    free = [example for example in pool if _key(example.prompt) not in asked]
    if len(free) < count:
        what = f"{len(free)} of {len(pool)} examples are none of the problems, {count} are wanted"
        raise DataError(what, where=pool[0].source.file if pool else "", remedy="bring more examples, or ask for fewer")
    order = np.random.default_rng(seed).permutation(len(free))
    return tuple(free[i] for i in order[:count])


def _text(task: Task) -> str:
    if not isinstance(task.prompt, str):
        raise DataError("is a chat, not text", where=str(task.source), remedy="choose --style chat")
    return task.prompt


def _joined(prompt: str, answer: str) -> str:
    """A completion follows its prompt directly, or behind a space where the prompt ends in none."""
    return prompt + answer if not prompt or prompt[-1].isspace() else f"{prompt} {answer}"


def _key(prompt: Prompt) -> str:
    """What tells whether two prompts are one problem."""
    return prompt.strip() if isinstance(prompt, str) else prompt[-1].content.strip()
