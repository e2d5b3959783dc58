"""What is told of weights, and what to do where a template cannot part prompt and answer."""

from __future__ import annotations

from typing import Any

import pytest

from support.heard import Heard
from twofold.data.encode import encode
from twofold.data.tokenize import Encoder
from twofold.errors import DataError
from twofold.records import Demonstration, Message, Pair, Source

AT = Source("f", 4)


def encoder(made: Any) -> Encoder:
    return Encoder(made, frozenset({made.eos_token_id}))


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
