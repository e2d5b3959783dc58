"""The test files that answer for a file of the package, the nearest first: `mutants.py` tries them in turn."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from functools import cache
from pathlib import Path


def files_of(mirror: str, root: Path = Path()) -> list[Path]:
    """The test files of a mirror below `root`: all of a folder, or those whose names begin as the mirror does."""
    top = root / mirror
    files = top.rglob("test_*.py") if top.is_dir() else top.parent.glob(f"{top.name}*.py")
    return sorted(file.relative_to(root) for file in files)


def mirrored(path: str) -> str:
    """The tests that answer for a file: its room's folder, or the test files called after a module at the top."""
    parts = Path(path).parts
    return f"tests/{parts[1]}" if len(parts) > 2 else f"tests/test_{Path(path).stem}"


def nearest_first(path: str, root: Path) -> list[list[str]]:
    """All test files of the mirror of `path`, in turns: those that import its room as a whole, for what holds of every
    module; those that name its module, or anything public that it defines; then those that name a module of the package
    that imports it, and so on. Of one turn those come first that are called after the module, then those that name the
    fewest modules."""
    known, importers = _modules(root)
    files = {str(f): (root / f).read_text(encoding="utf-8") for f in files_of(mirrored(path), root)}
    room = re.compile(rf"^(import twofold\.|from twofold import ){Path(path).parent.name}$", re.MULTILINE)
    turns, ring, seen = [[f for f, text in files.items() if room.search(text)]], {_module_name(Path(path))}, set[str]()
    while ring:
        turns += [_naming(files, ring), _naming(files, [name for module in ring for name in known[module]])]
        seen |= ring
        ring = {importer for module in ring for importer in importers.get(module, ())} - seen
    turns, taken, own = [*turns, list(files)], set[str](), f"test_{Path(path).stem}"
    for turn in turns:
        left = [file for file in turn if file not in taken]
        turn[:] = sorted(left, key=lambda file: (not Path(file).name.startswith(own), _modules_named(files[file])))
        taken |= set(turn)
    return [turn for turn in turns if turn]


def _naming(files: dict[str, str], names: Collection[str]) -> list[str]:
    pattern = re.compile(rf"\b({'|'.join(sorted(map(re.escape, names)))})\b")
    return [file for file, text in files.items() if pattern.search(text)]


def _modules_named(text: str) -> int:
    return len(set(re.findall(r"\btwofold\.[\w.]+", text)))


@cache
def _modules(root: Path) -> tuple[dict[str, list[str]], dict[str, set[str]]]:
    """Of each module its name and those of its public functions and classes, and which modules import it."""
    known, importers = dict[str, list[str]](), dict[str, set[str]]()
    for path in sorted((root / "twofold").rglob("*.py")):
        tree, module = ast.parse(path.read_text(encoding="utf-8")), _module_name(path.relative_to(root))
        public = [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name[0] != "_"]
        known[module] = [module, *public]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                    importers.setdefault(name, set()).add(module)
    return known, importers


def _module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")
