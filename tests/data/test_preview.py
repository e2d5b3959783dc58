"""What is shown of a row: which text is prompt, shared, supervised, stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from twofold.data.packing_stats import Lengths, savings
from twofold.data.preview import row_view, visible

Make = Callable[..., Any]


def spans(view: Any) -> list[list[tuple[str, str, int]]]:
    return [[(s.kind, s.text, s.tokens) for s in line.spans] for line in view.lines]


def viewed(made: Any, prompt: str, *completions: str, cut: int | None = None) -> Any:
    def ids(text: str) -> list[int]:
        return made(text, add_special_tokens=False)["input_ids"]

    rows = [(str(n), ids(text)[:cut]) for n, text in enumerate(completions)]
    stop = frozenset({made.eos_token_id})
    return row_view("f:1", ids(prompt), rows, lambda tokens: made.decode(tokens, skip_special_tokens=False), stop)


def test_the_parts_of_a_pair(tokenizer: Make) -> None:
    view = viewed(tokenizer(), "ab: ", "xyz</s>", "xq</s>")
    assert (view.prompt.kind, view.prompt.text, view.prompt.tokens, view.shared) == ("prompt", "ab: ", 4, 1)
    assert spans(view) == [
        [("shared", "x", 1), ("supervised", "yz", 2), ("stop", "</s>", 1)],
        [("shared", "x", 1), ("supervised", "q", 1), ("stop", "</s>", 1)],
    ]
    assert [(line.tokens, line.stops) for line in view.lines] == [(4, True), (3, True)]


def test_equal_completions_share_all_but_the_stop(tokenizer: Make) -> None:
    assert spans(viewed(tokenizer(), "a", "b</s>", "b</s>")) == [[("shared", "b", 1), ("stop", "</s>", 1)]] * 2


def test_one_completion_shares_with_none_and_a_cut_one_has_no_stop(tokenizer: Make) -> None:
    (line,) = viewed(tokenizer(), "a", "bcd</s>", cut=2).lines
    assert ([s.text for s in line.spans], line.stops) == (["bc"], False)


def test_a_character_that_is_cut_belongs_to_what_follows(tokenizer: Make) -> None:
    view = viewed(tokenizer(), "", "é</s>", "è</s>")
    assert view.shared == 1
    assert ["".join(s.text for s in line.spans) for line in view.lines] == ["é</s>", "è</s>"]
    assert spans(view)[0][1] == ("supervised", "é", 1)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\n\tb", "a\n\tb"), ("\x1b[31mred", "␛[31mred"), ("\u202eabc", "⟨U+202E⟩abc"), ("\x7f\x9b", "␡⟨U+009B⟩")],
)
def test_what_a_terminal_would_obey_is_shown_instead(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_savings_count_what_batches_hold() -> None:
    cost = savings([Lengths(10, (5, 3)), Lengths(2, (4, 4))])
    assert cost is not None
    assert (cost.padded, cost.apart, cost.together) == (4 * 15, 15 + 13 + 6 + 6, 18 + 10)
    assert cost.padding == pytest.approx(1 - 40 / 60)
    assert cost.sharing == pytest.approx(1 - 28 / 40)
    assert cost.factor == pytest.approx(60 / 28)
    apart = savings([Lengths(10, (5, 3)), Lengths(2, (4, 4))], batch=1)
    assert apart is not None
    assert apart.padded == 2 * 15 + 2 * 6
    alone = savings([Lengths(3, ())])
    assert alone is not None
    assert (alone.padding, alone.sharing) == (0, 0)
    assert savings([]) is None
