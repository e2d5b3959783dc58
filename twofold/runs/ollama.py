"""A chat template as one of Ollama's: derived from what the tokenizer renders, and checked against it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from twofold.data.chat import rendering
from twofold.errors import ModelError
from twofold.records import Message

_ROLES = {"s": "system", "u": "user", "a": "assistant"}
_SHAPES = ("u", "uau", "uauau")
_WHERE = "the chat template"
_REMEDY = "serve the model with llama.cpp (`llama-server --jinja`) or vLLM, which run the template itself"


@dataclass(frozen=True)
class Turns:
    """The text around the messages of a chat, without what the runtime puts first by itself.

    `opening` comes first where there is no system message; `system` is None where the template takes none. Where
    `merged`, the system message is inside the first user message. After a user message comes the prompt of an answer.
    """

    opening: str
    system: tuple[str, str] | None
    merged: bool
    user: tuple[str, str]
    after_answer: str

    def render(self, messages: Iterable[Message]) -> str:
        """A chat as Ollama writes it."""
        text, opened = self.opening, False
        for message in messages:
            if message.role == "system" and self.system is not None:
                text, opened = self.system[0] + message.content + self.system[1], self.merged
            elif message.role == "user":
                text += ("" if opened else self.user[0]) + message.content + self.user[1]
                opened = False
            else:
                text += message.content + self.after_answer
        return text

    def template(self) -> str:
        """The same as a template of Go. Text is in quoted strings, so that no space is lost."""
        refused = '{{ index "this model takes no system message" 999 }}'
        system = f"{_go(self.system[0])}{{{{ .System }}}}{_go(self.system[1])}" if self.system else refused
        user = _go(self.user[0])
        if self.merged:
            user = f"{{{{ if not (and $.System (eq $i 1)) }}}}{user}{{{{ end }}}}"
        return "\n".join(
            (
                f"{{{{- if .System }}}}{system}{{{{ else }}}}{_go(self.opening)}{{{{ end }}}}",
                "{{- range $i, $message := .Messages }}",
                f'{{{{- if eq $message.Role "user" }}}}{user}{{{{ $message.Content }}}}{_go(self.user[1])}',
                f'{{{{- else if eq $message.Role "assistant" }}}}{{{{ $message.Content }}}}{_go(self.after_answer)}',
                "{{- end }}",
                "{{- end }}",
            )
        )


def modelfile(tokenizer: Any, weights: str, stops: Sequence[str]) -> str:
    """The Modelfile for the GGUF file `weights`; `stops` end an answer. Raises ModelError where `turns_of` does."""
    turns = turns_of(tokenizer)
    stop = [f'PARAMETER stop "{text}"' for text in stops]
    return "\n".join([f"FROM ./{weights}", f'TEMPLATE """{turns.template()}"""', *stop, ""])


def turns_of(tokenizer: Any) -> Turns:
    """What the chat template of `tokenizer` writes around messages. Raises ModelError where no such form repeats it."""
    source = str(getattr(tokenizer, "chat_template", None) or "")
    if not source:
        raise ModelError("the tokenizer has none", where=_WHERE, remedy="export with --to gguf, for completions")
    if "strftime_now" in source:
        raise ModelError("writes today's date, which a template of Ollama cannot", where=_WHERE, remedy=_REMEDY)
    what = "cannot be written as a template of Ollama"
    try:
        turns = _derived(tokenizer)
    except (ValueError, TemplateError) as error:
        raise ModelError(f"{what}: {str(error).splitlines()[0]}", where=_WHERE, remedy=_REMEDY) from error
    for shape in (*_SHAPES, *(f"s{shape}" for shape in _SHAPES if turns.system)):
        if turns.render(_chat(shape)) != _rendered(tokenizer, shape):
            roles = ", ".join(_ROLES[role] for role in shape)
            raise ModelError(f"{what}: it would write a chat of {roles} otherwise", where=_WHERE, remedy=_REMEDY)
    return turns


def _derived(tokenizer: Any) -> Turns:
    """Pieces of renderings: the longest text before every user message is a user message's own."""
    start, answer, after_answer, end = _pieces(tokenizer, "uau")
    if answer != end:
        raise ValueError("it begins an answer that is past unlike one that is to come")
    before = _common_end(start, after_answer)
    before = before[max(0, len(before) + _length_of_stop(tokenizer, after_answer) - len(after_answer)) :]
    try:
        opening, between, _ = _pieces(tokenizer, "su")
        system, merged = (opening, between.removesuffix(before)), not between.endswith(before)
    except (ValueError, TemplateError):
        system, merged = None, False
    return Turns(start.removesuffix(before), system, merged, (before, end), after_answer.removesuffix(before))


def _common_end(one: str, other: str) -> str:
    pairs = enumerate(zip(reversed(one), reversed(other), strict=False))
    size = next((number for number, (a, b) in pairs if a != b), min(len(one), len(other)))
    return one[len(one) - size :]


def _length_of_stop(tokenizer: Any, text: str) -> int:
    """How much of `text`, which follows an answer, is the special token that ends it, and its line break."""
    tokens = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    stop = max((token for token in tokens if text.startswith(token)), key=len, default="")
    rest = text[len(stop) :]
    return len(stop) + len(rest) - len(rest.lstrip("\n")) if stop else 0


def _chat(shape: str) -> list[Message]:
    return [Message(_ROLES[role], f"{role}{number}Qz") for number, role in enumerate(shape)]


def _rendered(tokenizer: Any, shape: str) -> str:
    """A chat of these roles, without the first token where the tokenizer, and so the runtime, puts it there."""
    text = rendering(tokenizer, _chat(shape), generation_prompt=True)
    first, bos = tokenizer("a")["input_ids"][:1], tokenizer.bos_token_id
    return text.removeprefix(tokenizer.bos_token) if bos is not None and first == [bos] else text


def _pieces(tokenizer: Any, shape: str) -> list[str]:
    """The text before, between and after the messages; raises ValueError where one is not rendered as it is."""
    rest, pieces = _rendered(tokenizer, shape), list[str]()
    for message in _chat(shape):
        if rest.count(message.content) != 1:
            raise ValueError(f"it does not write the message of the {message.role} once, as it is")
        before, _, rest = rest.partition(message.content)
        pieces.append(before)
    return [*pieces, rest]


def _go(text: str) -> str:
    """Text as a string of Go in an action; nothing for no text."""
    return f"{{{{ {_quoted(text)} }}}}" if text else ""


def _quoted(text: str) -> str:
    escapes = {"\\": "\\\\", '"': "\\x22", "\n": "\\n"}
    return '"' + "".join(escapes.get(c, c if c.isprintable() else f"\\u{ord(c):04x}") for c in text) + '"'
