"""Reads a run directory as typed data. Missing data is empty; damaged data is skipped and listed in `faults`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from twofold import disk, manifest
from twofold.errors import DataError
from twofold.reports.columns import Columns, Lines, numbers
from twofold.statistics import Estimate

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Metrics = Mapping[str, float]
T = TypeVar("T", bound="DataclassInstance")


UNVERIFIED = "win_rate"
"""Of rows in samples.jsonl that are right or wrong by no rule: they were judged against another answer."""


@dataclass(frozen=True, slots=True)
class SampleRow:
    """A judged completion: a line of samples.jsonl."""

    step: int
    name: str = ""
    prompt: str = ""
    completion: str = ""
    answer: str = ""
    strict: bool = False
    flexible: bool = False
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class MatchRow:
    """A completion against another answer: a line of samples.jsonl of the win rate in training. `share` is 1, ½ or 0,
    and below 0 without a verdict."""

    step: int
    name: str = ""
    prompt: str = ""
    completion: str = ""
    other: str = ""
    share: float = -1.0


@dataclass(frozen=True, slots=True)
class ModelResult:
    """A model's final figures by metric (`strict`, `flexible` …)."""

    name: str
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A paired test between models `a` and `b`."""

    a: str
    b: str
    metric: str
    only_a: int
    only_b: int
    p_value: float
    test: str = ""

    @property
    def turned(self) -> Comparison:
        """The same test with `b` before `a`."""
        return replace(self, a=self.b, b=self.a, only_a=self.only_b, only_b=self.only_a)


@dataclass(frozen=True, slots=True)
class RewardResult:
    """Results of a reward model on held-out comparisons. `bins` are its accuracy by confidence:
    (predicted, observed, n), of weighted rows the effective n. `effective` is that of all."""

    accuracy: Estimate
    longer_wins: Estimate
    by_length: tuple[tuple[str, Estimate], ...]
    calibration_error: float
    p_value: float
    bins: tuple[tuple[float, float, int], ...]
    effective: float | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """results.json: final metrics at `step`. `training` contains means of metrics over the last steps."""

    name: str = ""
    command: str = ""
    models: tuple[ModelResult, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    heldout: Mapping[str, Estimate] = field(default_factory=dict[str, Estimate])
    training: Mapping[str, Estimate] = field(default_factory=dict[str, Estimate])
    warnings: tuple[str, ...] = ()
    displacement: Mapping[str, Any] = field(default_factory=dict[str, Any])
    experts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    step: int | None = None
    reward: RewardResult | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Results:
        """Read the figures of results.json; entries without the fields of the schema are left out."""
        models = [m for m in dicts(data.get("models")) if "name" in m]
        return cls(
            name=_text(data.get("name")),
            command=_text(data.get("command")),
            models=tuple(ModelResult(_text(m["name"]), _estimates(m)) for m in models),
            comparisons=tuple(c for d in dicts(data.get("comparisons")) if (c := typed(Comparison, d))),
            heldout=_estimates(data.get("heldout")),
            training=_estimates(data.get("training")),
            warnings=tuple(_text(w) for w in warnings if w)
            if isinstance(warnings := data.get("warnings"), list)
            else (),
            displacement=mapping(data.get("displacement")),
            experts=mapping(data.get("experts")),
            step=data["step"] if isinstance(data.get("step"), int) else None,
            reward=_reward(data.get("reward_model")),
        )

    def model(self, name: str) -> ModelResult | None:
        """The model called `name`."""
        return next((m for m in self.models if m.name == name), None)


@dataclass(frozen=True)
class RunData:
    """The data of a run for a report. `recipe` is resolved.yaml (else recipe.yaml) as text, `settings` its values."""

    path: Path
    name: str
    train: Columns
    evaluations: tuple[Metrics, ...]
    timings: Columns
    samples: tuple[SampleRow, ...]
    """Samples of the first and the last step that have any, and of the results' step."""
    results: Results
    recipe: str
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    faults: tuple[str, ...]
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Results of other commands in the run folder or its results (EXTRAS), unchecked."""
    matches: tuple[MatchRow, ...] = ()
    """Those of the last step that has any."""

    def series(self, key: str, kind: str = "train") -> tuple[list[float], list[float]]:
        """Steps and finite values of `key` in lines of `kind` (train, evaluation or timing), by step."""
        if kind == "evaluation":
            lines = Columns()
            for line in self.evaluations:
                lines.add({k: line[k] for k in ("step", key) if k in line})
            return lines.series(key)
        return {"train": self.train, "timing": self.timings}[kind].series(key)

    @property
    def final_samples(self) -> dict[str, SampleRow]:
        """The judged completions by problem, at the results' step or else at the last step that has any."""
        steps = {s.step for s in self.samples}
        step = self.results.step if self.results.step in steps else max(steps, default=0)
        return {s.name: s for s in self.samples if s.step == step}

    @property
    def steps(self) -> int:
        """Number of steps, from the lines of metrics.jsonl; 0 without one."""
        evaluated = [line["step"] for line in self.evaluations if math.isfinite(line.get("step", math.nan))]
        return int(max((self.train.last_step + 1, *evaluated)))


EXTRAS = ("frontier", "win_rates", "contests", "explain")
MOST_BYTES = 64_000_000


def read_run(path: Path) -> RunData:
    """Read a run directory; only a folder that does not exist is an error."""
    if not path.is_dir():
        raise DataError("no such run directory", where=str(path), remedy="name the folder that `twofold train` wrote")
    faults: list[str] = []
    if manifest.MANIFEST in manifest.faults(path, lambda name: False):
        faults.append(f"{manifest.MANIFEST} is damaged: it is unknown whether the run's files are complete")
    train, timings, evaluations = Columns(), Columns(), list[Metrics]()
    for line in _lines(path / "metrics.jsonl", faults):
        if line.get("kind") == "train":
            train.add(numbers(line))
        elif line.get("kind") == "evaluation":
            evaluations.append(numbers(line))
    for line in _lines(path / "timings.jsonl", faults):
        timings.add(numbers(line))
    figures = _object(path / "results.json", faults)
    results = Results.of(figures)
    name = results.name or disk.real(path).name
    recipe = next((text for f in ("resolved.yaml", "recipe.yaml") if (text := _read(path / f, faults))), "")
    samples, matches = _samples(_lines(path / "samples.jsonl", faults), results.step)
    return RunData(
        path=path,
        name=name,
        train=train,
        evaluations=tuple(evaluations),
        timings=timings,
        samples=samples,
        matches=matches,
        results=replace(results, name=name),
        recipe=recipe,
        settings=_parsed(recipe, faults),
        environment=_object(path / "environment.json", faults),
        extra=_extra(path, figures, faults),
        faults=tuple(faults),
    )


def _extra(path: Path, figures: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    """Each of EXTRAS from its own file (`explain.json`), else from results.json."""
    found: dict[str, Any] = {}
    for name in EXTRAS:
        file = path / f"{name}.json"
        if file.is_file() and file.stat().st_size > MOST_BYTES:
            faults.append(f"{file.name} is larger than {MOST_BYTES:,} bytes and was left out")
            continue
        value = figures.get(name)
        if file.is_file():
            try:
                value = json.loads(_read(file, faults) or "null")
            except (ValueError, RecursionError):
                faults.append(f"{file.name} is not valid JSON and was left out")
        if isinstance(value, dict | list):
            found[name] = value[name] if isinstance(value, dict) and name in value else value
    return found


def _is_whole(path: Path, faults: list[str]) -> bool:
    """Whether there is such a file, as the run wrote it."""
    if fault := manifest.faults(path.parent, path.name.__eq__).get(path.name):
        faults.append(f"{path.name} {fault} since the run wrote it, and was left out")
        return False
    return path.is_file()


def _read(path: Path, faults: list[str]) -> str:
    if not _is_whole(path, faults):
        return ""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        faults.append(f"{path.name} cannot be read: {error.strerror}")
        return ""


def _object(path: Path, faults: list[str]) -> dict[str, Any]:
    text = _read(path, faults)
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        faults.append(f"{path.name} is not a JSON object and was left out")
        return {}
    return value


def _lines(path: Path, faults: list[str]) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file; a run that was killed may leave half a line behind."""
    lines = Lines()
    try:
        if _is_whole(path, faults):
            with path.open("rb") as file:
                yield from lines.read(file)
            yield from lines.end()
    except OSError as error:
        faults.append(f"{path.name} cannot be read: {error.strerror}")
    if lines.bad:
        where = ", ".join(map(str, lines.first_bad)) + (" …" if lines.bad > len(lines.first_bad) else "")
        counted = f"{lines.bad} unreadable line{'s' if lines.bad > 1 else ''}"
        faults.append(f"{path.name}: {counted} left out (line{'s' if lines.bad > 1 else ''} {where})")


def _samples(
    lines: Iterator[dict[str, Any]], final: int | None
) -> tuple[tuple[SampleRow, ...], tuple[MatchRow, ...]]:  # fmt: skip
    """Samples of the first step, of the last and of step `final`, and matches of the last one, in the file's order."""
    by_step: dict[int, list[SampleRow]] = {}
    matches: list[MatchRow] = []
    for line in lines:
        if line.get("kind") == UNVERIFIED:
            match = _match(line)
            matches = [*(m for m in matches if m.step == match.step), match]
            continue
        sample = _sample(line)
        by_step.setdefault(sample.step, []).append(sample)
        for passed in by_step.keys() - {min(by_step), max(by_step), final}:
            del by_step[passed]
    return tuple(sample for samples in by_step.values() for sample in samples), tuple(matches)


def _parsed(text: str, faults: list[str]) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        faults.append("the recipe is not valid YAML and is shown unchanged")
        return {}
    return value if isinstance(value, dict) else {}


def _sample(line: Mapping[str, Any]) -> SampleRow:
    return typed(SampleRow, {**line, "step": _step(line)}) or SampleRow(0)


def _match(line: Mapping[str, Any]) -> MatchRow:
    told = {key: value for key, value in line.items() if value is not None}
    return typed(MatchRow, {**told, "step": _step(line)}) or MatchRow(0)


def _step(line: Mapping[str, Any]) -> Any:
    step = line.get("step")
    return step if isinstance(step, int | float) and math.isfinite(step) else 0


def _estimates(data: Any) -> dict[str, Estimate]:
    return {str(k): e for k, v in mapping(data).items() if (e := estimate(v))}


def estimate(data: Any) -> Estimate | None:
    """The interval that `data` holds, both of whose ends may be open; None for anything else, such as a figure that is
    not defined."""
    known = mapping(data)
    if known.get("value") is None or (known.get("low") is None) != (known.get("high") is None):
        return None
    try:
        return Estimate.from_dict(known)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _reward(data: Any) -> RewardResult | None:
    try:
        accuracy, longer = estimate(data["accuracy"]), estimate(data["longer_wins"])
        lengths = [(_text(row["better"]), estimate(row)) for row in dicts(data["by_length"])]
        if accuracy is None or longer is None:
            return None
        return RewardResult(
            accuracy=accuracy,
            longer_wins=longer,
            by_length=tuple((name, e) for name, e in lengths if e),
            calibration_error=float(data["calibration_error"]),
            p_value=float(data["test"]["p_value"]),
            bins=tuple((float(b["predicted"]), float(b["observed"]), _effective(b)) for b in dicts(data["bins"])),
            effective=float(data["effective"]) if "effective" in data else None,
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _effective(data: Mapping[str, Any]) -> int:
    """Of a bin, its number of comparisons, and of weighted ones as many of equal weight, at least one."""
    return max(1, int(data["effective"])) if "effective" in data else int(data["n"])


def typed(kind: type[T], data: Mapping[str, Any]) -> T | None:
    """`kind` from the fields of `data`; None if one is missing or has the wrong type."""
    casts: dict[Any, Callable[[Any], Any]] = {"str": _text, "int": int, "float": float, "bool": bool}
    try:
        return kind(**{f.name: casts[f.type](data[f.name]) for f in fields(kind) if f.name in data})
    except (TypeError, ValueError, OverflowError):
        return None


def dicts(value: Any) -> Iterator[Mapping[str, Any]]:
    """The objects of a list; none of anything else."""
    return (v for v in (value if isinstance(value, Sequence) else ()) if isinstance(v, Mapping))


def mapping(value: Any) -> Mapping[str, Any]:
    """An object, empty where there is none."""
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
