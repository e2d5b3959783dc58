"""`twofold explain`: what a model has learned from preferences, token by token, against its reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from twofold.cli.data_show import Ignore, column_map, ignored
from twofold.cli.dataclass_options import spread
from twofold.cli.terminal import results, table
from twofold.errors import RecipeError

if TYPE_CHECKING:
    from twofold.analysis.drift import Drift
    from twofold.analysis.explanation import Decode, Explanation
    from twofold.runs.folder import Origin

BETA = 0.1
STYLES = {
    1: "on #e3eefa", 2: "on #c3daf3", 3: "on #97bfe8", 4: "on #65a0da", 5: "on #3a7fc4",
    -1: "on #fdecd9", -2: "on #fbd5ae", -3: "on #f6b778", -4: "on #ee9646", -5: "on #dd7a1c",
}  # fmt: skip
UNWEIGHTED = "every row counts once here: weights, probabilities and margins of rows are shown, not applied"
NUMBERED = 3
"""Number of strongest tokens per completion that are shown with their value, for output without color."""


@dataclass(frozen=True)
class Options:
    """Options of `twofold explain`."""

    model: Annotated[str, typer.Argument(help="A run, model or adapter folder, or a hub name.")]
    file: Annotated[str, typer.Argument(help="Rows of any shape that training reads: pairs, rankings, answers.")]
    reference: Annotated[
        str | None, typer.Option(help="What it was trained from. Of a run: the model that its recipe names.")
    ] = None
    beta: Annotated[
        float | None, typer.Option(min=1e-6, max=1e6, help="The unit of reward. Of a run: its objective's, else 0.1.")
    ] = None
    limit: Annotated[int, typer.Option(min=1, help="Number of rows to read.")] = 500
    number: Annotated[int, typer.Option("--rows", min=0, help="Number of rows to show token by token.")] = 3
    fewest: Annotated[int, typer.Option(min=2, help="List tokens and phrases that are in at least N rows.")] = 10
    drift: Annotated[
        int, typer.Option(min=0, help="Let both models answer N of the prompts, and compare their styles.")
    ] = 0
    max_new_tokens: Annotated[int, typer.Option(min=1, help="With --drift: longer answers are cut and counted.")] = 256
    max_length: Annotated[int, typer.Option(min=2, help="Longer rows are left out and counted.")] = 1024
    columns: Annotated[
        list[str] | None, typer.Option(metavar="OURS=THEIRS", help="A field's name in the file, as prompt=instruction.")
    ] = None
    ignore: Ignore = None
    split: Annotated[str, typer.Option(help="Which split of a hub data set.")] = "train"
    html: Annotated[Path | None, typer.Option(help="Write a page with heat maps here.")] = None
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything here, with every row.")] = None


@spread
def explain(given: Options) -> None:
    """Show token by token what a model's implicit reward credits and blames, and where chosen and rejected differ."""
    from twofold.cli.progress import RichProgress
    from twofold.config.first_look import first_look, refuse_pages, refuse_unwritable
    from twofold.data.formats import read
    from twofold.data.reading import Reading
    from twofold.reports.languages import phrase
    from twofold.runs.folder import origin

    first_look(rows=[given.file], models=[given.model, given.reference])
    refuse_unwritable(given.html, given.json_file, inputs=[given.file])
    refuse_pages(given.html)
    began = origin(given.model)
    reference, beta = _reference(given, began), given.beta or (began and began.beta) or BETA
    columns, ignore = column_map(given.columns or []), ignored(given.ignore)
    source = read(Reading(given.file, columns, given.split, given.limit, ignore=ignore))
    from twofold.analysis.explain_model import explain_model  # imports torch

    with RichProgress() as progress:
        found, decode = explain_model(
            given.model, source.records, reference=reference, beta=beta, fewest=given.fewest, drift=given.drift,
            max_new_tokens=given.max_new_tokens, max_length=given.max_length, progress=progress,
        )  # fmt: skip
    words = "{n} row of {file}, β {beta}" if len(found.rows) == 1 else "{n} rows of {file}, β {beta}"
    rows = phrase(words, n=len(found.rows), file=given.file, beta=f"{beta:g}")
    facts = [phrase("{model} against {reference}", model=given.model, reference=reference), rows]
    facts += [phrase(UNWEIGHTED)] if found.has_numbers else []
    _write(given, found, decode, (facts, None if began is None else Path(given.model)))
    if found.has_numbers:
        results().print(UNWEIGHTED)
    _show(found, found.as_dict(decode, range(min(given.number, len(found.rows)))))


def _reference(given: Options, began: Origin | None) -> str:
    if given.reference is not None:
        return given.reference
    if began is not None and began.is_reference:
        return began.model
    what = "the run's reference is not the model that it names" if began else "requires a model to compare with"
    raise RecipeError(what, where="twofold explain", remedy="name the model: --reference MODEL")


def _write(given: Options, found: Explanation, decode: Decode, about: tuple[Sequence[str], Path | None]) -> None:
    from twofold.runs.folder import add_file

    facts, run = about
    if given.json_file is not None:
        told = {"facts": facts, **found.as_dict(decode)}
        add_file(given.json_file, told)
    if given.html is not None:
        from twofold.reports.explanation import write_explanation
        from twofold.reports.guide import after_explanation
        from twofold.reports.languages import phrase
        from twofold.reports.run import read_run

        told = found.as_dict(decode, range(min(max(given.number, 1), len(found.rows))))
        data = read_run(run) if run is not None else None
        title = phrase("{name}, token by token", name=Path(given.model).name)
        steps = after_explanation(given.model, given.file, is_run=run is not None, drift=given.drift > 0)
        write_explanation(told, given.html, title=title, facts=facts, run=data, steps=steps)


def _show(found: Explanation, told: Mapping[str, Any]) -> None:
    from twofold.reports.explanation import PARTS
    from twofold.reports.heat import scale_of
    from twofold.reports.tables import interval, percent, signed

    out = results()
    if found.accuracy is not None and found.partings is not None:
        share, margin = found.accuracy, found.partings.margin
        line = f"{percent(share.value)} of {share.n} pairs in order ({interval(share)}), "
        out.print(f"{line}margin {signed(margin.value)} ({signed(margin.low)} … {signed(margin.high)})")
        grid = table("where the margin is made", "#reward", "#95% interval", "#tokens")
        for name, e in found.partings.parts.items():
            share_of = percent(found.partings.tokens[name])
            grid.add_row(PARTS[name], signed(e.value), f"{signed(e.low)} … {signed(e.high)}", share_of)
        out.print(grid)
    else:
        for name, e in found.rewards.items():
            line = f"implicit reward, {name}: {signed(e.value)} ({signed(e.low)} … {signed(e.high)}), n {e.n}"
            out.print(line)
    for words, phrases in _ledgers(found):
        grid = table(words, "#credit", "#95% interval", "#times", "#rows")
        for p in phrases[:5]:
            e = p.credit
            grid.add_row(_shown(p.text), signed(e.value), f"{signed(e.low)} … {signed(e.high)}", str(e.n), str(p.rows))
        if phrases:
            out.print(grid)
    if found.displacement is not None:
        out.print(found.displacement.verdict)
    if found.drift is not None:
        _show_drift(found.drift)
    scale = scale_of(told["rows"])
    for row in told["rows"]:
        out.print(rendered(row, scale))


def _ledgers(found: Explanation) -> list[tuple[str, Sequence[Any]]]:
    return [
        ("credited tokens", found.tokens.credited),
        ("blamed tokens", found.tokens.blamed),
        ("credited phrases", found.phrases.credited),
        ("blamed phrases", found.phrases.blamed),
    ]


def _shown(text: str) -> Text:
    from twofold.reports.heat import shown

    return Text(shown(text).replace("\n", ""))


def _show_drift(drift: Drift) -> None:
    from twofold.reports.tables import number, percent

    grid = table(f"own answers to {drift.prompts} prompts", "#policy", "#reference")
    for words, name in (("tokens of an answer", "length"), ("entropy, nats per token", "entropy")):
        a, b = (getattr(side, name) for side in (drift.policy, drift.reference))
        told = (f"{number(e.value)} ({number(e.low)} … {number(e.high)})" for e in (a, b))
        grid.add_row(words, *told)
    grid.add_row("share cut off", percent(drift.policy.truncated.value), percent(drift.reference.truncated.value))
    for n, (a, b) in enumerate(zip(drift.policy.distinct, drift.reference.distinct, strict=True), 1):
        grid.add_row(f"distinct {n}-grams", percent(a), percent(b))
    results().print(grid)
    kl, token = drift.kl, drift.kl_token
    line = f"KL(π ‖ π_ref) of an answer {number(kl.value)} nats ({number(kl.low)} … {number(kl.high)}), "
    results().print(f"{line}of a token {number(token.value)}")


def rendered(row: Mapping[str, Any], scale: float) -> Text:
    """A row for the terminal: each token on the color of its credit, the strongest with their values."""
    from twofold.data.preview import in_words, visible
    from twofold.reports.heat import level, shown
    from twofold.reports.tables import signed

    text = Text(f"\n{row['name']}", style="bold")
    if "margin" in row:
        text.append(f": margin {signed(row['margin'])}", style="default")
    if "numbers" in row:
        text.append(f"; in the row: {in_words(row['numbers'])}", style="default")
    text.append(f"\n{'prompt':>10}  ", style="bold")
    text.append(visible(row["prompt"]), style="dim")
    for said in row["completions"]:
        text.append(f"\n{said['label']:>10}  ", style="bold")
        text.append(f"{signed(said['reward'])}  ", style="default")
        strongest = sorted((abs(t["credit"]) for t in said["tokens"]), reverse=True)[:NUMBERED]
        context = list(said.get("context", ()))
        for place, token in enumerate(said["tokens"]):
            while context and context[0]["before"] == place:
                text.append(visible(context.pop(0)["text"]), style="dim italic")
            strength = level(token["credit"], scale)
            text.append(shown(token["text"]), style=f"#000000 {STYLES[strength]}" if strength else "default")
            if strength and abs(token["credit"]) in strongest:
                text.append(f"⟨{signed(token['credit'])}⟩", style="dim")
        text.append(visible("".join(each["text"] for each in context)), style="dim italic")
    return text
