"""`twofold sample`: drafts of a model for a prompt or a file of them, the best of many, or those that beams find."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twofold.cli.build import open_reward
from twofold.cli.dataclass_options import spread
from twofold.cli.model import open_model
from twofold.cli.terminal import counted, results
from twofold.errors import RecipeError

if TYPE_CHECKING:
    from twofold.data.tokenize import Encoder
    from twofold.models.load import LoadedModel
    from twofold.progress import Progress
    from twofold.records import Prompt, Record
    from twofold.sampling.base import Draft, Sampling


@dataclass(frozen=True)
class Options:
    """What `twofold sample` may be told."""

    model: Annotated[str, typer.Argument(help="A model, adapter or run folder, or a hub name.")]
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="How to draw: temperature=0.7 top_p=0.9 seed=1 …"),
    ] = None
    prompt: Annotated[
        str | None, typer.Option(help="One prompt; a user's turn where the model has a chat template.")
    ] = None
    file: Annotated[Path | None, typer.Option(help="Rows with prompts, of any shape that training reads.")] = None
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, help="Drafts for each prompt.")] = 1
    best_of: Annotated[
        int | None, typer.Option(min=1, help="Draw so many and keep the one that --reward scores highest.")
    ] = None
    reward: Annotated[str | None, typer.Option(help="A reward model, its adapter or its run folder.")] = None
    beam: Annotated[
        int | None, typer.Option(min=1, help="Search with so many beams for the most probable completions.")
    ] = None
    reference: Annotated[str | None, typer.Option(help="With --beam: rank by the log-ratio to this model instead.")] = (
        None
    )
    out: Annotated[Path | None, typer.Option(help="Write JSON lines here instead of printing.")] = None


@spread
def sample(given: Options) -> None:
    """Draw drafts from a model, or search for its best ones, and print them or write them as JSON lines."""
    from twofold.cli.progress import RichProgress

    _refuse_contradictions(given)
    seed, sampling = _settings(given.settings or [])
    loaded, encoder = open_model(given.model)
    prompts = [_turn(given.prompt, encoder)] if given.prompt is not None else _prompts(given.file)
    with RichProgress() as progress:
        if given.beam is not None:
            progress.note(f"{counted(len(prompts), 'prompt')}, {_searched(given, sampling)}")
            rows = _search(loaded, encoder, prompts, sampling, given)
        else:
            drafts = counted(given.best_of or given.samples, "draft")
            progress.note(f"{counted(len(prompts), 'prompt')}, {drafts} each: {_describe(sampling)}")
            rows = _draw(loaded, encoder, prompts, sampling, (given, seed, progress))
    if given.out is not None:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        given.out.write_text(text, encoding="utf-8")
        results().print(f"{given.out}: {len(rows)} drafts", markup=False)
        return
    for row in rows:
        _show(row)


def _refuse_contradictions(given: Options) -> None:
    drawn = given.samples > 1 or given.best_of is not None
    wrong = {
        "give either --prompt or --file": (given.prompt is None) == (given.file is None),
        "--best-of and --reward need each other": (given.best_of is None) != (given.reward is None),
        "--samples and --best-of are two ways to draw": given.samples > 1 and given.best_of is not None,
        "--beam searches, it does not draw: leave out --samples and --best-of": given.beam is not None and drawn,
        "--reference goes with --beam": given.reference is not None and given.beam is None,
    }
    for told, so in wrong.items():
        if so:
            raise RecipeError(told, where="twofold sample")


def _settings(assignments: Sequence[str]) -> tuple[int, Sampling]:
    from twofold.config.load import from_overrides, validate
    from twofold.sampling.base import Sampling

    seeds = [a for a in assignments if a.partition("=")[0] == "seed"]
    drawn = [a for a in assignments if a not in seeds]
    seed = from_overrides(seeds).data.get("seed", 0)
    if not isinstance(seed, int):
        raise RecipeError("should be a whole number", where=f"override `{seeds[-1]}`")
    return seed, validate(Sampling, from_overrides(drawn))


def _describe(sampling: Sampling) -> str:
    how = "greedy" if sampling.temperature == 0 else f"temperature {sampling.temperature}, top_p {sampling.top_p}"
    return f"{how}, at most {sampling.max_new_tokens} new tokens"


def _turn(text: str, encoder: Encoder) -> Prompt:
    from twofold.records import Message

    return (Message("user", text),) if encoder.tokenizer.chat_template else text


def _prompts(file: Path | None) -> list[Prompt]:
    from twofold.data.formats import read

    return list(dict.fromkeys(record.prompt for record in read(str(file)).records))


def _draw(
    loaded: LoadedModel, encoder: Encoder, prompts: Sequence[Prompt], sampling: Sampling,
    how: tuple[Options, int, Progress],
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows of all drafts, or with --best-of those of the best."""
    from twofold.sampling.best_of_n import best_of_n, kl_bound
    from twofold.sampling.local import LocalSampler

    given, seed, progress = how
    sampler = LocalSampler(loaded.model, loaded.tokenizer, loaded.stop_tokens, sampling, progress.note)
    if sampler.note:
        progress.note(sampler.note)
    tokens = [encoder.prompt(p) for p in prompts]
    if given.best_of is None or given.reward is None:
        drafts = sampler.sample(tokens, samples=given.samples, seed=(seed, 0))
        return [
            _row(p, d, i, encoder) for p, several in zip(prompts, drafts, strict=True) for i, d in enumerate(several)
        ]
    scorer = open_reward(given.reward)

    def score(drafts: Sequence[Sequence[Draft]]) -> list[list[float]]:
        return scorer.score([_answers(p, some, encoder) for p, some in zip(prompts, drafts, strict=True)], progress)

    progress.note(f"best of {given.best_of}: at most {kl_bound(given.best_of):.2f} nats from the model")
    found = best_of_n(sampler, tokens, score, n=given.best_of, seed=(seed, 0))
    return [
        {**_row(p, best.draft, best.index, encoder), "score": best.scores[best.index], "scores": list(best.scores)}
        for p, best in zip(prompts, found, strict=True)
    ]


def _answers(prompt: Prompt, drafts: Sequence[Draft], encoder: Encoder) -> Record:
    """The drafts' texts as one row, in no order that means anything."""
    from twofold.records import Demonstration, Ranking, Source

    texts, nowhere = [encoder.text(d.tokens) for d in drafts], Source("drafts", 1)
    return Ranking(prompt, tuple(texts), nowhere) if len(texts) > 1 else Demonstration(prompt, texts[0], nowhere)


def _searched(given: Options, sampling: Sampling) -> str:
    by = "log-probability" if given.reference is None else "log-ratio to the reference"
    return f"{counted(given.beam or 0, 'beam')} by {by}, at most {sampling.max_new_tokens} new tokens"


def _search(
    loaded: LoadedModel, encoder: Encoder, prompts: Sequence[Prompt], sampling: Sampling, given: Options
) -> list[dict[str, Any]]:
    """The rows of all beams, each prompt's best first."""
    from twofold.sampling.beam import Beams, BeamSearch

    beams = Beams(width=given.beam or 1, max_new_tokens=sampling.max_new_tokens)
    reference = None if given.reference is None else open_model(given.reference)[0].model
    search = BeamSearch(loaded.model, loaded.stop_tokens, beams, reference)
    found = search.search([encoder.prompt(p) for p in prompts])
    return [
        {**_row(p, one.draft, i, encoder), "score": round(one.score, 6)}
        for p, several in zip(prompts, found, strict=True)
        for i, one in enumerate(several)
    ]


def _row(prompt: Prompt, draft: Draft, index: int, encoder: Encoder) -> dict[str, Any]:
    turns = prompt if isinstance(prompt, str) else [{"role": m.role, "content": m.content} for m in prompt]
    return {
        "prompt": turns,
        "completion": encoder.text(draft.tokens),
        "sample": index,
        "truncated": draft.truncated,
        "tokens": len(draft.tokens),
        "logp": round(float(draft.logp.sum()), 6),
    }


def _show(row: dict[str, Any]) -> None:
    out = results()
    if row["sample"] == 0 or "scores" in row:
        turns = row["prompt"]
        text = turns if isinstance(turns, str) else "\n".join(f"{t['role']}: {t['content']}" for t in turns)
        out.print(text, style="bold", markup=False)
    ended = "truncated" if row["truncated"] else "stopped"
    score = f", score {row['score']:.3f}" if "score" in row else ""
    told = f"[{row['sample']}] {row['tokens']} tokens, {ended}, logp {row['logp']:.2f}{score}"
    out.print(told, style="dim", markup=False)
    out.print(row["completion"], markup=False)
