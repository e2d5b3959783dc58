"""What a tokenizer makes of rows: some of them to look at, how many do not fit, and what the layout of all costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from twofold.batch import Branch, Group
from twofold.data.formats import Scan
from twofold.data.packing_stats import Lengths, Savings, savings
from twofold.data.preview import RowView, row_view
from twofold.data.supervision import supervised
from twofold.data.tokenize import Encoder
from twofold.data.turns import GUESS_REMEDY, PromptTally, described, guessed
from twofold.progress import Progress, counted


@dataclass(frozen=True)
class Survey:
    """Of the rows of `scan`: `views` to show, how many do not encode or fit, the first of them, the others' cost, and
    how prompts are put."""

    scan: Scan
    views: list[RowView]
    unfit: int
    first_fault: str
    cost: Savings | None
    prompts: str
    guesses: list[str]

    def lines(self) -> list[str]:
        """All but the views, in words."""
        table, cost = self.scan.table, self.cost
        told = [f"{table.source}: {counted(self.scan.rows, 'row')}, {len(table.records)} usable, {table.format}"]
        for severity in ("error", "warning"):
            count = sum(fault.severity == severity for fault in self.scan.faults)
            if count:
                told.append(f"{counted(count, severity)} in the rows: twofold data check names each")
        told += [f"prompts: {self.prompts}"] if self.prompts else []
        told += [f"{guess} → {GUESS_REMEDY}" for guess in self.guesses]
        if self.unfit:
            rows = counted(self.unfit, "row")
            told.append(f"{rows} cut or left out by the tokenizer, the first: {self.first_fault}")
        if cost is not None:
            told.append(
                f"{counted(cost.rows, 'group')}, {cost.together:,} tokens; in padded batches of 8 rows "
                f"{cost.padding:.1%} would be padding, a shared prompt saves {cost.sharing:.1%} of the rest: "
                f"{cost.factor:.2f}x fewer tokens"
            )
        return told


def survey(scan: Scan, encoder: Encoder, number: int, progress: Progress) -> Survey:
    """Encode every row, and view the first `number` that can be."""
    views: list[RowView] = []
    lengths: list[Lengths] = []
    faults: list[str] = []
    tally = PromptTally()
    turns = [turn for record in scan.table.records for turn in supervised(record, encoder.settings.loss_on)]
    progress.begin("tokenize", len(turns))
    for turn in turns:
        fitted, fault = encoder.inspect(turn)
        if fault is not None:
            faults.append(f"{fault.where}: {fault.reason}")
        if fitted is not None:
            tally.add(fitted.form, fitted.guess, str(turn.source))
        if fitted is not None and (group := fitted.group) is not None:
            completions = list(_completions(group))
            lengths.append(Lengths(len(group.prompt), tuple(len(ids) for _, ids in completions)))
            if len(views) < number:
                prompt = group.prompt.tolist()
                unscored = {label: places for label, places in _unscored(group) if places}
                view = row_view(group.name, prompt, completions, encoder.decode, encoder.stop_tokens, unscored)
                views.append(replace(view, numbers=group.numbers))
        progress.advance("tokenize")
    progress.end("tokenize")
    whole = encoder.turns.of_format(scan.table.format)
    prompts, guesses = described(tally.forms, has_template=encoder.turns.has_template), guessed(tally.guesses)
    guesses = [whole, *guesses] if whole else guesses
    return Survey(scan, views, len(faults), faults[0] if faults else "", savings(lengths), prompts, guesses)


def _completions(group: Group) -> Iterator[tuple[str, Sequence[int]]]:
    for label, branch in _labelled(group):
        yield label, [token for piece, _ in branch.spans() for token in piece.tolist()]
    if group.truth is not None:
        yield "answer", group.truth.tolist()


def _unscored(group: Group) -> Iterator[tuple[str, frozenset[int]]]:
    """Which tokens of each completion are not scored."""
    for label, branch in _labelled(group):
        mask = [scored for piece, scored in branch.spans() for _ in range(len(piece))]
        yield label, frozenset(place for place, scored in enumerate(mask) if not scored)


def _labelled(group: Group) -> Iterator[tuple[str, Branch]]:
    for rank, branch in enumerate(group.branches, 1):
        label = branch.role.name.lower()
        yield (f"rank {rank}" if label == "ranked" else label), branch
