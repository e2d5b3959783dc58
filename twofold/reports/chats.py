"""A chat as turns: who speaks, and which parts of the text are the chat template's markup."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

ROLE = "system|developer|user|human|assistant|model|gpt|bot|tool|ipython|function|observation|environment|chatbot"
_HEADS = (
    # a token, a role, and perhaps a token: ChatML, Llama 3 and 4, Granite, Gemma, gpt-oss
    r"(?:<\|(?:im_start|start_header_id|header_start|start_of_role|start|turn)\|?>|<start_of_turn>)"
    r"\s*(?P<named>[A-Za-z_.]+)"
    r"(?:(?:<\|[\w ]+\|>[a-z]*)*<\|(?:im_sep|end_header_id|header_end|end_of_role|message)\|>)?\n{0,2}",
    # a token that is the role: Phi, Zephyr, GLM, DeepSeek, Command R
    rf"(?:<\|START_OF_TURN_TOKEN\|>)?<[|｜](?P<token>{ROLE})(?:_TOKEN)?[|｜]>\n?",
    # Mistral and Llama 2
    r"(?P<system>(?:<s>)?\[INST\]\s*<<SYS>>\n?|(?:<s>)?\[SYSTEM_PROMPT\])",
    r"(?P<user>\n*<</SYS>>\s*|(?:\[/SYSTEM_PROMPT\])?\s*(?:<s>)?\s*\[INST\] ?)",
    r"(?P<assistant> ?\[/INST\] ?)",
)
_MARKED = re.compile("|".join(_HEADS), re.IGNORECASE)
_PLAIN = re.compile(rf"(?:^|(?<=\n))\n*(?P<named>{ROLE}): ?", re.IGNORECASE)
"""Turns without a template, `user: …`, as rows and transcripts have them. One is at the start of the text."""
_TOKENS = re.compile(r"(?:<[|｜][^<>|｜\n]{1,40}[|｜]>|</?s>|<(?:bos|eos|end_of_turn|turn\||pad)>)\n?")
NAMES = {"human": "user", "model": "assistant", "gpt": "assistant", "bot": "assistant", "chatbot": "assistant",
         "ipython": "tool", "function": "tool", "observation": "tool", "environment": "tool"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn: its role (empty where the text names none) and its text in pieces, each marked if it is markup."""

    role: str
    pieces: tuple[tuple[str, bool], ...]

    @property
    def is_markup(self) -> bool:
        """Whether nothing of it is text, as of the head that asks for the next answer."""
        return not any(text.strip() for text, markup in self.pieces if not markup)


def turns(text: str) -> tuple[Turn, ...]:
    """The turns of `text`, which together are all of it. Where no chat is recognized, it is one turn without a role."""
    heads = list(_MARKED.finditer(text))
    plain = not heads and (first := _PLAIN.match(text)) is not None and first.start() == 0
    heads = list(_PLAIN.finditer(text)) if plain else heads
    if not heads:
        return (Turn("", ((text, False),)),)
    ends = [*(head.start() for head in heads[1:]), len(text)]
    found = [
        Turn(_role(head), ((head.group(), True), *_pieces(text[head.end() : end], plain)))
        for head, end in zip(heads, ends, strict=True)
    ]
    before = text[: heads[0].start()]
    return (*([Turn("", tuple(_pieces(before, plain)))] if before else []), *found)


def _role(head: re.Match[str]) -> str:
    kind = head.lastgroup or ""
    role = (head.group(kind) if kind in ("named", "token") else kind).lower()
    return NAMES.get(role, role)


def _pieces(text: str, plain: bool) -> Iterator[tuple[str, bool]]:
    """The text between special tokens, and they; of plain turns the space at the end is markup too."""
    at = 0
    if not plain:
        for token in _TOKENS.finditer(text):
            if token.start() > at:
                yield text[at : token.start()], False
            yield token.group(), True
            at = token.end()
    rest = text[at:]
    if rest.rstrip():
        yield rest.rstrip() if plain else rest, False
    if plain and (space := rest[len(rest.rstrip()) :]):
        yield space, True
    elif not plain and rest and not rest.rstrip():
        yield rest, True
