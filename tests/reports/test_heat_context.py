"""Stretches of context between the tokens of a completion: where each is, what is shown of it, and its look."""

from __future__ import annotations

from typing import Any

import pytest

from support.explained import told
from twofold.reports.explanation import explanation_page
from twofold.reports.heat import Completion, Token, rows_of


def row(context: list[Any], *credits: Any, **more: Any) -> dict[str, Any]:
    tokens = [{"text": f"t{i}", "credit": credit} for i, credit in enumerate(credits)]
    return {"name": "n", "prompt": "p", "completions": [{"label": "a", "tokens": tokens, "context": context, **more}]}


def drawn(context: list[Any], *credits: Any, most: int = 9, **more: Any) -> Completion:
    (result,) = rows_of([row(context, *credits, **more)], 1.0, most)
    return result.completions[0]


def looks(completion: Completion) -> list[tuple[str, float, str]]:
    return [(token.text, token.credit, token.look) for token in completion.tokens]


@pytest.mark.parametrize(
    ("context", "shown"),
    [
        ([], ["t0", "t1", "t2"]),
        ([{"before": 0, "text": "c"}], ["c", "t0", "t1", "t2"]),
        ([{"before": 2, "text": "c"}, {"before": 1, "text": "b"}], ["t0", "b", "t1", "c", "t2"]),
        ([{"before": 1, "text": "b"}, {"before": 1, "text": "c"}], ["t0", "bc", "t1", "t2"]),
        ([{"before": 3, "text": "c"}, {"before": -1, "text": "d"}, {"text": "e"}], ["t0", "t1", "t2"]),
        ([{"before": 1, "text": ""}, {"before": 1}, 7, "x"], ["t0", "t1", "t2"]),
        ([{"before": 1, "text": 5}], ["t0", "5", "t1", "t2"]),
        ([{"before": 1, "text": "a\u202eb"}], ["t0", "a⟨U+202E⟩b", "t1", "t2"]),
        ([{"before": 1, "text": "a\x1b\x9bb"}], ["t0", "a␛⟨U+009B⟩b", "t1", "t2"]),
    ],
)  # fmt: skip
def test_context_is_before_the_token_of_its_place(context: list[Any], shown: list[str]) -> None:
    result = drawn(context, 1.0, -1.0, 0.0)
    assert [token.text for token in result.tokens] == shown
    known = {"t0": (1.0, "p5"), "t1": (-1.0, "m5"), "t2": (0.0, "")}
    for text, credit, look in looks(result):
        assert (credit, look) == known.get(text, (0.0, "context"))


def test_context_counts_as_no_token() -> None:
    """Neither among those that are shown, nor among those that are not, nor in the sum of credits."""
    context = [{"before": i, "text": f"c{i}"} for i in range(4)]
    result = drawn(context, 1.0, 0.5, 0.25, 0.125, most=2)
    assert [token.text for token in result.tokens] == ["c0", "t0", "c1", "t1"]
    assert (result.hidden, result.reward) == (2, 1.875)
    assert drawn(context, 1.0, 0.5, most=1, length=7).hidden == 6


def test_places_are_those_of_tokens_with_a_credit() -> None:
    result = drawn([{"before": 1, "text": "c"}], 1.0, None, -1.0)
    assert looks(result) == [("t0", 1.0, "p5"), ("c", 0.0, "context"), ("t2", -1.0, "m5")]


def test_a_long_stretch_is_cut_as_other_texts_are() -> None:
    result = drawn([{"before": 0, "text": "c" * 1201}], 1.0)
    assert result.tokens[0] == Token("c" * 1200 + " … (1 more characters)", 0.0, "context")


def test_context_on_the_page_has_no_number() -> None:
    rows = told("a", "b")
    rows["rows"][0]["completions"][0]["context"] = [{"before": 1, "text": "a tool's <reply>"}]
    page = explanation_page(rows, title="t", facts=[])
    assert page.count("a tool&#39;s &lt;reply&gt;") == 2  # of both completions, which are one
    assert "a tool&#39;s &lt;reply&gt;<small>" not in page
    assert 'class="t context"' not in page
