"""Reward against KL on IMDb, as the DPO paper's section 6.1: `python -m benchmarks.frontier --data FOLDER`.

A language model of the reviews goes on from their beginnings; a classifier says how positive that is. Every method of
the sweep starts from it, with several seeds, at the best of its family's rates (chosen on other beginnings), and every
checkpoint is a point. What is done is kept under --out, so a stopped sweep goes on. Writes the page and its drawing.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.arena_page import put
from benchmarks.arena_table import markdown
from benchmarks.cells import play
from benchmarks.frontier_cells import Bench, Cell, Protocol, points
from benchmarks.frontier_ground import COMMAND, Ground, make_ground
from benchmarks.frontier_methods import CONTROL, FAMILIES, RATES, SWEEP, TRIALS, Method
from benchmarks.frontier_page import BEGIN, END, area_table, best_of_table, draw, point_table, text
from benchmarks.frontier_points import area
from benchmarks.frontier_rewards import DEVELOPMENT_SEED, RewardModels, Rewards
from benchmarks.reporting import command, machine, page, print_facts, versions, write_json
from benchmarks.scratch import Size
from twofold.cli.progress import RichProgress

OUT, PAGE = Path("runs/frontier"), Path("docs/frontier.md")
MOST = 12.0
"""Nats that the area goes to: the largest target of the sweep."""
SCALES: Mapping[str, Protocol] = {
    "laptop": Protocol(),
    "gpu": Protocol(
        ground=Ground(
            size=Size(vocabulary=16384, width=768, layers=12, heads=12, positions=256),
            words=60, tokens=112, steps=20_000, batch_size=256, learning_rate=6e-4, prefixes=10_000, heldout=500,
            test=1024, development=512, device="cuda",
        ),
        rewards=Rewards(steps=900, batch_size=64, rates=(1e-5, 3e-5, 1e-4)),
        steps=900, batch_size=64, rollout=1024, rollouts=100, looks=9, best_of=128,
    ),
}  # fmt: skip
QUICK = Protocol(
    ground=Ground(reviews=3000, steps=120, prefixes=120, heldout=30, development=32, test=64),
    rewards=Rewards(steps=15, rates=(1e-3,)),
    steps=12, rollout=64, rollouts=3, looks=3, best_of=16,
)  # fmt: skip


@dataclass
class Field:
    """The bench with its workers; every cell is played once, wherever it is asked for."""

    root: Path
    protocol: Protocol
    source: Path
    workers: int = 1
    bench: Bench = field(init=False)

    def __post_init__(self) -> None:
        self.bench = Bench(self.root, self.protocol, self.source)

    def play(self, cells: Sequence[Cell]) -> list[dict[str, Any]]:
        """The results of `cells`, in their order."""
        make = partial(Bench, self.root, self.protocol, self.source)
        return play(self.bench, cells, _told, workers=self.workers, make=make)

    def best_rates(self, rates: Mapping[str, Sequence[float]], most: float) -> dict[str, dict[str, float]]:
        """By family and rate the area of the trial's run on development beginnings; of one rate nothing is tried."""
        known = {family: {f"{each[0]:g}": 0.0} for family, each in rates.items() if len(each) == 1}
        asked = {family: each for family, each in rates.items() if family not in known}
        if not asked:
            return known
        cells = {f: [Cell(TRIALS[f][0], r, DEVELOPMENT_SEED, "development") for r in each] for f, each in asked.items()}
        self.play([cell for each in cells.values() for cell in each])
        start = points({"looks": [self.bench.start("development")]})
        start = [replace(p, kl=0.0) for p in start]
        return known | {
            family: {f"{c.learning_rate:g}": area([*start, *points(self.bench.cell(c))], most) for c in each}
            for family, each in cells.items()
        }


def _told(found: dict[str, Any]) -> str:
    last = found["looks"][-1] if found["looks"] else None
    return found.get("failed") or (f"{fmean(last['reward']):.3f} at {fmean(last['kl']):.2f} nats" if last else "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    default = Path(os.environ.get("TWOFOLD_SHARED", "../shared")) / "data" / "imdb"
    parser.add_argument("--data", type=Path, default=default, help="folder with train.parquet and test.parquet")
    parser.add_argument("--scale", choices=[*SCALES], default="laptop")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", default="", help="families, parted by semicolons: " + "; ".join(FAMILIES))
    control = "online DPO too, with as many completions, rewards and steps as PPO: some 20 minutes more"
    parser.add_argument("--control", action="store_true", help=control)
    parser.add_argument("--out", type=Path, default=OUT, help="folder of what is done already")
    parser.add_argument("--page", type=page, help=f"a page between whose marks to write, as {PAGE}; its drawing beside")
    parser.add_argument("--json", type=Path, help="where to write everything that was measured")
    parser.add_argument("--quick", action="store_true", help="everything, tiny, with one rate and one seed")
    return parser


def chosen_rates(tried: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Each family's best rate, the lower one of equals; PDPO's is DPO's."""
    best = {family: float(min(each, key=lambda r: (-each[r], float(r)))) for family, each in tried.items()}
    return {**best, "PDPO": best["DPO"]}


def main() -> None:
    """Read the command line, play what is missing, print, write."""
    parser = _parser()
    asked = parser.parse_args()
    torch.set_num_threads(1)
    families = [n.strip() for n in asked.only.split(";")] if asked.only else list(FAMILIES)
    if unknown := set(families) - set(FAMILIES):
        parser.error(f"no such family: {', '.join(sorted(unknown))}; there are {'; '.join(FAMILIES)}")
    protocol = QUICK if asked.quick else SCALES[asked.scale]
    seeds = range(1 if asked.quick else asked.seeds)
    known = {f: each for f, (_, each) in TRIALS.items() if asked.control or f in FAMILIES}
    rates = {family: RATES[1:2] if asked.quick else each for family, each in known.items()}
    facts = {"machine": machine(), "versions": versions(sys.executable)}
    with RichProgress() as progress:
        here = make_ground(asked.out, protocol.ground, asked.data, progress)
        rewards = RewardModels(here, protocol.rewards, protocol.ground.device)
        rewards.prepare(seeds)
    ground = Field(asked.out, protocol, asked.data, asked.workers)
    tried = ground.best_rates(rates, MOST)
    best = chosen_rates(tried)
    methods: list[Method] = [m for m in SWEEP if m.family in families]
    methods += CONTROL if asked.control else ()
    cells = [[Cell(m, best[m.family], seed) for seed in seeds] for m in methods]
    ground.play([cell for each in cells for cell in each])
    found: dict[str, Any] = {
        "methods": methods, "results": [ground.play(each) for each in cells], "start": ground.bench.start(),
        "best_of": [ground.bench.best_of(seed) for seed in seeds], "tried": tried, "rates": best, "most": MOST,
        "made": here / "made.json", "ordered": [rewards.accuracy(s)["value"] for s in seeds],
        "tried_rewards": rewards.tried(), "reward_rate": rewards.rate(),
        "protocol": protocol, "date": datetime.date.today().isoformat(), **facts,
        "command": command(COMMAND, sys.argv[1:]),
    }  # fmt: skip
    for title in ("machine", "versions"):
        print_facts(title, found[title])
    print("\n".join(map(markdown, (area_table(found), point_table(found), best_of_table(found)))))
    if asked.page:
        drawn = draw(found, asked.page.with_suffix(".svg"))
        put(asked.page, (BEGIN, END), text(found, drawn.name))
    if asked.json:
        write_json(asked.json, {k: str(v) if isinstance(v, Path) else v for k, v in found.items()})


if __name__ == "__main__":
    main()
