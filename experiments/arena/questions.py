"""When does PDPO beat DPO? `python -m experiments.arena.questions`: learning rate × length of training, then one test.

First, with one seed on development problems, every contender runs long at every rate and is looked at along the way: a
look is a shorter run, for the rate is constant. That chooses: each one's best place (rate and length), the best of
PDPO's kin where training is longest and the rate highest, and where PDPO leads DPO most. Then, once, on fresh seeds,
fresh problems and a second task: the chosen ones against DPO and DPO + NLL, with paired intervals. Cells that are done
are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias

import torch

from benchmarks.commands import circumstances, command_line
from benchmarks.reporting import write_json
from experiments.arena.base import Ground, make_ground
from experiments.arena.cells import Arena, Cell, Protocol, field_of
from experiments.arena.methods import METHODS, Method, pdpo
from experiments.harness.cells import Field
from experiments.harness.pages import markdown, marks, points, put, typeset
from twofold.statistics import Estimate, holm, mean_interval, paired_bootstrap, paired_bootstrap_p

MODULE, OUT = "experiments.arena.questions", Path("runs/arena")
RATES = (3e-5, 1e-4, 3e-4)
LOOKS = 4
DEVELOPMENT_SEED = 200
CONFIRMATION_SEEDS = (300, 301, 302, 303, 304)
WARM: Mapping[str, Any] = {"warmup": 6}
"""In steps, so that a look at a long run is what a short run would have been."""

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
    pdpo(
        ", γ 0.3, reference-answer side",
        "the generator pulls the reference answer up",
        gamma=0.3,
        gradient_to="truth",
        **WARM,
    ),
)
PLAIN = ("DPO", "DPO + NLL")
SOURCE = ("PDPO, γ 0.1", "PDPO, γ 0.3", "PDPO, γ 1")
"""The source's own form, which gives no γ."""
TRUTH = ("PDPO, γ 0.3, reference-answer side",)


Looks: TypeAlias = Mapping[tuple[str, float], Sequence[float]]
"""By method and rate the share solved at every look."""


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


def best_place(looks: Looks, methods: Sequence[str], behind: str | None = None) -> Place:
    """Where one of `methods` solves most, or leads `behind` most after as many steps at the same rate; of equals the
    lower rate, then the shorter run."""
    places = [
        Place(name, rate, look)
        for (name, rate), shares in sorted(looks.items(), key=lambda item: item[0][1])
        if name in methods
        for look in range(len(shares))
    ]

    def lead(p: Place) -> float:
        other = looks[behind, p.learning_rate][p.look] if behind else 0.0
        return looks[p.method, p.learning_rate][p.look] - other

    return max(places, key=lead)


def chosen(looks: Looks) -> dict[str, list[Place]]:
    """The questions' places, challenger first, then the plain ones: each one's best; the end of the longest run at the
    highest rate; where the source's form, and the reference-answer side, lead DPO most. The challenger of these two is
    PDPO's kin that solves most there."""
    methods = list(dict.fromkeys(name for name, _ in looks))
    kin = [m for m in methods if m not in PLAIN]
    best = {m: best_place(looks, [m]) for m in methods}
    top = max(rate for _, rate in looks)
    last = {m: Place(m, top, len(looks[m, top]) - 1) for m in methods}

    def solved(place: Place) -> float:
        return looks[place.method, place.learning_rate][place.look]

    found = {
        question: [max((places[m] for m in kin), key=solved), *(places[m] for m in PLAIN)]
        for question, places in (("each at its best", best), ("longest and highest", last))
    }
    for words, challengers in (("the source's form", SOURCE), ("the reference-answer side", TRUTH)):
        lead = best_place(looks, challengers, "DPO")
        found[f"{words}, where it leads most"] = [lead, *(replace(lead, method=m) for m in PLAIN)]
    return found


def development(field: Field[Cell]) -> dict[tuple[str, float], list[float]]:
    """Shares solved at every look of every contender at every rate."""
    keys = [(m, rate) for m in CONTENDERS for rate in RATES]
    results = field.play([_cell(m, rate, DEVELOPMENT_SEED, "development") for m, rate in keys])
    return {
        (m.name, rate): _filled([k["strict"] for k in r["looks"]]) for (m, rate), r in zip(keys, results, strict=True)
    }


def confirmation(
    field: Field[Cell], protocol: Protocol, places: Mapping[str, Sequence[Place]], seeds: Sequence[int]
) -> list[Verdict]:
    """Each question's challenger against DPO and against DPO + NLL, on problems that nobody has seen."""
    known, task = {m.name: m for m in CONTENDERS}, protocol.ground.task
    wanted = {(p.method, p.learning_rate): p for each in places.values() for p in each}
    cells = {key: [_cell(known[key[0]], key[1], seed, "confirmation") for seed in seeds] for key in wanted}
    field.play([c for each in cells.values() for c in each])

    def right(place: Place) -> list[list[bool]]:
        played = field.play(cells[place.method, place.learning_rate])
        return [_right(r, place.look, protocol.test) for r in played]

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


def development_table(looks: Looks, steps: int) -> list[tuple[str, ...]]:
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
    quick = "short runs, few problems, two seeds, one task"
    parser = command_line(MODULE, __doc__, OUT, page="docs/pdpo.md", quick=quick)
    parser.add_argument("--steps", type=int, default=100, help="of the longest run")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    protocol = Protocol(steps=options.steps, development=300)
    if options.quick:
        protocol = replace(protocol, steps=12, development=60, test=60)
    seeds, tasks = (CONFIRMATION_SEEDS[:2], ("boxes",)) if options.quick else (CONFIRMATION_SEEDS, ("shop", "boxes"))
    facts = circumstances(MODULE)
    looks = development(_field(options.out, protocol, options.workers))
    places = chosen(looks)
    table = development_table(looks, protocol.steps)
    print(markdown(table), places, sep="\n", flush=True)
    found: list[Verdict] = []
    for task in tasks:
        of_task = replace(protocol, ground=Ground(task=task))
        found += confirmation(_field(options.out, of_task, options.workers), of_task, places, seeds)
    verdicts = verdict_table(found, protocol.steps)
    print(markdown(verdicts))
    if options.page:
        head = f"`python -m {MODULE}`, task shop, one seed, {protocol.development} problems:"
        fresh = f"Confirmed once, {len(seeds)} fresh seeds, {protocol.test} fresh problems each:"
        text = "\n".join([head, "", markdown(table), fresh, "", markdown(verdicts)])
        put(options.page, marks(f"python -m {MODULE}"), text)
    if options.json:
        shown = [{"method": m, "rate": r, "solved": s} for (m, r), s in looks.items()]
        write_json(
            options.json, {**facts, "protocol": protocol, "development": shown, "places": places, "verdicts": found}
        )


def _field(out: Path, protocol: Protocol, workers: int) -> Field[Cell]:
    make_ground(out, protocol.ground)
    make = partial(Arena, out, protocol)
    return field_of(make(), make, workers)


if __name__ == "__main__":
    main()
