"""The comparison's table: a row per method for the terminal, and the same as Markdown between the marks of a page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.reporting import Median
from experiments.family.cells import Protocol
from experiments.harness.pages import markdown, percent, rates_table
from twofold.statistics import Estimate, PairedTest, mcnemar, paired_bootstrap, wilson


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
    tried: Mapping[str, float] = field(default_factory=dict[str, float])
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


def compared(kind: str, judged: Sequence[Mapping[str, Any]], against: Sequence[Sequence[bool]]) -> Row:
    """A method's row, seed by seed beside DPO's verdicts."""
    right = [j["right"] for j in judged]
    test = mcnemar(against[0], right[0]) if kind != "dpo" else None
    gain = paired_bootstrap(against, right) if len(right) > 1 and kind not in ("dpo", "base") else None
    return Row(
        kind=kind,
        solved=wilson(sum(right[0]), len(right[0])),
        seeds=[sum(r) / len(r) for r in right],
        test=test,
        gain=gain,
        kl=Estimate(**judged[0]["kl"]),
        chosen=Estimate(**judged[0]["chosen"]),
        rejected=Estimate(**judged[0]["rejected"]),
        truncated=judged[0]["truncated"],
    )


def text(rows: Sequence[Row], protocol: Protocol, about: Mapping[str, Any]) -> str:
    """What stands between the marks: a block each of head, table, how rates were chosen, and settings."""
    cells = [terminal(row) for row in rows]
    named = [{**c, "method": f"[{r.kind}](objectives/{r.kind}.md)"} for r, c in zip(rows, cells, strict=True)]
    shown = [c if r.kind == "base" else n for r, c, n in zip(rows, cells, named, strict=True)]
    tried = {r.kind: {k: "failed" if n < 0 else f"{n:g}" for k, n in r.tried.items()} for r in rows if r.tried}
    rates = {r.kind: r.learning_rate for r in rows if r.learning_rate is not None}
    head = (
        f"`{about['command']}`, {about['date']}; {about['machine']['processor']}, torch {about['versions']['torch']}, "
        f"one thread. Test problems {protocol.test}, held-out pairs {about['heldout']}, training pairs "
        f"{about['train']}, {protocol.steps} steps of {protocol.batch_size}; seeds: {len(rows[-1].seeds)}."
    )
    blocks = [head, markdown([list(cells[0]), *(list(c.values()) for c in shown)])]
    blocks += ["How the learning rate was chosen (bold), on problems of their own:"]
    blocks += [rates_table(f"solved of {protocol.problems}", tried, rates), "Settings:"]
    blocks += ["\n".join(f"- `{r.settings}`" for r in rows if r.settings)]
    return "\n\n".join(block.strip("\n") for block in blocks)


def merged(page: str, text: str) -> str:
    """`page` with the lines of `text` put in: each in its block, in place of the line about the same, or at the end."""
    blocks: list[str] = []
    for old, new in zip(page.strip("\n").split("\n\n"), text.split("\n\n"), strict=True):
        lines = {_about(line): line for line in old.splitlines()}
        lines |= {_about(line): line for line in new.splitlines()}
        blocks.append("\n".join(lines.values()))
    return "\n\n".join(blocks)


def _about(line: str) -> str:
    """A row's method, a setting's class, the command of the head."""
    parts = line.split("|") if line.startswith("|") else re.split("[`(]", line)
    return parts[:2][-1].strip()


def _share(row: Row) -> str:
    if len(row.seeds) > 1:
        mean = sum(row.seeds) / len(row.seeds)
        return f"{mean:.1%} (seeds {min(row.seeds):.1%} – {max(row.seeds):.1%})"
    return percent(row.solved)


def _against(row: Row) -> str:
    if row.gain is not None:
        return f"{100 * row.gain.value:+.1f} [{100 * row.gain.low:+.1f}, {100 * row.gain.high:+.1f}] points"
    return "–" if row.test is None else f"p {row.test.p_value:.2g} (+{row.test.only_b} −{row.test.only_a})"


def _interval(estimate: Estimate, digits: int, *, signed: bool = False) -> str:
    how = f"{'+' if signed else ''}.{digits}f"
    return f"{estimate.value:{how}} [{estimate.low:{how}}, {estimate.high:{how}}]".replace("-", "−")
