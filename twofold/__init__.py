"""twofold: preference optimization in which one model is both the discriminator and the generator.

Public names stand in `__init__.pyi`. They are loaded when first used, so that `import twofold` costs nothing.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

_HERE = Path(__file__)


@cache
def _homes() -> dict[str, str]:
    """Each public name and the module it comes from. A star in the stub stands for the `__all__` of a room."""
    imports = [node for node in _parsed(_HERE.with_suffix(".pyi")) if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: str(node.module) for node in imports for alias in node.names if alias.name != "*"}
    for room in (str(node.module) for node in imports if node.names[0].name == "*"):
        lines = _parsed(_HERE.parent.joinpath(*room.split(".")[1:], "__init__.py"))
        listed = next(n.value for n in lines if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__")
        homes |= dict.fromkeys(ast.literal_eval(listed), room)
    return homes


def _parsed(path: Path) -> list[ast.stmt]:
    return ast.parse(path.read_text(encoding="utf-8")).body


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name not in _homes():
        raise AttributeError(f"module 'twofold' has no attribute {name!r}")
    return getattr(import_module(_homes()[name]), name)


def __dir__() -> list[str]:
    return sorted(_homes())
