"""What is told of weights, and what to do where a template cannot part prompt and answer."""

from __future__ import annotations

from typing import Any

import pytest

from support.heard import Heard, Tasks
from twofold.data.encode import encode
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.errors import DataError
from twofold.records import Demonstration, Message, Pair, Request, Source

AT = Source("f", 4)


def encoder(made: Any, **settings: Any) -> Encoder:
    return Encoder(made, frozenset({made.eos_token_id}), TokenizeSettings(**settings))


def test_weights_are_noted_where_a_row_has_one(tokenizer: Any) -> None:
    """(2 + 1)² / (2² + 1²) rows of equal weight."""
    heard, made = Heard(), encoder(tokenizer(None))
    found = encode([Pair("p", "a", "b", AT, weight=2.0), Pair("q", "a", "b", AT)], made, heard)
    assert heard.notes == [
        "weights: 2 rows of which 1 have a weight count as 3, and as much as 1.8 rows of equal weight"
    ]
    assert found.counts()["weights"]["effective"] == pytest.approx(1.8)
    heard = Heard()
    assert "weights" not in encode([Pair("p", "a", "b", AT)], made, heard).counts()
    assert (heard.notes, heard.warnings) == ([], [])


BREAKING = (
    "{% for m in messages %}{% if loop.last %}>{% endif %}{{ m.role }}:{{ m.reasoning_content }}{{ m.content }}</s>"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
REASON = "let the template reason (model.template_arguments), or leave the reasoning out of the row"


@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        ("a", "use a chat template whose generation prompt begins the assistant turn, or data.chat=text"),
        ("so</think>a", REASON),
        ((Message("assistant", "a", '{"reasoning_content": "so"}'),), REASON),
    ],
)
def test_what_to_do_depends_on_whether_an_answer_reasons(tokenizer: Any, answer: Any, remedy: str) -> None:
    with pytest.raises(DataError) as error:
        encoder(tokenizer(BREAKING)).group(Demonstration((Message("user", "q"),), answer, AT))
    assert error.value.what.startswith("cannot be separated from the prompt: ")
    assert (error.value.where, error.value.remedy) == ("f:4, `completion`", remedy)


def test_rows_that_all_weigh_nothing_are_refused(tokenizer: Any) -> None:
    made = encoder(tokenizer(None))
    with pytest.raises(DataError) as error:
        encode([Pair("p", "a", "b", AT, weight=0.0), Pair("q", "a", "b", Source("f", 5), weight=0.0)], made)
    assert (error.value.what, error.value.where) == ("the weight of every row that is left is 0", "f:4")
    assert error.value.remedy == "provide rows that count"


@pytest.mark.parametrize(("count", "named"), [(3, "f:1, f:2, f:3"), (4, "f:1, f:2, f:3 …")])
def test_at_most_three_dropped_rows_are_named(tokenizer: Any, count: int, named: str) -> None:
    heard, made = Heard(), encoder(tokenizer(None), max_length=4)
    rows = [Demonstration("abcd", "e", Source("f", n)) for n in range(1, count + 1)]
    encode([*rows, Demonstration("a", "b", AT)], made, heard)
    assert heard.warnings == [f"{count} of {count + 1} rows dropped: longer than 4 tokens ({named})"]


def test_merges_are_noted_and_guesses_are_warned_of(tokenizer: Any) -> None:
    heard = Heard()
    encode([Pair("ab", "cd", "bd", AT)], encoder(tokenizer(None, merges=(("b", "c"),))), heard)
    assert heard.notes == ["1 completions tokenized on their own: the tokenizer merges them into the prompt"]
    heard = Heard()
    encode([Pair("[INST]", "a", "b", AT)], encoder(tokenizer()), heard)
    assert heard.warnings == [
        "1 prompt, the first at f:4: holds [INST], a mark of a chat template, and is put as one user's turn → write "
        "prompts as messages, or choose data.chat: text or chat"
    ]


def test_progress_is_told_in_parts_of_256_rows(tokenizer: Any) -> None:
    """With the number of rows where they are in a list: others may have to be counted."""
    made, rows = encoder(tokenizer(None)), [Request("ab", AT)] * 257
    for records, total in ((rows, 257), (tuple(rows), None)):
        heard = Tasks()
        assert encode(records, made, heard).num_groups == 257
        assert heard.calls == [
            ("begin", "tokenize", total), ("advance", "tokenize", 256), ("advance", "tokenize", 1), ("end", "tokenize"),
        ]  # fmt: skip


def test_what_was_tokenized_ahead_is_forgotten_with_its_rows(tokenizer: Any) -> None:
    made = encoder(tokenizer())
    made.ahead([Pair((Message("user", "q"),), "a", "b", AT)])
    assert made._token_texts._ahead
    assert made._endings._ahead
    assert len(made.rows([Pair((Message("user", "q"),), "a", "b", AT)])) == 1
    assert (made._token_texts._ahead, made._endings._ahead) == ({}, {})
