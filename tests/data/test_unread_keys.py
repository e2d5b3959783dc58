"""Keys that may go unread, keys that mean something, and rows of which nothing is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from twofold.data.keys import filled, harmless, is_meant, meaning, remedy, says_again, texts_in
from twofold.data.shapes import detect, is_unjudged
from twofold.data.validate import check

Write = Callable[..., str]


def test_keys_that_may_go_unread() -> None:
    assert [filled(v) for v in (None, "", [], (), {}, 0, False, " ", [None])] == [False] * 5 + [True] * 4
    names = ("id", "ID", "row-hash", "my_id", "tool_call_id", "call_ids", "mood", "x" * 61 + "_id", "x" * 57 + "_id")
    assert [harmless(n) for n in names] == [True, True, True, True, False, True, False, False, True]
    assert [is_meant(n) for n in ("weight", "Tool-Calls", "mood", "w" * 61)] == [True, True, False, False]
    assert meaning("Image-URL") == "holds a picture, which is not read"
    assert remedy(["a"]) == "leave it out, or drop it by data.ignore=[a] (--ignore a)"
    assert remedy([f"k{n}" for n in range(13)]).count("k11") == 2
    assert "k12" not in remedy([f"k{n}" for n in range(13)])
    assert list(texts_in({"a": ["x", 3, None], "b": ("y",), "c": {"d": "z"}})) == ["x", "3", "None", "y", "z"]
    assert says_again("mood", ["x"], {"x"})
    assert not says_again("mood", {"a": "x"}, {"x"})
    assert not says_again("weight", "x", {"x"})
    assert not says_again("mood", ["x", "y"], {"x"})


def test_a_row_of_no_shape_is_told_what_is_near(write: Write) -> None:
    (fault,) = check(write("a.jsonl", {"prompt": "a", "chosn": "b", "rejected": "c"})).errors
    assert (fault.check, fault.reason) == (
        "unknown shape", "no known shape has the columns `prompt`, `chosn`, `rejected`",
    )  # fmt: skip
    assert fault.remedy.startswith("`chosn`: did you mean `chosen`? common shapes: prompt + chosen + rejected; ")
    assert fault.remedy.endswith("(all in docs/data.md)")
    (fault,) = check(write("b.jsonl", {})).errors
    assert fault.reason == "no known shape has the columns (none)"
    assert fault.remedy.endswith("(all in docs/data.md); name yours with `columns`, e.g. columns.prompt=instruction")
    (fault,) = check(write("c.jsonl", {"prompt": "a", "answers": ["x", "y"]})).errors
    assert (fault.field, fault.check) == ("answers", "unjudged answers")
    assert [is_unjudged(r) for r in ({"prompt": 1, "answers": []}, {"answers": []}, {"prompt": 1, "answers": [3]})] == [
        True, False, False,
    ]  # fmt: skip
    assert detect({"zzz": 1}) is None


@pytest.mark.parametrize(
    ("row", "faults"),
    [
        ({"chosen": [{"role": "user", "content": "x"}], "rejected": "b c"}, [("chosen", "is a chat, not text")]),
        ({"chosen": "b c", "rejected": [{"role": "user", "content": "x"}]}, [("rejected", "is a chat, not text")]),
        ({"chosen": "b c", "rejected": None}, [("rejected", "is null")]),
        ({"chosen": "b c", "rejected": "b "}, [("rejected", "is only white space")]),
        ({"chosen": "x c", "rejected": "b d"}, [("chosen", "is text without a prompt, and begins otherwise than "
                                                           "`rejected`")]),
    ],
)  # fmt: skip
def test_texts_that_share_no_beginning_are_told(write: Write, row: dict[str, Any], faults: list[Any]) -> None:
    first = {"chosen": "The sky is blue", "rejected": "The sky is green"}
    found = check(write("rows.jsonl", first, row)).errors
    assert [(f.field, f.reason) for f in found if f.row == 2][:1] == faults
