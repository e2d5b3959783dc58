"""The lines of `twofold evaluate`'s table: each model, opened once, on the rows of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from twofold.cli.model import open_model
from twofold.cli.terminal import counted
from twofold.errors import DataError, RecipeError

if TYPE_CHECKING:
    from twofold.cli.evaluate_options import Options
    from twofold.cli.pass_at import Drawing
    from twofold.data.formats import Table
    from twofold.data.tokenize import Encoder
    from twofold.evaluation.figures import Entry
    from twofold.evaluation.likelihood import Likely
    from twofold.evaluation.pass_at_k import PassAtK
    from twofold.evaluation.prompting import Prompting
    from twofold.models.load import LoadedModel
    from twofold.progress import Progress
    from twofold.records import Record, Task

T = TypeVar("T")
ROWS = {
    "answers": ("problems with answers", "rows need a prompt and an answer"),
    "preference": ("pairs alone", "rows need chosen and rejected"),
    "perplexity": ("pairs or completions alone", "rows need chosen and rejected, or prompt and completion"),
    "win-rate": ("rows of one shape with prompts", "rows need prompts, and answers unless there is --against MODEL"),
    "frontier": ("rows of one shape with prompts", "rows need prompts"),
}


def source(given: Options) -> Table:
    """The rows, of the kind that the task needs."""
    from twofold.data.formats import read
    from twofold.evaluation.prompting import PRESETS
    from twofold.records import Demonstration, Pair, Ranking, Request, Task

    preset = PRESETS.get(given.task)
    name = given.tasks or (preset.source if preset else None)
    if name is None:
        raise RecipeError("no rows", where=f"--task {given.task}", remedy="name their file: --tasks FILE")
    table = read(name, split=given.split, limit=given.limit)
    prompts = (Pair, Demonstration, Ranking, Request, Task)
    kinds_of = {"preference": (Pair,), "perplexity": (Pair, Demonstration), "win-rate": prompts, "frontier": prompts}
    wanted = kinds_of.get(given.task, (Task,))
    kinds = {type(record) for record in table.records}
    if len(kinds) > 1 or not kinds <= set(wanted):
        what, remedy = ROWS.get(given.task, ROWS["answers"])
        other = "; for pairs choose --task preference" if kinds == {Pair} else ""
        raise DataError(f"holds no {what}", where=name, remedy=remedy + other)
    return table


def judged(given: Options, problems: Sequence[Task], progress: Progress) -> list[Entry]:
    """Greedy answers, by every metric."""
    from twofold.evaluation.answers import answers, entry, refuse_unanswerable, verdicts
    from twofold.sampling.base import Sampling
    from twofold.sampling.local import LocalSampler

    metrics = _metrics(given.metrics, progress)
    refuse_unanswerable(problems, metrics)

    def answered(name: str, loaded: LoadedModel, encoder: Encoder, prompting: Prompting) -> Entry:
        sampling = Sampling(temperature=0, max_new_tokens=given.max_new_tokens, stop=prompting.stop)
        sampler = LocalSampler(loaded.model, loaded.tokenizer, loaded.stop_tokens, sampling, progress.note)
        said = answers(sampler, problems, encoder, prompting, progress=progress)
        return entry(name, said, verdicts(said, metrics), prompting)

    return list(_each(given, problems, progress, answered).values())


def solved(given: Options, problems: Sequence[Any], drawing: Drawing, progress: Progress) -> dict[str, PassAtK]:
    """Many samples of each problem, by entry."""
    from twofold.evaluation.pass_at_k import solve
    from twofold.evaluation.prompting import Put
    from twofold.sampling.base import Sampling
    from twofold.sampling.local import LocalSampler

    def sampled(_: str, loaded: LoadedModel, encoder: Encoder, prompting: Prompting) -> PassAtK:
        sampling = Sampling(temperature=drawing.temperature, max_new_tokens=given.max_new_tokens, stop=prompting.stop)
        sampler = LocalSampler(loaded.model, loaded.tokenizer, loaded.stop_tokens, sampling, progress.note)
        put = [prompting.of(task) for task in problems]
        codec = Put(encoder, prompting)
        return solve(sampler, put, codec, drawing.samples, progress=progress, seed=drawing.seed)

    return _each(given, problems, progress, sampled)


def preference(given: Options, pairs: Sequence[Record], progress: Progress) -> list[Entry]:
    """Held-out pairs, against a reference where there is one."""
    from twofold.evaluation.likelihood import preference as compared

    reference = None if given.reference is None else _likely(given.reference, given, pairs, progress)
    return [compared(name, _likely(name, given, pairs, progress), reference) for name in dict.fromkeys(given.models)]


def perplexity(given: Options, records: Sequence[Record], progress: Progress) -> list[Entry]:
    """Of what the rows say."""
    from twofold.evaluation.likelihood import perplexity as told

    return [told(name, _likely(name, given, records, progress)) for name in dict.fromkeys(given.models)]


JUDGED: Mapping[str, Callable[[Options, Sequence[Any], Progress], list[Entry]]] = {
    "answers": judged,
    "gsm8k": judged,
    "preference": preference,
    "perplexity": perplexity,
}


def _likely(name: str, given: Options, records: Sequence[Record], progress: Progress) -> list[Likely]:
    from twofold.data.tokenize import Encoder, TokenizeSettings
    from twofold.evaluation.likelihood import likelihoods
    from twofold.models.load import ModelSettings, wrap

    progress.note(f"{name}: {counted(len(records), 'row')}")
    loaded, _ = open_model(name)
    policy, _ = wrap(ModelSettings(path=name), loaded.model, loaded.tokenizer)
    fitting = TokenizeSettings(max_length=given.max_length, truncation="refuse")
    encoder = Encoder(loaded.tokenizer, loaded.stop_tokens, fitting)
    return likelihoods(policy, [encoder.group(record) for record in records], progress)


def _metrics(asked: str | None, progress: Progress) -> list[str]:
    from twofold.evaluation.answers import METRICS, NUMERIC

    if asked is None:
        if find_spec("math_verify") is not None:
            return [*NUMERIC, "math"]
        progress.note("math-verify is not installed: pip install 'twofold[math]' adds its column")
        return list(NUMERIC)
    named = list(dict.fromkeys(part.strip() for part in asked.split(",")))
    unknown = next((name for name in named if name not in METRICS), None)
    if unknown is not None:
        raise RecipeError(f"{unknown!r} is no metric", where="--metrics", remedy=f"some of {', '.join(METRICS)}")
    return named


def _each(
    given: Options,
    problems: Sequence[Task],
    progress: Progress,
    work: Callable[[str, LoadedModel, Encoder, Prompting], T],
) -> dict[str, T]:
    """What `work` makes of each line of the table, by name; the first model's further lines follow it. One model is in
    memory at a time."""
    further = [k for k in _shots(given.prompted) if k != given.shots]
    pool = _pool(given) if max([given.shots, *further]) > 0 else []

    def of(model: str, lines: Mapping[str, int]) -> dict[str, T]:
        loaded, encoder = open_model(model)
        found: dict[str, T] = {}
        for name, shots in lines.items():
            progress.note(f"{name}: {counted(len(problems), 'problem')}")
            found[name] = work(name, loaded, encoder, _prompting(given, problems, encoder, (pool, shots)))
        return found

    found: dict[str, T] = {}
    for i, model in enumerate(dict.fromkeys(given.models)):
        found |= of(model, {model: given.shots, **({_row_name(model, k): k for k in further} if i == 0 else {})})
    return found


def _prompting(
    given: Options, problems: Sequence[Task], encoder: Encoder, worked: tuple[Sequence[Task], int]
) -> Prompting:
    from twofold.evaluation.prompting import PLACE, PRESETS, Prompting, drawn

    preset, has_template = PRESETS[given.task], bool(encoder.tokenizer.chat_template)
    chats = any(not isinstance(problem.prompt, str) for problem in problems)
    auto = chats or (preset.chat_where_possible and has_template)
    chat = auto if given.style == "auto" else given.style == "chat"
    if chat and not has_template:
        raise RecipeError("the model has no chat template", where="--style chat", remedy="choose --style text")
    template = given.template if given.template is not None else preset.chat if chat else preset.text
    if PLACE not in template:
        raise RecipeError(f"lacks {PLACE}", where="--template", remedy=f"write {PLACE} where the problem stands")
    pool, shots = worked
    return Prompting(template, chat, drawn(pool, problems, shots, given.seed) if shots else ())


def _pool(given: Options) -> list[Task]:
    from twofold.data.formats import read
    from twofold.evaluation.prompting import PRESETS
    from twofold.records import Task

    name = given.examples or PRESETS[given.task].source
    if name is None:
        raise RecipeError("no worked examples", where="--shots and --prompted", remedy="name a file: --examples FILE")
    found = [record for record in read(name, split="train").records if isinstance(record, Task)]
    if not found:
        raise DataError("holds no worked examples", where=name, remedy="rows need a prompt and an answer")
    return found


def _shots(asked: str | None) -> list[int]:
    if asked is None:
        return []
    try:
        found = list(dict.fromkeys(int(k) for k in asked.split(",")))
    except ValueError:
        raise RecipeError(f"{asked!r} is no list of numbers", where="--prompted", remedy="write 0,4") from None
    if min(found) < 0:
        raise RecipeError("must be ≥ 0", where="--prompted")
    return found


def _row_name(model: str, shots: int) -> str:
    return f"{model}, {shots or 'zero'}-shot"
