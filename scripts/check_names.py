"""Refuse names of everyday speech: what `told`, `kept` or `found` stand for, only their author knows."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

REFUSED = {"told", "said", "found", "asked", "kept", "held", "given", "led", "serves"}
ROOTS = ("twofold", "benchmarks", "experiments", "scripts")

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def faults(path: Path) -> Iterator[str]:
    """Each refused name of a module, class, function or setting in one file, as `file:line: what`."""
    if words := _refused(path.stem):
        yield f"{path}:1: module {path.stem}: {words}"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        names: list[tuple[int, str]] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append((node.lineno, node.name))
        if isinstance(node, ast.ClassDef):
            fields = (line for line in node.body if isinstance(line, ast.AnnAssign))
            names += [(f.lineno, f"{node.name}.{f.target.id}") for f in fields if isinstance(f.target, ast.Name)]
        yield from (
            f"{path}:{line}: {name}: {words}" for line, name in names if (words := _refused(name.rpartition(".")[2]))
        )


def _refused(name: str) -> str:
    words = sorted({word.lower() for word in _WORD.findall(name)} & REFUSED)
    return f"not called {' or '.join(words)}: take the field's noun" if words else ""


def main(roots: list[str]) -> int:
    """Print every fault under `roots`; the exit status says whether there was one."""
    paths = [p for root in roots for p in sorted(Path(root).rglob("*.py"))]
    refused = [fault for path in paths for fault in faults(path)]
    print("\n".join(refused) if refused else f"names: {len(paths)} files in plain words")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(ROOTS)))
