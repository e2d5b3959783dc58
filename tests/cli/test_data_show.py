"""`twofold data show` as a person meets it: on the terminal, and as a page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from twofold.cli.data_show import STYLES, rendered
from twofold.data.preview import Line, RowView, Span

Run = Callable[..., Any]
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m</style>"


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_rows_and_their_cost_are_shown(twofold: Run, tmp_path: Path, model_folder: Path) -> None:
    rows = [{"question": f"{n}?", "good": "yes", "bad": "yell"} for n in range(3)]
    path = lines(tmp_path / "rows.jsonl", *rows)
    columns = ("--columns", "prompt=question", "--columns", "chosen=good", "--columns", "rejected=bad")
    answer = twofold("data", "show", path, "--model", model_folder, "--rows", 1, *columns)
    assert answer.code == 0, answer.err
    told = answer.out.splitlines()
    assert told[0] == f"{path}: 3 rows, 3 usable, prompt + chosen + rejected"
    # 2 + 4 and 2 + 5 tokens a row in a batch as wide as 7; together 2 + 4 + 5
    assert told[1] == "prompts: 3 as bare text: the tokenizer has no chat template"
    assert told[2] == (
        "3 groups, 33 tokens; in padded batches of 8 rows 7.1% would be padding, a shared prompt saves 15.4% of the "
        "rest: 1.27x fewer tokens"
    )
    assert told[4] == f"{path}:1: prompt 2 tokens, chosen 4, rejected 5, the first 2 of each the same"
    assert [line.split() for line in told[5:]] == [["prompt", "0?"], ["chosen", "ye┆s</s>"], ["rejected", "ye┆ll</s>"]]


@pytest.mark.parametrize("verb", ["show", "check"])
def test_a_run_directory_is_a_model(twofold: Run, tmp_path: Path, model_folder: Path, verb: str) -> None:
    path = lines(tmp_path / "rows.jsonl", {"prompt": "a", "chosen": "b", "rejected": "c"})
    shutil.copytree(model_folder, tmp_path / "run" / "model")
    plain, run = (twofold("data", verb, path, "--model", model) for model in (model_folder, tmp_path / "run"))
    assert (run.code, run.out) == (0, plain.out), run.err


def test_what_does_not_fit_is_said(twofold: Run, tmp_path: Path, model_folder: Path) -> None:
    rows = [{"prompt": "a" * 9, "chosen": "b", "rejected": "c"}, {"prompt": "a", "chosen": "b", "rejected": None}]
    path = lines(tmp_path / "rows.jsonl", *rows, {"prompt": "a", "chosen": "b", "rejected": "c"})
    answer = twofold("data", "show", path, "max_length=4", "--model", model_folder)
    assert "3 rows, 2 usable" in answer.out
    assert "1 error in the rows: twofold data check names each" in answer.out
    assert f"1 row cut or left out by the tokenizer, the first: {path}:1: has 11 tokens, max_length is 4" in answer.out
    assert f"{path}:3: prompt 1 token" in answer.out
    less = twofold("data", "show", path, "limit=1", "max_length=20", "--model", model_folder)
    assert less.out.startswith(f"{path}: 1 row, 1 usable")
    nothing = twofold("data", "show", path, "max_length=2", "--model", model_folder)
    assert nothing.code == 2


def test_mistakes_are_told(twofold: Run, tmp_path: Path, model_folder: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", {"prompt": "a", "chosen": "b", "rejected": "c"})
    for given, said in [
        (["--columns", "prompt"], "write OURS=THEIRS"),
        (["--columns", "promt=prompt"], "did you mean `prompt`?"),
        (["max_lenght=3"], "did you mean `max_length`?"),
        (["limit=many"], "limit"),
    ]:
        answer = twofold("data", "show", path, "--model", model_folder, *given)
        assert (answer.code, said in answer.err) == (2, True), answer.err


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_self_contained_and_escapes_every_text(twofold: Run, tmp_path: Path, model_folder: Path) -> None:
    row = {"prompt": HOSTILE, "chosen": HOSTILE, "rejected": "no"}
    path = lines(tmp_path / "<b>rows.jsonl", row)
    answer = twofold("data", "show", path, "--model", model_folder, "--html", tmp_path / "out" / "rows.html")
    assert answer.code == 0, answer.err
    text = (tmp_path / "out" / "rows.html").read_text(encoding="utf-8")
    page = Page(text)
    assert set(page.tags) == {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "span", "article", "dl", "dt", "b", "dd",
        "header", "main", "div", "button", "ul", "li", "script",
    }  # fmt: skip
    assert not {"src", "href", "style", "onerror"} & set(page.attributes)
    assert page.tags.count("script") == 1
    assert page.text.count("alert(1)") == 2
    assert "\x1b" not in text
    assert "␛[31m" in page.text
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert text.count('class="stop" title="1 tokens"') == 2
    assert "\x1b" not in answer.out


def test_kinds_have_colours_of_their_own() -> None:
    spans = (Span("shared", "a", 1), Span("supervised", "b", 1), Span("stop", "</s>", 1))
    text = rendered(RowView("f:1", Span("prompt", "p", 1), (Line("chosen", spans), Line("rejected", spans))))
    assert isinstance(text, Text)
    found = {text.plain[s.start : s.end]: s.style for s in text.spans if s.style in STYLES.values()}
    assert found == {
        "p": STYLES["prompt"],
        "a": STYLES["shared"],
        "b": STYLES["supervised"],
        "</s>": STYLES["stop"],
    } | {"┆": "dim"}


def test_the_numbers_of_a_row_are_shown_with_it(twofold: Run, tmp_path: Path, model_folder: Path) -> None:
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    numbered = {**row, "prompt": "d", "weight": 2, "probability": 0.75, "margin": 0.5}
    path = lines(tmp_path / "rows.jsonl", numbered, row)
    answer = twofold("data", "show", path, "--model", model_folder, "--html", tmp_path / "rows.html")
    assert answer.code == 0, answer.err
    heads = [line for line in answer.out.splitlines() if line.startswith(f"{path}:") and "prompt 1 token" in line]
    assert heads[0].endswith("; weight 2, probability 0.75, margin 0.5")
    assert ";" not in heads[1]
    assert "<p>weight 2, probability 0.75, margin 0.5</p>" in (tmp_path / "rows.html").read_text(encoding="utf-8")
    labels = lines(tmp_path / "labels.jsonl", {"prompt": "a", "completion": "b", "label": 0.25})
    assert "undesirable 2; probability 0.75" in twofold("data", "show", labels, "--model", model_folder).out
