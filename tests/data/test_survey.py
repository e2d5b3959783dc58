"""What a tokenizer makes of a file's rows, as numbers, views and words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.heard import Tasks
from twofold.data.formats import scan
from twofold.data.packing_stats import BATCH, Lengths, Savings, savings
from twofold.data.preview import HIDDEN, Line, RowView, Span, row_view, visible
from twofold.data.survey import Survey, survey
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.progress import Silent

Write = Callable[..., str]
TURNS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
ASKING = "{% if add_generation_prompt %}[assistant]{% endif %}"


def looked(path: str, made: Any, number: int = 2, progress: Any = None, **settings: Any) -> Survey:
    encoder = Encoder(made, frozenset({made.eos_token_id}), TokenizeSettings(**settings))
    return survey(scan(path), encoder, number, progress or Silent())


PAIR = {"prompt": "a", "chosen": "bc", "rejected": "bd"}


def test_rows_are_viewed_and_counted(write: Write, tokenizer: Any) -> None:
    path = write("rows.jsonl", PAIR, {**PAIR, "prompt": "x" * 9}, {**PAIR, "rejected": None}, {**PAIR, "prompt": "b"},
                 {**PAIR, "prompt": "c"}, PAIR)  # fmt: skip
    seen = Tasks()
    found = looked(path, tokenizer(None), 2, seen, max_length=8)
    assert [view.name for view in found.views] == [f"{path}:1", f"{path}:4"]
    assert found.views[0] == RowView(
        f"{path}:1", Span("prompt", "a", 1),
        (Line("chosen", (Span("shared", "b", 1), Span("supervised", "c", 1), Span("stop", "</s>", 1))),
         Line("rejected", (Span("shared", "b", 1), Span("supervised", "d", 1), Span("stop", "</s>", 1)))),
    )  # fmt: skip
    assert (found.unfit, found.first_fault) == (1, f"{path}:2: has 12 tokens, max_length is 8")
    assert found.cost == Savings(4, 32, 32, 28)
    assert seen.calls == [
        ("begin", "tokenize", 5), *[("advance", "tokenize", 1)] * 5, ("end", "tokenize"),
    ]  # fmt: skip
    assert found.lines() == [
        f"{path}: 6 rows, 5 usable, prompt + chosen + rejected",
        "1 error in the rows: twofold data check names each",
        "prompts: 5 as bare text: the tokenizer has no chat template",
        f"1 row cut or left out by the tokenizer, the first: {path}:2: has 12 tokens, max_length is 8",
        "4 groups, 28 tokens; in padded batches of 8 rows 0.0% would be padding, a shared prompt saves 12.5% of the "
        "rest: 1.14x fewer tokens",
    ]


def test_warnings_and_guesses_are_said(write: Write, tokenizer: Any) -> None:
    rows = [{**PAIR, "prompt": "[INST]"}, {**PAIR, "prompt": "[INST]", "chosen": "b", "probability": 1}]
    tied = {"prompt": "a", "completions": ["x", "y", "z"], "scores": [1, 1, 0]}
    found = looked(write("rows.jsonl", *rows), tokenizer(TURNS + ASKING))
    assert found.lines()[1:3] == [
        "prompts: 2 as a user's turn in the model's chat template",
        f"2 prompts, the first at {found.scan.table.source}:1: holds [INST], a mark of a chat template, and is put as "
        "one user's turn → write prompts as messages, or choose data.chat: text or chat",
    ]
    ranked = looked(write("tied.jsonl", tied, {**tied, "prompt": "b"}), tokenizer(None), 1)
    assert ranked.lines()[1] == "2 warnings in the rows: twofold data check names each"
    assert [line.label for line in ranked.views[0].lines] == ["rank 1", "rank 2", "rank 3"]
    shared = write("shared.jsonl", {"chosen": "The sky is blue", "rejected": "The sky is green"})
    (guess,) = looked(shared, tokenizer(TURNS + ASKING)).guesses
    assert guess.startswith("prompts are what both texts begin with")


def test_a_problem_is_viewed_with_its_answer_and_a_dialogue_turn_by_turn(write: Write, tokenizer: Any) -> None:
    (view,) = looked(write("tasks.jsonl", {"question": "q", "answer": "5"}), tokenizer(None)).views
    assert [(line.label, line.tokens) for line in view.lines] == [("answer", 2)]
    said = [{"role": ("user", "assistant")[n % 2], "content": str(n)} for n in range(4)]
    found = looked(write("chat.jsonl", {"messages": said}), tokenizer(TURNS + ASKING), 5, loss_on="all")
    assert [view.lines[0].spans[0].text for view in found.views] == ["1", "3"]
    nothing = looked(write("none.jsonl", {**PAIR, "prompt": "x" * 9}), tokenizer(None), max_length=3)
    assert (nothing.views, nothing.cost, nothing.unfit) == ([], None, 1)
    assert len(nothing.lines()) == 3
    assert looked(write("good.jsonl", PAIR), tokenizer(None)).first_fault == ""
    assert looked(write("good.jsonl", PAIR), tokenizer(None), 0).views == []


def test_costs_are_those_of_a_shuffled_epoch() -> None:
    assert BATCH == 8
    assert Lengths(3, ()).apart == (3,)
    assert (Lengths(3, (1, 2)).apart, Lengths(3, (1, 2)).together) == ((4, 5), 6)
    rows = [Lengths(n, (1,)) for n in range(1, 10)]
    found = savings(rows)
    assert found is not None
    # permutation(9, 0, 0) leaves one row for the second batch
    from twofold.data.order import permutation

    *first, last = (n + 2 for n in permutation(9, 0, 0))
    assert found == Savings(9, 8 * max(first) + last, 54, 54)
    assert (found.padding, found.sharing, found.factor) == (1 - 54 / found.padded, 0, found.padded / 54)


@pytest.mark.parametrize(
    ("prompt", "ids", "spans"),
    [
        ("p", ("ab", "ab"), [("shared", "ab", 2)]),
        ("p", ("ab</s>", "ab"), [("shared", "ab", 2), ("stop", "</s>", 1)]),
        ("p", ("</s>", "b"), [("stop", "</s>", 1)]),
        ("p", ("", "b"), []),
        ("p", ("a\x1bc</s>", "a"), [("shared", "a", 1), ("supervised", "␛c", 2), ("stop", "</s>", 1)]),
    ],
)
def test_the_spans_of_a_completion(tokenizer: Any, prompt: str, ids: tuple[str, str], spans: list[Any]) -> None:
    made = tokenizer(None)
    tokens = [made(text, add_special_tokens=False)["input_ids"] for text in (prompt, *ids)]
    rows = [("one", tokens[1]), ("two", tokens[2])]
    view = row_view("n", tokens[0], rows, lambda t: made.decode(t), frozenset({made.eos_token_id}))
    assert [(s.kind, s.text, s.tokens) for s in view.lines[0].spans] == spans
    assert view.lines[0].tokens == sum(s[2] for s in spans)
    assert view.lines[0].stops == any(s[0] == "stop" for s in spans)
    assert view.shared == sum(s[2] for s in spans if s[0] == "shared")
    assert row_view("n", [], [], lambda t: "", frozenset()).shared == 0


def test_what_cannot_be_seen_is_shown() -> None:
    assert visible("\x00\x1f\x20\x7e\x7f\x80\n\t\u200b\ufeff") == "␀␟ ~␡⟨U+0080⟩\n\t⟨U+200B⟩⟨U+FEFF⟩"
    assert HIDDEN.pattern
