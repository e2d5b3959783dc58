"""Limits that a trial finds: positions that no row can use, later tokens that change earlier values, small copies."""

from __future__ import annotations

import logging
import warnings
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import transformers as tr
from torch import Tensor

from support import tiny
from support.seq2seq import bart
from twofold.batch import Aside, Branch, Group, Role
from twofold.errors import DataError
from twofold.models import small_copy as small
from twofold.models import trial
from twofold.models.parts import NotInPartsError
from twofold.models.policy import LanguageHead
from twofold.models.row_lengths import RowLengths
from twofold.models.trial import Findings, trial_groups


def test_tokens_of_a_trial_are_those_of_seed_0() -> None:
    """Of each group the branches are drawn first."""
    noise = torch.Generator().manual_seed(0)
    torch.manual_seed(9)  # it has its own noise
    for group, (prompt, *lengths) in zip(
        trial_groups(tiny.llama()), ((6, 7, 4), (14, 16, 5), (24, 9, 3), (1, 3)), strict=True
    ):
        for branch, length in zip(group.branches, lengths, strict=True):
            assert torch.equal(branch.tokens, torch.randint(61, (length,), generator=noise))
        assert torch.equal(group.prompt, torch.randint(61, (prompt,), generator=noise))


class Limited:
    """Rows of at most `most` tokens can be computed; longer ones raise `error`."""

    def __init__(self, most: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
        self.most, self.error, self.rows = most, error, list[tuple[int, int]]()
        self.tokens: set[int] = set()
        monkeypatch.setattr(trial, "_alone", self.alone)

    def alone(self, model: Any, head: Any, groups: list[Group]) -> Tensor:
        ((branch,),) = (group.branches for group in groups)
        prompt = groups[0].prompt
        self.rows.append((len(prompt), len(branch.tokens)))
        self.tokens |= {*prompt.tolist(), *branch.tokens.tolist()}
        assert (groups[0].name, branch.role) == ("trial", Role.DRAFT)
        if len(prompt) + 1 > self.most:
            raise self.error
        return torch.zeros(1)


@pytest.mark.parametrize("error", [IndexError, RuntimeError, ValueError])
@pytest.mark.parametrize(
    ("most", "spare", "prompts"),
    [
        (65, None, [64]), (64, 0, [64, 63]), (62, 2, [64, 63, 62, 61]), (60, 4, [64, 63, 62, 61, 60, 59]),
        (59, None, [64, 63, 62, 61, 60, 59]),
    ],
)  # fmt: skip
def test_up_to_four_positions_are_nobodys(
    most: int, spare: int | None, prompts: list[int], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = Limited(most, error, monkeypatch)
    assert trial._spare_positions(tiny.llama(), LanguageHead()) == spare
    assert limited.rows == [(n, 2) for n in prompts]
    assert limited.tokens == {1}


@pytest.mark.parametrize(("padding", "token"), [(1, 0), (0, 1), (None, 1)])
def test_rows_of_a_trial_are_not_of_padding(padding: int | None, token: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that reads ends has completions of one token; of three positions one may be nobody's."""
    limited = Limited(0, IndexError, monkeypatch)
    model = tiny.llama(max_position_embeddings=3)
    model.config.pad_token_id = padding
    ends: Any = SimpleNamespace(ends=True)
    assert trial._spare_positions(model, ends) is None
    assert (limited.rows, limited.tokens) == ([(3, 1), (2, 1)], {token})
    model.config.max_position_embeddings = 0
    assert trial._spare_positions(model, ends) is None
    assert len(limited.rows) == 2


def test_both_halves_of_an_encoder_decoder_are_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    limited = Limited(64, IndexError, monkeypatch)
    assert trial._spare_positions(bart(), LanguageHead()) == 1
    assert limited.rows == [(65, 65), (64, 64), (63, 63)]
    Limited(0, KeyError, monkeypatch)
    with pytest.raises(KeyError):
        trial._spare_positions(bart(), LanguageHead())


@pytest.mark.parametrize(
    ("first", "later", "causal"),
    [(0.0, 9.0, True), (4.9e-3, 9.0, True), (5.1e-3, 0.0, False), (torch.nan, 0.0, False)],
)
def test_a_model_is_causal_if_later_tokens_change_no_earlier_value(
    first: float, later: float, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of seven tokens the last four are changed to the next ones, and the first three values compared."""
    groups = trial_groups(tiny.llama())
    alone, seen = torch.zeros(40), list[Group]()

    def other(model: Any, head: Any, some: list[Group]) -> Tensor:
        seen.extend(some)
        return torch.tensor([0.0, 0.0, first, later, later, later, later])

    monkeypatch.setattr(trial, "_alone", other)
    monkeypatch.setattr(trial, "_by_calls", lambda model, head, groups, lengths: alone)
    assert trial._by_rows(tiny.llama(), LanguageHead(), groups, alone) == Findings(causal=causal)
    ((changed,),) = (group.branches for group in seen)
    before = groups[0].branches[0].tokens.tolist()
    assert changed.tokens.tolist() == [*before[:3], *((token + 1) % 61 for token in before[3:])]
    assert seen[0].prompt is groups[0].prompt
    ends: Any = SimpleNamespace(ends=True)
    assert trial._by_rows(tiny.llama(), ends, groups, alone) == Findings()
    assert len(seen) == 1


@pytest.mark.parametrize(("off", "own"), [(4.9e-3, False), (5.1e-3, True)])
def test_rows_that_change_each_other_have_calls_of_their_own(
    off: float, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_by_calls", lambda model, head, groups, lengths: torch.tensor([off]))
    ends: Any = SimpleNamespace(ends=True)
    assert trial._by_rows(tiny.llama(), ends, [], torch.zeros(1)).own_calls is own


def test_a_model_in_parts_needs_a_small_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "small_copy", lambda model: None)
    monkeypatch.setattr(trial, "in_parts", lambda model: True)
    with pytest.raises(NotInPartsError) as refused:
        trial._tried(tiny.llama(), LanguageHead())
    assert str(refused.value) == "no small copy of it can be made, to try it\n  → set world.kind=replicate"


@pytest.mark.parametrize(("calls", "layers", "note"), [
    (1, 2, "only 1 of its layers use the attention interface"), (2, 2, ""), (3, 2, ""),
])  # fmt: skip
def test_every_layer_uses_the_interface(calls: int, layers: int, note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, groups = tiny.llama(num_hidden_layers=layers), tiny.groups((3, 2))

    def hidden(model: Any, stream: Any, *, by_mask: bool) -> Tensor:
        stream.layout.calls = calls
        return torch.zeros(2, 32)

    monkeypatch.setattr(trial, "pack_hidden", hidden)
    head: Any = SimpleNamespace(ends=False, name="values", of_pack=lambda *given: torch.zeros(2))
    assert trial._sharing_note(model, head, groups, (RowLengths(), torch.zeros(2))) == note
    off = trial._sharing_note(model, head, groups, (RowLengths(), torch.full((2,), 0.0123)))
    assert off == (note or "shared and separate values differ by 0.012")


def test_a_small_copy_is_tried_on_twelve_tokens() -> None:
    calls: list[Any] = []

    class Model:
        config = SimpleNamespace(is_encoder_decoder=False)

        def __call__(self, **arguments: Any) -> Any:
            calls.append(
                (torch.is_grad_enabled(), {n: getattr(v, "tolist", lambda v=v: v)() for n, v in arguments.items()})
            )
            return SimpleNamespace(logits=torch.tensor([1.0, torch.inf if len(calls) == 2 else 0.0]))

    model: Any = Model()
    tokens = [list(range(1, 13))]
    assert (small._is_finite(model), small._is_finite(model)) == (True, False)
    assert calls == [(False, {"input_ids": tokens, "use_cache": False})] * 2


def test_nothing_is_heard_while_a_copy_is_made() -> None:
    before = tr.logging.get_verbosity()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with small._quiet():
            warnings.warn("odd", stacklevel=1)
            assert tr.logging.get_verbosity() == logging.ERROR
        warnings.warn("after", stacklevel=1)
        with pytest.raises(KeyError), small._quiet():
            raise KeyError
    assert [str(each.message) for each in heard] == ["after"]
    assert tr.logging.get_verbosity() == before


def test_rows_of_several_classes_are_refused_in_words() -> None:
    """Up to five tokens, or more: a turn that begins anew is a row of its own."""
    anew = (Aside(1, torch.tensor([1] * 5), fresh=True),)
    group = Group("row 7", torch.tensor([1, 2]), (Branch(torch.tensor([3, 4]), Role.DRAFT, asides=anew),))
    with pytest.raises(DataError) as refused:
        RowLengths((5,)).calls([group], ends=False)
    assert str(refused.value) == (
        "row 7: its turns are rows of several lengths, which this model's rotary factors treat differently\n"
        "  → leave the row out, or choose another model"
    )
    assert [places for _, places in RowLengths((9,)).calls([group], ends=False)] == [[0]]


@pytest.mark.parametrize(("ends", "kinds"), [(False, [[0], [1, 2]]), (True, [[0, 1, 2]])])
def test_prompts_and_completions_apart_count_both(ends: bool, kinds: list[list[int]]) -> None:
    """Prompts of 3; completions of 3, 4 and 4 tokens, the last of which counts only where it is read."""
    groups = tiny.groups((3, 3, 4, 4))
    lengths = RowLengths((2 if not ends else 9,), apart=True)
    assert [places for _, places in lengths.calls(groups, ends=ends)] == kinds
    assert cast(Any, lengths)._classes(groups[0], groups[0].branches[1], ends) == (
        ((1, 0), (1, 0)) if not ends else ((0, 0), (0, 0))
    )
