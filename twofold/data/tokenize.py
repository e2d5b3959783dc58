"""Records as token groups: where the prompt ends, which token stops a completion, and what did not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from twofold.batch import ENCODED_PROMPTS, Branch, Group, Role
from twofold.data.chat import TOOLS, Chat, rendering
from twofold.data.issues import Issue, IssueError
from twofold.data.reasoning import is_whole, spoken
from twofold.data.supervision import LossOn, supervised
from twofold.data.turns import ChatChoice, PromptForm, PutPrompt, Turns
from twofold.errors import ModelError
from twofold.records import (
    Demonstration,
    Labelled,
    Message,
    Pair,
    Prompt,
    Ranking,
    Record,
    Request,
    Source,
    Task,
    completion_fields,
)
from twofold.settings import require, settings

NOWHERE = Source("prompt", 0)


@settings
class TokenizeSettings:
    """How records become tokens."""

    max_length: int = 1024
    """Tokens of a prompt and one completion together."""
    truncation: Literal["refuse", "drop", "cut_prompt", "cut_completion"] = "drop"
    """What becomes of a longer row: an error, left out, or cut (the prompt from the left, keeping a leading bos; or
    completions from the right, which costs them their stop token). All of it is counted."""
    loss_on: LossOn = "last"
    """Of a dialogue that is demonstrated: its last answer, or all, each as a demonstration after what came before."""

    def __post_init__(self) -> None:
        require(self.max_length >= 2, "max_length must be ≥ 2: a prompt token and a completion token")


@dataclass(frozen=True)
class EncodedRow:
    """A record as a group (None where it cannot be made to fit), and how it was changed.

    The chat template left `unstopped` completions without a stop token, so one was added. `form` is how the prompt was
    rendered. `guess` is the reason why that is a guess.
    """

    group: Group | None
    tokens: int
    merged: int = 0
    unstopped: int = 0
    cut_prompt: bool = False
    stop_cut: int = 0
    form: PromptForm = "text"
    guess: str = ""


class _Ending(NamedTuple):
    """A completion's tokens: whether it was tokenized on its own, whether its template left it without a stop token,
    and the reason why the tokens are a guess."""

    ids: list[int]
    merged: bool = False
    unstopped: bool = False
    guess: str = ""


class Encoder:
    """Makes groups with one tokenizer. `stop_tokens` are the ids that end a completion. `chat` sets how text prompts
    are rendered.

    Raises ModelError for a tokenizer without a stop token, RecipeError for one without a chat template where `chat`
    needs it, and DataError, naming the row, for a record without a clean boundary between prompt and completion or
    without a token to learn from.
    """

    def __init__(
        self,
        tokenizer: Any,
        stop_tokens: frozenset[int],
        settings: TokenizeSettings | None = None,
        chat: ChatChoice = "auto",
    ) -> None:
        if not stop_tokens:
            raise ModelError("has no stop token", where="the tokenizer", remedy="set its eos_token")
        self.tokenizer, self.stop_tokens = tokenizer, stop_tokens
        self.settings = settings or TokenizeSettings()
        self.turns = Turns(tokenizer, chat)
        eos = tokenizer.eos_token_id
        self.stop: int = eos if eos in stop_tokens else min(stop_tokens)
        self._bos: int | None = tokenizer.bos_token_id
        led = self._bos is not None and list(tokenizer("a")["input_ids"])[:1] == [self._bos]
        self._lead: list[int] = [tokenizer.bos_token_id] if led else []
        self._ahead: dict[str, list[int]] = {}
        self._encoded = bool(getattr(tokenizer, ENCODED_PROMPTS, False))
        """Whether prompt and completion are two texts, each with the special tokens that the tokenizer gives it."""

    def ahead(self, records: Sequence[Record]) -> None:
        """Tokenize the texts that `records` will need in one call, which is much faster; forgets those before."""
        turns = [turn for record in records for turn in supervised(record, self.settings.loss_on)]
        needed = list(dict.fromkeys(text for turn in turns for text in self._texts(turn)))
        self._ahead = {}
        if needed and not self._encoded:
            backend = getattr(self.tokenizer, "backend_tokenizer", None)
            if backend is None:
                ids = self.tokenizer(needed, add_special_tokens=False, verbose=False)["input_ids"]
            else:  # without offsets, which nobody asks for
                ids = [made.ids for made in backend.encode_batch_fast(needed, add_special_tokens=False)]
            self._ahead = dict(zip(needed, ids, strict=True))

    def _texts(self, record: Record) -> Iterator[str]:
        """The texts that `fit` will tokenize, as far as the record is valid."""
        put = self.turns.put(record.prompt)
        prompt, texts = put.prompt, [put.answer(text) for _, text in completion_fields(record)]
        if isinstance(prompt, str):
            yield prompt
            yield from (prompt + text for text in texts)
            return
        if not self.turns.has_template:
            return
        try:
            yield rendering(self.tokenizer, prompt, generation_prompt=True)
            yield from (rendering(self.tokenizer, (*prompt, Message("assistant", text))) for text in texts)
        except ModelError:
            raise
        except Exception:  # `fit` reports whatever a template rejects
            return

    def rows(self, records: Sequence[Record]) -> list[EncodedRow]:
        """The result of `fit` for each turn that `records` supervise. Raises IssueError for one that is too long if
        truncation is not allowed."""
        self.ahead(records)
        turns = [turn for record in records for turn in supervised(record, self.settings.loss_on)]
        made = [self._admitted(turn) for turn in turns]
        self.ahead([])
        return made

    def _admitted(self, record: Record) -> EncodedRow:
        fitted = self.fit(record)
        if fitted.group is None and self.settings.truncation == "refuse":
            raise IssueError(self.overlong(record, fitted))
        return fitted

    def prompt(self, prompt: Prompt) -> Tensor:
        """The prompt's tokens [P], up to where a completion begins."""
        return _ids(self._prompt(self.turns.put(prompt).prompt, NOWHERE))

    def group(self, record: Record) -> Group:
        """The record's group, cut if the settings allow it. Raises DataError where it does not fit."""
        fitted = self.fit(record)
        if fitted.group is None:
            raise IssueError(self.overlong(record, fitted))
        return fitted.group

    def fit(self, record: Record) -> EncodedRow:
        """The record's group and what was cut of it."""
        put = self.turns.put(record.prompt)
        head = self._prompt(put.prompt, record.source)
        completions = [self._completion(put, record.source, f, text, head) for f, text in completion_fields(record)]
        roles = zip(_roles(record), _columns(record), completions, strict=True)
        told = [Branch(_ids(said.ids), role, columns=columns) for role, columns, said in roles]
        group = Group(
            name=str(record.source),
            prompt=_ids(head),
            branches=tuple(branch for branch in told if branch.role is not Role.TRUTH),
            truth=next((branch.tokens for branch in told if branch.role is Role.TRUTH), None),
        )
        fitted = self._fit(group, sum(c.merged for c in completions))
        unstopped = sum(c.unstopped for c in completions)
        guess = next((guess for guess in (put.guess, *(c.guess for c in completions)) if guess), "")
        return replace(fitted, unstopped=unstopped, form=put.form, guess=guess)

    def inspect(self, record: Record) -> tuple[EncodedRow | None, Issue | None]:
        """As `fit`, and what was wrong with the record: not encodable, too long, or cut."""
        try:
            fitted = self.fit(record)
        except IssueError as error:
            return None, error.fault
        return fitted, self.overlong(record, fitted) if fitted.tokens > self.settings.max_length else None

    def text(self, tokens: Tensor | Sequence[int]) -> str:
        """A completion as text, without its stop token and any special ones."""
        ids = tokens.tolist() if isinstance(tokens, Tensor) else list(tokens)
        while ids and ids[-1] in self.stop_tokens:
            ids.pop()
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def decode(self, ids: Sequence[int]) -> str:
        """Token ids to text, special tokens included."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def overlong(self, record: Record, fitted: EncodedRow) -> Issue:
        """The fault of a record that does not fit."""
        reason = f"has {fitted.tokens} tokens, max_length is {self.settings.max_length}"
        remedy = f"raise max_length, or change truncation (now {self.settings.truncation})"
        severity = "error" if self.settings.truncation == "refuse" else "warning"
        return Issue(record.source.file, record.source.row, "", reason, remedy, severity, "over-long")

    def _prompt(self, prompt: Prompt, source: Source) -> list[int]:
        if isinstance(prompt, str):
            ids = self._whole(prompt) if self._encoded else self._with_bos(self._bare(prompt))
            if not ids and self._bos is None:
                raise _fault(source, "prompt", "is empty, and the tokenizer has no bos token to replace it", "fill it")
            return ids if self._bos is None else ids or [self._bos]
        if not self.turns.has_template:
            remedy = "choose a model with a chat template, or write prompts as text"
            raise _fault(source, "prompt", "is a chat, but the tokenizer has no chat template", remedy)
        if prompt and prompt[0].role == TOOLS and "tools" not in str(self.tokenizer.chat_template):
            remedy = "choose a model whose template supports tools, or remove them"
            raise _fault(source, "tools", "are defined, but the chat template does not show any", remedy)
        rendered = self._rendered(prompt, source, "prompt", generation_prompt=True)
        return self._whole(rendered) if self._encoded else self._bare(rendered)

    def _completion(self, put: PutPrompt, source: Source, field: str, whole: str, head: list[int]) -> _Ending:
        prompt, text = put.prompt, put.answer(whole)
        if not text.strip():
            reason = "is empty or white space: nothing to learn from"
            raise _fault(source, field, reason, "remove the row", "no supervised token")
        if self._encoded:
            said = _Ending(self._whole(text, target=True))
        elif isinstance(prompt, str):
            said = self._after_text(prompt, text, head)
        else:
            said = self._after_chat((*prompt, Message("assistant", text)), head, source, field)
        unstopped = not (self._encoded or isinstance(prompt, str)) and not self.stop_tokens.intersection(said.ids)
        return said._replace(ids=self._stopped(said.ids, source, field), unstopped=unstopped)

    def _after_text(self, prompt: str, text: str, head: list[int]) -> _Ending:
        whole = self._with_bos(self._bare(prompt + text))
        if prompt and whole[: len(head)] == head:
            return _Ending(whole[len(head) :])
        return _Ending(self._inner(text), merged=True) if prompt else _Ending(self._bare(text))

    def _after_chat(self, chat: Chat, head: list[int], source: Source, field: str) -> _Ending:
        after = self._rendered(chat, source, field)
        ids, whole = self._bare(after), is_whole(chat[-1].content, after)
        if whole and ids[: len(head)] == head:
            return _Ending(ids[len(head) :])
        before = rendering(self.tokenizer, chat[:-1], generation_prompt=True)
        if whole and after.startswith(before):
            return _Ending(self._inner(after[len(before) :]), merged=True)
        found = spoken(self.tokenizer, chat)
        if found is not None:
            return _Ending(self._inner(found.text), guess=found.guess)
        reason = "cannot be separated from the prompt: the chat template renders the prompt differently with an answer"
        remedy = "use a chat template whose generation prompt begins the assistant turn, or data.chat=text"
        raise _fault(source, field, reason, remedy)

    def _rendered(self, chat: Chat, source: Source, field: str, *, generation_prompt: bool = False) -> str:
        try:
            return rendering(self.tokenizer, chat, generation_prompt=generation_prompt)
        except ModelError:
            raise
        except Exception as error:  # a template raises errors of its own
            reason = f"is refused by the chat template: {next(iter(str(error).splitlines()), type(error).__name__)}"
            raise _fault(source, field, reason, "write the turns as the model's template requires") from None

    def _stopped(self, ids: list[int], source: Source, field: str) -> list[int]:
        """Ends a completion with one stop token. Cuts what a template adds after it, and adds a missing one."""
        stop = next((i for i, token in enumerate(ids) if token in self.stop_tokens), None)
        content = ids if stop is None else ids[:stop]
        if stop is not None and self.text([t for t in ids[stop:] if t not in self.stop_tokens]).strip():
            token = self.tokenizer.decode([ids[stop]])
            raise _fault(
                source,
                field,
                f"holds the stop token {token} inside its text",
                "remove it from the text",
                "stop token inside",
            )
        if not content:
            raise _fault(source, field, "leaves no token to learn from", "remove the row", "no supervised token")
        return [*content, self.stop if stop is None else ids[stop]]

    def _bare(self, text: str) -> list[int]:
        known = self._ahead.get(text)
        return list(
            self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] if known is None else known
        )

    def _whole(self, text: str, *, target: bool = False) -> list[int]:
        """A text with the special tokens that the tokenizer adds to a source text, or to a `target` text."""
        return list(self.tokenizer(**{"text_target" if target else "text": text}, verbose=False)["input_ids"])

    def _inner(self, text: str) -> list[int]:
        """Text inside a document: without the space that SentencePiece tokenizers put before a first word."""
        anchor, whole = self._bare("\n"), self._bare("\n" + text)
        return whole[len(anchor) :] if whole[: len(anchor)] == anchor else self._bare(text)

    def _with_bos(self, ids: list[int]) -> list[int]:
        return ids if ids[: len(self._lead)] == self._lead else [*self._lead, *ids]

    def _fit(self, group: Group, merged: int) -> EncodedRow:
        longest = max((len(c) for c in completions(group)), default=0)
        tokens = len(group.prompt) + longest
        limit = self.settings.max_length
        if tokens <= limit:
            return EncodedRow(group, tokens, merged)
        if self.settings.truncation == "cut_prompt":
            return EncodedRow(self._cut_prompt(group, limit - longest), tokens, merged, cut_prompt=True)
        if self.settings.truncation == "cut_completion" and len(group.prompt) < limit:
            room = limit - len(group.prompt)
            cut = sum(len(c) > room for c in completions(group))
            return EncodedRow(_cut_completions(group, room), tokens, merged, stop_cut=cut)
        return EncodedRow(None, tokens, merged)

    def _cut_prompt(self, group: Group, room: int) -> Group | None:
        lead = group.prompt[:1] if self._bos is not None and int(group.prompt[0]) == self._bos else group.prompt[:0]
        tail = room - len(lead)
        return replace(group, prompt=torch.cat([lead, group.prompt[-tail:]])) if tail > 0 else None


def _roles(record: Record) -> tuple[Role, ...]:
    """The role in the group of each text in `said(record)`."""
    match record:
        case Pair(gold=gold):
            return Role.CHOSEN, Role.REJECTED, *(() if gold is None else (Role.DEMONSTRATION,))
        case Demonstration():
            return (Role.DEMONSTRATION,)
        case Task():
            return (Role.TRUTH,)
        case Request():
            return ()
        case Ranking():
            return (Role.RANKED,) * len(record.completions)
        case Labelled():
            return (Role.DESIRABLE if record.desirable else Role.UNDESIRABLE,)


def _columns(record: Record) -> list[dict[str, float]]:
    """The numbers of each text in `said(record)`: for a ranking its `level` (that of the first text with the same
    score) and `score`, for a pair its `win_rate`, and for all the row's `margin`, `probability` and `weight`."""
    known: list[dict[str, float]] = [{} for _ in completion_fields(record)]
    match record:
        case Ranking(scores=scores) if scores is not None:
            known = [{"level": float(scores.index(score)), "score": score} for score in scores]
        case Ranking():
            known = [{"level": float(rank)} for rank in range(len(known))]
        case Pair(probability=probability) if probability is not None:
            known[:2] = [{"win_rate": probability}, {"win_rate": 1 - probability}]
        case _:
            pass
    numbers = ((name, getattr(record, name, None)) for name in ("margin", "probability", "weight"))
    of_row = {name: value for name, value in numbers if value is not None}
    return [{**columns, **of_row} for columns in known]


def _fault(source: Source, field: str, reason: str, remedy: str, check: str = "not encodable") -> IssueError:
    return IssueError(Issue(source.file, source.row, field, reason, remedy, check=check))


def _ids(tokens: list[int]) -> Tensor:
    return torch.tensor(tokens, dtype=torch.int64)


def completions(group: Group) -> list[Tensor]:
    """All completions of the prompt, including the ground truth."""
    return [b.tokens for b in group.branches] + ([] if group.truth is None else [group.truth])


def _cut_completions(group: Group, room: int) -> Group:
    truth = None if group.truth is None else group.truth[:room]
    return replace(group, branches=tuple(replace(b, tokens=b.tokens[:room]) for b in group.branches), truth=truth)
