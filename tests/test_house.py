"""House rules that are tests: what a reader may rely on without opening every file."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

import twofold
from scripts.check_lengths import faults
from scripts.check_names import faults as names
from scripts.check_words import faults as words


def modules(root: Path) -> list[Path]:
    return sorted((root / "twofold").rglob("*.py"))


@dataclass
class Source:
    """What a file calls, as written (`torch.load`), what it imports, its docstring, and whether it trusts code."""

    calls: set[str] = field(default_factory=set)
    imports: set[str] = field(default_factory=set)
    docstring: str | None = None
    trusts: bool = False


@cache
def source(path: Path) -> Source:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    read = Source(docstring=ast.get_docstring(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            read.calls.add(ast.unparse(node.func))
        elif isinstance(node, ast.Import):
            read.imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            read.imports.add(node.module or "")
        elif isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            read.trusts |= ast.unparse(node.value) != "False"
    return read


def test_nothing_below_the_command_line_prints(root: Path) -> None:
    printing = [str(p) for p in modules(root) if "cli" not in p.relative_to(root).parts and "print" in source(p).calls]
    assert printing == []


def test_nothing_reads_or_writes_pickle(root: Path) -> None:
    unsafe = {"torch.load", "torch.save", "eval", "exec", "yaml.load", "yaml.unsafe_load"}
    found = [f"{p}: {name}" for p in modules(root) for name in source(p).calls & unsafe]
    found += [f"{p}: {name}" for p in modules(root) for name in source(p).imports if name.partition(".")[0] == "pickle"]
    assert found == []


def test_no_remote_code_is_ever_trusted(root: Path) -> None:
    assert [str(path) for path in modules(root) if source(path).trusts] == []


TRAINING = ("objectives", "models", "training", "sampling", "algorithms", "rewards", "judges")
OTHERS = {"datasets", "pyarrow", "pydantic", "httpx2", "tenacity", "typer"}


def at_import(body: Iterable[ast.stmt]) -> Iterator[str]:
    """The modules that a file imports when it is imported; `from a import b` may be of a module `a.b`."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from at_import(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts = (getattr(node, name, []) for name in ("body", "orelse", "finalbody"))
            yield from at_import(child for part in parts for child in part)
            yield from at_import(child for handler in getattr(node, "handlers", []) for child in handler.body)


def reached(root: Path, modules: Iterable[Path]) -> dict[Path, set[str]]:
    """By file of the package that importing `modules` reads, all that it imports."""
    read: dict[Path, set[str]] = {}
    waiting = list(modules)
    while waiting:
        path = waiting.pop()
        if path in read or not path.is_file():
            continue
        read[path] = {*at_import(ast.parse(path.read_text(encoding="utf-8")).body)}
        for name in read[path]:
            parts = name.split(".")
            for folder in (root.joinpath(*parts[:n]) for n in range(1, len(parts) + 1) if parts[0] == "twofold"):
                waiting += [folder / "__init__.py", folder.with_suffix(".py")]
    return read


def test_training_imports_no_package_that_only_other_verbs_use(root: Path, tmp_path: Path) -> None:
    """A machine with torch, transformers and PEFT alone can train."""
    read = reached(root, (path for room in TRAINING for path in (root / "twofold" / room).rglob("*.py")))
    assert root / "twofold" / "batch.py" in read
    assert [f"{p}: {n}" for p, names in read.items() for n in names if n.partition(".")[0] in OTHERS] == []
    (tmp_path / "twofold").mkdir()
    (tmp_path / "twofold" / "a.py").write_text("class A:\n    from twofold import b\n")
    (tmp_path / "twofold" / "b.py").write_text(
        "if TYPE_CHECKING:\n    import typer\ntry:\n    import pydantic.x\nexcept ImportError:\n    import httpx2\n"
        "def f():\n    import tenacity\n"
    )
    found = reached(tmp_path, [tmp_path / "twofold" / "a.py"])
    assert found[tmp_path / "twofold" / "b.py"] == {"pydantic.x", "httpx2"}


def test_every_module_says_what_it_is(root: Path) -> None:
    silent = [str(p) for p in modules(root) if p.read_text(encoding="utf-8").strip() and source(p).docstring is None]
    assert silent == []


def test_test_files_have_names_of_their_own(root: Path) -> None:
    names = Counter(path.name for path in (root / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_every_room_says_what_it_is_for(root: Path) -> None:
    """One sentence, before anything else."""
    rooms = [p for top in ("twofold", "benchmarks", "experiments", "tests") for p in (root / top).rglob("__init__.py")]
    openings = {p: (ast.get_docstring(ast.parse(p.read_text(encoding="utf-8"))) or "").split("\n\n")[0] for p in rooms}
    assert [str(p) for p, opening in openings.items() if not re.search(r"\w[^.]*[.?:`]", opening)] == []


def test_every_experiment_says_what_it_answers_and_how_to_repeat_it(root: Path) -> None:
    folders = [p for p in (root / "experiments").iterdir() if (p / "__init__.py").is_file() and p.name != "harness"]
    assert len(folders) >= 11
    for folder in folders:
        doc = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
        assert "?" in doc.partition("\n")[0], folder
        assert f"`python -m experiments.{folder.name}" in doc, folder
        assert (folder / "__main__.py").is_file(), folder


def test_no_test_file_imports_another(root: Path) -> None:
    """What tests share stands in `tests/support/`."""
    line = re.compile(r"^\s*(?:from|import)\s+(?:[\w.]+\.)?test_\w+", re.MULTILINE)
    crossing = [f"{p}: {m[0]}" for p in (root / "tests").rglob("*.py") for m in line.finditer(p.read_text("utf-8"))]
    assert crossing == []


def test_version_is_the_same_everywhere(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    released = re.search(r"^## (\S+)", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert released is not None
    assert twofold.__version__ == project["version"] == released[1]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\n" * 401, ["401 lines, at most 400"]),
        ("def f():\n" + "    x = 1\n" * 50, ["f: 51 lines, at most 50"]),
        ("def f(a, b, c, *, d, e, f, g): ...\n", ["f: 7 parameters, at most 6"]),
        ("class C:\n    def f(self, a, b, c, d, e, f): ...\n", []),
    ],
)
def test_limits_are_enforced(tmp_path: Path, source: str, expected: list[str]) -> None:
    path = tmp_path / "module.py"
    path.write_text(source, encoding="utf-8")
    assert [fault.partition(": ")[2] for fault in faults(path)] == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def kept(): ...\n", ["1: kept: not called kept"]),
        ("class FoundRows: ...\n", ["1: FoundRows: not called found"]),
        ("class Run:\n    held_mib: int = 0\n    heldout: str = ''\n", ["2: Run.held_mib: not called held"]),
        ("class Run:\n    async def _was_told(self): ...\n", ["2: _was_told: not called told"]),
        ("def untold(ledger, skipped, scaled):\n    kept = 1\n    return kept\n", []),
    ],
)
def test_names_name_things(tmp_path: Path, source: str, expected: list[str]) -> None:
    path = tmp_path / "module.py"
    path.write_text(source, encoding="utf-8")
    assert [fault.partition("module.py:")[2].split(": take")[0] for fault in names(path)] == expected


def test_a_module_names_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "told_of.py"
    path.write_text('"""A page."""\n', encoding="utf-8")
    assert [fault.partition("told_of.py:")[2] for fault in names(path)] == [
        "1: module told_of: not called told: take the field's noun"
    ]


@pytest.mark.parametrize(
    ("name", "text", "refused"),
    [
        ("page.md", "The file lies there.\nIt is `told` so.", ["1: lies → is, is in"]),
        ("page.md", "```\nsays\n```\nA [page](says.md) grows.\n\nIt goes on.", ["6: goes on → continue, resume"]),
        ("page.md", "It is significant, or statistically significant.", ["1: significant → statistically significant"]),
        ("page.md", "The ground truth. The truth.", ["1: truth → reference answer, ground truth"]),
        ("page.md", "otherwise precise noise; a tokeniser", ["1: tokeniser → American spelling: -ize"]),
        ("page.md", "Drafts of the policy.", ["1: Drafts → sample, completion (a draft is PDPO's)"]),
        ("pdpo.md", "Drafts of the policy.", []),
        ("code.py", 'told = "told"\nx = f"It {told} says"  # anew again\n', ["2: says", "2: anew"]),
    ],
)
def test_words_that_the_style_page_replaces_are_refused(
    tmp_path: Path, name: str, text: str, refused: list[str]
) -> None:
    path = tmp_path / name
    path.write_text(text)
    got = list(words(path))
    assert len(got) == len(refused)
    assert all(line.startswith(f"{path}:{start}") for line, start in zip(got, refused, strict=True))


def test_every_heavy_test_is_there(root: Path) -> None:
    """`tests/heavy.txt` names tests by file and function; what it names must not be gone."""
    for line in (root / "tests" / "heavy.txt").read_text(encoding="utf-8").splitlines():
        file, _, name = line.partition("::")
        assert f"def {name.partition('[')[0]}(" in (root / file).read_text(encoding="utf-8"), line
