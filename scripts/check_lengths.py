"""Refuse long files, long functions, long parameter lists and catch-all module names."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_PARAMETERS = 6
CATCH_ALL = {"utils", "util", "helpers", "common", "misc"}
ROOTS = ("twofold", "tests", "benchmarks", "experiments", "scripts")


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many parameters a caller sees: `self` and `cls` do not count, `*args` and `**kwargs` do."""
    given = function.args
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    hidden = bool(names) and names[0] in ("self", "cls")
    return len(names) - hidden + (given.vararg is not None) + (given.kwarg is not None)


def faults(path: Path) -> Iterator[str]:
    """Each broken limit of one file, as `file:line: what`."""
    text = path.read_text(encoding="utf-8")
    if path.stem in CATCH_ALL:
        yield f"{path}:1: a module must be named after what it holds, not {path.stem!r}"
    if (lines := len(text.splitlines())) > MAX_FILE_LINES:
        yield f"{path}:1: {lines} lines, at most {MAX_FILE_LINES}"
    for node in ast.walk(ast.parse(text, filename=str(path))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > MAX_FUNCTION_LINES:
            yield f"{path}:{node.lineno}: {node.name}: {length} lines, at most {MAX_FUNCTION_LINES}"
        if (count := parameters(node)) > MAX_PARAMETERS:
            yield f"{path}:{node.lineno}: {node.name}: {count} parameters, at most {MAX_PARAMETERS}"


def main(roots: list[str]) -> int:
    """Print every fault under `roots`; the exit status says whether there was one."""
    paths = [p for root in roots for p in sorted(Path(root).rglob("*.py"))]
    found = [fault for path in paths for fault in faults(path)]
    print("\n".join(found) if found else f"lengths: {len(paths)} files within the limits")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(ROOTS)))
