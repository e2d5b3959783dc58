"""Completions as tokens behind a prompt: where each turn begins, which token stops it, and what is between turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from twofold.batch import Aside
from twofold.data.chat import Chat, rendering
from twofold.data.differences import common_length
from twofold.data.hidden_keys import hidden, with_open_reasoning
from twofold.data.issues import Issue, IssueError
from twofold.data.reasoning import is_whole, spoken
from twofold.data.token_texts import TokenTexts
from twofold.data.turns import PutPrompt
from twofold.errors import ModelError
from twofold.records import Completion, Message, Prompt, Source, turns_of


class Ending(NamedTuple):
    """A completion's scored tokens; how many of its turns were tokenized on their own, how many their template left
    without a stop, what makes them a guess, and the tokens in between: [before which, tokens, starts again]."""

    ids: list[int]
    merged: int = 0
    unstopped: int = 0
    guess: str = ""
    between: tuple[tuple[int, list[int], bool], ...] = ()

    def asides(self, head: list[int], shared: int) -> tuple[Aside, ...]:
        """Of a group whose prompt is the first `shared` tokens of `head`."""
        if not self.between and shared == len(head):
            return ()
        rest = [(0, head[shared:], False)] if shared < len(head) else []
        made = [(at, ids[shared:] if fresh else ids, fresh) for at, ids, fresh in self.between]
        return tuple(Aside(at, as_tensor(ids), fresh) for at, ids, fresh in (*rest, *made))


def shared_length(head: list[int], endings: Sequence[Ending], source: Source) -> int:
    """How many tokens of a prompt all rows of its completions begin with."""
    anew = [ids for ending in endings for _, ids, fresh in ending.between if fresh]
    shared = common_length(head, *anew) if anew else len(head)
    if not shared and head:
        reason = "is rendered from its first token on otherwise with each turn, so that no prompt is shared"
        raise fault(source, "prompt", reason, "choose a model with another chat template")
    return shared


class Endings:
    """Makes completions with one tokenizer, whose ids `stop_tokens` end them; `stop` ends those that have none."""

    def __init__(self, texts: TokenTexts, stop_tokens: frozenset[int]) -> None:
        self.texts, self.stop_tokens, self._tokenizer = texts, stop_tokens, texts.tokenizer
        self._ahead: dict[tuple[Chat, bool], str] = {}
        eos = texts.tokenizer.eos_token_id
        self.stop: int = eos if eos in stop_tokens else min(stop_tokens)

    def needed(self, put: PutPrompt, completion: Completion) -> Iterator[str]:
        """The texts that `after` will tokenize of what is sound."""
        if isinstance(put.prompt, str):
            if isinstance(completion, str):
                yield put.prompt + put.answer(completion)
            return
        turns = self._turns(put, completion)
        for place, turn in enumerate(turns):
            if turn.role == "assistant" and turn.scored is not False:
                before = (*put.prompt, *turns[:place])
                if place:
                    yield self.ahead(before, generation_prompt=True)
                yield self.ahead((*before, turn))

    def ahead(self, chat: Chat, *, generation_prompt: bool = False) -> str:
        """`chat` by the template, remembered for when its row is fitted."""
        found = self._ahead[chat, generation_prompt] = rendering(
            self._tokenizer, chat, generation_prompt=generation_prompt
        )
        return found

    def forget(self) -> None:
        """Let go of what was rendered ahead."""
        self._ahead.clear()

    def after(self, put: PutPrompt, completion: Completion, head: list[int], at: tuple[Source, str]) -> Ending:
        """The completion after the prompt whose tokens are `head`; raises IssueError, naming row and field `at`, where
        it has no clean beginning or leaves nothing to learn from."""
        if isinstance(put.prompt, str) or self.texts.encoded:
            return self._text(put.prompt, self._one_text(put, completion, at), head, at)
        turns = self._turns(put, completion)
        if (lost := hidden(self._tokenizer, (*put.prompt, *turns), len(put.prompt))) is not None:
            raise fault(*at, lost.reason, lost.remedy, "hidden key")
        if len(turns) == 1:
            return self._turn(put.prompt, turns[0], head, at)
        return self._conversation(put.prompt, turns, head, at)

    def text(self, ids: Sequence[int]) -> str:
        """A completion as text, without its stop token and any special ones."""
        kept = list(ids)
        while kept and kept[-1] in self.stop_tokens:
            kept.pop()
        return self._tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def rendered(self, chat: Chat, at: tuple[Source, str], *, generation_prompt: bool = False) -> str:
        """`chat` by the template, whose refusal names the row."""
        known = self._ahead.get((chat, generation_prompt))
        if known is not None:
            return known
        try:
            return rendering(self._tokenizer, chat, generation_prompt=generation_prompt)
        except ModelError:
            raise
        except Exception as error:  # a template raises errors of its own
            reason = f"is refused by the chat template: {next(iter(str(error).splitlines()), type(error).__name__)}"
            raise fault(*at, reason, "write the turns as the model's template requires") from None

    def _turns(self, put: PutPrompt, completion: Completion) -> Chat:
        if isinstance(completion, str):
            return (Message("assistant", put.answer(completion)),)
        return with_open_reasoning(self._tokenizer, turns_of(completion))

    def _one_text(self, put: PutPrompt, completion: Completion, at: tuple[Source, str]) -> str:
        if isinstance(completion, str):
            return put.answer(completion)
        remedy = "choose a model with a chat template that reads prompt and answer as one, and write the prompt as chat"
        raise fault(*at, "holds several turns, tool calls or reasoning, which only a chat template shows", remedy)

    def _text(self, prompt: Prompt, text: str, head: list[int], at: tuple[Source, str]) -> Ending:
        _refuse_empty(text, at)
        if self.texts.encoded:
            return Ending(self._stopped(self.texts.whole(text, target=True), at))
        assert isinstance(prompt, str)
        whole = self.texts.with_bos(self.texts.bare(prompt + text))
        if prompt and whole[: len(head)] == head:
            return Ending(self._stopped(whole[len(head) :], at))
        ids = self.texts.inner(text) if prompt else self.texts.bare(text)
        return Ending(self._stopped(ids, at), merged=bool(prompt))

    def _turn(self, before: Chat, turn: Message, head: list[int], at: tuple[Source, str]) -> Ending:
        """An assistant's turn after the turns `before`, whose tokens up to it are `head`."""
        if not turn.more:
            _refuse_empty(turn.content, at)
        said = self._after_chat((*before, turn), head, at)
        unstopped = not self.stop_tokens.intersection(said.ids)
        return said._replace(ids=self._stopped(said.ids, at), unstopped=int(unstopped))

    def _conversation(self, prompt: Chat, turns: Chat, head: list[int], at: tuple[Source, str]) -> Ending:
        """Each assistant's turn after all before it as the template renders them then. Where that continues the tokens
        so far, what is new of it is between; where not, the row starts again."""
        scored: list[Ending] = []
        ids, so_far, between = list[int](), list(head), list[tuple[int, list[int], bool]]()
        for place, turn in enumerate(turns):
            if turn.role != "assistant" or turn.scored is False:
                continue
            before = (*prompt, *turns[:place])
            context = head
            if place:
                context = self.texts.bare(self.rendered(before, at, generation_prompt=True))
                anew = context[: len(so_far)] != so_far
                between.append((len(ids), context if anew else context[len(so_far) :], anew))
            scored.append(self._turn(before, turn, context, at))
            so_far = [*context, *scored[-1].ids]
            ids += scored[-1].ids
        end = self._end(prompt, turns, so_far, at)
        between += [(len(ids), *end)] if end else []
        return Ending(
            ids,
            sum(turn.merged for turn in scored),
            sum(turn.unstopped for turn in scored),
            next((turn.guess for turn in scored if turn.guess), ""),
            tuple(between),
        )

    def _end(
        self, prompt: Chat, turns: Chat, so_far: list[int], at: tuple[Source, str]
    ) -> tuple[list[int], bool] | None:
        """The tokens of turns behind the last that is scored, and whether they start again."""
        if turns[-1].scored is not False:
            return None
        whole = self.texts.bare(self.rendered((*prompt, *turns), at))
        anew = whole[: len(so_far)] != so_far
        return (whole if anew else whole[len(so_far) :]), anew

    def _after_chat(self, chat: Chat, head: list[int], at: tuple[Source, str]) -> Ending:
        after = self.rendered(chat, at)
        ids, whole = self.texts.bare(after), is_whole(chat[-1].content, after)
        if whole and ids[: len(head)] == head:
            return Ending(ids[len(head) :])
        before = rendering(self._tokenizer, chat[:-1], generation_prompt=True)
        if whole and after.startswith(before):
            return Ending(self.texts.inner(after[len(before) :]), merged=1)
        found = spoken(self._tokenizer, chat)
        if found is not None:
            return Ending(self.texts.inner(found.text), guess=found.guess)
        reason = "cannot be separated from the prompt: the chat template renders the prompt differently with an answer"
        remedy = "use a chat template whose generation prompt begins the assistant turn, or data.chat=text"
        if chat[-1].more or "</think>" in chat[-1].content:
            remedy = "let the template reason (model.template_arguments), or leave the reasoning out of the row"
        raise fault(*at, reason, remedy)

    def _stopped(self, ids: list[int], at: tuple[Source, str]) -> list[int]:
        """Ends a completion with one stop token. Cuts what a template adds after it, and adds a missing one."""
        if ids and self.stop_tokens.isdisjoint(ids):
            return [*ids, self.stop]
        stop = next((i for i, token in enumerate(ids) if token in self.stop_tokens), None)
        content = ids if stop is None else ids[:stop]
        if stop is not None and self.text([t for t in ids[stop:] if t not in self.stop_tokens]).strip():
            token = self._tokenizer.decode([ids[stop]])
            reason = f"holds the stop token {token} inside its text"
            raise fault(*at, reason, "remove it from the text", "stop token inside")
        if not content:
            raise fault(*at, "leaves no token to learn from", "remove the row", "no supervised token")
        return [*content, self.stop if stop is None else ids[stop]]


def _refuse_empty(text: str, at: tuple[Source, str]) -> None:
    if not text.strip():
        raise fault(*at, "is empty or white space: nothing to learn from", "remove the row", "no supervised token")


def fault(source: Source, field: str, reason: str, remedy: str, check: str = "not encodable") -> IssueError:
    """The error of a row that cannot be encoded."""
    return IssueError(Issue(source.file, source.row, field, reason, remedy, check=check))


def as_tensor(tokens: list[int]) -> Tensor:
    """Token ids as int64; by way of numpy, which reads a list in a third of torch's time."""
    return torch.from_numpy(np.array(tokens, dtype=np.int64))
