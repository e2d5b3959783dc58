"""When does PDPO beat DPO? `python -m benchmarks.arena_questions`: learning rate × length of training, then one test.

First, with one seed on development problems, every contender runs long at every rate and is looked at along the way: a
look is a shorter run, for the rate is constant. That chooses: each one's best place (rate and length), the best of
PDPO's kin where training is longest and the rate highest, and where PDPO leads DPO most. Then, once, on fresh seeds,
fresh problems and a second task: the chosen ones against DPO and DPO + NLL, with paired intervals. Cells that are done
are kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.arena import OUT, Field
from benchmarks.arena_base import Ground, make_ground
from benchmarks.arena_cells import Cell, Protocol
from benchmarks.arena_methods import METHODS, Method, pdpo
from benchmarks.arena_page import put
from benchmarks.arena_table import markdown, points, typeset
from benchmarks.reporting import machine, page, print_facts, versions, write_json
from twofold.statistics import Estimate, holm, mean_interval, paired_bootstrap, paired_bootstrap_p

RATES = (3e-5, 1e-4, 3e-4)
LOOKS = 4
DEVELOPMENT_SEED = 200
CONFIRMATION_SEEDS = (300, 301, 302, 303, 304)
WARM: Mapping[str, Any] = {"warmup": 6}
"""In steps, so that a look at a long run is what a short run would have been."""
BEGIN, END = "<!-- begin: written by python -m benchmarks.arena_questions -->", "<!-- end of arena_questions -->"

CONTENDERS: tuple[Method, ...] = (
    METHODS["DPO"],
    METHODS["DPO + NLL"],
    pdpo(", γ 0.1", gamma=0.1, **WARM),
    pdpo(", γ 0.3", gamma=0.3, **WARM),
    pdpo(", γ 1", gamma=1.0, **WARM),
    pdpo(", γ 0.3, + NLL", nll=1.0, gamma=0.3, **WARM),
    pdpo(", γ 0.3, sign down", gamma=0.3, direction="down", **WARM),
    pdpo(", γ 0.3, square", "an on-policy anchor", gamma=0.3, form="square", **WARM),
    pdpo(", γ 0.3, verifier gate", verifier=True, gamma=0.3, gate="verifier", **WARM),
    pdpo(", γ 0.3, truth's side", "the generator pulls the truth up", gamma=0.3, gradient_to="truth", **WARM),
)
PLAIN = ("DPO", "DPO + NLL")
SOURCE = ("PDPO, γ 0.1", "PDPO, γ 0.3", "PDPO, γ 1")
"""The source's own form, which gives no γ."""
TRUTH = ("PDPO, γ 0.3, truth's side",)


@dataclass(frozen=True)
class Place:
    """Where a contender is judged: at a rate, after one of the looks."""

    method: str
    learning_rate: float
    look: int


@dataclass(frozen=True)
class Verdict:
    """`b` against `a`, each at its place, on fresh seeds and problems of one task."""

    task: str
    question: str
    a: Place
    b: Place
    shares: tuple[float, float]
    gain: Estimate
    over_seeds: Estimate
    p_value: float


def best_place(looks: Mapping[tuple[str, float], Sequence[float]], method: str) -> Place:
    """Where `method` solves most; of equals the lower rate, then the shorter run."""
    found = [
        Place(method, rate, look)
        for (name, rate), shares in sorted(looks.items(), key=lambda item: item[0][1])
        if name == method
        for look in range(len(shares))
    ]
    return max(found, key=lambda p: looks[method, p.learning_rate][p.look])


def ahead(looks: Mapping[tuple[str, float], Sequence[float]], methods: Sequence[str]) -> Place:
    """Where one of `methods` leads DPO most after as many steps at the same rate; of equals the lower rate, then the
    shorter run."""
    found = [
        Place(name, rate, look)
        for (name, rate), shares in sorted(looks.items(), key=lambda item: item[0][1])
        if name in methods
        for look in range(len(shares))
    ]
    return max(found, key=lambda p: looks[p.method, p.learning_rate][p.look] - looks["DPO", p.learning_rate][p.look])


def chosen(looks: Mapping[tuple[str, float], Sequence[float]]) -> dict[str, list[Place]]:
    """The questions' places, challenger first, then the plain ones: each one's best; the end of the longest run at the
    highest rate; where the source's form, and the truth's side, lead DPO most. The challenger of the first two is
    PDPO's kin that solves most there."""
    methods = list(dict.fromkeys(name for name, _ in looks))
    kin = [m for m in methods if m not in PLAIN]
    best = {m: best_place(looks, m) for m in methods}
    top = max(rate for _, rate in looks)
    last = {m: Place(m, top, len(looks[m, top]) - 1) for m in methods}

    def solved(place: Place) -> float:
        return looks[place.method, place.learning_rate][place.look]

    found = {
        question: [max((places[m] for m in kin), key=solved), *(places[m] for m in PLAIN)]
        for question, places in (("each at its best", best), ("longest and highest", last))
    }
    for words, challengers in (("the source's form", SOURCE), ("the truth's side", TRUTH)):
        lead = ahead(looks, challengers)
        found[f"{words}, where it leads most"] = [lead, *(replace(lead, method=m) for m in PLAIN)]
    return found


def development(field: Field) -> dict[tuple[str, float], list[float]]:
    """Shares solved at every look of every contender at every rate."""
    keys = [(m, rate) for m in CONTENDERS for rate in RATES]
    results = field.play([_cell(m, rate, DEVELOPMENT_SEED, "development") for m, rate in keys])
    return {
        (m.name, rate): _filled([k["strict"] for k in r["looks"]]) for (m, rate), r in zip(keys, results, strict=True)
    }


def confirmation(field: Field, places: Mapping[str, Sequence[Place]], seeds: Sequence[int]) -> list[Verdict]:
    """Each question's challenger against DPO and against DPO + NLL, on problems that nobody has seen."""
    known, task = {m.name: m for m in CONTENDERS}, field.protocol.ground.task
    wanted = {(p.method, p.learning_rate): p for each in places.values() for p in each}
    cells = {key: [_cell(known[key[0]], key[1], seed, "confirmation") for seed in seeds] for key in wanted}
    field.play([c for each in cells.values() for c in each])

    def right(place: Place) -> list[list[bool]]:
        played = field.play(cells[place.method, place.learning_rate])
        return [_right(r, place.look, field.protocol.test) for r in played]

    found: list[Verdict] = []
    for question, (challenger, *others) in places.items():
        b = right(challenger)
        for other in others:
            a = right(other)
            gains = [fmean(y) - fmean(x) for x, y in zip(a, b, strict=True)]
            shares = fmean(map(fmean, a)), fmean(map(fmean, b))
            estimates = paired_bootstrap(a, b), mean_interval(gains), paired_bootstrap_p(a, b)
            found.append(Verdict(task, question, other, challenger, shares, *estimates))
    return found


def _cell(method: Method, rate: float, seed: int, problems: Any) -> Cell:
    return Cell(method, rate, seed, problems, looks=LOOKS, many=False)


def _right(result: Mapping[str, Any], look: int, num: int) -> list[bool]:
    """Verdicts at a look; a run that stopped being finite before has solved nothing."""
    return result["looks"][look]["right"] if look < len(result["looks"]) else [False] * num


def _filled(shares: Sequence[float]) -> list[float]:
    return [*shares, *[0.0] * (LOOKS - len(shares))]


def development_table(looks: Mapping[tuple[str, float], Sequence[float]], steps: int) -> list[tuple[str, ...]]:
    """Percent solved; a column per rate and length."""
    rates = sorted({rate for _, rate in looks})
    ends = [round(steps * (i + 1) / LOOKS) for i in range(LOOKS)]
    lines: list[tuple[str, ...]] = [("solved, %", *(f"{rate:g}, {end} steps" for rate in rates for end in ends))]
    for name in dict.fromkeys(name for name, _ in looks):
        lines.append((name, *(f"{100 * share:.0f}" for rate in rates for share in looks[name, rate])))
    return lines


def verdict_table(found: Sequence[Verdict], steps: int) -> list[tuple[str, ...]]:
    """p-values corrected over all verdicts (Holm)."""
    lines: list[tuple[str, ...]] = [
        ("task", "question", "challenger", "against", "solved", "points [bootstrap]", "[t over seeds]", "p, Holm")
    ]
    for v, p in zip(found, holm([v.p_value for v in found]), strict=True):
        where = [f"{q.method} ({q.learning_rate:g}, {round(steps * (q.look + 1) / LOOKS)} steps)" for q in (v.b, v.a)]
        solved = f"{v.shares[1]:.1%} against {v.shares[0]:.1%}"
        lines.append(typeset((v.task, v.question, *where, solved, points(v.gain), points(v.over_seeds), f"{p:.3g}")))
    return lines


def main() -> None:
    """Read the command line; develop, confirm, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.arena_questions", description=__doc__)
    parser.add_argument("--steps", type=int, default=100, help="of the longest run")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--page", type=page, help="a page between whose marks to write, as docs/pdpo.md")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="short runs, few problems, two seeds, one task")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    protocol = Protocol(steps=asked.steps, development=300)
    if asked.quick:
        protocol = replace(protocol, steps=12, development=60, test=60)
    seeds, tasks = (CONFIRMATION_SEEDS[:2], ("boxes",)) if asked.quick else (CONFIRMATION_SEEDS, ("shop", "boxes"))
    field = _field(asked.out, protocol, "shop", asked.workers)
    looks = development(field)
    places = chosen(looks)
    table = development_table(looks, protocol.steps)
    print(markdown(table), places, sep="\n", flush=True)
    found: list[Verdict] = []
    for task in tasks:
        found += confirmation(_field(asked.out, protocol, task, asked.workers), places, seeds)
    verdicts = verdict_table(found, protocol.steps)
    print(markdown(verdicts))
    facts = {"machine": machine(), "versions": versions(sys.executable)}
    print_facts("machine", facts["machine"])
    if asked.page:
        head = f"`python -m benchmarks.arena_questions`, task shop, one seed, {protocol.development} problems:"
        fresh = f"Confirmed once, {len(seeds)} fresh seeds, {protocol.test} fresh problems each:"
        put(asked.page, (BEGIN, END), "\n".join([head, "", markdown(table), fresh, "", markdown(verdicts)]))
    if asked.json:
        shown = [{"method": m, "rate": r, "solved": s} for (m, r), s in looks.items()]
        write_json(
            asked.json, {**facts, "protocol": protocol, "development": shown, "places": places, "verdicts": found}
        )


def _field(out: Path, protocol: Protocol, task: str, workers: int) -> Field:
    ground = Ground(task=task)
    make_ground(out, ground)
    return Field(out, replace(protocol, ground=ground), workers)


if __name__ == "__main__":
    main()
