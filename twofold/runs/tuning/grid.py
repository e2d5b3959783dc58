"""The points of a sweep as recipes, without torch: each fault is one message at its line of the tune file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, cast

from twofold.config.first_look import first_look, look_at_recipe
from twofold.config.load import Document, load_recipe, merged, overridden, validate
from twofold.config.outline import check
from twofold.config.shipped import shipped
from twofold.config.validation_errors import Key
from twofold.errors import RecipeError
from twofold.runs.tuning.settings import Entry, TuneSettings

FIXED = ("run", "seed", "extends", "reference.cache", "data.cache")
"""Keys that trials set themselves."""
MOST_POINTS = 10_000


@dataclass(frozen=True)
class Point:
    """One combination of values, and the recipe with them."""

    values: Mapping[str, Any]
    document: Document

    @property
    def words(self) -> str:
        """The values in one line, by the last words of their keys."""
        return ", ".join(f"{key.rpartition('.')[2]} {_shown(value)}" for key, value in self.values.items()) or "as is"


@dataclass(frozen=True)
class Grid:
    """A recipe with all its points."""

    name: str
    recipe: str
    points: Sequence[Point]


def read_tune_file(path: Path, overrides: Sequence[str] = ()) -> tuple[TuneSettings, list[Grid]]:
    """The settings of a tune file, and the grids of its recipes. Raises RecipeError for every mistake that can be seen
    without torch: unknown keys, empty lists, values of a wrong type, files that do not exist."""
    document = load_recipe(path, overrides)
    settings = validate(TuneSettings, document)
    figure = settings.evaluate
    models = [m for m in (figure.reference, figure.against) if m is not None]
    first_look(rows=[settings.development.file, settings.confirm.file], models=models)
    _refuse_unused(settings, document)
    grids = [_grid(settings, number, document, path) for number in range(len(settings.recipes))]
    names = [grid.name for grid in grids]
    if twice := next((name for name in names if names.count(name) > 1), None):
        place = document.place(("recipes", names.index(twice)))
        raise RecipeError(f"two recipes are called {twice}", where=place, remedy="give one of them a `name`")
    return settings, grids


def _grid(settings: TuneSettings, number: int, document: Document, path: Path) -> Grid:
    entry, place = settings.entries[number], document.place(("recipes", number))
    recipe = _located(path, entry, place)
    axes = _axes(settings.sweep, ("sweep",), document)
    axes |= _axes(entry.sweep, ("recipes", number, "sweep"), document)
    fixed = {key: (value, document.place(("settings", key))) for key, value in settings.settings.items()}
    own = {key: (value, document.place(("recipes", number, "settings", key))) for key, value in entry.settings.items()}
    _refuse_fixed({key: where for key, (_, where) in {**fixed, **own}.items()})
    size = prod(len(values) for values in axes.values())
    if size > MOST_POINTS:
        remedy = f"try fewer values: at most {MOST_POINTS:,} combinations"
        raise RecipeError(f"sweep: {size:,} combinations", where=place, remedy=remedy)
    points: list[Point] = []
    for chosen in product(*axes.values()):
        values = dict(zip(axes, chosen, strict=True))
        point = _with(load_recipe(recipe), {**fixed, **own, **values})
        if not points:
            look_at_recipe(point)
        check("Recipe", point)
        points.append(Point({key: value for key, (value, _) in values.items()}, point))
    return Grid(entry.name or Path(entry.recipe).stem, str(recipe), points)


def _located(path: Path, entry: Entry, place: str) -> Path:
    """The recipe's file: seen from the tune file, from here, or one that comes with twofold."""
    near, here = path.parent / entry.recipe, shipped(Path(entry.recipe))
    if not near.is_file() and not here.is_file():
        raise RecipeError(f"{near}: no such recipe", where=place, remedy="give its path, seen from the tune file")
    return near if near.is_file() else here


def _axes(sweep: Mapping[str, Any], key: Key, document: Document) -> dict[str, list[tuple[Any, str]]]:
    """Each swept key with its values and their places; sections may be nested. Raises RecipeError for anything but
    lists of values."""
    axes: dict[str, list[tuple[Any, str]]] = {}
    for name, path, values in _lists(sweep, "", key):
        where = document.place(path)
        if not isinstance(values, list | tuple) or not values:
            what = "an empty list" if isinstance(values, list | tuple) else f"{_shown(values)} is no list of values"
            remedy = f"write the values to try in brackets: `{name}: [FIRST, SECOND]`"
            raise RecipeError(f"sweep: {name}: {what}", where=where, remedy=remedy)
        listed = list(cast("Sequence[Any]", values))
        texts = [json.dumps(value, sort_keys=True) for value in listed]
        if twice := next((text for text in texts if texts.count(text) > 1), None):
            raise RecipeError(f"sweep: {name}: {twice} is given twice", where=where, remedy="keep one of them")
        axes[name] = [(value, document.place((*path, i))) for i, value in enumerate(listed)]
    _refuse_fixed({name: document.place(path) for name, path, _ in _lists(sweep, "", key)})
    return axes


def _lists(sweep: Mapping[str, Any], prefix: str, key: Key) -> Iterator[tuple[str, Key, Any]]:
    """Each key of a sweep with its dots, its path in the tune file, and its values."""
    for name, values in sweep.items():
        if isinstance(values, Mapping) and values:
            yield from _lists(cast("Mapping[str, Any]", values), f"{prefix}{name}.", (*key, name))
        else:
            yield f"{prefix}{name}", (*key, name), values


def _refuse_unused(settings: TuneSettings, document: Document) -> None:
    """Raise RecipeError for a key of the shared sweep that every recipe replaces: its values would not be tried."""
    own = [{name for name, _, _ in _lists(entry.sweep, "", ())} for entry in settings.entries]
    for name, path, _ in _lists(settings.sweep, "", ("sweep",)):
        if all(name in each for each in own):
            what = f"sweep: {name}: every recipe has a sweep of its own for this key"
            remedy = "leave it out here, or in a recipe that is to try these values"
            raise RecipeError(what, where=document.place(path), remedy=remedy)


def _refuse_fixed(places: Mapping[str, str]) -> None:
    wrong = next((key for key in places if key in FIXED), None)
    if wrong is not None:
        remedy = "list the seeds under `seeds`" if wrong == "seed" else "leave it out: `out` has all trials"
        raise RecipeError(f"{wrong}: is set for each trial", where=places[wrong], remedy=remedy)


def _with(recipe: Document, values: Mapping[str, tuple[Any, str]]) -> Document:
    """The recipe with values over it, each with its place in the tune file. A section is put over the recipe's own, as
    by `extends`: it replaces one of another `kind`."""
    made, places = recipe, dict(recipe.places)
    for name, (value, place) in values.items():
        key = tuple(name.split("."))
        try:
            if isinstance(value, Mapping):
                section: Any = cast("Any", value)
                for word in reversed(key):
                    section = {word: section}
                made = replace(made, data=merged(made.data, section))
            else:
                made = overridden(made, [f"{name}={json.dumps(value)}"])
        except RecipeError as error:
            raise RecipeError(f"{name}: {error.what}", where=place, remedy=error.remedy) from None
        places = {old: where for old, where in places.items() if old[: len(key)] != key} | {key: place}
    return replace(made, places=places)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def slug(text: str) -> str:
    """A name for a file."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.").lower()[:60] or "recipe"
