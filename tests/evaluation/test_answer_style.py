"""The style of answers: markdown by the published rules, tokens from `metadata` or by tiktoken."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.benchmark_judges import written
from twofold.errors import DataError
from twofold.evaluation.answer_style import TokenCounter, markdown_of, styled
from twofold.evaluation.published_rows import items_of, load

RECORDED = json.loads((Path(__file__).parents[1] / "parity" / "arena_hard.json").read_text(encoding="utf-8"))


def tiktoken_with(words: list[str]) -> SimpleNamespace:
    """A module with an encoding of one token for each word, which notes the names of models."""

    def encoding_for_model(name: str) -> SimpleNamespace:
        words.append(name)
        return SimpleNamespace(encode=lambda text, disallowed_special: [len(word) for word in text.split()])

    return SimpleNamespace(encoding_for_model=encoding_for_model)


@pytest.mark.parametrize(("text", "counts"), RECORDED["counted"])
def test_markdown_is_counted_as_in_the_package(text: str, counts: list[int]) -> None:
    assert markdown_of(text) == counts


def test_styles_are_read_where_the_file_has_them_and_counted_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    monkeypatch.setitem(sys.modules, "tiktoken", tiktoken_with(names))
    data = written(tmp_path / "q.jsonl", [{"uid": f"q{i}", "category": "c", "prompt": f"p {i}"} for i in range(3)])
    file = written(tmp_path / "m.jsonl", [
        {"uid": "q0", "metadata": {"token_len": 9, "header_count": {"h1": 1, "h2": 2}, "list_count": {}}},
        {"uid": "q1", "metadata": {"token_len": 7}},
        {"uid": "q2", "metadata": None},
    ])  # fmt: skip
    rows = [{"index": i, "own": "# A\n**b** c", "other": "one two"} for i in range(3)]
    found = styled(rows, items_of("arena-hard", load("arena-hard", data).records), (file, None), TokenCounter())
    assert [row["style"] for row in found] == [[9, 3, 0, 1], [7, 1, 0, 1], [4, 1, 0, 1]]
    assert [row["other_style"] for row in found] == [[2, 0, 0, 0]] * 3
    assert names == ["gpt-4o"]
    assert "style" not in rows[0]


def test_without_tiktoken_there_is_no_style_and_one_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    counter = TokenCounter()
    assert styled([{"index": 0, "own": "a", "other": "b"}], [], (None, None), counter)[0]["style"] is None
    assert counter.lacks == "tiktoken is not installed: pip install tiktoken"

    def offline(name: str) -> None:
        raise ConnectionError(name)

    monkeypatch.setitem(sys.modules, "tiktoken", SimpleNamespace(encoding_for_model=offline))
    counter = TokenCounter()
    assert counter.count("a") is None
    assert counter.lacks == (
        "tiktoken has no vocabulary of gpt-4o (ConnectionError): let it download that once, or set TIKTOKEN_CACHE_DIR"
    )


@pytest.mark.parametrize("count", ["9", -1, True, 1.5, {"h1": "x"}])
def test_metadata_that_is_no_count_is_refused(tmp_path: Path, count: object) -> None:
    data = written(tmp_path / "q.jsonl", [{"uid": "q0", "category": "c", "prompt": "p"}])
    file = written(tmp_path / "m.jsonl", [{"uid": "q0", "metadata": {"token_len": count}}])
    with pytest.raises(DataError, match=r"m.jsonl:1: metadata.token_len: is no count"):
        styled([], items_of("arena-hard", load("arena-hard", data).records), (file, None), TokenCounter())
