"""Where a change of the source says nothing about the tests, because no run can differ: `mutants.py` draws none there.

Annotations and what stands there for the type checker alone are never computed. `strict=True` of a zip is an assertion
and `strict=False` the default, the size of a cache decides what is computed again, a dtype is one object, so that `is`
is `==`. A change after which the program reads the same (1e308 + 1 is 1e308) is none; one that is no Python any more
would be noticed by whatever runs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

Place = tuple[int, int]
"""Line and column, from 1 and 0."""
_IDENTITY = ("_Eq_Is", "_NotEq_IsNot", "_Is_Eq", "_IsNot_NotEq")


class SilentPlaces:
    """The silent spans of one source."""

    def __init__(self, source: str) -> None:
        nodes = list(ast.walk(ast.parse(source)))
        self._always = [span for node in nodes for span in _uncomputed(node)]
        self._dtypes = [_span(node) for node in nodes if isinstance(node, ast.Compare) and _compares_dtypes(node)]

    def holds(self, operator: str, place: Place) -> bool:
        """Whether no run can tell a change by cosmic-ray's `operator` at `place`."""
        spans = self._always + (self._dtypes if operator.endswith(_IDENTITY) else [])
        return any(start <= place < end for start, end in spans)


def is_change(source: str, changed: str) -> bool:
    """Whether the change makes a program, and another one than before."""
    try:
        return ast.dump(ast.parse(source)) != ast.dump(ast.parse(changed))
    except SyntaxError:
        return False


def _uncomputed(node: ast.AST) -> Iterator[tuple[Place, Place]]:
    """Of one node the spans that are never computed, or only asserted."""
    match node:
        case ast.AnnAssign(annotation=annotation) | ast.arg(annotation=ast.expr() as annotation):
            yield _span(annotation)
        case ast.FunctionDef(returns=returns) | ast.AsyncFunctionDef(returns=returns):
            if returns is not None:
                yield _span(returns)
            if any(isinstance(each, ast.Name) and each.id == "overload" for each in node.decorator_list):
                yield _span(node)
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            yield _span(node)
        case ast.Call(func=ast.Name(id="TypeVar" | "ParamSpec" | "NewType")):
            yield _span(node)
        case ast.Call(func=ast.Name(id="cast"), args=[kind, *_]):
            yield _span(kind)
        case ast.Call(func=ast.Name(id="lru_cache" | "zip" as name), keywords=keywords):
            for keyword in keywords:
                if keyword.arg == ("maxsize" if name == "lru_cache" else "strict"):
                    default = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                    yield _span(keyword)[0], _span(keyword.value)[int(not default)]
        case _:
            pass


def _compares_dtypes(node: ast.Compare) -> bool:
    return any(isinstance(side, ast.Attribute) and side.attr == "dtype" for side in (node.left, *node.comparators))


def _span(node: ast.AST) -> tuple[Place, Place]:
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
