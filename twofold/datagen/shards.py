"""One build in independent shards: each takes a stretch of the prompts, with a ledger and rows of its own.

Answers depend on weights, prompt, settings and seed alone, so that the merged rows are those of a build in one piece.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twofold import disk
from twofold.datagen.build import BuildSettings, Built, build
from twofold.errors import DataError, RecipeError
from twofold.judges.questions import Question, Questions
from twofold.progress import Progress
from twofold.records import shown

if TYPE_CHECKING:
    from twofold.judges.base import OpenReward

MOST_SHARDS = 100_000
ARRAY = "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT"
HOW_TO = "give it as INDEX/COUNT, from 0/8 to 7/8, or auto in a SLURM array"
AGAIN = "run the build of that shard again with its own command: only what is missing is asked for"


@dataclass(frozen=True)
class Shard:
    """Shard `index` (from 0) of `count`."""

    index: int
    count: int

    @classmethod
    def of(cls, text: str, environment: Mapping[str, str] | None = None) -> Shard:
        """From `INDEX/COUNT`; `auto` takes both from a SLURM array job. Raises RecipeError for what is no shard."""
        if text == "auto":
            array = [(environment or os.environ).get(name, "") for name in ARRAY]
            if not all(value.isdecimal() for value in array):
                raise RecipeError("is for SLURM array jobs, and this is none", where="--shard auto", remedy=HOW_TO)
            place, first, count = map(int, array)
            return cls(place - first, count)._checked(text)
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if match is None:
            raise RecipeError("is no shard", where=f"--shard {text}", remedy=HOW_TO)
        return cls(int(match[1]), int(match[2]))._checked(text)

    def _checked(self, text: str) -> Shard:
        if not (0 <= self.index < self.count <= MOST_SHARDS):
            raise RecipeError(f"is none of {self.count} shards", where=f"--shard {text}", remedy=HOW_TO)
        return self

    def span(self, total: int) -> tuple[int, int]:
        """The prompts that are this shard's: from one place to before another. Together the spans are all."""
        return self.index * total // self.count, (self.index + 1) * total // self.count

    def path(self, out: Path) -> Path:
        """Where its rows go: pairs.jsonl becomes pairs-00003-of-00008.jsonl."""
        return out.with_name(f"{out.name.removesuffix('.jsonl')}-{self.index:05}-of-{self.count:05}.jsonl")


@dataclass(frozen=True)
class Merged:
    """What a merge wrote."""

    out: Path
    rows: int
    questions: int
    shards: int


def build_shard(
    questions: Questions, how: BuildSettings, place: tuple[Path, Shard], open_reward: OpenReward, progress: Progress
) -> Built:
    """One shard of the build whose whole output `place` names. Raises as `build` does, and RecipeError where there are
    fewer prompts than shards."""
    out, shard = place
    total = len(questions.questions)
    first, end = shard.span(total)
    if total < shard.count:
        raise RecipeError(f"{total} prompts cannot be dealt to {shard.count} shards", where="--shard", remedy=HOW_TO)
    own = shard.path(out)
    disk.remove(_seal(own))
    built = build(replace(questions, questions=questions.questions[first:end]), how, own, open_reward, progress)
    seal = {"shard": shard.index, "of": shard.count, "first": first, "end": end, "questions": total,
            "request": _request(questions.questions, how), "rows": built.rows, "sha256": disk.sha256(own)}  # fmt: skip
    disk.write_signed(_seal(own), seal, about=own.name)
    return built


def merge(out: Path) -> Merged:
    """Put the rows of all shards of `out` into it, in the order of the prompts. Raises DataError for a shard that is
    missing, unfinished, changed since, or of another build, and where `out` exists with other rows."""
    shards = _shards_of(out)
    seals = [_read_seal(shard.path(out)) for shard in shards]
    for shard, seal in zip(shards, seals, strict=True):
        if seal["request"] != seals[0]["request"]:
            what = f"is a shard of another build than {shards[0].path(out).name}: other prompts or settings"
            raise DataError(what, where=str(shard.path(out)), remedy="build all shards with one command")
        if [seal["first"], seal["end"]] != list(shard.span(seals[0]["questions"])):
            raise DataError("does not hold the prompts of its name", where=str(shard.path(out)), remedy=AGAIN)
    _refuse_mixed_models(shard.path(out) for shard in shards)
    parts = [shard.path(out) for shard in shards]
    if out.exists() and disk.sha256(out) != _sha256(parts):
        raise DataError("exists with other rows", where=str(out), remedy="move it away, or merge under its name")
    with disk.replacing(out) as file:
        for part in parts:
            with part.open("rb") as rows:
                shutil.copyfileobj(rows, file)
    return Merged(out, sum(seal["rows"] for seal in seals), seals[0]["questions"], len(shards))


def _shards_of(out: Path) -> list[Shard]:
    """All shards beside `out`."""
    name = re.compile(re.escape(out.name.removesuffix(".jsonl")) + r"-(\d{5,})-of-(\d{5,})\.jsonl")
    matches = [match for path in out.parent.glob("*.jsonl") if (match := name.fullmatch(path.name))]
    shards = sorted((Shard(int(m[1]), int(m[2])) for m in matches), key=lambda shard: (shard.count, shard.index))
    if not shards:
        remedy = "name the --out of the builds that had --shard INDEX/COUNT"
        raise DataError("has no shards beside it", where=str(out), remedy=remedy)
    counts = sorted({shard.count for shard in shards})
    if len(counts) > 1:
        what = f"has shards of {' and of '.join(map(str, counts))} beside it"
        raise DataError(what, where=str(out), remedy="remove those that are not meant")
    missing = sorted(set(range(counts[0])) - {shard.index for shard in shards})
    if missing:
        few = ", ".join(str(index) for index in missing[:8]) + (" …" if len(missing) > 8 else "")
        what = f"lacks {len(missing)} of {counts[0]} shards: {few}"
        raise DataError(what, where=str(out), remedy="build them with --shard INDEX/COUNT")
    return shards


def _sha256(paths: Sequence[Path]) -> str:
    """Of all files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def _seal(own: Path) -> Path:
    return own.with_name(f"{own.name.removesuffix('.jsonl')}.shard.json")


def _read_seal(own: Path) -> dict[str, Any]:
    seal = disk.read_signed(_seal(own), about=own.name) if _seal(own).is_file() else None
    if seal is None:
        raise DataError("is not finished", where=str(own), remedy=AGAIN)
    if seal["sha256"] != disk.sha256(own):
        raise DataError("was changed after it was built", where=str(own), remedy=AGAIN)
    return seal


def _request(questions: Sequence[Question], how: BuildSettings) -> str:
    """sha256 of the prompts and of the settings that change rows."""
    settings = {name: value for name, value in asdict(how).items() if name not in ("retry", "execution")}
    settings["sampling"].pop("batch_size")
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for question in questions:
        texts = [candidate.text for candidate in question.candidates]
        digest.update(json.dumps([shown(question.prompt), question.answer, texts]).encode())
    return digest.hexdigest()


def _refuse_mixed_models(paths: Iterator[Path]) -> None:
    """Raise DataError where one name stood for different weights, in two shards or in one."""
    known: dict[str, tuple[str, Path]] = {}
    for path in paths:
        with path.open("rb") as file:
            for line in file:
                for origin in _origins(json.loads(line)["provenance"]):
                    weights, where = known.setdefault(origin["model"], (origin["weights"], path))
                    if weights != origin["weights"]:
                        what = f"has answers of {origin['model']} with other weights than {where.name}"
                        raise DataError(what, where=str(path), remedy="build both with the same model")


def _origins(provenance: Any) -> Iterator[Mapping[str, str]]:
    """What tells of a model's weights, wherever it stands."""
    if isinstance(provenance, dict):
        if {"model", "weights"} <= provenance.keys():
            yield provenance
        for value in provenance.values():
            yield from _origins(value)
    elif isinstance(provenance, list):
        for value in provenance:
            yield from _origins(value)
