"""Recipes: YAML with line numbers, `extends`, overrides from the command line, strict validation, and back to YAML.

It has no schema. Values follow YAML 1.2's core schema: `1e-3` is a number, only `true` and `false` are Booleans, dates
are strings.
"""

from __future__ import annotations

import dataclasses
import difflib
import errno
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path, PurePath
from typing import Any, TypeVar, cast

import pydantic
import yaml

from twofold import disk, manifest
from twofold.config.introspect import completed, entries
from twofold.config.validation_errors import Key, dotted, explain
from twofold.errors import RecipeError

T = TypeVar("T")

LARGEST = 2**20
"""Bytes of a recipe."""
MOST_VALUES = 50_000
"""Values in a recipe."""
MOST_DIGITS = 100
"""Digits of a whole number."""
MOST_SHOWN = 80
"""Characters of an override that an error repeats."""
YAML_REMEDY = "write it as in the examples of recipes/: `key: value` lines"

_NUMBER_STARTS = "-+.0123456789"
_FLOAT = (
    r"^[-+]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|Inf|INF))$|^\.(?:nan|NaN|NAN)$",
    _NUMBER_STARTS,
)
_PLAIN_WORDS = {
    "null": (r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    "bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "int": (r"^[-+]?(?:0|[1-9][0-9_]*)$", _NUMBER_STARTS),
    "float": _FLOAT,
}


class _Loader(yaml.SafeLoader):
    values = 0
    """The number of values so far. An alias counts each time it is used."""
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML keeps them on the class)


class _Dumper(yaml.SafeDumper):
    """Quotes text that a reader of YAML 1.1 or 1.2 could read as another type."""


def _resolve(reader: Any, name: str, pattern: str, starts: Sequence[str]) -> None:
    reader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(pattern), list(starts))


for _name, (_pattern, _starts) in _PLAIN_WORDS.items():
    _resolve(_Loader, _name, _pattern, _starts)
_resolve(_Dumper, "float", *_FLOAT)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Text in one line is left plain. Unicode's other line ends are written as escapes."""
    return cast("Any", dumper).represent_scalar(
        "tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"'
    )


_Dumper.add_representer(str, _text)


@dataclass(frozen=True)
class Document:
    """The content of a recipe before validation: `data`, and the place of each key."""

    name: str
    data: dict[str, Any]
    places: Mapping[Key, str]

    def place(self, key: Key) -> str:
        """The place of `key`, or of the nearest section around it."""
        return next((self.places[key[:n]] for n in range(len(key), 0, -1) if key[:n] in self.places), self.name)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Document:
    """Read a recipe, put it over the one it `extends` (one level), and apply `overrides` of the form `a.b.c=value`."""
    document = _read(Path(path))
    base = document.data.pop("extends", None)
    if base is not None:
        where = document.place(("extends",))
        if not isinstance(base, str):
            raise RecipeError(
                "extends: expected the path of one recipe", where=where, remedy="write extends: base.yaml"
            )
        below = _read(Path(path).parent / base, said_at=where)
        if "extends" in below.data:
            raise RecipeError(
                f"extends: {base} itself extends another recipe",
                where=where,
                remedy="one level only: copy the keys you need",
            )
        places = {**below.places, **document.places}
        document = Document(document.name, merged(below.data, document.data), places)
    return overridden(document, overrides)


def from_overrides(overrides: Sequence[str], name: str = "settings") -> Document:
    """A document made only of `key=value`."""
    return overridden(Document(name, {}, {}), overrides)


def validate(type_: type[T], document: Document) -> T:
    """Convert the document to `type_`. All faults become one `RecipeError` that names their places.

    A section's missing keys come from the section's default in the outer class, if there is one.
    """
    data = completed(type_, document.data)
    try:
        made: T = cast("pydantic.TypeAdapter[T]", _adapter(type_)).validate_python(data, context=document.place)
    except pydantic.ValidationError as error:
        raise explain(error, type_, data, document.place) from None
    _refuse_truth_values(data, made, document)
    return made


def _refuse_truth_values(data: Any, made: Any, document: Document, key: Key = ()) -> None:
    """Raise RecipeError where true or false was read as the number 1 or 0."""
    if isinstance(data, bool) and isinstance(made, int | float) and not isinstance(made, bool):
        what = f"{dotted(key)}: must be a number, not {str(data).lower()}"
        raise RecipeError(what, where=document.place(key), remedy="")
    for name, value in entries(data).items():
        listed = list(cast("tuple[Any, ...]", made)) if isinstance(made, tuple) else cast("object", made)
        one = entries(listed).get(name, getattr(listed, str(name), None))
        _refuse_truth_values(value, one, document, (*key, name))


@cache
def _adapter(type_: type[T]) -> pydantic.TypeAdapter[T]:
    """Cached, because the adapter of a recipe takes half a second."""
    return pydantic.TypeAdapter(type_)


def dump(settings: object) -> str:
    """The settings as YAML that `load_recipe` and `validate` turn into equal settings."""
    return yaml.dump(plain(settings), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def plain(value: object) -> Any:
    """Settings as mappings, lists and scalars, ready for YAML or JSON."""
    from twofold.config.custom import own_kind  # imports torch, which is not needed to read a recipe
    from twofold.config.sums import part_section
    from twofold.objectives.sum import Summand

    if isinstance(value, Summand):
        return part_section(value, plain)
    if (kind := own_kind(value)) is not None:
        return {"kind": kind} | {k: v for k, v in _fields(value).items() if k != "kind"}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in cast("Sequence[object]", value)]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, PurePath) else value


def _fields(value: Any) -> dict[str, Any]:
    if not dataclasses.is_dataclass(value):
        return {}
    return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}


def _read(path: Path, said_at: str = "") -> Document:
    try:
        text = disk.read_text(path, LARGEST).removeprefix("\ufeff")
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.y*ml")], n=1)
        remedy = f"did you mean `{path.parent / near[0]}`?" if near else ""
        raise RecipeError(f"{path}: no such recipe", where=said_at, remedy=remedy) from None
    except UnicodeDecodeError:
        raise RecipeError("not a text file in UTF-8", where=str(path), remedy="save it as UTF-8") from None
    except OSError as error:
        if error.errno == errno.EFBIG:
            remedy = "name a recipe; data is named in it, under data.train"
            raise RecipeError(
                f"is larger than any recipe ({LARGEST:,} bytes)", where=str(path), remedy=remedy
            ) from None
        what, remedy = f"cannot be read: {error.strerror}", "name a file that you may read"
        raise RecipeError(what, where=str(path), remedy=remedy) from None
    if fault := manifest.faults(path.parent, path.name.__eq__).get(path.name):
        remedy = "put the file back; to change its settings, copy it under another name first"
        raise RecipeError(f"{fault}: it is not what the run wrote", where=str(path), remedy=remedy)
    places: dict[Key, str] = {}
    values = _parse(text, str(path), places)
    if not isinstance(values, dict):
        fault = "is empty" if values is None else "holds no keys"
        raise RecipeError(fault, where=str(path), remedy="a recipe is a mapping: `key: value` lines")
    return Document(str(path), cast("dict[str, Any]", values), places)


def _parse(text: str, name: str, places: dict[Key, str]) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else _value(loader, node, name, places, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        if "'\\t'" in str(error.problem):
            raise RecipeError("a tab where YAML wants spaces", where=where, remedy="indent with spaces") from None
        what = f"not valid YAML: {error.problem or error.context}"
        raise RecipeError(what, where=where, remedy=YAML_REMEDY) from None
    except (yaml.YAMLError, RecursionError) as error:
        fault = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise RecipeError(f"not valid YAML: {fault}", where=name, remedy=YAML_REMEDY) from None
    finally:
        cast("Any", loader).dispose()


def _value(loader: _Loader, node: yaml.Node, name: str, places: dict[Key, str], key: Key) -> Any:
    """The plain value of a node; notes the place of every key on the way."""
    where = f"{name}:{node.start_mark.line + 1}"
    places.setdefault(key, where)
    loader.values += 1
    if loader.values > MOST_VALUES:
        remedy = "write out what you need, without aliases of aliases"
        what = f"holds more than {MOST_VALUES:,} values, aliases (`*name`) included"
        raise RecipeError(what, where=where, remedy=remedy)
    if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            word, line = key_node.value, f"{name}:{key_node.start_mark.line + 1}"
            if not isinstance(key_node, yaml.ScalarNode):
                raise RecipeError("a key must be one word", where=line, remedy=YAML_REMEDY)
            if word in data:
                raise RecipeError(f"{dotted((*key, word))}: given twice", where=line, remedy="keep one of them")
            places[(*key, word)] = line
            data[word] = _value(loader, value_node, name, places, (*key, word))
        return data
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        return [_value(loader, child, name, places, (*key, i)) for i, child in enumerate(node.value)]
    if not isinstance(node, yaml.ScalarNode):
        raise RecipeError(f"the tag {node.tag} has no meaning here", where=where, remedy="leave it out")
    try:
        value = cast("Any", loader).construct_object(node)
    except ValueError:  # Python refuses to convert thousands of digits
        value = None
    if node.tag.endswith(":int") and (value is None or len(node.value) > MOST_DIGITS):
        what = f"a number of {len(node.value):,} digits is too large"
        raise RecipeError(f"{dotted(key)}: {what}" if key else what, where=where, remedy="choose a smaller one")
    return value


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`, section by section; a section of another `kind` replaces the old one whole."""
    made = dict(below)
    for key, value in above.items():
        old = made.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            section, over = cast("dict[str, Any]", old), cast("dict[str, Any]", value)
            same_kind = over.get("kind", section.get("kind")) == section.get("kind")
            made[key] = merged(section, over) if same_kind else over
        else:
            made[key] = value
    return made


def overridden(document: Document, overrides: Sequence[str]) -> Document:
    """The document with `key=value` over it. Raises RecipeError for one that cannot be set."""
    data, places = deepcopy(document.data), dict(document.places)
    for override in overrides:
        where = f"override `{override if len(override) <= MOST_SHOWN else override[:MOST_SHOWN] + '…'}`"
        name, equals, text = override.partition("=")
        key = tuple(name.strip().split("."))
        if not equals or not all(key):
            raise RecipeError("expected key=value", where=where, remedy="for example objective.beta=0.1")
        said: dict[Key, str] = {}
        value = _parse(text, where, said)
        _put(data, key, value, where)
        places = {old: place for old, place in places.items() if old[: len(key)] != key}
        places.update({key + inner: where for inner in said or {(): where}})
    return Document(document.name, data, places)


def _put(data: dict[str, Any], key: tuple[str, ...], value: Any, where: str) -> None:
    """Set one value in a tree of mappings and lists; a section that is empty or not there becomes a mapping."""
    here: Any = data
    for depth, word in enumerate(key):
        slot = _slot(here, word, dotted(key[:depth]), where)
        if depth == len(key) - 1:
            here[slot] = value
            return
        here[slot] = {} if here[slot] is None else here[slot]
        here = here[slot]


def _slot(here: Any, word: str, name: str, where: str) -> str | int:
    """The index under which `word` is found in a mapping (there from now on) or a list."""
    if isinstance(here, list):
        count = len(cast("list[Any]", here))
        if not word.isdecimal() or int(word) >= count:
            raise RecipeError(f"{name} is a list of {count}", where=where, remedy=f"count from 0: {name}.0")
        return int(word)
    if not isinstance(here, dict):
        raise RecipeError(f"{name} is a value, not a section", where=where, remedy=f"set {name} itself")
    cast("dict[str, Any]", here).setdefault(word, None)
    return word
