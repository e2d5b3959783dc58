"""The pages of `twofold explain` and `twofold data report`, with everything that they can show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.explained import estimate, told
from twofold.data.examples import kinds
from twofold.data.looks import Further
from twofold.data.profile import Profile
from twofold.data.reading import Reading
from twofold.data.validate import check
from twofold.reports.dataset import dataset_page
from twofold.reports.explanation import write_explanation
from twofold.reports.guide import after_explanation
from twofold.reports.languages import phrase
from twofold.reports.pages import write_page
from twofold.reports.run import read_run


def explain_page(file: Path, run: Path) -> Path:
    """Of 3 tokens a completion, with a fall, drift, and the gradient weights of `run`."""
    shown = told("1 ", "2 ", "3")
    positions = {side: [estimate(-0.2 * n) for n in range(4)] for side in ("chosen", "rejected")}
    causes = {kind: {"nats": estimate(0.5), "tokens": 0.25} for kind in ("shared", "elsewhere")}
    shown["displacement"] |= {"positions": positions, "causes": causes, "cause": "shared"}
    side: dict[str, Any] = {name: estimate(0.5) for name in ("length", "truncated", "entropy")}
    side |= {"distinct": [0.5, 0.75]}
    drift = {"kl": estimate(1.0), "kl_token": estimate(0.1), "prompts": 9}
    shown["drift"] = drift | {"policy": side, "reference": side}
    facts = [phrase("{model} against {reference}", model="m", reference="r")]
    steps = after_explanation("m", "f", is_run=True, drift=False)
    title = phrase("{name}, token by token", name="m")
    return write_explanation(shown, file, title=title, facts=facts, run=read_run(run), steps=steps)


def data_page(file: Path) -> Path:
    """Of 40 scored pairs of two origins and two models, with a repeated and a faulty row."""
    rows = [
        {"prompt": "?" * (n + 1), "chosen": "x" * (2 * n + 9), "rejected": "y" * (n + 5), "source": f"s{n % 2}",
         "chosen_model": "a", "rejected_model": "b", "score_chosen": n, "score_rejected": 3}
        for n in range(40)
    ]  # fmt: skip
    source = file.with_name("1.jsonl")
    source.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0], {"prompt": "p", "chosen": ""}]))
    profile, reading = Profile(), Reading(str(source))
    found = check(reading, further=Further(None, 0.5, looks=(profile,)))
    title = phrase("{name}: data report", name=source.name)
    return write_page(file, dataset_page(found, profile, kinds(found.faults, reading, 3), title, []))
