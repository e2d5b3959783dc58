"""docs/recipe.md and the outline that recipes are checked against before torch is imported, from the settings classes:
`python scripts/make_recipe_page.py` writes both, tests keep them fresh."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "recipe.md"
HEAD = """# Every key of a recipe

Made from the settings classes by `python scripts/make_recipe_page.py`; a test keeps it fresh. Give a key in the
recipe's YAML or on the line: `twofold train recipe.yaml optimizer.learning_rate=5e-6`. A recipe may begin with
`extends: other.yaml` (one level). A `kind` chooses between the classes of a section. `twofold train recipe.yaml
--dry-run` prints all keys as they will be used.
"""


def described(cls: type) -> dict[str, str]:
    """The docstring under each field of a settings class, inherited fields included, as one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    if not isinstance(body, ast.ClassDef):
        return {}
    found: dict[str, str] = {}
    for base in cls.__bases__:
        found |= described(base) if dataclasses.is_dataclass(base) else {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
            found[field.target.id] = " ".join(str(after.value.value).split())  # type: ignore[attr-defined]  # checked above
    return found


def settings_of(hint: Any) -> list[type]:
    """The settings classes that a type hint allows."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return [hint]
    return [cls for part in get_args(hint) for cls in settings_of(part)]


def default_of(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "**required**"
    if dataclasses.is_dataclass(value):
        return f"{type(value).__name__}"
    plain = {None: "null", True: "true", False: "false"}
    return plain[value] if value is None or isinstance(value, bool) else f"`{value}`"


def sections(cls: type, path: str, seen: set[tuple[str, type]]) -> Iterator[str]:
    """One table for `cls` at `path`, then those of the settings inside it."""
    if (path, cls) in seen:
        return
    seen.add((path, cls))
    hints, words = get_type_hints(cls), described(cls)
    yield f"\n## {f'`{path}`: ' if path else ''}{cls.__name__}\n\n{' '.join((cls.__doc__ or '').split())}\n"
    yield "\n| key | default | what it does |\n|---|---|---|\n"
    for field in dataclasses.fields(cls):
        inner = settings_of(hints[field.name])
        told = words.get(field.name, "" if not inner else "see below")
        yield f"| `{field.name}` | {default_of(field)} | {told.replace('|', chr(92) + '|')} |\n"
    for field in dataclasses.fields(cls):
        for inner in settings_of(hints[field.name]):
            yield from sections(inner, f"{path}.{field.name}" if path else field.name, seen)


def objectives() -> Iterator[str]:
    """A line for every member of the union."""
    from twofold.objectives import AnyObjective

    yield "\n## All objectives\n\n| kind | loss | learns from | requires |\n|---|---|---|---|\n"
    for member in get_args(AnyObjective):
        known, loss = member(), " ".join((member.__doc__ or "").split("\n\n")[0].split())
        asked = ", ".join(f"`{name}`" for name in known.requires) or "–"
        link = f"[{known.kind}](objectives/{known.kind}.md)"
        yield f"| {link} | {loss.replace('|', chr(92) + '|')} | {known.data_kind} | {asked} |\n"


def page() -> str:
    from twofold.config.schema import Recipe

    return HEAD + "".join((*sections(Recipe, "", set()), *objectives()))


def outline() -> str:
    """One line for each field, so that a change of settings is a change of few lines."""
    from twofold.config.outline import outlined
    from twofold.config.schema import Recipe

    sections = [
        f" {json.dumps(name)}: {{\n  "
        + ",\n  ".join(f"{json.dumps(key)}: {json.dumps(field)}" for key, field in fields.items())
        for name, fields in outlined([Recipe]).items()
    ]
    return "{\n" + "\n },\n".join(sections) + "\n }\n}\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from twofold.config.outline import FILE

    PAGE.write_text(page(), encoding="utf-8")
    FILE.write_text(outline(), encoding="utf-8")
    print(PAGE, FILE)
