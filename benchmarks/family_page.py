"""The comparison's table: a row per method for the terminal, and the same as Markdown between the marks of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.family_cells import Protocol
from benchmarks.reporting import Median
from twofold.statistics import Estimate, PairedTest

BEGIN, END = "<!-- begin: written by python -m benchmarks.family -->", "<!-- end -->"


@dataclass
class Row:
    """A method's figures with its first seed, and the share solved with each."""

    kind: str
    solved: Estimate
    seeds: list[float]
    test: PairedTest | None
    gain: Estimate | None
    kl: Estimate
    chosen: Estimate
    rejected: Estimate
    truncated: int
    learning_rate: float | None = None
    time: Median | None = None
    tried: Mapping[str, int] = field(default_factory=dict[str, int])
    settings: str = ""


def terminal(row: Row) -> dict[str, str]:
    """The row's cells by their column."""
    return {
        "method": row.kind,
        "rate": "–" if row.learning_rate is None else f"{row.learning_rate:g}",
        "solved [95%]": _share(row),
        "against dpo": _against(row),
        "KL [95%]": _interval(row.kl, 2),
        "chosen [95%]": _interval(row.chosen, 2, signed=True),
        "rejected [95%]": _interval(row.rejected, 1, signed=True),
        "time ÷ dpo": "–" if row.time is None or row.kind == "dpo" else str(row.time),
    }


def markdown(rows: Sequence[Row], protocol: Protocol, about: Mapping[str, str]) -> str:
    """The table with what was the same for all of it."""
    cells = [terminal(row) for row in rows]
    columns = list(cells[0])
    table = [f"| {' | '.join(columns)} |", "|---|" + "---:|" * (len(columns) - 1)]
    for row, found in zip(rows, cells, strict=True):
        found = found if row.kind == "base" else {**found, "method": f"[{row.kind}](objectives/{row.kind}.md)"}
        table.append(f"| {' | '.join(found.values())} |")
    rates = list(rows[-1].tried)
    chosen = [f"| solved of {protocol.problems} | {' | '.join(rates)} |", "|---|" + "---:|" * len(rates)]
    chosen += [f"| {row.kind} | {' | '.join(_mark(row, r) for r in rates)} |" for row in rows if row.tried]
    head = (
        f"`{about['command']}`, {about['date']}; {about['machine']}. Test problems {protocol.test}, held-out pairs "
        f"{about['held']}, training pairs {about['train']}, {protocol.steps} steps "
        f"of {protocol.batch_size}; seeds: {len(rows[-1].seeds)}."
    )
    settings = [f"- `{row.settings}`" for row in rows if row.settings]
    return "\n".join(
        [head, "", *table, "", "How the learning rate was chosen (bold), on problems of their own:", "", *chosen, "",
         "Settings:", "", *settings]
    )  # fmt: skip


def write_page(page: Path, text: str) -> None:
    """Put `text` between the marks of `page`, and leave the rest as it is."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{page}: no marks {BEGIN} … {END}")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _share(row: Row) -> str:
    if len(row.seeds) > 1:
        mean = sum(row.seeds) / len(row.seeds)
        return f"{mean:.1%} (seeds {min(row.seeds):.1%} – {max(row.seeds):.1%})"
    return f"{row.solved.value:.1%} [{row.solved.low:.1%}, {row.solved.high:.1%}]"


def _against(row: Row) -> str:
    if row.gain is not None:
        return f"{100 * row.gain.value:+.1f} [{100 * row.gain.low:+.1f}, {100 * row.gain.high:+.1f}] points"
    return "–" if row.test is None else f"p {row.test.p_value:.2g} (+{row.test.only_b} −{row.test.only_a})"


def _interval(estimate: Estimate, digits: int, *, signed: bool = False) -> str:
    how = f"{'+' if signed else ''}.{digits}f"
    return f"{estimate.value:{how}} [{estimate.low:{how}}, {estimate.high:{how}}]".replace("-", "−")


def _mark(row: Row, rate: str) -> str:
    said = "failed" if row.tried[rate] < 0 else str(row.tried[rate])
    return f"**{said}**" if float(rate) == row.learning_rate else said
