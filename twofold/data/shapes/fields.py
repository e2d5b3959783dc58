"""The fields of one row as typed values: texts, chats, booleans, scores; and the errors of each."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from twofold.data import chat, keys
from twofold.data.chat import Chat, Malformed
from twofold.data.csv import is_csv, spelled
from twofold.data.differences import common_length
from twofold.data.issues import MOST_NAMES, Issue, Severity, quoted, shortened
from twofold.data.pictures import PLACE, Pictures
from twofold.records import Completion, Message, Prompt, Source, completion_of

LARGEST = 1e30
"""What a number of a row may be at most: sums of such numbers still fit in single precision."""
UNSEEN = (
    "".join(map(chr, (0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF))) + " \n\t"
)
"""White space, joiners and marks of direction."""
Said = str | Chat
"""What one field holds: text, or messages."""


class Fields:
    """The fields of one row. What is wrong with them is collected in `faults`, so that a check shows all of it at once;
    a record made of a row with faults must not be used. `remarks` are warnings about a row that can be used."""

    def __init__(self, row: Mapping[str, Any], source: Source) -> None:
        self.row, self.source, self.pictures = row, source, Pictures(row, source.file)
        self.faults: list[Issue] = []
        self.remarks: list[Issue] = []

    def fault(self, field: str, reason: str, remedy: str, check: str = "mistyped field") -> None:
        """Note what is wrong with `field`."""
        self.faults.append(self._made(field, reason, remedy, check, "error"))

    def pass_over(self, field: str, reason: str, check: str) -> None:
        """Leave the row out with a warning: nothing in it is wrong, but there is nothing to learn from it either."""
        self.faults.append(self._made(field, reason, "the row is passed over", check, "warning"))

    def remark(self, field: str, reason: str, remedy: str, check: str) -> None:
        """Warn about a row that is kept."""
        self.remarks.append(self._made(field, reason, remedy, check, "warning"))

    def _made(self, field: str, reason: str, remedy: str, check: str, severity: Severity) -> Issue:
        return Issue(self.source.file, self.source.row, field, reason, remedy, severity, check)

    def spread(self, extra: Mapping[str, Any]) -> Fields:
        """The same row with further fields (parts of its own), under the same faults and remarks."""
        wider = Fields({**self.row, **extra}, self.source)
        wider.faults, wider.remarks, wider.pictures = self.faults, self.remarks, self.pictures
        return wider

    def refuse_unread(self, part: str, holder: Mapping[str, Any], used: Collection[str]) -> None:
        """Fault the filled keys of `holder` that nobody reads: of the row itself, or of a `part` of it."""
        unread = keys.unread(holder, used)
        for key in unread[:MOST_NAMES]:
            name = f"{part}.{shortened(key)}" if part else shortened(key)
            self.fault(name, keys.meaning(key), keys.remedy(unread), "unread key")
        if len(unread) > MOST_NAMES:
            reason = f"and {len(unread) - MOST_NAMES} more keys are filled, and nothing reads them"
            self.fault(part, reason, "is this the file that you meant?", "unread key")

    def turns(self, prompt: str | None, *completions: str) -> tuple[Prompt, list[Completion]]:
        """The prompt of the row and its completions; without a prompt field, it is what the completions share.

        A `system` field comes before the prompt, which makes a chat of it.
        """
        asked = self._with_system(self.completion(prompt)) if prompt else ()
        return self.answers(asked, prompt, *completions)

    def answers(self, asked: Said | None, prompt: str | None, *completions: str) -> tuple[Prompt, list[Completion]]:
        """As `turns`, after what was `asked` (None where that is at fault); `prompt` names its field."""
        said = [self.completion(c) for c in completions]
        texts = [s for s in said if isinstance(s, str)]
        if isinstance(asked, str) and prompt is not None and len(texts) == len(said):
            return asked, [self.filled(c, text) for c, text in zip(completions, texts, strict=True)]
        if asked is None or any(s is None for s in said):
            return "", [self.filled(c, s) if isinstance(s, str) else "" for c, s in zip(completions, said, strict=True)]
        conversations = [s for s in said if isinstance(s, tuple)]
        shared = conversations[0][: common_length(*(c[:-1] for c in conversations))] if conversations else ()
        if isinstance(asked, str) and conversations:
            asked = self._as_chat(prompt or "", asked, shared, len(conversations) == len(said))
        elif prompt is None:
            asked, said = self._implicit(completions, said, shared)
        if isinstance(asked, tuple) and asked and asked[-1].role == "assistant":
            reason = "the prompt ends with an assistant turn"
            self.fault(prompt or completions[0], reason, "end it with a user turn", "unanswerable prompt")
        return asked, [self._completion(c, s, asked) for c, s in zip(completions, said, strict=True)]

    def user(self, *fields: str) -> Chat | None:
        """What a user asked, as a chat: `system` and `history` where the row has them, then the texts of `fields`, the
        filled ones, a line each. None where that is at fault."""
        present = [f for f in fields if f == fields[0] or self.row.get(f) is not None]
        texts = [self.completion(f) for f in present]
        for field, text in zip(present, texts, strict=True):
            if isinstance(text, tuple):
                self.fault(field, "is a chat, not text", "write it as text")
        if not all(isinstance(t, str) for t in texts):
            return None
        past = self._history()
        question = Message("user", "\n".join(t for t in texts if isinstance(t, str) and t))
        told = None if past is None else self._with_system((*past, question))
        return told if isinstance(told, tuple) else None

    def conversation(self, field: str) -> tuple[Chat, Completion] | None:
        """A chat as what comes before its last answer and that answer; None where there is none."""
        said = self.completion(field)
        if isinstance(said, str):
            self.fault(field, "is text, not a chat", 'write it as [{"role": "user", "content": "…"}, …]')
            return None
        whole = self._with_system(said)
        if not isinstance(whole, tuple):
            return None
        if whole[-1].role != "assistant":
            many = any(m.role == "assistant" for m in whole)
            reason = f"ends with the {whole[-1].role}'s turn" if many else "has no assistant turn"
            self.fault(field, reason, "end it with one assistant message", "no assistant turn")
            return None
        return whole[:-1], completion_of((self._spoken(field, whole[-1]),))

    def label(self, field: str) -> tuple[bool, float | None]:
        """Whether a completion is more likely good than bad, and the probability that this is right, None for a label
        without doubt: true, false, or the probability of good, where 1 is true and 0 is false."""
        value = self._spelled(self.row.get(field))
        if isinstance(value, bool):
            return value, None
        if is_number(value) and 0 <= value <= 1:
            return value >= 0.5, None if value in (0, 1) else float(max(value, 1 - value))
        if value is None:
            self.fault(field, "is null", f"fill `{field}` or remove the row", "missing field")
        else:
            reason = f"is {_number_or_kind(value)}, not true, false or a probability"
            self.fault(field, reason, "write true for good, false for bad, or a number from 0 to 1")
        return False, None

    def probability(self) -> float | None:
        """The probability that chosen beats rejected, if the row has one."""
        value = self._spelled(self.row.get("probability"))
        if value is None or (is_number(value) and 0 <= value <= 1):
            return None if value is None else float(value)
        reason = f"is {_number_or_kind(value)}, not a probability"
        self.fault("probability", reason, "write a number from 0 to 1, or remove it")
        return None

    def margin(self) -> float | None:
        """The margin between the better and the worse completion, if the row has one."""
        value = self._spelled(self.row.get("margin"))
        return None if value is None else self.number("margin", value, "write a number, or remove it")

    def weight(self) -> float | None:
        """How often the row counts, if it has a weight."""
        value = self._spelled(self.row.get("weight"))
        weight = None if value is None else self.number("weight", value, "write a number from 0 up, or remove it")
        if weight is not None and 0 < weight < 1 / LARGEST:
            self.fault("weight", f"is {weight:g}, which is 0 in single precision", "write 0, or a larger number")
            return None
        if weight is not None and weight < 0:
            remedy = "write a number from 0 up; to turn a preference around, swap its completions"
            self.fault("weight", f"is {weight:g}, less than 0", remedy)
            return None
        return weight

    def _spelled(self, value: Any) -> Any:
        """A value that CSV, which has only texts, spells: true, false or a number. Other formats have values."""
        return spelled(value) if isinstance(value, str) and is_csv(self.source.file) else value

    def verdict(self, field: str) -> Any:
        """The value of `field`; of a cell of CSV the whole number that it spells, if it does."""
        value, cell = self._spelled(self.row[field]), self.row[field]
        return int(value) if value is not cell and isinstance(value, float) and value.is_integer() else value

    def number(self, field: str, value: Any, remedy: str) -> float | None:
        """A finite number; None where `value` is none."""
        if is_number(value) and abs(value) <= LARGEST:
            return float(value)
        if is_number(value) and LARGEST < abs(value) <= sys.float_info.max:
            self.fault(field, f"is {value:g}, and training in single precision takes numbers up to {LARGEST:g}", remedy)
            return None
        self.fault(field, f"is {_number_or_kind(value)}, not a finite number", remedy)
        return None

    def completion(self, field: str) -> Said | None:
        """The text or the chat in `field`; None where it is neither."""
        value = self.row.get(field)
        if value is None:
            reason = "is null" if field in self.row else "is missing"
            self.fault(field, reason, f"fill `{field}` or remove the row", "missing field")
            return None
        if isinstance(value, str) and not (self.pictures.unplaced and PLACE in value):
            return value if self._encodable(field, value) else None
        if isinstance(value, str):
            value = [{"role": "user", "content": value}]
        if chat.is_message(value):
            value = [value]
        if not isinstance(value, list | tuple):
            self.fault(field, f"is {chat.kind(value)}, not text or a chat", "write it as text")
            return None
        try:
            messages = chat.parse(value, self.pictures)
        except Malformed as error:
            self.fault(field, error.reason, error.remedy, error.check)
            return None
        return messages if all(self._encodable(field, m.content + m.more) for m in messages) else None

    def filled(self, field: str, text: str) -> str:
        """`text`, at fault where there is nothing in it."""
        if not text.strip() or (text[0] in UNSEEN and not text.strip(UNSEEN)):
            reason = "is empty" if not text else "is only white space" if text.isspace() else "holds nothing to be seen"
            self.fault(field, reason, f"fill `{field}` or remove the row", "empty field")
        return text

    def with_tools(self, asked: Prompt, tools: Any) -> Prompt:
        """The prompt behind the definitions of the `tools` that its chat template is to show."""
        if not keys.filled(tools) or (not asked and self.faults):  # a row at fault may have no prompt
            return asked
        if isinstance(tools, str) and "".join(tools.split()) == "[]":
            return asked
        if isinstance(asked, str):
            self.fault(
                "tools", "need a chat, because no template shows them with a text", "write the prompt as messages"
            )
            return asked
        try:
            return (chat.tools_message(tools), *asked)
        except Malformed as error:
            self.fault("tools", error.reason, error.remedy, error.check)
            return asked

    def _with_system(self, asked: Said | None) -> Said | None:
        if asked is None or self.row.get("system") is None:
            return asked
        turns = (Message("user", asked),) if isinstance(asked, str) else asked
        if not keys.filled(self.row["system"]):
            return turns
        system = self.completion("system")
        if turns and turns[0].role == "system":
            if system != turns[0].content:
                self.fault("system", "is another system message than the chat's own", "keep one of them")
            return turns
        if isinstance(system, tuple):
            self.fault("system", "is a chat, not text", "write it as text")
        return (Message("system", system), *turns) if isinstance(system, str) else None

    def _history(self) -> Chat | None:
        """Earlier rounds as [[question, answer], …]."""
        rounds = self.row["history"] if keys.filled(self.row.get("history")) else []
        if not isinstance(rounds, list | tuple) or not all(_is_round(r) for r in rounds):
            self.fault("history", "is no list of [question, answer]", 'write it as [["…", "…"], …]')
            return None
        return tuple(m for asked, told in rounds for m in (Message("user", asked), Message("assistant", told)))

    def _encodable(self, field: str, text: str) -> bool:
        if text.isascii():
            return True
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            reason = f"holds half a character (U+{ord(text[error.start]):04X}) at position {error.start + 1}"
            self.fault(field, reason, "write the text again from its origin", "bad UTF-8")
            return False
        return True

    def _as_chat(self, field: str, asked: str, shared: Chat, complete: bool) -> Prompt:
        """A text prompt in a row with chats is their last user turn, or it is an error."""
        if complete and shared and shared[-1] == Message("user", asked):
            return shared
        remedy = 'write the prompt as [{"role": "user", "content": "…"}], or the completions as text'
        self.fault(field, "is text, but the completions are chats", remedy)
        return asked

    def _implicit(self, fields: Sequence[str], said: Sequence[Any], shared: Chat) -> tuple[Prompt, list[Said | None]]:
        """The prompt that all completions begin with, and the completions. Where they part at a turn that is not the
        assistant's, the shared assistant turn before it goes with them, unscored."""
        texts = [f for f, s in zip(fields, said, strict=True) if isinstance(s, str)]
        if texts:
            self.fault(texts[0], "is text without a prompt", "add a `prompt` column")
        elif not shared:
            self.fault(fields[0], f"shares no prompt messages with {quoted(fields[1:])}", "add a `prompt` column")
        elif any(len(s) > len(shared) and s[len(shared)].role == "user" for s in said) and all(
            m.role != "user" for m in shared
        ):
            reason = f"shares no user's turn with {quoted(fields[1:])}"
            self.fault(fields[0], reason, "give both sides the turns that they begin with", "no common start")
        parted = any(len(s) > len(shared) and s[len(shared)].role != "assistant" for s in said if isinstance(s, tuple))
        at = len(shared)
        while parted and at and shared[at - 1].role == "assistant":
            at -= 1
        if not parted or at == len(shared) or not at:
            return shared, list(said)
        unscored = tuple(replace(m, scored=False) for m in shared[at:])
        return shared[:at], [(*s[:at], *unscored, *s[len(shared) :]) for s in said]

    def _completion(self, field: str, said: Said | None, asked: Prompt) -> Completion:
        if isinstance(said, tuple):
            return self._answer(field, said, asked)
        return "" if said is None else self.filled(field, said)

    def _answer(self, field: str, said: Chat, asked: Prompt) -> Completion:
        """The turns that follow the prompt, whether or not the chat repeats the prompt. The last is the assistant's,
        and the others are its own, tools' and users'."""
        rest = _after(said, asked)
        if not any(m.role == "assistant" for m in rest):
            self.fault(field, "has no assistant turn", "end it with one assistant message", "no assistant turn")
            return ""
        if reason := _disorder(rest):
            remedy = "after the prompt come the assistant's turns, one at a time, with tools' and users' between them"
            self.fault(field, reason, remedy, "no assistant turn")
            return ""
        if all(m.scored is False for m in rest if m.role == "assistant"):
            remedy = "set the weight of a turn to 1, or remove the row"
            self.fault(field, "has no turn that is trained on: the weight of each is 0", remedy, "no supervised token")
            return ""
        return completion_of(tuple(self._spoken(field, m) if m.role == "assistant" else m for m in rest))

    def _spoken(self, field: str, turn: Message) -> Message:
        """An assistant's turn, at fault where there is nothing in it."""
        if not turn.more:
            self.filled(field, turn.content)
        return turn


def _disorder(rest: Chat) -> str:
    """What is wrong with the order of turns after a prompt; empty where nothing is."""
    odd = next((m for m in rest if m.role not in ("assistant", "tool", "user")), None)
    if odd is not None:
        return f"has a turn of the role {odd.role} after the prompt"
    if rest[0].role == "user":
        return "begins with a user's turn after the prompt"
    if rest[-1].role != "assistant":
        return f"ends with the {rest[-1].role}'s turn"
    if any(a.role == b.role == "assistant" for a, b in pairwise(rest)):
        return "has two assistant turns in a row"
    return ""


def is_number(value: object) -> bool:
    """Whether a JSON value is a number; a boolean is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number_or_kind(value: Any) -> str:
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return "a number of hundreds of digits"
    return f"{value:g}" if is_number(value) else chat.kind(value)


def _after(said: Chat, asked: Prompt) -> Chat:
    """The turns of a chat after the prompt. The row's own system message may come before the part that the chat
    repeats."""
    if not isinstance(asked, tuple):
        return said
    for start in (0, *(n for n in (1, 2) if all(m.role in ("tools", "system") for m in asked[:n]))):
        repeated = asked[start:]
        if repeated and said[: len(repeated)] == repeated:
            return said[len(repeated) :]
    return said


def _is_round(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(v, str) for v in value)
