"""One default everywhere: what a seed, a level or a split is where nobody names it; and the constants of modules."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any

import numpy as np

USUAL: dict[str, tuple[Any, ...]] = {
    "level": (0.95,), "seed": (0, (0, 0)), "samples": (1,), "workers": (0,), "split": ("train",), "shots": (0,),
    "max_new_tokens": (256,), "max_length": (4096,),
}  # fmt: skip
"""By the name of a parameter, its defaults; None is a choice of its own."""


def unusual(package: Any, **own: Any) -> dict[str, Any]:
    """The defaults of `package` that differ from the usual ones, and from its `own` for further parameters, by function
    or class and parameter."""
    known = USUAL | {name: (value,) for name, value in own.items()}
    found = dict[str, Any]()
    for name, made in _callables(package):
        for parameter in inspect.signature(made).parameters.values():
            usual, value = known.get(parameter.name), parameter.default
            if usual and value not in (inspect.Parameter.empty, None, *usual):
                found[f"{name}.{parameter.name}"] = value
    return found


def switched_on(package: Any) -> set[str]:
    """The parameters of `package` that are true where nobody names them; all other switches are off."""
    return {
        f"{name.removesuffix('.__init__')}.{parameter.name}"
        for name, made in _callables(package)
        for parameter in inspect.signature(made).parameters.values()
        if parameter.default is True
    }


def numbers(package: Any) -> dict[str, float]:
    """The numbers other than 0 that parameters of `package` are where nobody names them, but for the usual ones."""
    return {
        f"{name.removesuffix('.__init__')}.{parameter.name}": parameter.default
        for name, made in _callables(package)
        for parameter in inspect.signature(made).parameters.values()
        if isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)
        if parameter.default != 0 and parameter.name not in USUAL
    }


def constants(package: Any) -> dict[str, Any]:
    """The numbers that modules of `package` name at their top, by module and name; of tuples and mappings those in
    them. Truth values and members of enumerations are left out."""
    found = dict[str, Any]()
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(info.name)
        for name in _assigned(ast.parse(inspect.getsource(module))):
            value = _numbers_in(vars(module).get(name))
            if value is not None:
                found[f"{info.name.removeprefix(f'{package.__name__}.')}.{name}"] = value
    return found


def _assigned(tree: ast.Module) -> Iterator[str]:
    """The names that a module assigns at its top."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else _annotated(node)
        for target in targets:
            yield from (each.id for each in ast.walk(target) if isinstance(each, ast.Name))


def _annotated(node: ast.stmt) -> list[ast.expr]:
    return [node.target] if isinstance(node, ast.AnnAssign) and node.value is not None else []


def _numbers_in(value: Any) -> Any:
    """A number as Python's own; a tuple or a mapping with the numbers in it alone; None where there is none."""
    if isinstance(value, np.number):
        return value.item()
    if isinstance(value, int | float):
        return None if isinstance(value, bool | Enum) else value
    if isinstance(value, tuple):
        return tuple(each for each in map(_numbers_in, value) if each is not None) or None
    if isinstance(value, Mapping):
        inner = {key: _numbers_in(each) for key, each in value.items()}
        return {key: each for key, each in inner.items() if each is not None} or None
    return None


def _callables(package: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every function and class that a module of `package` defines, and the functions of these classes."""
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        members = vars(importlib.import_module(module.name))
        for name, value in members.items():
            if getattr(value, "__module__", "") != module.name:
                continue
            if inspect.isfunction(value):
                yield name, value
            elif inspect.isclass(value):
                inner = ((key, getattr(each, "__func__", each)) for key, each in vars(value).items())
                yield from ((f"{name}.{key}", each) for key, each in inner if inspect.isfunction(each))
