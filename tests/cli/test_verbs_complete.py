"""What every verb owes beside its file and its line in `VERBS`: help, a place in the docs, a test that runs it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from twofold.cli.main import VERBS, _app


def owed(root: Path, verb: str) -> list[str]:
    """What `verb` still lacks, each as the place where it should be."""
    command = re.compile(rf"(?<!\w)twofold {verb}\b")
    docs = [page.read_text(encoding="utf-8") for page in (root / "docs").rglob("*.md")]
    readme = (root / "README.md").read_text(encoding="utf-8")
    missing = {
        "docs/: a page that shows how it is used": not any(map(command.search, docs)),
        "README.md: a line among the commands": not command.search(readme),
        "tests/: a test that runs it": verb.split() not in runs(root),
    }
    return [place for place, absent in missing.items() if absent]


@cache
def runs(root: Path) -> list[list[str]]:
    """The words with which tests begin a command line, but for those that only ask for help."""
    return [
        words[:length]
        for path in (root / "tests").rglob("test_*.py")
        for words in command_lines(ast.parse(path.read_text(encoding="utf-8")))
        for length in (1, 2)
        if "--help" not in words
    ]


def command_lines(tree: ast.Module) -> Iterator[list[str]]:
    """The texts among the arguments of `twofold(…)`, `verb(…)` and `main([…])`, in their order."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func).rpartition(".")[2]
        if name not in ("twofold", "main", "verb"):
            continue
        words = call.args[0].elts if name == "main" and call.args and isinstance(call.args[0], ast.List) else call.args
        yield [node.value for node in words if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_complete(root: Path, verb: str) -> None:
    assert owed(root, verb) == []


def test_a_verb_that_lacks_everything_is_found(root: Path) -> None:
    assert [place.partition(":")[0] for place in owed(root, "divine")] == ["docs/", "README.md", "tests/"]


def test_a_verb_without_help_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twofold.cli.export.export", lambda: None)
    with pytest.raises(ValueError, match="export has no docstring"):
        _app({"export": "export:export"})
