"""Tests of an architecture on a small copy of it (`small_copy.py`), run once before a model is used: whether a later
token changes an earlier value, which rows may share a call, whether completions may share their prompt, and whether a
row can be longer than the model's positions.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from twofold.batch import Branch, Group, Role
from twofold.errors import ModelError, first_line
from twofold.models.attention import LAYOUT_LOST, NAME, UnsupportedAttention, set_attention, stock_attention
from twofold.models.backbone import backbone, pack_hidden
from twofold.models.inline_attention import open_attention
from twofold.models.packing import pack, targets
from twofold.models.parts import WHOLE, NotInPartsError, in_parts
from twofold.models.row_lengths import EACH_ITS_OWN, RowLengths, restart_rotary
from twofold.models.seq2seq import branch_hidden, encodes_prompts, start_token
from twofold.models.small_copy import small_copy, windows

_SHAPES = ((6, 7, 4), (14, 16, 5), (24, 9, 3), (1, 3))  # prompt and branches: short, across the copy's switch, long
_LONGEST = 34
_OFFSETS = 5  # a learned table of positions may begin with up to this many unused ones
_TOLERANCE = {torch.float64: 1e-4, torch.float32: 5e-3}  # of a head's values; others 0.15


class ReadsRows(Protocol):
    """The part of a head (`packed_model.Head`) that a trial uses."""

    ends: bool
    name: str

    def of_pack(self, model: PreTrainedModel, hidden_SH: Tensor, target_S: Tensor) -> Tensor: ...

    def of_rows(self, model: PreTrainedModel, groups: Sequence[Group]) -> Tensor: ...


@dataclass(frozen=True)
class Findings:
    """`fault` is the reason why no row can be computed, `sharing_note` why prompts cannot be shared; both may be empty.

    `spare_positions` is the number of positions in the config that no token can use; None if a row may be longer than
    the config's positions.
    """

    fault: str = ""
    causal: bool = True
    own_calls: bool = False
    """Whether rows of different lengths change each other's results although the config gives no reason for it."""
    sharing_note: str = ""
    by_mask: bool = False
    """Whether the layout of a pack reaches the attention only as its mask."""
    spare_positions: int | None = None

    def row_lengths(self, model: PreTrainedModel) -> RowLengths:
        """Which rows of `model` may share a call."""
        apart = encodes_prompts(model)
        own = EACH_ITS_OWN if self.own_calls else RowLengths.of(model.config.get_text_config())
        return replace(own, apart=apart)

    def most_tokens(self, model: PreTrainedModel) -> int | None:
        """The longest row for which `model` has positions; None for no limit."""
        named = positions(model)
        return None if named is None or self.spare_positions is None else named - self.spare_positions


_known: dict[str, Findings] = {}


def findings(model: PreTrainedModel, head: ReadsRows) -> Findings:
    """The findings for all models with this class and config; computed once per process."""
    if encodes_prompts(model):
        start_token(model)  # raises ModelError for a model without one
    key = f"{type(model).__qualname__} {type(head).__qualname__} {model.dtype} {model.config.to_dict()}"
    if key not in _known:
        _known[key] = _tried(model, head)
    return _known[key]


def refuse_leaks(model: PreTrainedModel, found: Findings, what: str) -> None:
    """Raise ModelError for a model that cannot compute rows, or that is not causal."""
    name = type(model).__name__
    remedy = "choose a causal language model (a decoder)"
    if found.fault:
        raise ModelError(f"a {name} cannot be used here: {found.fault}", where=model.name_or_path or "", remedy=remedy)
    if not found.causal:
        fault = f"a {name} is not causal: its {what} depend on the tokens after them, which they would only repeat"
        raise ModelError(
            fault, where=model.name_or_path or "", remedy=f"{remedy}; of some, is_decoder in config.json makes one"
        )


def know_float64(model: PreTrainedModel) -> None:
    """In float64, use the implementation of experts that supports it."""
    if model.dtype == torch.float64:
        model.config._experts_implementation = model.config.get_text_config()._experts_implementation = "eager"


def trial_groups(model: PreTrainedModel) -> list[Group]:
    """Groups of fixed random tokens that fit the model's positions."""
    vocabulary, room = model.config.get_text_config().vocab_size, positions(model)
    if RowLengths.of(model.config.get_text_config()).own_from is not None:
        room = None  # it continues past its positions, which the trial must cover
    scale = 1.0 if room is None else min(1.0, max(room - _OFFSETS, 4) / _LONGEST)
    noise = torch.Generator().manual_seed(0)

    def tokens(length: int) -> Tensor:
        return torch.randint(vocabulary, (max(1, int(length * scale)),), generator=noise)

    made: list[Group] = []
    for i, (prompt, *lengths) in enumerate(_SHAPES):
        branches = tuple(Branch(tokens(n), Role.DRAFT) for n in lengths)
        made.append(Group(f"trial {i}", tokens(prompt), branches))
    return made


def _tried(model: PreTrainedModel, head: ReadsRows) -> Findings:
    own_code = open_attention(model)
    copied = small_copy(model)
    if copied is None and in_parts(model):
        raise NotInPartsError("no small copy of it can be made, to try it", where="", remedy=WHOLE)
    tried = model if copied is None else copied
    groups = trial_groups(tried)
    with _evaluating(tried):
        try:
            alone = _alone(tried, head, groups)
            found = _by_rows(tried, head, groups, alone)
        except Exception as error:  # of any kind: the layers are not ours
            return Findings(fault=first_line(error), sharing_note="it computes no rows")
        expected = found.row_lengths(tried), alone
        note, by_mask = _sharing_note(tried, head, groups, expected), False
        if note == LAYOUT_LOST or (note and own_code):
            by_mask = not (_sharing_note(tried, head, groups, expected, by_mask=True))
            note = "" if by_mask else note
        if copied is None and not note and (far := max(windows(model.config), default=0)) > _LONGEST // 2:
            note = f"no small copy of it can be made, to try its window of {far} tokens"
        spare = None if copied is None else _spare_positions(copied, head)
    return replace(found, sharing_note=note, by_mask=by_mask, spare_positions=spare)


def _by_rows(model: PreTrainedModel, head: ReadsRows, groups: list[Group], alone: Tensor) -> Findings:
    """Compare the rows of `alone` with all branches in as few calls as the config allows, and with a branch whose last
    tokens are changed."""
    lengths = RowLengths.of(model.config.get_text_config())
    own_calls = _distance(_by_calls(model, head, groups, lengths), alone) > _tolerance(model)
    if head.ends:
        return Findings(own_calls=own_calls)
    group = groups[0]
    tokens = group.branches[0].tokens
    at = max(1, len(tokens) // 2)
    changed = torch.cat([tokens[:at], (tokens[at:] + 1) % model.config.get_text_config().vocab_size])
    other = replace(group, branches=(replace(group.branches[0], tokens=changed),))
    causal = _distance(_alone(model, head, [other])[:at], alone[:at]) <= _tolerance(model)
    return Findings(own_calls=own_calls, causal=causal)


def _sharing_note(
    model: PreTrainedModel,
    head: ReadsRows,
    groups: list[Group],
    expected: tuple[RowLengths, Tensor],
    *,
    by_mask: bool = False,
) -> str:
    """The reason why a pack does not give the values of separate rows; empty if it does."""
    lengths, alone = expected
    if encodes_prompts(model):
        return _encoding_note(model, head, groups, alone)
    before = str(model.config._attn_implementation)
    parts: list[tuple[Tensor, list[int]]] = []
    try:
        set_attention(model, NAME)
        for members, places in lengths.calls(groups, ends=head.ends):
            restart_rotary(model)
            stream = pack(members, model.device, ends=head.ends)
            values = head.of_pack(model, pack_hidden(model, stream, by_mask=by_mask), stream.target_S)
            if stream.layout.calls < model.config.get_text_config().num_hidden_layers:
                return f"only {stream.layout.calls} of its layers use the attention interface"
            parts.append((values, places))
    except UnsupportedAttention as error:
        return str(error)
    except Exception as error:  # of any kind: the layers are not ours
        if "position_ids" not in inspect.signature(backbone(model).forward).parameters:
            return "it takes no positions, so that no completion can begin where its prompt ends"
        return f"a pack fails: {first_line(error)}"
    finally:
        set_attention(model, before)
    error = _distance(in_order(parts, groups, ends=head.ends), alone)
    return "" if error <= _tolerance(model) else f"shared and separate {head.name} differ by {error:.2g}"


def _encoding_note(model: PreTrainedModel, head: ReadsRows, groups: list[Group], alone: Tensor) -> str:
    """As `_sharing_note`, for an encoder–decoder."""
    try:
        with stock_attention(model), torch.no_grad():
            values = head.of_pack(model, branch_hidden(model, groups), targets(groups, model.device))
    except Exception as error:  # of any kind: the layers are not ours
        return f"its encoder's output cannot be passed to its decoder: {first_line(error)}"
    error = _distance(values, alone)
    return "" if error <= _tolerance(model) else f"shared and separate {head.name} differ by {error:.2g}"


def in_order(parts: Sequence[tuple[Tensor, list[int]]], groups: Sequence[Group], *, ends: bool) -> Tensor:
    """Values [S] or [B] of all branches in order, from the values of each call and the indices of its branches."""
    if len(parts) == 1:
        return parts[0][0]
    sizes = [1 if ends else len(b.tokens) for g in groups for b in g.branches]
    pieces: dict[int, Tensor] = {}
    for values, places in parts:
        pieces |= zip(places, values.split([sizes[place] for place in places]), strict=True)
    return torch.cat([pieces[place] for place in range(len(sizes))])


def _by_calls(model: PreTrainedModel, head: ReadsRows, groups: list[Group], lengths: RowLengths) -> Tensor:
    parts: list[tuple[Tensor, list[int]]] = []
    with stock_attention(model), torch.no_grad():
        for members, places in lengths.calls(groups, ends=head.ends):
            restart_rotary(model)
            parts.append((head.of_rows(model, members), places))
    return in_order(parts, groups, ends=head.ends)


def _alone(model: PreTrainedModel, head: ReadsRows, groups: list[Group]) -> Tensor:
    """The values of every branch, each as one row in its own call."""
    rows: list[Tensor] = []
    with stock_attention(model), torch.no_grad():
        for group in groups:
            for branch in group.branches:
                restart_rotary(model)
                rows.append(head.of_rows(model, [replace(group, branches=(branch,))]))
    return torch.cat(rows)


def _spare_positions(model: PreTrainedModel, head: ReadsRows) -> int | None:
    """The number of the config's positions that no row can use; None if a longer row than these works."""
    named = positions(model)
    if named is None:
        return None
    padding = getattr(model.config.get_text_config(), "pad_token_id", None)
    token = 0 if padding == 1 else 1  # padding may have no position of its own

    def fits(length: int) -> bool:
        if encodes_prompts(model):
            prompt, branch = torch.full((length,), token), torch.full((length,), token)
        else:
            prompt, branch = torch.full((length - 1,), token), torch.full((1 if head.ends else 2,), token)
        try:
            _alone(model, head, [Group("trial", prompt, (Branch(branch, Role.DRAFT),))])
        except (IndexError, RuntimeError, ValueError):
            return False
        return True

    if fits(named + 1):
        return None
    return next((spare for spare in range(min(_OFFSETS, named - 2)) if fits(named - spare)), None)


def positions(model: PreTrainedModel) -> int | None:
    """The number of positions in its config."""
    named = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return named if isinstance(named, int) and named > 0 else None


def _distance(a: Tensor, b: Tensor) -> float:
    """The largest difference; infinite for NaN."""
    return (a - b).abs().nan_to_num(torch.inf, posinf=torch.inf).max().item()


def _tolerance(model: PreTrainedModel) -> float:
    return _TOLERANCE.get(model.dtype, 0.15)


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
