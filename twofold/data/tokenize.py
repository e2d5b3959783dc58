"""Records as token groups: where the prompt ends, which token stops a completion, and what did not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from twofold.batch import STEP_LABEL, Branch, Group, Role
from twofold.data.chat import shows_tools
from twofold.data.endings import Endings, as_tensor, fault, shared_length
from twofold.data.hidden_keys import hidden
from twofold.data.issues import Issue, IssueError
from twofold.data.reasoning import Parted, parted
from twofold.data.steps import step_ends, step_labels
from twofold.data.supervision import LossOn, supervised
from twofold.data.token_texts import TokenTexts
from twofold.data.turns import ChatChoice, PromptForm, PutPrompt, Turns
from twofold.errors import ModelError
from twofold.records import (
    STEP_SEPARATOR,
    TOOLS,
    Completion,
    Demonstration,
    Labelled,
    Pair,
    Prompt,
    Ranking,
    Record,
    Request,
    Source,
    Steps,
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
    completions from the right, which costs them their stop token; those of several turns are left out). All of it is
    counted."""
    loss_on: LossOn = "last"
    """Of a dialogue that is demonstrated: its last answer, or all, each as a demonstration after what came before."""
    step_separator: str = STEP_SEPARATOR
    """What joins the steps of a solution whose steps are rated."""

    def __post_init__(self) -> None:
        require(self.max_length >= 2, "max_length must be ≥ 2: a prompt token and a completion token")
        require(self.step_separator != "", "step_separator must not be empty: it marks where a step ends")


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
        self._token_texts = TokenTexts(tokenizer)
        self._endings = Endings(self._token_texts, stop_tokens)
        self.stop = self._endings.stop

    def ahead(self, records: Sequence[Record]) -> None:
        """Tokenize the texts that `records` will need in one call, which is much faster; forgets those before."""
        self._ahead(records)

    def _ahead(self, records: Sequence[Record]) -> list[tuple[Record, PutPrompt]]:
        """As `ahead`; returns the turns that `records` supervise, with their prompts as they are put."""
        turns = [turn for record in records for turn in supervised(record, self.settings.loss_on)]
        put = [(turn, self.turns.put(turn.prompt)) for turn in turns]
        self._endings.forget()
        self._token_texts.ahead(text for turn in put for text in self._needed(*turn))
        return put

    def _needed(self, record: Record, put: PutPrompt) -> Iterator[str]:
        """The texts that `fit` will tokenize, as far as the record is valid."""
        if isinstance(put.prompt, str):
            yield put.prompt
        elif not self.turns.has_template:
            return
        try:
            if not isinstance(put.prompt, str):
                yield self._endings.ahead(put.prompt, generation_prompt=True)
            for _, completion in self._completions(record):
                yield from self._endings.needed(put, completion)
        except ModelError:
            raise
        except Exception:  # `fit` reports whatever a template rejects
            return

    def rows(self, records: Sequence[Record]) -> list[EncodedRow]:
        """The result of `fit` for each turn that `records` supervise. Raises IssueError for one that is too long if
        truncation is not allowed."""
        made = [self._admitted(*turn) for turn in self._ahead(records)]
        self.ahead([])
        return made

    def _admitted(self, record: Record, put: PutPrompt) -> EncodedRow:
        fitted = self._fitted(record, put)
        if fitted.group is None and self.settings.truncation == "refuse":
            raise IssueError(self.overlong(record, fitted))
        return fitted

    def prompt(self, prompt: Prompt) -> Tensor:
        """The prompt's tokens [P], up to where a completion begins."""
        return as_tensor(self._prompt(self.turns.put(prompt).prompt, NOWHERE))

    def group(self, record: Record) -> Group:
        """The record's group, cut if the settings allow it. Raises DataError where it does not fit."""
        fitted = self.fit(record)
        if fitted.group is None:
            raise IssueError(self.overlong(record, fitted))
        return fitted.group

    def fit(self, record: Record) -> EncodedRow:
        """The record's group and what was cut of it."""
        return self._fitted(record, self.turns.put(record.prompt))

    def _fitted(self, record: Record, put: PutPrompt) -> EncodedRow:
        head = self._prompt(put.prompt, record.source)
        endings = [
            self._endings.after(put, told, head, (record.source, name)) for name, told in self._completions(record)
        ]
        shared = shared_length(head, endings, record.source)
        roles = zip(_roles(record), _columns(record), endings, strict=True)
        told = [
            Branch(as_tensor(said.ids), role, columns=columns, asides=said.asides(head, shared))
            for role, columns, said in roles
        ]
        if isinstance(record, Steps):
            told = [branch.with_columns({STEP_LABEL: self._step_labels(record, branch.tokens)}) for branch in told]
        group = Group(
            name=str(record.source),
            prompt=as_tensor(head[:shared]),
            branches=tuple(branch for branch in told if branch.role is not Role.TRUTH),
            truth=next((branch.tokens for branch in told if branch.role is Role.TRUTH), None),
        )
        counts = {"merged": sum(c.merged for c in endings), "unstopped": sum(c.unstopped for c in endings)}
        guess = next((guess for guess in (put.guess, *(c.guess for c in endings)) if guess), "")
        return self._cut(group, partial(EncodedRow, **counts, form=put.form, guess=guess))

    def step_ends(self, tokens: Tensor, steps: Sequence[str], source: Source, *, join: bool = False) -> list[int]:
        """For each step of a completion [n] the place of the token after it (`data/steps.py`)."""
        return step_ends(self.decode, tokens.tolist(), steps, source, join=join)

    def solution(self, tokens: Tensor) -> str:
        """A completion as text without its stop tokens. Other special ones stay: a reward model may pad with a word."""
        return self.decode([token for token in tokens.tolist() if token not in self.stop_tokens])

    def _step_labels(self, record: Steps, tokens: Tensor) -> Tensor:
        return step_labels(len(tokens), self.step_ends(tokens, record.steps, record.source), record.labels)

    def _completions(self, record: Record) -> tuple[tuple[str, Completion], ...]:
        if isinstance(record, Steps):
            return (("completions", self.settings.step_separator.join(record.steps)),)
        return completion_fields(record)

    def inspect(self, record: Record) -> tuple[EncodedRow | None, Issue | None]:
        """As `fit`, and what was wrong with the record: not encodable, too long, or cut."""
        try:
            fitted = self.fit(record)
        except IssueError as error:
            return None, error.fault
        return fitted, self.overlong(record, fitted) if fitted.tokens > self.settings.max_length else None

    def text(self, tokens: Tensor | Sequence[int]) -> str:
        """A completion as text, without its stop token and any special ones."""
        return self._endings.text(tokens.tolist() if isinstance(tokens, Tensor) else tokens)

    def parted(self, prompt: Prompt, tokens: Tensor | Sequence[int]) -> Parted:
        """A sample for `prompt` as `text` of its answer and of its reasoning, if the chat template has tags for it."""
        ids = tokens.tolist() if isinstance(tokens, Tensor) else list(tokens)
        if isinstance(self.turns.put(prompt).prompt, str):
            return Parted(self.text(ids))
        return parted(self.tokenizer, ids, self._endings.text)

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
        texts = self._token_texts
        if isinstance(prompt, str):
            ids = texts.whole(prompt) if texts.encoded else texts.with_bos(texts.bare(prompt))
            if not ids and texts.bos is None:
                raise fault(source, "prompt", "is empty, and the tokenizer has no bos token to replace it", "fill it")
            return ids if texts.bos is None else ids or [texts.bos]
        if not self.turns.has_template:
            remedy = "choose a model with a chat template, or write prompts as text"
            raise fault(source, "prompt", "is a chat, but the tokenizer has no chat template", remedy)
        if prompt and prompt[0].role == TOOLS and not shows_tools(self.tokenizer):
            remedy = "choose a model whose template supports tools, or remove them"
            raise fault(source, "tools", "are defined, but the chat template does not show any", remedy)
        rendered = self._endings.rendered(prompt, (source, "prompt"), generation_prompt=True)
        if (lost := hidden(self.tokenizer, prompt)) is not None:
            raise fault(source, "prompt", lost.reason, lost.remedy, "hidden key")
        return texts.whole(rendered) if texts.encoded else texts.bare(rendered)

    def _cut(self, group: Group, row: Callable[..., EncodedRow]) -> EncodedRow:
        """The `row` of `group`, cut where it does not fit and the settings allow it."""
        longest = max(group.longest, 0 if group.truth is None else group.truth.numel())
        tokens = group.prompt.numel() + longest
        limit = self.settings.max_length
        if tokens <= limit:
            return row(group, tokens)
        if self.settings.truncation == "cut_prompt":
            return row(self._cut_prompt(group, limit - longest), tokens, cut_prompt=True)
        turns = any(branch.asides for branch in group.branches)
        if self.settings.truncation == "cut_completion" and len(group.prompt) < limit and not turns:
            room = limit - len(group.prompt)
            cut = sum(len(c) > room for c in completions(group))
            return row(_cut_completions(group, room), tokens, stop_cut=cut)
        return row(None, tokens)

    def _cut_prompt(self, group: Group, room: int) -> Group | None:
        lead = (
            group.prompt[:1]
            if self._token_texts.bos is not None and int(group.prompt[0]) == self._token_texts.bos
            else group.prompt[:0]
        )
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
        case Steps():
            return (Role.STEPS,)
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


def completions(group: Group) -> list[Tensor]:
    """All completions of the prompt, including the ground truth."""
    return [b.tokens for b in group.branches] + ([] if group.truth is None else [group.truth])


def _cut_completions(group: Group, room: int) -> Group:
    truth = None if group.truth is None else group.truth[:room]
    branches = (
        replace(b, tokens=b.tokens[:room], token_columns={k: v[:room] for k, v in b.token_columns.items()})
        for b in group.branches
    )
    return replace(group, branches=tuple(branches), truth=truth)
