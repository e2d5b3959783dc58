"""The dialogues: their split, the three stages, the judge's games."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.commands import command_line, shared_data
from benchmarks.reporting import write_json
from experiments import dialogue
from experiments.harness.files import cached, read_json, read_rows, write_rows
from experiments.harness.models import Size, Speaker, make_scratch, scorer_of
from experiments.harness.pages import markdown, percent
from experiments.harness.recipes import stage
from twofold.batch import Branch, Group, Role
from twofold.cli.progress import RichProgress
from twofold.data.formats import read
from twofold.progress import Progress
from twofold.records import Demonstration, Pair, Source, text_of
from twofold.sampling.base import Sample, Sampling
from twofold.statistics import Estimate, WinRate, holm, mcnemar, wilson, win_rate

MODULE, OUT = "experiments.dialogue", Path("runs/dialogue")
COMMAND = f"python -m {MODULE}"
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
        chosen, rejected = text_of(record.chosen), text_of(record.rejected)
        if max(map(len, (last, chosen, rejected))) <= LONGEST and chosen.strip() and rejected.strip():
            found.setdefault(last, {"prompt": last, "chosen": chosen, "rejected": rejected})
    return list(found.values())


def parts(rows: Sequence[Mapping[str, str]], test: int) -> dict[str, list[Mapping[str, str]]]:
    """Test rows first; of the rest every third trains the judge, so that it and the policy share no pair."""
    rest = rows[test:]
    return {"test": list(rows[:test]), "judge": list(rest[::3]), "train": [r for i, r in enumerate(rest) if i % 3]}


def train(here: Path, quick: bool, progress: Progress) -> None:
    """Preferred-FT from nothing, DPO from it, and the judge: a reward model from it, on pairs of its own."""
    rows = read_rows(here / "train.jsonl")
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
    rows = read_rows(here / "test.jsonl")
    how = Sampling(temperature=temperature, max_new_tokens=TOKENS, batch_size=128)
    speaker = Speaker.load(here / name / "model", how)
    drafts = [d for (d,) in speaker.drafts([r["prompt"] for r in rows], seed=(1, 0))]
    groups = [_game(speaker, row, d) for row, d in zip(rows, drafts, strict=True)]
    scores = scorer_of(here / "judge" / "model")(groups)
    return [
        {"own": own, "chosen": other, "tokens": len(d.tokens), "truncated": d.truncated}
        for (own, other), d in zip(scores, drafts, strict=True)
    ]


def _game(speaker: Speaker, row: Mapping[str, str], draft: Sample) -> Group:
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
        rates = [percent(against_chosen(found[name, heat]).wins) for name in NAMES]
        lines.append((f"{heat:g}", *rates, cut, f"{p:.2g}", str(len(found["ft", heat]))))
    return lines


NAMES = ("ft", "dpo")


def main() -> None:
    parser = command_line(MODULE, dialogue.__doc__, OUT, quick="four steps a stage: does it run")
    source = shared_data("hh/harmless-base-test.jsonl.gz")
    parser.add_argument("--data", type=Path, default=source, help="harmless-base-test.jsonl.gz")
    options = parser.parse_args()
    if not options.data.is_file():
        raise SystemExit(f"skipped: no HH at {options.data}; name harmless-base-test.jsonl.gz with --data")
    torch.set_num_threads(1)
    here = options.out / ("quick" if options.quick else "full")
    for name, rows in parts(single_turns(options.data), 40 if options.quick else 300).items():
        write_rows(here / f"{name}.jsonl", rows)
    with RichProgress() as progress:
        train(here, options.quick, progress)
    report = read_json(here / "judge" / "results.json")["heldout"]["accuracy"]
    judge = wilson(report["count"], report["n"]) if report.get("count") is not None else Estimate(**report)
    print(f"the judge puts {percent(judge)} of {judge.n} unseen human preferences in order")
    found = {
        (name, heat): cached(here / f"{name}-{heat:g}.json", lambda name=name, heat=heat: judged(here, name, heat))
        for name in NAMES
        for heat in TEMPERATURES
    }
    print(markdown(table(found)))
    if options.json:
        write_json(options.json, {"judge": judge, "games": {f"{n}, {h:g}": rows for (n, h), rows in found.items()}})


if __name__ == "__main__":
    main()
