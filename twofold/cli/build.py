"""`twofold data build`: preferences from models: answers sampled, judged, and written as rows that training reads."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twofold import disk
from twofold.cli.data_show import Ignore, ignored
from twofold.cli.dataclass_options import spread
from twofold.cli.evaluate_judges import of_reward
from twofold.cli.sharding import ShardOptions, in_shards, refuse_odd_shards, whole
from twofold.cli.terminal import results
from twofold.progress import counted

if TYPE_CHECKING:
    from twofold.datagen.build import BuildSettings, Built
    from twofold.judges.questions import Questions
    from twofold.progress import Progress
    from twofold.shards import Merged


@dataclass(frozen=True)
class Options(ShardOptions):
    """Options of `twofold data build`."""

    prompts: Annotated[str, typer.Argument(help="Prompts, problems with answers, or rows with answers to judge.")]
    out: Annotated[Path, typer.Option(help="File for the rows. Requests and replies are stored next to it.")]
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="sampling.temperature=0.7 retry.parallel=16 …"),
    ] = None
    models: Annotated[
        list[str] | None,
        typer.Option("--model", help="Who answers: a folder, hub name or https://host/v1#name; may be given again."),
    ] = None
    judge: Annotated[
        str,
        typer.Option(
            help="KIND[:ARGUMENT], such as verifier, reward:FOLDER, llm:URL#NAME, `truth`, or human (then: twofold "
            "data label). docs/judges.md lists all."
        ),
    ] = "verifier"
    samples: Annotated[int, typer.Option("--samples", "-n", help="Answers per prompt and model.")] = 4
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Then answers are cut; also sampling.max_new_tokens=N.")
    ] = None
    form: Annotated[str, typer.Option("--as", help="pairs, rankings or labels.")] = "pairs"
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N prompts.")] = None
    split: Annotated[str, typer.Option(help="Which split of a hub data set.")] = "train"
    ignore: Ignore = None
    seed: Annotated[int, typer.Option(help="Another seed gives other answers.")] = 0
    only_wrong: Annotated[
        bool,
        typer.Option(
            "--only-wrong", help="With `truth` and stronger: reject only answers that the verifier finds wrong."
        ),
    ] = False
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Every pair with different scores, not only best over worst.")
    ] = False
    gap: Annotated[float, typer.Option(help="Minimum difference of the scores in a pair.")] = 0.0
    threshold: Annotated[float | None, typer.Option(help="With --as labels: good from this score on.")] = None
    judge_pairs: Annotated[
        str | None, typer.Option(metavar="FILE", help="Labeled pairs: the judge's own accuracy is reported.")
    ] = None
    rubric: Annotated[str | None, typer.Option(help="A jinja2 file with the judge's instructions.")] = None
    keep_truncated: Annotated[
        bool, typer.Option("--keep-truncated", help="Also take answers that ran out of tokens.")
    ] = False
    dry: Annotated[bool, typer.Option("--dry-run", help="Show how many requests are needed, and stop.")] = False


@spread
def build(given: Options) -> None:
    """Sample answers, judge them, and write pairs, rankings or labels. An interrupted run resumes."""
    from twofold.cli.progress import RichProgress
    from twofold.config.first_look import first_look, refuse_rows
    from twofold.datagen.build import build as make_rows
    from twofold.datagen.build import read_for
    from twofold.datagen.shards import build_work, make_shard

    refuse_odd_shards(given, given.out)
    how = _settings(given)
    _refuse_pairs(given)
    first_look(rows=[given.prompts, given.judge_pairs], models=how.models, servers=True)
    refuse_rows(given.out, inputs=[given.prompts, given.judge_pairs])
    ignore = ignored(given.ignore)
    questions = read_for(how, given.prompts, split=given.split, limit=given.limit, ignore=ignore)
    if given.dry:
        _estimate(questions, how, given.out)
        return
    from twofold.rewards.model import open_reward  # imports torch

    with RichProgress() as progress:
        told = counted(len(questions.questions), "prompt")
        progress.note(f"{told}, {questions.repeated} repeated" if questions.repeated else told)
        if not whole(given, progress):
            make = make_shard(questions, how, open_reward, progress)
            return in_shards(given, build_work(questions, how), given.out, make, finish, progress)
        built = make_rows(questions, how, given.out, open_reward, progress)
        checked = _check(given.judge_pairs, how, given.out, progress)
    _tell(built, how.form, how.judge)
    if checked is not None or _is_measurable(how.judge):
        of_reward(how.judge, checked)


def finish(merged: Merged) -> None:
    """Print what the shards have built."""
    from twofold.datagen.shards import built_of

    _tell(built_of(merged), **merged.about)


def _is_measurable(judge: str) -> bool:
    """Whether a judge has an accuracy on labeled pairs; people and checks of the reference answer have none."""
    from twofold.judges.registry import BUILD, parse_judge

    kind = parse_judge(judge, BUILD)
    return kind.gives in ("scores", "shares") and not kind.needs_truth


def _refuse_pairs(given: Options) -> None:
    """Raise RecipeError for labeled pairs that nothing is measured on."""
    from twofold.errors import RecipeError

    if given.judge_pairs is None:
        return
    if not _is_measurable(given.judge):
        remedy = "leave it out, or judge by reward:, llm: or another model"
        raise RecipeError(f"--judge {given.judge} is not measured on pairs", where="--judge-pairs", remedy=remedy)
    if given.shard is not None or given.engine != "local":
        remedy = "measure it once: twofold evaluate JUDGE --task judge --tasks FILE"
        raise RecipeError("is not measured in shards", where="--judge-pairs", remedy=remedy)


def _check(pairs: str | None, how: BuildSettings, out: Path, progress: Progress) -> dict[str, Any] | None:
    """The accuracy of the judge on labeled pairs, also in a file next to the rows."""
    if pairs is None:
        return None
    from twofold.evaluation.judging import judge_check

    stem = out.name.removesuffix(".jsonl")
    folder = out.with_name(f"{stem}.judge")
    found = judge_check([how.judge], pairs, rubric=how.rubric, retry=how.retry, out=folder, progress=progress)
    text = disk.json_text({"pairs": pairs, **found.figures}, indent=2)
    disk.write(out.with_name(f"{stem}.judge.json"), text)
    return found.figures["judges"][0]["accuracy"]


def _settings(given: Options) -> BuildSettings:
    from twofold.cli.option_settings import settings_of
    from twofold.datagen.build import BuildSettings

    names = {f.name for f in fields(BuildSettings)}
    spelled = {name: f"--{name.replace('_', '-')}" for name in names} | {"models": "--model", "form": "--as"}
    options = {name: (spelled[name], value) for name, value in vars(given).items() if name in names}
    cut = [] if given.max_new_tokens is None else [f"sampling.max_new_tokens={given.max_new_tokens}"]
    return settings_of(BuildSettings, [*(given.settings or []), *cut], "twofold data build", options)


def _estimate(questions: Questions, how: BuildSettings, out: Path) -> None:
    from twofold.datagen.build import estimate
    from twofold.judges.registry import ledger_path
    from twofold.ledger import recorded

    cost = estimate(questions, how)
    told = results()
    told.print(f"{counted(cost.questions, 'prompt')}, {questions.repeated} repeated")
    if cost.drawn:
        told.print(f"answers drawn here: {cost.drawn}")
    told.print(f"requests for answers: at most {cost.requests}")
    told.print(f"requests for verdicts: at most {cost.verdicts}")
    path = ledger_path(out)
    told.print(f"already recorded in {path}: {recorded(path)} answers and verdicts", soft_wrap=True)


def _tell(built: Built, form: str, judge: str) -> None:
    out = results()
    noun = {"pairs": "pair", "rankings": "ranking", "labels": "labeled answer"}[form]
    told = f"{built.out}: {counted(built.rows, noun)} from {built.used} of {counted(built.questions, 'prompt')}"
    if judge == "human":
        told = f"{built.out}: answers to {built.used} of {counted(built.questions, 'prompt')}, in no order"
    out.print(told, style="green" if built.rows else "yellow", soft_wrap=True)
    for reason, count in built.left_out.items():
        if count:
            out.print(f"left out: {count} {reason}")
    if judge == "human":
        out.print(f"next: twofold data label {built.out} --out PAIRS.jsonl", soft_wrap=True)
