"""The experiment PDPO was proposed with, from start to end: `python -m experiments.gsm8k.reproduction --data FOLDER`.

Stages: problems, a teacher's answers, the policy's own answers, pairs, a DPO and a PDPO run for each seed, the table.
Every stage is a command of twofold, printed before it runs. A finished stage is not repeated; an interrupted one
resumes. `--scale 0.01` is one problem in a hundred. `--plan` prints the commands and runs nothing.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import shared_data
from experiments.gsm8k import figures, files
from experiments.harness.files import read_rows, write_rows
from twofold.errors import TwofoldError
from twofold.evaluation.prompting import GSM8K, PLACE

MODULE, OUT = "experiments.gsm8k.reproduction", Path("runs/gsm8k-reproduction")
RECIPE = "recipes/gsm8k_pdpo.yaml"
TRAIN, GENERATOR, TEST = 7473, 1473, 1319
"""Problems of GSM8K: of training, those of them that are the generator's, and of the test."""
DATA = "data"
SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Stage:
    """A command of twofold. It is finished once `makes` exists."""

    words: tuple[str, ...]
    makes: Path

    def __str__(self) -> str:
        return shlex.join(("twofold", *self.words))


@dataclass(frozen=True)
class Kit:
    """What is reproduced with what. `scale` is the share of the problems; `settings` are overrides of the recipe."""

    out: Path
    model: str
    teacher: str = DATA
    scale: float = 1.0
    seeds: Sequence[int] = SEEDS
    max_new_tokens: int = 512
    settings: Sequence[str] = ()

    def count(self, problems: int) -> int:
        """The same share of a number of problems, at least 2."""
        return max(2, round(problems * self.scale))

    def path(self, name: str) -> Path:
        return self.out / f"{name}.jsonl"

    def run(self, kind: str, seed: int) -> Path:
        return self.out / f"{kind}-{seed}"

    def write_problems(self, source: Path) -> None:
        """The first problems of both splits, each with the request for GSM8K's form of answer."""
        for name, split, num in (("problems", "train", TRAIN), ("test", "test", TEST)):
            if not self.path(name).is_file():
                rows = read_rows(source / f"{split}.jsonl")[: self.count(num)]
                made = ({"prompt": GSM8K.chat.replace(PLACE, r["question"]), "answer": r["answer"]} for r in rows)
                write_rows(self.path(name), made)

    def answers(self) -> Iterator[Stage]:
        """The teacher's answers, unless they are those of the data, and the policy's own at temperature 1."""
        for name, model in (("better", self.teacher), ("own", self.model)):
            if model != DATA:
                cap = f"max_new_tokens={self.max_new_tokens}"
                words = "sample", model, "--file", str(self.path("problems")), "--out", str(self.path(name)), cap
                yield Stage(words, self.path(name))

    def write_pairs(self) -> int:
        """The teacher's answers over the policy's own; how many."""
        better = self.path("problems" if self.teacher == DATA else "better")
        return write_rows(self.path("pairs"), files.pairs(read_rows(better), read_rows(self.path("own"))))

    def trainings(self, pairs: int) -> Iterator[Stage]:
        """A DPO and a PDPO run for each seed, on the same pairs. The generator's problems are in no run's pairs."""
        shared = (
            f"model.path={json.dumps(self.model)}",
            f"data.train={json.dumps(str(self.path('pairs')))}",
            f"data.generator.count={max(1, round(pairs * GENERATOR / TRAIN))}",
            f"evaluation.tasks={json.dumps({'file': str(self.path('test'))})}",
            f"evaluation.sampling.max_new_tokens={self.max_new_tokens}",
            f"sampling.max_new_tokens={self.max_new_tokens}",
            *self.settings,
        )
        for seed in self.seeds:
            for kind, own in (("dpo", ("algorithm={kind: offline}",)), ("pdpo", ())):
                run = self.run(kind, seed)
                words = "train", RECIPE, *shared, *own, f"seed={seed}", f"run={json.dumps(str(run))}"
                yield Stage(words, run / "results.json")

    def table(self) -> str:
        """All runs beside each other."""
        return figures.tables(*([self.run(kind, seed) for seed in self.seeds] for kind in ("pdpo", "dpo")))


def perform(stages: Iterator[Stage]) -> None:
    """Run each stage that is not finished. Raises SystemExit with the status of one that fails."""
    for stage in stages:
        if stage.makes.is_file():
            continue
        print(f"$ {stage}", flush=True)
        if status := subprocess.run([sys.executable, "-m", "twofold", *stage.words], check=False).returncode:
            raise SystemExit(status)


def plan(kit: Kit) -> str:
    """The commands of all stages, with the number of pairs that there are at most."""
    pairs = f"# then pairs of {kit.path('better' if kit.teacher != DATA else 'problems')} and {kit.path('own')}"
    return "\n".join([*map(str, kit.answers()), pairs, *map(str, kit.trainings(kit.count(TRAIN)))])


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line; run all stages, or print them."""
    options = _parser().parse_args(words)
    kit = Kit(
        options.out, options.model, options.teacher, options.scale, options.seed or SEEDS, options.max_new_tokens,
        options.settings,
    )  # fmt: skip
    if options.plan:
        print(plan(kit))
        return
    try:
        kit.write_problems(options.data)
        perform(kit.answers())
        pairs = len(read_rows(kit.path("pairs"))) if kit.path("pairs").is_file() else kit.write_pairs()
        print(f"{kit.path('pairs')}: {pairs} pairs of {kit.count(TRAIN)} problems", flush=True)
        perform(kit.trainings(pairs))
        print(kit.table())
    except TwofoldError as error:
        raise SystemExit(str(error)) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help="folder of all stages")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help=f"overrides of {RECIPE}")
    parser.add_argument("--data", type=Path, default=shared_data("gsm8k"), help="folder with train.jsonl, test.jsonl")
    parser.add_argument("--model", default="Qwen/Qwen2-7B-Instruct", help="a folder or a hub name")
    parser.add_argument("--teacher", default=DATA, help="who answers better: a model, URL#NAME, or `data`'s solutions")
    parser.add_argument("--scale", type=_share, default=1.0, help="share of all problems")
    parser.add_argument("--seed", type=int, action="append", default=[], help=f"by default {SEEDS}")
    parser.add_argument("--max-new-tokens", type=int, default=512, help="of every answer")
    parser.add_argument("--plan", action="store_true", help="print the commands and run nothing")
    return parser


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share: above 0, at most 1")
    return value


if __name__ == "__main__":
    main()
