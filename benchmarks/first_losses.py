"""First loss and first margins of a pretrained model: `python -m benchmarks.first_losses --model FOLDER`.

Before the first update the policy is its reference, so a DPO loss is ln 2 and every margin is 0. Each run takes one
step on real HH pairs with held-out rows; 16 combinations of precision, reference, tuning, and shared packs or rows.
"""

from __future__ import annotations

import gzip
import json
import math
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.commands import circumstances, command_line, shared_data
from benchmarks.reporting import print_table, write_json
from twofold.records import Pair, Source
from twofold.runs.train import train

PAIRS, HELD_OUT, LONGEST = 8, 4, 1200  # characters


def main() -> None:
    """Read the command line, train once in every combination, print, write."""
    parser = command_line("benchmarks.first_losses", __doc__)
    parser.add_argument("--model", required=True, type=Path, help="the folder of a pretrained model")
    options = parser.parse_args()
    facts = circumstances("benchmarks.first_losses")
    rows = hh_pairs(PAIRS + HELD_OUT)
    choices = product(("float32", "bfloat16"), ("cached", "live"), ("full", "LoRA"), ("auto", "rows"))
    table: list[dict[str, Any]] = []
    for choice in choices:  # a row at a time: one takes a minute or so
        table.append(first_figures(options.model, rows, *choice))
        print(table[-1], flush=True)
    print_table(f"first step, {PAIRS} pairs and {HELD_OUT} held out", table)
    if options.json:
        write_json(options.json, {**facts, "first_losses": table})


def hh_pairs(num: int) -> list[Pair]:
    """The first `num` short pairs of HH whose prompts agree."""
    found: list[Pair] = []
    with gzip.open(shared_data("hh") / "harmless-base-test.jsonl.gz", "rt", encoding="utf-8") as lines:
        for i, row in enumerate(map(json.loads, lines)):
            turn = row["chosen"].rfind("\n\nAssistant:") + len("\n\nAssistant:")
            prompt, chosen, rejected = row["chosen"][:turn], row["chosen"][turn:], row["rejected"][turn:]
            if row["rejected"].startswith(prompt) and chosen != rejected and len(row["chosen"]) <= LONGEST:
                found.append(Pair(prompt=prompt, chosen=chosen, rejected=rejected, source=Source("hh", i)))
            if len(found) == num:
                break
    return found


def first_figures(
    model: Path, rows: list[Pair], precision: str, reference: str, tuning: str, sharing: str
) -> dict[str, Any]:
    """What the first step and the held-out rows before it were: loss − ln 2 and the margin."""
    with tempfile.TemporaryDirectory() as folder:
        train(
            str(model), rows,
            model={"precision": precision, "lora": {"rank": 8} if tuning == "LoRA" else None, "sharing": sharing},
            reference={"kind": reference}, data={"heldout": {"count": HELD_OUT}},
            training={"batch_size": PAIRS, "steps": 1}, run=folder + "/run",
        )  # fmt: skip
        logged = [json.loads(line) for line in (Path(folder) / "run/metrics.jsonl").read_text("utf-8").splitlines()]
    before, first = logged[0], logged[1]
    return {
        "precision": precision,
        "reference": reference,
        "tuning": tuning,
        "packs": "shared" if sharing == "auto" else sharing,
        "loss - ln 2": f"{first['loss'] - math.log(2):.1e}",
        "margin": first["margin"],
        "held out": f"{before['heldout/loss'] - math.log(2):.1e}",
        "held-out margin": before["heldout/margin"],
    }


if __name__ == "__main__":
    main()
