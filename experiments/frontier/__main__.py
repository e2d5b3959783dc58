"""The frontier's command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.commands import circumstances, command_line, shared_data
from benchmarks.reporting import write_json
from experiments import frontier
from experiments.frontier.cells import Bench, Cell, Protocol, points
from experiments.frontier.ground import COMMAND, Ground, make_ground
from experiments.frontier.methods import CONTROL, FAMILIES, RATES, SWEEP, TRIALS, Method
from experiments.frontier.page import area_table, best_of_table, draw, point_table, text
from experiments.frontier.points import area
from experiments.frontier.rewards import DEVELOPMENT_SEED, RewardModels, Rewards
from experiments.harness.cells import Field, Result, best_rate
from experiments.harness.models import Size
from experiments.harness.pages import markdown, marks, put
from twofold.cli.progress import RichProgress

MODULE, OUT = "experiments.frontier", Path("runs/frontier")
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


def summary(result: Result) -> str:
    """A cell's last point in words."""
    last = result["looks"][-1] if result["looks"] else None
    return result.get("failed") or (f"{fmean(last['reward']):.3f} at {fmean(last['kl']):.2f} nats" if last else "")


def chosen_rates(tried: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Each family's best rate; PDPO's is DPO's."""
    best = {family: best_rate(each) for family, each in tried.items()}
    return {**best, "PDPO": best["DPO"]}


def main() -> None:
    """Read the command line, train what is missing, print, write."""
    quick = "everything, tiny, with one rate and one seed"
    parser = command_line(MODULE, frontier.__doc__, OUT, page="docs/frontier.md; its drawing beside", quick=quick)
    source = "folder with train.parquet and test.parquet"
    parser.add_argument("--data", type=Path, default=shared_data("imdb"), help=source)
    parser.add_argument("--scale", choices=[*SCALES], default="laptop")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", default="", help="families, parted by semicolons: " + "; ".join(FAMILIES))
    control = "online DPO too, with as many completions, rewards and steps as PPO: some 20 minutes more"
    parser.add_argument("--control", action="store_true", help=control)
    options = parser.parse_args()
    torch.set_num_threads(1)
    families = [n.strip() for n in options.only.split(";")] if options.only else list(FAMILIES)
    if unknown := set(families) - set(FAMILIES):
        parser.error(f"no such family: {', '.join(sorted(unknown))}; there are {'; '.join(FAMILIES)}")
    found = {**circumstances(MODULE), **swept(families, options)}
    print("\n".join(map(markdown, (area_table(found), point_table(found), best_of_table(found)))))
    if options.page:
        drawn = draw(found, options.page.with_suffix(".svg"))
        put(options.page, marks(COMMAND), text(found, drawn.name))
    if options.json:
        write_json(options.json, {k: str(v) if isinstance(v, Path) else v for k, v in found.items()})


def swept(families: Sequence[str], options: Any) -> dict[str, Any]:
    """Every figure of `families`, the language model and best of N."""
    protocol = QUICK if options.quick else SCALES[options.scale]
    seeds = range(1 if options.quick else options.seeds)
    with RichProgress() as progress:
        here = make_ground(options.out, protocol.ground, options.data, progress)
        rewards = RewardModels(here, protocol.rewards, protocol.ground.device)
        rewards.prepare(seeds)
    make = partial(Bench, options.out, protocol, options.data)
    bench = make()
    field = Field[Cell](bench, make, summary, options.workers)
    known = {f: each for f, each in TRIALS.items() if options.control or f in FAMILIES}
    trials = {
        family: [Cell(method, r, DEVELOPMENT_SEED, "development") for r in (RATES[1:2] if options.quick else rates)]
        for family, (method, rates) in known.items()
    }
    start = [replace(p, kl=0.0) for p in points({"looks": [bench.start("development")]})]
    tried = field.scores(trials, lambda result: area([*start, *points(result)], MOST))
    best = chosen_rates(tried)
    methods: list[Method] = [m for m in SWEEP if m.family in families]
    methods += CONTROL if options.control else ()
    cells = [[Cell(m, best[m.family], seed) for seed in seeds] for m in methods]
    field.play([cell for each in cells for cell in each])
    return {
        "methods": methods, "results": [field.play(each) for each in cells], "start": bench.start(),
        "best_of": [bench.best_of(seed) for seed in seeds], "tried": tried, "rates": best, "most": MOST,
        "made": here / "made.json", "ordered": [rewards.accuracy(s)["value"] for s in seeds],
        "tried_rewards": rewards.tried(), "reward_rate": rewards.rate(), "protocol": protocol,
    }  # fmt: skip


if __name__ == "__main__":
    main()
