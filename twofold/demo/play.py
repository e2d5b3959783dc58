"""`twofold demo`: base, DPO and PDPO on one task, judged on the same problems, with intervals; embedded, no network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from itertools import product
from pathlib import Path

import torch

from twofold import disk, manifest
from twofold.config.load import Document, load_recipe, validate
from twofold.config.schema import Recipe
from twofold.data.tokenize import Encoder
from twofold.demo.introduction import INTRODUCTION
from twofold.demo.task import pairs, tasks, write_files
from twofold.evaluation.games import Game, Shares
from twofold.ledger import write_rows
from twofold.locks import exclusive
from twofold.models.load import ModelSettings, load_model
from twofold.progress import Progress
from twofold.reports.html import Introduction, write_report
from twofold.reports.run import SampleRow, read_run
from twofold.runs.train import RunOptions, train_recipe
from twofold.sampling.base import Sampling
from twofold.sampling.local import LocalSampler
from twofold.statistics import PairedTest, mcnemar, paired_bootstrap, wilson
from twofold.stopping import droppable

METHODS = ("dpo", "pdpo")
NAMES = {"base": "base", "dpo": "DPO", "pdpo": "PDPO"}


@dataclass(frozen=True)
class Size:
    """Numbers of problems for pairs, sampling and the test set; optimizer steps (None: those of the recipes)."""

    pairs: int = 1536
    generator: int = 512
    test: int = 500
    steps: int | None = None


@dataclass(frozen=True)
class DemoResult:
    """A finished demo: a table for the terminal, and the path of the report."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str
    report: Path


@dataclass(frozen=True)
class Subject:
    """What a demo aligns: a base, a folder of recipes with `overrides`, and rows, which `make_data` leaves in a folder;
    `introduction` is the start of the page; `measure` is the metric's name in the terminal."""

    command: str
    base: str
    recipes: Path
    make_data: Callable[[Path, Progress], None]
    introduction: Introduction
    measure: str
    overrides: tuple[str, ...] = ()
    win_rates: bool = False
    """Whether the table of one seed has the win rate over the base."""
    names: Mapping[str, str] = field(default_factory=lambda: NAMES)
    """Of the base and of each method: in tables, and of the folders of runs."""
    caches: bool = True
    """Whether the recipes cache the reference's log-probabilities; all runs share a cache."""


def play(
    out: Path, *, seeds: int, progress: Progress, size: Size | None = None, stop: Callable[[], bool] = lambda: False
) -> DemoResult | None:
    """Align the embedded model on the embedded task, as `align` does."""
    size = size or Size()
    torch.set_num_threads(1)  # tensors this small cost more to share between cores than to compute
    steps = () if size.steps is None else (f"training.steps={size.steps}",)
    every = () if size.steps is None else (f"training.evaluate_every={max(1, size.steps // 4)}",)
    with as_file(files("twofold.demo") / "base") as base, as_file(files("twofold.demo") / "recipes") as recipes:
        subject = Subject(
            command="twofold demo",
            base=str(base),
            recipes=recipes,
            make_data=lambda folder, progress: make_data(folder, base, size, progress),
            introduction=INTRODUCTION,
            measure="Exact match in the form `#### N`, greedy",
            overrides=(*steps, *every),
        )
        return align(subject, out, seeds=seeds, progress=progress, stop=stop)


def align(
    subject: Subject, out: Path, *, seeds: int, progress: Progress, stop: Callable[[], bool] = lambda: False
) -> DemoResult | None:
    """Train every method with every seed into `out`, or resume existing runs, and compare; None if stopped."""
    disk.make_folder(out)
    lock = exclusive(out / ".lock", "another demo is running here", "wait until it ends, or name another --out")
    with lock:
        with droppable(stop):
            subject.make_data(out / "data", progress)
        runs: dict[str, list[Path]] = {method: [] for method in METHODS}
        for method, seed in product(METHODS, range(seeds)):
            document = _recipe(out, subject, (method, seed))
            progress.note(f"{subject.names[method]}, seed {seed}")
            conduct = RunOptions(progress=progress, command=subject.command, stop=stop)
            result = train_recipe(validate(Recipe, document), conduct)
            if result.outcome.stopped:
                return None
            runs[method].append(result.folder)
    trained = [run for method in METHODS for run in runs[method]]
    report = write_report(trained, out / "report.html", subject.command, introduction=subject.introduction)
    rows = {method: [final_rows(run) for run in found] for method, found in runs.items()}
    base_rows = rows_at(runs["dpo"][0], 0)
    if seeds == 1:
        return _table_of_one(base_rows, {m: r[0] for m, r in rows.items()}, subject, report)
    return _table_of_seeds(base_rows, rows, subject, report)


def make_data(folder: Path, base: Path, size: Size, progress: Progress) -> None:
    """Problems for training, sampling and the test set, and pairs: the worked answer is chosen, the base model's own
    answer rejected."""
    wanted = {**vars(size), "base": disk.sha256(base / "model.safetensors")}
    if manifest.made_of(folder) == wanted:
        return
    disk.make_folder(folder)
    write_files(folder, {"generator": size.generator, "test": size.test})
    problems = tasks("train", size.pairs)
    loaded = load_model(ModelSettings(path=str(base), precision="float32"))
    encoder = Encoder(loaded.tokenizer, loaded.stop_tokens)
    sampler = LocalSampler(
        loaded.model, loaded.tokenizer, loaded.stop_tokens, Sampling(max_new_tokens=64, batch_size=256)
    )
    progress.begin("base's own answers", len(problems))
    answers: list[str] = []
    for at in range(0, len(problems), 256):
        part = [encoder.prompt(task.prompt) for task in problems[at : at + 256]]
        answers += [encoder.text(completions[0].tokens) for completions in sampler.sample(part)]
        progress.advance("base's own answers", len(part))
    progress.end("base's own answers")
    rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs(problems, answers)]
    write_rows(folder / "pairs.jsonl", rows)
    manifest.write(folder, [f"{name}.jsonl" for name in ("pairs", "generator", "test")], of=wanted)


def _recipe(out: Path, subject: Subject, which: tuple[str, int]) -> Document:
    """The recipe of (method, seed) with its paths filled in."""
    method, seed = which
    name = subject.names[method]
    run = out / (name if seed == 0 else f"{name}-seed-{seed}")
    overrides = [
        f"model.path={json.dumps(subject.base)}",
        f"data.train={json.dumps(str(out / 'data' / 'pairs.jsonl'))}",
        f"evaluation.tasks.file={json.dumps(str(out / 'data' / 'test.jsonl'))}",
        f"run={json.dumps(str(run))}",
        f"seed={seed}",
    ]
    if subject.caches:
        overrides.append(f"reference.cache={json.dumps(str(out / 'reference-cache'))}")
    drafted = out / "data" / "generator.jsonl"
    if method == "pdpo" and drafted.is_file():
        overrides.append(f"data.generator.file={json.dumps(str(drafted))}")
    return load_recipe(subject.recipes / f"{method}.yaml", [*overrides, *subject.overrides])


def rows_at(run: Path, step: int) -> list[SampleRow]:
    return [sample for sample in read_run(run).samples if sample.step == step]


def final_rows(run: Path) -> list[SampleRow]:
    return list(read_run(run).final_samples.values())


def _right(rows: Sequence[SampleRow]) -> list[bool]:
    return [row.strict for row in rows]


def _table_of_one(
    base: list[SampleRow], methods: Mapping[str, list[SampleRow]], subject: Subject, report: Path
) -> DemoResult:
    """The mission's table: n, accuracy, Wilson interval, McNemar's test on the same problems."""
    models = {"base": base, **methods}
    rows: list[tuple[str, ...]] = []
    for name, found in models.items():
        estimate = wilson(sum(_right(found)), len(found))
        tests = [
            "–" if name in (other, "base") else _p_value(mcnemar(_right(models[other]), _right(found)))
            for other in ("base", "dpo")
        ]
        wins = [] if not subject.win_rates else ["–" if name == "base" else _win_rate(found, base)]
        share = f"{estimate.low:.1%} – {estimate.high:.1%}"
        rows.append((subject.names[name], str(estimate.n), f"{estimate.value:.1%}", share, *wins, *tests))
    note = f"{subject.measure}; one seed. `{subject.command} --seeds 5` shows how much a seed matters."
    wins = ("win rate over base",) if subject.win_rates else ()
    columns = ("model", "n", "accuracy", "95% interval", *wins, "p against base", f"p against {subject.names['dpo']}")
    return DemoResult(columns, rows, note, report)


def _win_rate(found: Sequence[SampleRow], base: Sequence[SampleRow]) -> str:
    """Win rate over the base by correctness of answers (a tie is half a win), with its interval."""
    games = [
        Game(own.name, own.prompt, (1 + own.strict - other.strict) / 2, len(own.completion), len(other.completion))
        for own, other in zip(found, base, strict=True)
    ]
    won = Shares(games).estimate()
    return f"{won.value:.1%} [{won.low:.1%}, {won.high:.1%}]"


def _p_value(test: PairedTest) -> str:
    return f"{test.p_value:.2g} (+{test.only_b} −{test.only_a})"


def _table_of_seeds(
    base: list[SampleRow], methods: Mapping[str, list[list[SampleRow]]], subject: Subject, report: Path
) -> DemoResult:
    """Means over seeds, with a paired bootstrap over seeds and problems for the differences."""
    start = wilson(sum(_right(base)), len(base))
    rows: list[tuple[str, ...]] = [("base", "1", f"{start.value:.1%}", f"{start.low:.1%} – {start.high:.1%}", "–", "–")]
    right = {method: [_right(r) for r in found] for method, found in methods.items()}
    for method, found in right.items():
        shares = [sum(r) / len(r) for r in found]
        against = [paired_bootstrap([_right(base)] * len(found), found, seed=0)]
        against += [paired_bootstrap(right["dpo"], found, seed=0)] if method != "dpo" else []
        told = [f"{e.value * 100:+.1f} [{e.low * 100:+.1f}, {e.high * 100:+.1f}]" for e in against]
        mean = sum(shares) / len(shares)
        spread = f"{min(shares):.1%} – {max(shares):.1%}"
        rows.append((subject.names[method], str(len(found)), f"{mean:.1%}", spread, *told, *["–"] * (2 - len(told))))
    how = "Differences in points, with a bootstrap over seeds and problems."
    note = f"{subject.measure}, on {len(base)} problems. {how}"
    columns = ("model", "seeds", "accuracy", "lowest – highest seed", "against base", f"against {subject.names['dpo']}")
    return DemoResult(columns, rows, note, report)
