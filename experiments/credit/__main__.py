"""Planted errors ranked by credit, and answers searched with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.commands import command_line
from benchmarks.reporting import print_table, write_json
from experiments import credit
from experiments.credit.figure import draw
from experiments.harness.files import write_rows
from experiments.harness.recipes import demo_run
from twofold.analysis.credit import CreditedRow, Planted, token_rewards
from twofold.batch import Branch, Group, Role
from twofold.cli.progress import RichProgress
from twofold.data.formats import read
from twofold.data.tokenize import Encoder
from twofold.demo.play import Size
from twofold.demo.task import tasks
from twofold.errors import DataError
from twofold.evaluation.exact_match import ExactMatch, compare, exact_match
from twofold.models.load import LoadedModel, ModelSettings, load_policy
from twofold.models.policy import Policy
from twofold.records import Task
from twofold.sampling.base import Sample, Sampler, Sampling
from twofold.sampling.beam import Beams, BeamSearch
from twofold.sampling.local import LocalSampler
from twofold.statistics import Estimate, bootstrap_ratio, paired_bootstrap, wilson

MODULE = "experiments.credit"
BETA, WIDTH, NEW_TOKENS = 0.1, 5, 64
PLACES = ("operand", "first result", "second result", "final answer")
SCORES = ("credit", "log π", "log π_ref")
BASE = Path(str(files("twofold.demo") / "base"))
DEMO, FACTS = "demo", "one digit"
"""What the pairs of a policy were about."""


@dataclass(frozen=True)
class Plant:
    """An answer with one digit changed: the character `at`, and what kind of number it stands in."""

    task: Task
    corrupted: str
    at: int
    place: str


def plant(task: Task, index: int) -> Plant:
    """Change one digit of the answer, drawn by `index`; a number keeps its length, and no leading 0."""
    random, text = Random(f"planted {index}"), task.answer
    at = random.choice([i for i, c in enumerate(text) if c.isdigit()])
    leads = not text[at - 1 : at].isdigit()
    digit = random.choice([d for d in "0123456789" if d != text[at] and not (leads and d == "0")])
    return Plant(task, text[:at] + digit + text[at + 1 :], at, _place(text, at))


def _place(text: str, at: int) -> str:
    line, column = text[:at].count("\n"), at - (text.rfind("\n", 0, at) + 1)
    if text.splitlines()[line].startswith("####"):
        return "final answer"
    result = "=" in text.splitlines()[line][:column]
    return ("first result", "second result")[line] if result else "operand"


def measured(models: Sequence[Policy], encoder: Encoder, plants: Sequence[Plant]) -> list[dict[str, Any]]:
    """For each plant and score the AUC of the changed token and of the same token as it was, and both rewards."""
    policy, reference = models
    groups = [_group(p, encoder) for p in plants]
    rows = token_rewards(policy, groups, beta=BETA, reference=reference)
    return [_judged(p, row) for p, row in zip(plants, rows, strict=True)]


def _group(p: Plant, encoder: Encoder) -> Group:
    """The answer as it was and as it was corrupted; the task's tokenizer has a token for each character."""
    prompt = encoder.prompt(p.task.prompt)
    right, wrong = (encoder.tokenizer(t, add_special_tokens=False)["input_ids"] for t in (p.task.answer, p.corrupted))
    if [i for i, (a, b) in enumerate(zip(right, wrong, strict=True)) if a != b] != [p.at]:
        raise DataError("a digit is no token here", where=str(p.task.source), remedy="use the demo's own models")
    sides = ((right, Role.CHOSEN), (wrong, Role.REJECTED))
    return Group(str(p.task.source), prompt, tuple(Branch(torch.tensor([*t, encoder.stop]), r) for t, r in sides))


def _judged(p: Plant, row: CreditedRow) -> dict[str, Any]:
    told: dict[str, Any] = {"place": p.place}
    for side, said in zip(("right", "wrong"), row.completions, strict=True):
        logref = said.logp - said.credit / BETA
        for name, values in zip(SCORES, (said.credit, said.logp, logref), strict=True):
            found = Planted(values, p.at)
            told[f"{side} {name}"] = {"auc": found.auc, "rank": found.rank, "sum": float(values.sum())}
        told[f"{side} value"] = float(said.credit[p.at])
    return told


def mean(values: Sequence[float]) -> Estimate:
    """With a bootstrap interval over problems."""
    return bootstrap_ratio(values, np.ones(len(values)))


def planted_rows(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The table: by place and score the AUC of the planted token, of the control, and the difference, paired."""
    rows: list[dict[str, Any]] = []
    for place in ("all", *PLACES):
        here = [f for f in found if place in ("all", f["place"])]
        for name in SCORES if here else ():
            wrong, right = ([f[f"{side} {name}"] for f in here] for side in ("wrong", "right"))
            lower = sum(w["sum"] < r["sum"] for w, r in zip(wrong, right, strict=True))
            aucs = [w["auc"] for w in wrong], [r["auc"] for r in right]
            lowest = sum(w["rank"] == 1 for w in wrong)
            rows.append(
                {"place": place, "score": name, "n": len(here), "planted": mean(aucs[0]), "control": mean(aucs[1]),
                 "gain": paired_bootstrap(aucs[1], aucs[0]), "lowest": wilson(lowest, len(here)),
                 "mean rank": mean([w["rank"] for w in wrong]), "sum is lower": wilson(lower, len(here))}
            )  # fmt: skip
    return rows


class Searched:
    """Beam search as a sampler: the best that it finds."""

    def __init__(self, search: BeamSearch) -> None:
        self.search = search

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Sample]]:
        return [[found[0].completion] for found in self.search.search(prompts)]


def decoders(loaded: LoadedModel, reference: LoadedModel) -> dict[str, Sampler]:
    """The ways to answer that are compared."""

    def drawn(model: LoadedModel, temperature: float) -> Sampler:
        sampling = Sampling(temperature=temperature, max_new_tokens=NEW_TOKENS, batch_size=256)
        return LocalSampler(model.model, model.tokenizer, model.stop_tokens, sampling)

    def beams(model: LoadedModel, against: LoadedModel | None = None) -> Sampler:
        width = Beams(width=WIDTH, max_new_tokens=NEW_TOKENS)
        return Searched(BeamSearch(model.model, model.stop_tokens, width, against.model if against else None))

    return {
        "base, greedy": drawn(reference, 0),
        f"base, {WIDTH} beams": beams(reference),
        "DPO, sampled": drawn(loaded, 1),
        "DPO, greedy": drawn(loaded, 0),
        f"DPO, {WIDTH} beams": beams(loaded),
        f"DPO, {WIDTH} beams by log-ratio": beams(loaded, reference),
    }


def searched_rows(judged: Mapping[str, ExactMatch]) -> list[dict[str, Any]]:
    """Accuracy of each way, and McNemar's test of the policy's ways against its greedy answers."""
    greedy = {name: f"{name.partition(',')[0]}, greedy" for name in judged}
    compared = [*greedy.items(), (f"DPO, {WIDTH} beams", "DPO, sampled")]
    return [_searched_row(judged, name, against) for name, against in compared]


def _searched_row(judged: Mapping[str, ExactMatch], name: str, against: str) -> dict[str, Any]:
    result, test = judged[name], compare(judged[against], judged[name])
    characters = sum(len(r.completion) for r in result.rows) / len(result.rows)
    return {"answers": name, "right": result.strict, "characters": characters, "cut off": result.truncated,
            "against": against, "only it": test.only_b, "only that": test.only_a, "p": test.p_value}  # fmt: skip


def facts_run(runs: Path) -> Path:
    """The demo's DPO on pairs whose rejected side is the worked answer with one digit changed; trained if not there."""
    pairs = runs / "data" / "planted.jsonl"
    made = [plant(task, i) for i, task in enumerate(tasks("train", Size().pairs))]
    write_rows(pairs, ({"prompt": p.task.prompt, "chosen": p.task.answer, "rejected": p.corrupted} for p in made))
    paths = {
        "data.train": pairs,
        "evaluation.tasks.file": runs / "data" / "test.jsonl",
        "reference.cache": runs / "reference-cache",
    }
    folder = runs / "DPO-on-planted"
    with RichProgress() as progress:
        demo_run(folder, "dpo", paths, ["training.evaluate_every=48"], f"python -m {MODULE}", progress)
    return folder


def plant_part(runs: Path, problems: Sequence[Task], figure: Path | None) -> dict[str, Any]:
    """Plant errors, rank them by both policies, print the table and draw it."""
    plants = [plant(task, i) for i, task in enumerate(problems)]
    reference, loaded = _open(BASE)
    encoder = Encoder(loaded.tokenizer, loaded.stop_tokens)
    found: dict[str, list[dict[str, Any]]] = {}
    for name, folder in ((DEMO, runs / "DPO"), (FACTS, facts_run(runs))):
        policy, _ = _open(folder / "model")
        found[name] = measured((policy, reference), encoder, plants)
    rows = [{"pairs": name, **row} for name, told in found.items() for row in planted_rows(told)]
    print_table("the planted token among those of its answer", [_shown(row) for row in rows])
    if figure:
        draw(rows, {(DEMO, "credit"): "demo", (FACTS, "credit"): "facts", (DEMO, "log π_ref"): "reference"}, figure)
    return {"planted": rows, "found": found}


def search_part(runs: Path, problems: Sequence[Task]) -> dict[str, Any]:
    """Answer the problems in every way, and print the table."""
    (_, loaded), (_, other) = (
        _open(path) for path in (runs / "DPO" / "model", Path(str(files("twofold.demo") / "base")))
    )
    encoder, judged = Encoder(loaded.tokenizer, loaded.stop_tokens), dict[str, ExactMatch]()
    with RichProgress() as progress:
        for name, how in decoders(loaded, other).items():
            judged[name] = exact_match(how, problems, encoder, progress=progress)
    rows = searched_rows(judged)
    print_table("answers to the same problems", [_shown(row) for row in rows])
    return {"searched": rows}


def _open(path: Path) -> tuple[Policy, LoadedModel]:
    return load_policy(ModelSettings(path=str(path), precision="float32"))


def main() -> None:
    parser = command_line(MODULE, credit.__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/demo"), help="folder that `twofold demo` made")
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--parts", nargs="+", choices=("plant", "search"), default=["plant", "search"])
    parser.add_argument("--figure", type=Path, help="draw the AUCs here, as SVG")
    options = parser.parse_args()
    if not (options.runs / "DPO" / "model").is_dir():
        where = str(options.runs / "DPO")
        raise DataError("no DPO run", where=where, remedy="run `twofold demo` first, or name its folder with --runs")
    torch.set_num_threads(1)
    records = read(str(options.runs / "data" / "test.jsonl"), limit=options.problems).records
    problems = [record for record in records if isinstance(record, Task)]
    told = plant_part(options.runs, problems, options.figure) if "plant" in options.parts else {}
    told |= search_part(options.runs, problems) if "search" in options.parts else {}
    if options.json:
        write_json(options.json, told)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: f"{v.value:.3f} [{v.low:.3f}, {v.high:.3f}]" if isinstance(v, Estimate) else v for k, v in row.items()}


if __name__ == "__main__":
    main()
