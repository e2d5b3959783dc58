"""`twofold sample`: completions for a prompt or a file of prompts, by sampling, best-of-N or beam search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from twofold import disk
from twofold.cli.data_show import Ignore, ignored
from twofold.cli.dataclass_options import spread
from twofold.cli.sharding import LOCAL, ShardOptions, in_shards, refuse_odd_shards, whole
from twofold.cli.terminal import results
from twofold.client.server import is_url
from twofold.errors import RecipeError
from twofold.progress import counted
from twofold.records import shown
from twofold.settings import settings
from twofold.shards import Merged, Outcome, Work, digest

if TYPE_CHECKING:
    from twofold.records import Prompt
    from twofold.sampling.base import Sampling


MOST_SAMPLES, MOST_BEAMS = 1_000_000, 10_000


@dataclass(frozen=True)
class Options(ShardOptions):
    """The options of `twofold sample`."""

    model: Annotated[str, typer.Argument(help="A model, adapter or run folder, a hub name, or http://host/v1#name.")]
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Sampling: temperature=0.7 top_p=0.9 seed=1 …; chat=text: bare prompts."
        ),
    ] = None
    prompt: Annotated[
        str | None, typer.Option(help="One prompt, in the chat template if there is one (chat=auto).")
    ] = None
    file: Annotated[Path | None, typer.Option(help="Rows with prompts, of any shape that training reads.")] = None
    ignore: Ignore = None
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, max=MOST_SAMPLES, help="Samples per prompt.")] = 1
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Maximum length (256).")] = None
    best_of: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_SAMPLES, help="Sample this many, keep the one that --reward scores highest."),
    ] = None
    reward: Annotated[str | None, typer.Option(help="A reward model, its adapter or its run folder.")] = None
    beam: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_BEAMS, help="Beam search with this many beams for the most probable completions."),
    ] = None
    reference: Annotated[str | None, typer.Option(help="With --beam: rank by the log-ratio to this model instead.")] = (
        None
    )
    out: Annotated[Path | None, typer.Option(help="Write JSON lines here instead of printing.")] = None


@spread
def sample(given: Options) -> None:
    """Sample completions from a model, or search for its best ones; print them or write them as JSON lines."""
    from twofold.cli.progress import RichProgress
    from twofold.config.first_look import first_look, refuse_rows

    _refuse_contradictions(given)
    refuse_odd_shards(given, given.out)
    draw, sampling = _settings(given)
    models = [given.model, given.reference, given.reward]
    first_look(rows=[given.file and str(given.file)], models=models, servers=is_url(given.model))
    refuse_rows(given.out, inputs=[given.file])
    if is_url(given.model):
        return _of_server(given, draw, sampling)
    from twofold.datagen.completions import beams_of, best_samples_of, samples_of
    from twofold.sampling.beam import Beams
    from twofold.sampling.named_model import open_model

    def rows_of(prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
        number = given.best_of or given.samples
        how = model(), prompts, sampling, (number, draw.seed)
        if given.beam is not None:
            beams = Beams(width=given.beam, max_new_tokens=sampling.max_new_tokens)
            return beams_of(model(), prompts, beams, given.reference)
        if given.reward is None:
            return samples_of(*how, progress)
        return best_samples_of(*how, reward=given.reward, progress=progress)

    model = lru_cache(1)(lambda: open_model(given.model, chat=draw.chat))
    with RichProgress() as progress:
        prompts = _prompts(given) if given.prompt is None else [model().encoder.turns.put(given.prompt).prompt]
        progress.note(f"{counted(len(prompts), 'prompt')}, {_described(given, sampling)}")
        if not whole(given, progress):
            assert given.out is not None, "checked before anything was read"

            def make(own: Path, first: int, end: int) -> Outcome:
                return _write(own, rows_of(prompts[first:end]))

            work = _work(given, prompts, (draw, sampling))
            return in_shards(given, work, given.out, make, finish, progress)
        rows = rows_of(prompts)
    _give(given, rows)


def _of_server(given: Options, draw: _Draw, sampling: Sampling) -> None:
    from twofold.cli.progress import RichProgress
    from twofold.datagen.served import served_samples
    from twofold.sampling.answers import Draw

    if draw.chat != "auto":
        remedy = "for text without a template name the other endpoint: http://host/v1/completions#name"
        raise RecipeError("a server applies its own chat template", where=f"chat={draw.chat}", remedy=remedy)
    with RichProgress() as progress:
        prompts = _prompts(given) if given.prompt is None else [given.prompt]
        progress.note(f"{counted(len(prompts), 'prompt')}, {_described(given, sampling)}")
        rows = served_samples(given.model, prompts, Draw(sampling, given.samples, draw.seed), given.out, progress)
    _give(given, rows)


def _give(given: Options, rows: Sequence[dict[str, Any]]) -> None:
    if given.out is not None:
        _write(given.out, rows)
        results().print(f"{given.out}: {len(rows)} completions")
        return
    for row in rows:
        _show(row)


def finish(merged: Merged) -> None:
    """Report the number of completions of all shards."""
    results().print(f"{merged.out}: {merged.counts['drafts']} completions")


def _work(given: Options, prompts: Sequence[Prompt], how: tuple[_Draw, Sampling]) -> Work:
    named = (given.model, given.samples, given.best_of, given.reward, given.beam, given.reference)
    settings = {"named": named, "draw": asdict(how[0]), "sampling": {**asdict(how[1]), "batch_size": None}}
    inputs = (given.model, given.reward, given.reference)
    return Work("sample", "prompts", len(prompts), digest(settings, map(shown, prompts)), inputs=inputs)


def _write(out: Path, rows: Sequence[dict[str, Any]]) -> Outcome:
    disk.write(out, "".join(map(disk.json_text, rows)))
    return Outcome({"drafts": len(rows)})  # a key of existing shards


def _refuse_contradictions(given: Options) -> None:
    names = [assignment.partition("=")[0].strip() for assignment in given.settings or []]
    idle = [name for name in names if name not in ("max_new_tokens", "chat")]
    drawn = given.samples > 1 or given.best_of is not None
    beyond = given.best_of is not None or given.beam is not None or given.shard is not None or given.engine != LOCAL
    wrong = {
        "give either --prompt or --file": (given.prompt is None) == (given.file is None),
        "--best-of and --reward need each other": (given.best_of is None) != (given.reward is None),
        "give either --samples or --best-of": given.samples > 1 and given.best_of is not None,
        "--beam searches and does not sample: leave out --samples and --best-of": given.beam is not None and drawn,
        f"--beam searches and does not sample: leave out {', '.join(idle)}": given.beam is not None and bool(idle),
        "--reference goes with --beam": given.reference is not None and given.beam is None,
        "a server only samples: leave out --best-of, --beam, --shard and --engine": is_url(given.model) and beyond,
        "shards are of a --file": given.file is None and (given.shard is not None or given.engine != LOCAL),
    }
    for told, so in wrong.items():
        if so:
            raise RecipeError(told, where="twofold sample", remedy="`twofold sample --help` shows each option")


@settings
class _Draw:
    """Settings in addition to `Sampling`."""

    seed: int = 0
    chat: Literal["auto", "text", "chat"] = "auto"


def _settings(given: Options) -> tuple[_Draw, Sampling]:
    from twofold.cli.option_settings import settings_of
    from twofold.sampling.base import Sampling

    limit = given.max_new_tokens
    assignments = [*(given.settings or []), *([] if limit is None else [f"max_new_tokens={limit}"])]
    own = [a for a in assignments if a.partition("=")[0] in ("seed", "chat")]
    drawn = [a for a in assignments if a not in own]
    return settings_of(_Draw, own, "twofold sample"), settings_of(Sampling, drawn, "twofold sample")


def _described(given: Options, sampling: Sampling) -> str:
    most = f"at most {sampling.max_new_tokens} new tokens"
    if given.beam is not None:
        by = "log-probability" if given.reference is None else "log-ratio to the reference"
        return f"{counted(given.beam, 'beam')} by {by}, {most}"
    if sampling.use_generation_config:
        return f"{counted(given.best_of or given.samples, 'sample')} each: by the model's generation_config, {most}"
    how = "greedy" if sampling.temperature == 0 else f"temperature {sampling.temperature}, top_p {sampling.top_p}"
    return f"{counted(given.best_of or given.samples, 'sample')} each: {how}, {most}"


def _prompts(given: Options) -> list[Prompt]:
    from twofold.data.formats import read
    from twofold.data.reading import Reading

    rows = read(Reading(str(given.file), ignore=ignored(given.ignore))).records
    return list(dict.fromkeys(record.prompt for record in rows))


def _show(row: dict[str, Any]) -> None:
    out = results()
    if row["sample"] == 0 or "scores" in row:
        turns = row["prompt"]
        text = turns if isinstance(turns, str) else "\n".join(f"{t['role']}: {t['content']}" for t in turns)
        out.print(text, style="bold")
    ended = "truncated" if row["truncated"] else "stopped"
    score = f", score {row['score']:.3f}" if "score" in row else ""
    own = f"{row['tokens']} tokens, {ended}, logp {row['logp']:.2f}" if "logp" in row else ended  # not of a server
    told = f"[{row['sample']}] {own}{score}"
    out.print(told, style="dim")
    out.print(row["completion"])
