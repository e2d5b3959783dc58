"""Single-turn dialogue on Anthropic's harmless test set: `python -m benchmarks.dialogue --data FILE`. A trial of the
procedure at the size of a toy.

The DPO paper's section 6.3 with a model of 1.4M parameters made from the dialogues themselves: Preferred-FT is the
reference, DPO starts from it, and both answer dialogues of prompts that neither has seen at several temperatures. A
reward model, trained on pairs of its own, judges them against the chosen answers. It is right on little more than half
of unseen pairs, which is printed first: what it says is about itself more than about harm. Every stage is kept.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.arena_table import markdown
from benchmarks.gsm8k import write
from benchmarks.scratch import Size, Speaker, kept, make_scratch, stage
from twofold.batch import Branch, Group, Role
from twofold.cli.progress import RichProgress
from twofold.data.formats import read
from twofold.models.heads import load_reward_model
from twofold.models.load import ModelSettings
from twofold.models.packing import Packing
from twofold.progress import Progress
from twofold.records import Demonstration, Pair, Source
from twofold.sampling.base import Draft, Sampling
from twofold.statistics import Estimate, WinRate, holm, mcnemar, wilson, win_rate

OUT = Path("runs/dialogue")
COMMAND = "python -m benchmarks.dialogue"
TEMPERATURES = (0.0, 0.25, 0.7, 1.0)
TOKENS = 48
LONGEST = 400
"""Characters of a prompt's last turns and of either answer at most: longer rows are left out."""
SIZE = Size(vocabulary=4096, width=128, layers=4, heads=4, positions=512)


def single_turns(source: Path) -> list[dict[str, str]]:
    """Pairs of one turn of a person and one answer, short ones, each prompt once."""
    found: dict[str, dict[str, str]] = {}
    for record in read(str(source)).records:
        assert isinstance(record, Pair)
        prompt = str(record.prompt)
        last = "\n\nHuman:" + prompt.rpartition("\n\nHuman:")[2]
        texts = (last, record.chosen, record.rejected)
        if max(map(len, texts)) <= LONGEST and record.chosen.strip() and record.rejected.strip():
            found.setdefault(last, {"prompt": last, "chosen": record.chosen, "rejected": record.rejected})
    return list(found.values())


def parts(rows: Sequence[Mapping[str, str]], test: int) -> dict[str, list[Mapping[str, str]]]:
    """Test rows first; of the rest every third trains the judge, so that it and the policy share no pair."""
    rest = rows[test:]
    return {"test": list(rows[:test]), "judge": list(rest[::3]), "train": [r for i, r in enumerate(rest) if i % 3]}


def train(here: Path, quick: bool, progress: Progress) -> None:
    """Preferred-FT from nothing, DPO from it, and the judge: a reward model from it, on pairs of its own."""
    rows = [json.loads(line) for line in (here / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    make_scratch(here / "scratch", (r[k] for r in rows for k in r), SIZE)
    heldout = {"file": str(here / "test.jsonl")}
    common: dict[str, Any] = {"training": {"batch_size": 32, "epochs": 1, "keep_checkpoints": 1}}

    def sections(model: str, data: str, objective: Mapping[str, Any], rate: float, epochs: float) -> dict[str, Any]:
        training = {**common["training"], **({"steps": 4} if quick else {"epochs": epochs})}
        return {
            "model": {"path": str(here / model), "precision": "float32"},
            "data": {"train": str(here / f"{data}.jsonl"), "heldout": heldout, "tokenize": {"max_length": 512}},
            "objective": objective, "training": training,
            "optimizer": {"learning_rate": rate, "schedule": "cosine", "warmup": 0.05, "min_lr_ratio": 0.1},
        }  # fmt: skip

    stage(here / "ft", sections("scratch", "train", {"kind": "sft"}, 2e-3, 8), COMMAND, progress)
    stage(here / "dpo", sections("ft/model", "train", {"kind": "dpo", "beta": 0.1}, 5e-5, 1), COMMAND, progress)
    judge = {"kind": "bradley_terry", "centring": 0.01}
    stage(here / "judge", sections("ft/model", "judge", judge, 1e-4, 2), COMMAND, progress)


def judged(here: Path, name: str, temperature: float) -> list[dict[str, Any]]:
    """Each test prompt: the judge's score of the policy's answer, and of the chosen one."""
    rows = [json.loads(line) for line in (here / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    how = Sampling(temperature=temperature, max_new_tokens=TOKENS, batch_size=128)
    speaker = Speaker.load(here / name / "model", how)
    drafts = [d for (d,) in speaker.drafts([r["prompt"] for r in rows], seed=(1, 0))]
    scorer, _ = load_reward_model(ModelSettings(path=str(here / "judge" / "model"), precision="float32"))
    groups = [_game(speaker, row, d) for row, d in zip(rows, drafts, strict=True)]
    with torch.no_grad():
        scores = scorer.scores(groups, Packing())
    return [
        {"own": own, "chosen": other, "tokens": len(d.tokens), "truncated": d.truncated}
        for (own, other), d in zip(scores, drafts, strict=True)
    ]


def _game(speaker: Speaker, row: Mapping[str, str], draft: Draft) -> Group:
    """The policy's answer and the chosen one, cut where a policy's would be."""
    demonstration = speaker.encoder.group(Demonstration(row["prompt"], row["chosen"], Source("test", 0)))
    branches = (draft.tokens, demonstration.branches[0].tokens[:TOKENS])
    return Group("game", demonstration.prompt, tuple(Branch(tokens, Role.DRAFT) for tokens in branches))


def against_chosen(rows: Sequence[Mapping[str, Any]]) -> WinRate:
    """Scores have no order of showing: a judge that only scores cannot favour a place."""
    wins, losses = sum(r["own"] > r["chosen"] for r in rows), sum(r["own"] < r["chosen"] for r in rows)
    return win_rate(wins, len(rows) - wins - losses, losses)


def table(found: Mapping[tuple[str, float], Sequence[Mapping[str, Any]]]) -> list[tuple[str, ...]]:
    """Win rates by temperature with intervals, and McNemar's test of the two policies on the same prompts."""
    heats = list(dict.fromkeys(heat for _, heat in found))
    won = {key: [r["own"] > r["chosen"] for r in rows] for key, rows in found.items()}
    corrected = holm([mcnemar(won["ft", t], won["dpo", t]).p_value for t in heats])
    lines: list[tuple[str, ...]] = [("temperature", "Preferred-FT", "DPO", "never stopped", "p, Holm", "n")]
    for heat, p in zip(heats, corrected, strict=True):
        cut = " / ".join(f"{sum(r['truncated'] for r in found[n, heat]) / len(found[n, heat]):.0%}" for n in NAMES)
        rates = [_told(against_chosen(found[name, heat]).wins) for name in NAMES]
        lines.append((f"{heat:g}", *rates, cut, f"{p:.2g}", str(len(found["ft", heat]))))
    return lines


NAMES = ("ft", "dpo")


def _told(e: Estimate) -> str:
    return f"{e.value:.1%} [{e.low:.1%}, {e.high:.1%}]"


def main() -> None:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    default = Path(os.environ.get("TWOFOLD_SHARED", "../shared")) / "data" / "hh" / "harmless-base-test.jsonl.gz"
    parser.add_argument("--data", type=Path, default=default, help="harmless-base-test.jsonl.gz")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of what is done already")
    parser.add_argument("--quick", action="store_true", help="four steps a stage: does it run")
    asked = parser.parse_args()
    if not asked.data.is_file():
        raise SystemExit(f"skipped: no HH at {asked.data}; name harmless-base-test.jsonl.gz with --data")
    torch.set_num_threads(1)
    here = asked.out / ("quick" if asked.quick else "full")
    for name, rows in parts(single_turns(asked.data), 40 if asked.quick else 300).items():
        write(here / f"{name}.jsonl", rows)
    with RichProgress() as progress:
        train(here, asked.quick, progress)
    report = json.loads((here / "judge" / "results.json").read_text(encoding="utf-8"))["heldout"]["accuracy"]
    told = wilson(report["count"], report["n"]) if report.get("count") is not None else Estimate(**report)
    print(f"the judge puts {_told(told)} of {told.n} unseen human preferences in order")
    found = {
        (name, heat): kept(here / f"{name}-{heat:g}.json", lambda name=name, heat=heat: judged(here, name, heat))
        for name in NAMES
        for heat in TEMPERATURES
    }
    print(markdown(table(found)))


if __name__ == "__main__":
    main()
