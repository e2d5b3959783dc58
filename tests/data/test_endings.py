"""Several turns behind one prompt: which tokens are scored, what is between them, and where a row starts again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from twofold.data.endings import Ending, Endings, as_tensor, fault, shared_length
from twofold.data.issues import IssueError
from twofold.data.token_texts import TokenTexts
from twofold.data.turns import PutPrompt
from twofold.records import Message, Source

Make = Callable[..., Any]
AT = (Source("f", 4), "chosen")
ASK = (Message("user", "q"),)
GROWING = (
    "{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[a]{% endif %}"
)
COUNTING = "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}" + GROWING
"""A row begins with the number of its questions: nothing continues what was before."""


def endings(made: Any) -> Endings:
    return Endings(TokenTexts(made), frozenset({made.eos_token_id}))


def ended(of: Endings, *turns: Message) -> tuple[list[str], list[tuple[int, str, bool]], str]:
    """The scored turns, what is between them, and the head, as texts."""
    tokenizer = of.texts.tokenizer
    head = of.texts.bare(of.rendered(ASK, AT, generation_prompt=True))
    found = of.after(PutPrompt(ASK, "chat"), tuple(turns), head, AT)
    decode = tokenizer.decode
    scored = [part + "</s>" for part in decode(found.ids).split("</s>")[:-1]]
    return scored, [(at, decode(ids), fresh) for at, ids, fresh in found.between], decode(head)


def said(text: str, scored: bool | None = None) -> Message:
    return Message("assistant", text, "", scored)


MORE = Message("user", "m")


def test_what_continues_a_row_is_between_its_turns(tokenizer: Make) -> None:
    of = endings(tokenizer(GROWING))
    scored, between, head = ended(of, said("one"), MORE, said("two"))
    assert (scored, head) == (["one</s>", "two</s>"], "[u]q</s>[a]")
    assert between == [(4, "[u]m</s>[a]", False)]


def test_what_does_not_continue_it_starts_again(tokenizer: Make) -> None:
    of = endings(tokenizer(COUNTING))
    scored, between, head = ended(of, said("one"), MORE, said("two"))
    assert (scored, head) == (["one</s>", "two</s>"], "1[u]q</s>[a]")
    assert between == [(4, "2[u]q</s>[a]one</s>[u]m</s>[a]", True)]


@pytest.mark.parametrize("template", [GROWING, COUNTING])
def test_turns_behind_the_last_that_is_scored_end_the_row(template: str, tokenizer: Make) -> None:
    of = endings(tokenizer(template))
    scored, between, _ = ended(of, said("one"), MORE, said("two", False))
    assert scored == ["one</s>"]
    again = template == COUNTING
    rest = "2[u]q</s>[a]one</s>[u]m</s>[a]two</s>" if again else "[u]m</s>[a]two</s>"
    assert between == [(4, rest, again)]
    assert ended(of, said("one"), MORE, said("two", True))[1][-1][0] == 4


def test_turns_that_are_not_scored_are_between_too(tokenizer: Make) -> None:
    of = endings(tokenizer(GROWING))
    scored, between, _ = ended(of, said("one", False), MORE, said("two"))
    assert (scored, between) == (["two</s>"], [(0, "one</s>[u]m</s>[a]", False)])


def test_asides_begin_behind_what_all_completions_share() -> None:
    head = [1, 2, 3]
    ending = Ending([9], between=((1, [4, 5], False), (2, [1, 7, 8], True)))
    assert shared_length(head, [ending, Ending([9])], AT[0]) == 1
    assert shared_length(head, [Ending([9], between=((1, [1, 4], False),))], AT[0]) == 3
    asides = ending.asides(head, 1)
    assert [(a.at, a.tokens.tolist(), a.fresh) for a in asides] == [
        (0, [2, 3], False), (1, [4, 5], False), (2, [7, 8], True),
    ]  # fmt: skip
    assert [(a.at, a.tokens.tolist()) for a in Ending([9]).asides(head, 3)] == []
    assert shared_length([], [ending], AT[0]) == 0
    with pytest.raises(IssueError, match="is rendered from its first token on otherwise with each turn") as refused:
        shared_length(head, [Ending([9], between=((1, [6], True),))], AT[0])
    assert refused.value.fault.field == "prompt"


def test_a_fault_is_of_its_row_and_field() -> None:
    made = fault(*AT, "why", "what to do")
    told = made.fault
    assert (told.file, told.row, told.field, told.reason, told.remedy) == ("f", 4, "chosen", "why", "what to do")
    assert (told.severity, told.check) == ("error", "not encodable")
    assert fault(*AT, "why", "", "other").fault.check == "other"


def test_tokens_are_int64() -> None:
    assert as_tensor([1, 2]).dtype == as_tensor([]).dtype == torch.int64
    assert as_tensor([1, 2]).tolist() == [1, 2]
