"""Work on many independent items in shards. Each shard processes a range of items and writes its own file. `merge`
joins the files in the order of the items. The result of an item depends only on the item and the settings, so the
merged file is the same as without shards.

A finished shard has a seal: the work that it is a shard of, its range of items, and the digest of its file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twofold import disk
from twofold.errors import DataError, RecipeError

MOST_SHARDS = 100_000
ARRAY = "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT"
HOW_TO = "give it as INDEX/COUNT, from 0/8 to 7/8, or auto in a SLURM array"
AGAIN = "run that shard again with its own command: only the missing items are processed"
END = ".jsonl"


@dataclass(frozen=True)
class Shard:
    """Shard `index` (from 0) of `count`."""

    index: int
    count: int

    @classmethod
    def of(cls, text: str, environment: Mapping[str, str] | None = None) -> Shard:
        """From `INDEX/COUNT`; `auto` reads both from a SLURM array job. Raises RecipeError for anything else."""
        if text == "auto":
            array = in_array(environment)
            if array is None:
                raise RecipeError("is for SLURM array jobs, and this is none", where="--shard auto", remedy=HOW_TO)
            return array._checked(text)
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if match is None:
            raise RecipeError("is no shard", where=f"--shard {text}", remedy=HOW_TO)
        return cls(int(match[1]), int(match[2]))._checked(text)

    def _checked(self, text: str) -> Shard:
        if not (0 <= self.index < self.count <= MOST_SHARDS):
            raise RecipeError(f"is none of {self.count} shards", where=f"--shard {text}", remedy=HOW_TO)
        return self

    def span(self, total: int, grain: int = 1) -> tuple[int, int]:
        """The range of items of this shard, without its end. The ranges of all shards cover all items. Each begins at a
        multiple of `grain`."""
        grains = -(-total // grain)
        first, end = (n * grains // self.count * grain for n in (self.index, self.index + 1))
        return first, min(end, total)

    def path(self, out: Path) -> Path:
        """The file of its lines: pairs.jsonl becomes pairs-00003-of-00008.jsonl."""
        return out.with_name(f"{out.name.removesuffix(END)}-{self.index:05}-of-{self.count:05}{END}")


def in_array(environment: Mapping[str, str] | None = None) -> Shard | None:
    """The index of this process in a SLURM array job; None outside of one."""
    array = [(os.environ if environment is None else environment).get(name, "") for name in ARRAY]
    if not all(value.isdecimal() for value in array):
        return None
    place, first, count = map(int, array)
    return Shard(place - first, count)


@dataclass(frozen=True)
class Work:
    """The work of all shards: `verb` on this number of `items`, which are called `nouns`, in batches of `grain`.

    `request` is a digest of the items and of the settings that change the results. `about` is what `merge` requires to
    finish. `inputs` are the files that are read.
    """

    verb: str
    nouns: str
    items: int
    request: str
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])
    grain: int = 1
    inputs: Sequence[str | None] = ()


@dataclass(frozen=True)
class Outcome:
    """A shard's result. `counts` are added over all shards; `lines` must be the same in all (weights of models)."""

    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    same: Mapping[str, Any] = field(default_factory=dict[str, Any])


Make = Callable[[Path, int, int], Outcome]
"""Writes the results of a range of items to a file."""


@dataclass(frozen=True)
class Merged:
    """The result of a merge in `out`: its verb, and what the verb requires to finish."""

    out: Path
    shards: int
    items: int
    nouns: str
    verb: str
    about: Mapping[str, Any]
    counts: Mapping[str, int]
    same: Mapping[str, Any]

    def lines(self) -> Iterator[dict[str, Any]]:
        """All lines of all shards."""
        with self.out.open("rb") as file:
            yield from map(json.loads, file)


def run(work: Work, out: Path, shard: Shard, make: Make) -> bool:
    """Process one shard of the work whose complete result will be `out`. False if it was finished before, with the same
    inputs.

    Raises RecipeError where there are fewer items than shards.
    """
    grains = -(-work.items // work.grain)
    if grains < shard.count:
        few = f"{work.items} {work.nouns} cannot be dealt to {shard.count} shards"
        worked = f", {work.grain} at a time" if work.grain > 1 else ""
        raise RecipeError(f"{few}{worked}", where="--shard", remedy=f"{HOW_TO}; here of {grains} shards at most")
    own = shard.path(out)
    first, end = shard.span(work.items, work.grain)
    is_of = {"verb": work.verb, "shard": shard.index, "of": shard.count, "first": first, "end": end}
    is_of |= {"items": work.items, "nouns": work.nouns, "grain": work.grain, "request": work.request}
    inputs = looks(work.inputs)
    known = disk.read_signed(_seal(own), about=own.name) if _seal(own).is_file() and own.is_file() else None
    if known and is_of.items() <= known.items() and known["inputs"] == inputs and known["sha256"] == disk.sha256(own):
        return False
    disk.remove(_seal(own))
    outcome = make(own, first, end)
    seal = {**is_of, "about": work.about, "counts": outcome.counts, "same": outcome.same, "inputs": inputs}
    disk.write_signed(_seal(own), {**seal, "sha256": disk.sha256(own)}, about=own.name)
    return True


def merge(out: Path) -> Merged:
    """Write the lines of all shards of `out` into it, in the order of the items. Raises DataError for a shard that is
    missing, unfinished, changed, or of other work, and if `out` exists with other lines."""
    shards = shards_of(out)
    seals = [_read_seal(shard.path(out)) for shard in shards]
    one = seals[0]
    for shard, seal in zip(shards, seals, strict=True):
        where = str(shard.path(out))
        if any(seal[name] != one[name] for name in ("verb", "request", "items", "grain")):
            what = f"is a shard of another {one['verb']} than {shards[0].path(out).name}: other items or settings"
            raise DataError(what, where=where, remedy="make all shards with one command")
        if [seal["first"], seal["end"]] != list(shard.span(one["items"], one["grain"])):
            raise DataError(f"does not hold the {one['nouns']} of its name", where=where, remedy=AGAIN)
        if differs := next((name for name, value in seal["same"].items() if one["same"].get(name) != value), None):
            what = f"has answers of {differs} with other weights than {shards[0].path(out).name}"
            raise DataError(what, where=where, remedy="make both with the same model")
    parts = [shard.path(out) for shard in shards]
    refuse_mixed_models(parts)
    if out.exists() and disk.sha256(out) != _sha256(parts):
        raise DataError("exists with other rows", where=str(out), remedy="move it away, or merge under its name")
    with disk.replacing(out) as file:
        for part in parts:
            with part.open("rb") as rows:
                shutil.copyfileobj(rows, file)
    counts = sum((Counter(seal["counts"]) for seal in seals), Counter[str]())
    told = {name: counts[name] for seal in seals for name in seal["counts"]}
    return Merged(out, len(shards), one["items"], one["nouns"], one["verb"], one["about"], told, one["same"])


def shards_of(out: Path) -> list[Shard]:
    """All shards in the folder of `out`. Raises DataError if there are none, if one is missing, or if their counts
    differ."""
    shards = begun(out)
    if not shards:
        raise DataError("has no shards in its folder", where=str(out), remedy="name the --out of commands with --shard")
    counts = sorted({shard.count for shard in shards})
    if len(counts) > 1:
        what = f"has shards of {' and of '.join(map(str, counts))} in its folder"
        raise DataError(what, where=str(out), remedy="remove those that are not meant")
    missing = sorted(set(range(counts[0])) - {shard.index for shard in shards})
    if missing:
        few = ", ".join(str(index) for index in missing[:8]) + (" …" if len(missing) > 8 else "")
        what = f"lacks {len(missing)} of {counts[0]} shards: {few}"
        raise DataError(what, where=str(out), remedy="make them with --shard INDEX/COUNT")
    return shards


def begun(out: Path) -> list[Shard]:
    """The shards of `out` that have a file, in their order."""
    name = re.compile(re.escape(out.name.removesuffix(END)) + r"-(\d{5,})-of-(\d{5,})" + re.escape(END))
    matches = [match for path in out.parent.glob(f"*{END}") if (match := name.fullmatch(path.name))]
    return sorted((Shard(int(m[1]), int(m[2])) for m in matches), key=lambda shard: (shard.count, shard.index))


def digest(settings: Mapping[str, Any], items: Iterable[Any]) -> str:
    """sha256 of settings and of items, as JSON."""
    found = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for item in items:
        found.update(json.dumps(item, default=str).encode())
    return found.hexdigest()


def refuse_mixed_models(paths: Iterable[Path]) -> None:
    """Raise DataError if one name has different weights in the provenance of rows, in two files or in one."""
    known: dict[str, tuple[str, Path]] = {}
    for path in paths:
        with path.open("rb") as file:
            for line in file:
                for origin in _origins(json.loads(line).get("provenance")):
                    weights, where = known.setdefault(origin["model"], (origin["weights"], path))
                    if weights != origin["weights"]:
                        what = f"has answers of {origin['model']} with other weights than {where.name}"
                        raise DataError(what, where=str(path), remedy="make both with the same model")


def _sha256(paths: Sequence[Path]) -> str:
    """The lines of all files, one file after the other."""
    found = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                found.update(block)
    return found.hexdigest()


def _seal(own: Path) -> Path:
    return own.with_name(f"{own.name.removesuffix(END)}.shard.json")


def _read_seal(own: Path) -> dict[str, Any]:
    seal = disk.read_signed(_seal(own), about=own.name) if _seal(own).is_file() else None
    if seal is None:
        raise DataError("is not finished", where=str(own), remedy=AGAIN)
    if seal["sha256"] != disk.sha256(own):
        raise DataError("was changed after it was made", where=str(own), remedy=AGAIN)
    return seal


def looks(names: Sequence[str | None]) -> dict[str, list[int]]:
    """Size and time of every file of `names`. Anything that is not a path here (a hub name, a server) has none."""
    found: dict[str, list[int]] = {}
    for name in names:
        path = Path(name or "")
        files = path.rglob("*") if path.is_dir() and name else [path]
        for file in files:
            if file.is_file():
                seen = file.stat()
                found[str(file)] = [seen.st_size, seen.st_mtime_ns]
    return found


def _origins(provenance: Any) -> Iterator[Mapping[str, str]]:
    """All entries with a model's weights, at any depth."""
    if isinstance(provenance, dict):
        if {"model", "weights"} <= provenance.keys():
            yield provenance
        for value in provenance.values():
            yield from _origins(value)
    elif isinstance(provenance, list):
        for value in provenance:
            yield from _origins(value)
