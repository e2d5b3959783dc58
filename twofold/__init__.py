"""twofold: preference optimization in which one model is both the discriminator and the generator.

Public names are listed in `__init__.pyi`. They are loaded when first used, so that `import twofold` is fast.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent


@cache
def _homes() -> dict[str, str]:
    """Each public name and the module it comes from."""
    return dict(_exports(_ROOT / "__init__.pyi"))


def _exports(path: Path) -> Iterator[tuple[str, str]]:
    """What the file at `path` exports: every `X as X`, and for a star all that a room exports."""
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    lines = [(str(node.module), alias) for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    for module, alias in lines:
        if alias.name == "*":
            yield from _exports(_ROOT.joinpath(*module.split(".")[1:], "__init__.py"))
        elif alias.asname == alias.name:
            yield alias.name, module


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name not in _homes():
        raise AttributeError(f"module 'twofold' has no attribute {name!r}")
    return getattr(import_module(_homes()[name]), name)


def __dir__() -> list[str]:
    return sorted(_homes())
