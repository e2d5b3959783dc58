"""`twofold evaluate`: exact match of models on the same problems, with intervals and a paired test."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from twofold.cli.model import open_model
from twofold.cli.options import spread
from twofold.cli.terminal import counted, results, table
from twofold.errors import DataError, LeakError, TwofoldError

if TYPE_CHECKING:
    from twofold.evaluation.exact_match import ExactMatch
    from twofold.progress import Progress
    from twofold.records import Task

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What `twofold evaluate` may be told."""

    models: Annotated[
        list[str], typer.Argument(help="Model, adapter or run folders, or hub names; the first is the baseline.")
    ]
    tasks: Annotated[str, typer.Option(help="Problems with answers: prompt + answer, or question + answer.")]
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many problems.")] = None
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longer completions are cut and counted.")] = 256
    split: Annotated[str, typer.Option(help="Which split of a hub data set.")] = "test"
    pass_at: Annotated[
        str | None, typer.Option(metavar="K,K,…", help="Sample instead: pass@k and maj@k for each k, as 1,2,4,8.")
    ] = None
    samples: Annotated[
        int | None, typer.Option(min=1, help="With --pass-at: samples per problem; the largest k by default.")
    ] = None
    temperature: Annotated[float, typer.Option(min=0.01, help="With --pass-at.")] = 1.0
    seed: Annotated[int, typer.Option(help="With --pass-at.")] = 0
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")] = None


@spread
def evaluate(given: Options) -> None:
    """Greedy exact match, strict (`#### N`) and flexible (last number), with 95% intervals and McNemar's exact test."""
    from twofold.cli import pass_at
    from twofold.cli.progress import RichProgress
    from twofold.data.formats import read

    drawing = pass_at.Drawing.of(given.pass_at, given.samples, given.temperature, given.seed)
    source = read(given.tasks, split=given.split, limit=given.limit)
    problems = _problems(source.records, given.tasks)
    about = {"tasks": {"source": source.source, "sha256": source.sha256, "n": len(problems)},
             "max_new_tokens": given.max_new_tokens}  # fmt: skip
    models = list(dict.fromkeys(given.models))
    with RichProgress() as progress:
        for model in models:
            _refuse_trained_on(Path(model), problems, progress)

        def each(work: Callable[[str], T]) -> dict[str, T]:
            done: dict[str, T] = {}
            for model in models:
                progress.note(f"{model}: {counted(len(problems), 'problem')}")
                done[model] = work(model)
            return done

        if drawing is not None:
            told = pass_at.told(
                each(lambda m: pass_at.solved(m, problems, given.max_new_tokens, drawing, progress)), drawing
            )
        else:
            told = _told(each(lambda m: _judge(m, problems, given.max_new_tokens, progress)))
    if given.json_file is not None:
        text = json.dumps({**about, **told}, indent=2, ensure_ascii=False)
        given.json_file.write_text(text + "\n", encoding="utf-8")


def _told(judged: Mapping[str, ExactMatch]) -> dict[str, Any]:
    """The figures, once shown."""
    comparisons = _comparisons(judged)
    _show(judged, comparisons)
    return {"models": [_object(n, m) for n, m in judged.items()], "comparisons": comparisons}


def _problems(records: Sequence[object], source: str) -> list[Task]:
    from twofold.records import Task

    problems = [record for record in records if isinstance(record, Task)]
    if len(problems) != len(records):
        raise DataError("holds no problems with answers", where=source, remedy="rows need a prompt and an answer")
    return problems


def _refuse_trained_on(run: Path, problems: Sequence[Task], progress: Progress) -> None:
    """Of a run directory: nothing is evaluated on a problem that was trained on."""
    if not (run / "resolved.yaml").is_file():
        return
    from twofold.config.assemble import refuse_trained_on

    try:
        refuse_trained_on(run, problems)
    except LeakError:
        raise
    except TwofoldError as error:
        progress.warn(f"{run}: cannot tell whether it was trained on these problems: {error.what}")


def _judge(model: str, problems: Sequence[Task], max_new_tokens: int, progress: Progress) -> ExactMatch:
    from twofold.evaluation.exact_match import exact_match
    from twofold.sampling.base import Sampling
    from twofold.sampling.local import LocalSampler

    loaded, encoder = open_model(model)
    sampling = Sampling(temperature=0, max_new_tokens=max_new_tokens)
    sampler = LocalSampler(loaded.model, loaded.tokenizer, loaded.stop_tokens, sampling, progress.note)
    return exact_match(sampler, problems, encoder, progress=progress)


def _comparisons(judged: Mapping[str, ExactMatch]) -> list[dict[str, Any]]:
    from twofold.evaluation.exact_match import compare

    return [
        {"a": a, "b": b, "metric": metric, **compare(judged[a], judged[b], metric).as_dict()}
        for a, b in combinations(judged, 2)
        for metric in ("strict", "flexible")
    ]


def _object(name: str, result: ExactMatch) -> dict[str, Any]:
    return {"name": name, "strict": result.strict.as_dict(), "flexible": result.flexible.as_dict(),
            "truncated": result.truncated}  # fmt: skip


def _show(judged: Mapping[str, ExactMatch], comparisons: Sequence[Mapping[str, Any]]) -> None:
    from twofold.reports.tables import interval, p_value, percent

    out = results()
    rows = table("model", "#n", "#strict", "95% interval", "#flexible", "95% interval", "#truncated")
    for name, result in judged.items():
        told = [part for e in (result.strict, result.flexible) for part in (percent(e.value), interval(e))]
        rows.add_row(name, str(result.strict.n), *told, str(result.truncated))
    out.print(rows, markup=False)
    if comparisons:
        pairs = table("a", "b", "metric", "#only a", "#only b", "#McNemar p")
        for c in comparisons:
            pairs.add_row(c["a"], c["b"], c["metric"], str(c["only_a"]), str(c["only_b"]), p_value(c["p_value"]))
        out.print(pairs, markup=False)
