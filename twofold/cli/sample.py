"""`twofold sample`: drafts of a model for a prompt or a file of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twofold.cli.model import open_model
from twofold.cli.terminal import counted, results
from twofold.errors import RecipeError

if TYPE_CHECKING:
    from twofold.data.tokenize import Encoder
    from twofold.models.load import Loaded
    from twofold.records import Prompt
    from twofold.sampling.base import Draft, Sampling


def sample(
    model: Annotated[str, typer.Argument(help="A model, adapter or run folder, or a hub name.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="How to draw: temperature=0.7 top_p=0.9 seed=1 …"),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="One prompt; a user's turn where the model has a chat template.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="Rows with prompts, of any shape that training reads.")] = None,
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, help="Drafts for each prompt.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write JSON lines here instead of printing.")] = None,
) -> None:
    """Draw drafts from a model, and print them or write them as JSON lines."""
    from twofold.cli.progress import RichProgress

    if (prompt is None) == (file is None):
        raise RecipeError("give either --prompt or --file", where="twofold sample")
    seed, sampling = _settings(settings or [])
    loaded, encoder = open_model(model)
    prompts = [_turn(prompt, encoder)] if prompt is not None else _prompts(file)
    with RichProgress() as progress:
        progress.note(f"{counted(len(prompts), 'prompt')}, {counted(samples, 'draft')} each: {_told(sampling)}")
        drafts = _draw(loaded, encoder, prompts, sampling, (samples, seed))
    rows = [_row(p, d, i, encoder) for p, several in zip(prompts, drafts, strict=True) for i, d in enumerate(several)]
    if out is not None:
        out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        results().print(f"{out}: {len(rows)} drafts", markup=False)
        return
    for row in rows:
        _show(row)


def _settings(assignments: Sequence[str]) -> tuple[int, Sampling]:
    from twofold.config.load import from_overrides, validate
    from twofold.sampling.base import Sampling

    seeds = [a for a in assignments if a.partition("=")[0] == "seed"]
    drawn = [a for a in assignments if a not in seeds]
    seed = from_overrides(seeds).data.get("seed", 0)
    if not isinstance(seed, int):
        raise RecipeError("should be a whole number", where=f"override `{seeds[-1]}`")
    return seed, validate(Sampling, from_overrides(drawn))


def _told(sampling: Sampling) -> str:
    how = "greedy" if sampling.temperature == 0 else f"temperature {sampling.temperature}, top_p {sampling.top_p}"
    return f"{how}, at most {sampling.max_new_tokens} new tokens"


def _turn(text: str, encoder: Encoder) -> Prompt:
    from twofold.records import Message

    return (Message("user", text),) if encoder.tokenizer.chat_template else text


def _prompts(file: Path | None) -> list[Prompt]:
    from twofold.data.formats import read

    return list(dict.fromkeys(record.prompt for record in read(str(file)).records))


def _draw(
    loaded: Loaded, encoder: Encoder, prompts: Sequence[Prompt], sampling: Sampling, how: tuple[int, int]
) -> list[list[Draft]]:
    from twofold.sampling.local import LocalSampler

    samples, seed = how
    sampler = LocalSampler(loaded.model, loaded.tokenizer, loaded.stop_tokens, sampling)
    return sampler.sample([encoder.prompt(p) for p in prompts], samples=samples, seed=(seed, 0))


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
    if row["sample"] == 0:
        turns = row["prompt"]
        text = turns if isinstance(turns, str) else "\n".join(f"{t['role']}: {t['content']}" for t in turns)
        out.print(text, style="bold", markup=False)
    ended = "truncated" if row["truncated"] else "stopped"
    out.print(f"[{row['sample']}] {row['tokens']} tokens, {ended}, logp {row['logp']:.2f}", style="dim", markup=False)
    out.print(row["completion"], markup=False)
