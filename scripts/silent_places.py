"""Where a change of the source says nothing about the tests, because no run can differ: `mutants.py` draws none there.

Annotations and what stands there for the type checker alone are never computed. `strict=True` of a zip is an assertion
and `strict=False` the default, the size of a cache decides what is computed again, a dtype is one object and so is a
truth value, so that `is` is `==`. Of a count two comparisons may be one: `len(x) == 0` is `len(x) <= 0`. A keyword that
has the callee's default may be left out. A change after which the program reads the same (1e308 + 1 is 1e308) is none;
one that is no Python any more would be noticed by whatever runs.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterator

Place = tuple[int, int]
"""Line and column, from 1 and 0."""
_IDENTITY = ("_Eq_Is", "_NotEq_IsNot", "_Is_Eq", "_IsNot_NotEq")
_ORDER = {
    "Eq": operator.eq, "NotEq": operator.ne, "Lt": operator.lt, "LtE": operator.le, "Gt": operator.gt,
    "GtE": operator.ge,
}  # fmt: skip
_COUNTING = frozenset({"len", "numel", "dim", "count"})
"""What returns an integer from 0 up."""
_COUNTS = frozenset({"n", "count", "only_a", "only_b", "ndim"})
"""Names that the package gives to nothing else than a count."""
_DEFAULTS = {("from_config", "trust_remote_code"): False, ("from_pretrained", "trust_remote_code"): False}
"""By callee and keyword, what leaving the keyword out means."""


class SilentPlaces:
    """The silent spans of one source."""

    def __init__(self, source: str) -> None:
        nodes = list(ast.walk(ast.parse(source)))
        self._always = [span for node in nodes for span in _uncomputed(node)]
        compared = [node for node in nodes if isinstance(node, ast.Compare)]
        self._objects = [_span(node) for node in compared if _compares_dtypes(node)]
        self._objects += [(_span(n.left)[1], _span(n.comparators[0])[0]) for n in compared if _compares_truths(n)]
        self._counts = [span for node in compared for span in _compared_counts(node)]
        self._defaults = [span for node in nodes if isinstance(node, ast.Call) for span in _defaults(node)]

    def holds(self, change: str, place: Place) -> bool:
        """Whether no run can tell a change by cosmic-ray's operator `change` at `place`."""
        spans = self._always + (self._objects if change.endswith(_IDENTITY) else [])
        spans = spans + (self._defaults if change == "DropKeywordArgument" else [])
        if any(start <= place < end for start, end in spans):
            return True
        known = [(least, limit) for start, end, least, limit in self._counts if start <= place < end]
        return any(_same(change, least, limit) for least, limit in known)


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
        case ast.Call(func=ast.Name(id="lru_cache" | "zip" as name), args=args, keywords=keywords):
            if name == "lru_cache" and args:
                yield _span(args[0])
            for keyword in keywords:
                if keyword.arg == ("maxsize" if name == "lru_cache" else "strict"):
                    default = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                    yield _span(keyword)[0], _span(keyword.value)[int(not default)]
        case _:
            pass


def _compares_dtypes(node: ast.Compare) -> bool:
    return any(isinstance(side, ast.Attribute) and side.attr == "dtype" for side in (node.left, *node.comparators))


def _compares_truths(node: ast.Compare) -> bool:
    """Whether both sides are `True` or `False`: comparisons by identity or membership, and negations."""
    return len(node.ops) == 1 and _is_truth(node.left) and _is_truth(node.comparators[0])


def _is_truth(node: ast.expr) -> bool:
    match node:
        case ast.Compare(ops=[ast.Is() | ast.IsNot() | ast.In() | ast.NotIn()]) | ast.UnaryOp(op=ast.Not()):
            return True
        case ast.Compare(ops=[_], left=left, comparators=[right]):
            return any(isinstance(side, ast.Constant) and isinstance(side.value, str) for side in (left, right))
        case _:
            return False


def _compared_counts(node: ast.Compare) -> Iterator[tuple[Place, Place, int, int]]:
    """Where a count is compared with a constant: the place of the operator, the least count and the constant."""
    match node:
        case ast.Compare(left=left, ops=[_], comparators=[ast.Constant(value=int(limit)) as right]):
            if (least := _least(left)) is not None:
                yield _span(left)[1], _span(right)[0], least, limit
        case _:
            pass


def _least(node: ast.expr) -> int | None:
    """The least value of an expression that is a count; None for any other."""
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _COUNTING:
            return 0
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _COUNTS:
            return 0
        case ast.Attribute(value=ast.Call(func=ast.Name(id="world")), attr="size"):
            return 1
        case _:
            return None


def _same(change: str, least: int, limit: int) -> bool:
    """Whether both comparisons of a change say the same of every integer from `least` up."""
    before, after = (_ORDER.get(name) for name in f"_{change}".split("_")[-2:])
    if before is None or after is None:
        return False
    return all(before(value, limit) == after(value, limit) for value in range(least, max(least, limit) + 2))


def _defaults(node: ast.Call) -> Iterator[tuple[Place, Place]]:
    """The keywords of a call that have the callee's default."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    for keyword in node.keywords:
        known = _DEFAULTS.get((name, keyword.arg or ""))
        if known is not None and isinstance(keyword.value, ast.Constant) and keyword.value.value is known:
            yield _span(keyword)


def _span(node: ast.AST) -> tuple[Place, Place]:
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
