"""The oracle's summaries: runs, games and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import torch

from benchmarks.commands import command_line
from benchmarks.reporting import write_json
from experiments import summaries
from experiments.harness.cells import best_rate
from experiments.harness.files import cached, read_json
from experiments.harness.models import Size, Speaker, doublings, make_scratch, scorer_of
from experiments.harness.models import best_of as best
from experiments.harness.pages import markdown, percent
from experiments.harness.recipes import stage
from experiments.summaries.tasks import Post, draft, oracle, post, quality
from twofold.cli.progress import RichProgress
from twofold.judges.language_model import agreed
from twofold.progress import Progress
from twofold.sampling.base import Sampling
from twofold.sampling.best_of_n import kl_bound
from twofold.statistics import bootstrap_ratio

MODULE, OUT = "experiments.summaries", Path("runs/summaries")
TEMPERATURES = (0.0, 0.25, 0.5, 0.75, 1.0)
TOKENS = 32
SIZE = Size(vocabulary=512, width=128, layers=4, heads=4, positions=192)
NAMES = {"sft": "SFT", "ft": "Preferred-FT", "dpo": "DPO"}
OBJECTIVES: Mapping[str, Mapping[str, Any]] = {
    "ft": {"kind": "sft"}, "dpo": {"kind": "dpo", "beta": 0.1}, "reward": {"kind": "bradley_terry", "centring": 0.01},
}  # fmt: skip
RATES: Mapping[str, tuple[float, ...]] = {
    "ft": (1e-4, 3e-4, 1e-3, 3e-3), "dpo": (1e-5, 3e-5, 1e-4, 3e-4), "reward": (2e-4, 6e-4, 2e-3, 6e-3),
}  # fmt: skip
PAIRS, TEST, BEST_OF, DEVELOPMENT, UNSEEN = range(1, 6)
"""Seeds of posts: what pairs are of, what figures are of, what best of N is of, what rates are chosen on."""


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    demonstrations: int = 12_000
    preferred: int = 800
    samples: int = 4
    test: int = 300
    unseen: int = 100
    """Posts that rates are chosen on."""
    sft_epochs: float = 2.0
    best_of: int = 64
    flip: float = 0.08


def posts(topic: str, number: int, seed: int) -> list[Post]:
    """Different posts of `topic`; those of another seed are others, by the shuffles and choices of so many words."""
    random, found = Random(f"{topic} {seed}"), dict[str, Post]()
    while len(found) < number:
        made = post(topic, random)
        found.setdefault(made.text, made)
    return list(found.values())


def preferred(told: Post, texts: Sequence[str], plan: Plan, random: Random) -> list[dict[str, str]]:
    """Every two samples as the oracle orders them; those of equal quality are left out."""
    found: list[dict[str, str]] = []
    for a, b in combinations(dict.fromkeys(t for t in texts if t.strip()), 2):
        x, y = quality(told, a), quality(told, b)
        if x != y:
            first = oracle(x > y, plan.flip, random)
            found.append({"prompt": told.prompt, "chosen": a if first else b, "rejected": b if first else a})
    return found


@dataclass(frozen=True)
class Shelf:
    """The folder of a plan, with every run and every figure that was made in it."""

    here: Path
    plan: Plan
    rates: Mapping[str, tuple[float, ...]]
    progress: Progress

    def prepare(self) -> None:
        """SFT on people's summaries; its samples, as the oracle orders them; the runs of every rate on that."""
        random, plan = Random(0), self.plan
        taught = posts("home", plan.demonstrations, 0)
        rows = [{"prompt": p.prompt, "completion": draft(p, random)} for p in taught]
        cached(self.here / "demonstrations.jsonl", lambda: rows)
        every = [*rows, *({"prompt": p.prompt, "completion": p.gold} for p in posts("news", 400, 0))]
        make_scratch(self.here / "scratch", (row["prompt"] + row["completion"] for row in every), SIZE)
        self._learn("sft", "scratch", self._data("demonstrations"), {"kind": "sft"}, 2e-3, plan.sft_epochs)
        asked = [p for p in posts("home", plan.preferred + plan.demonstrations, PAIRS) if p not in set(taught)]
        cached(self.here / "pairs.jsonl", lambda: self._pairs(asked[: plan.preferred]))
        known = {*taught, *asked[: plan.preferred]}
        unseen = [p for p in posts("home", plan.unseen + len(known), UNSEEN) if p not in known][: plan.unseen]
        cached(self.here / "unseen.jsonl", lambda: self._pairs(unseen))
        for name, rates in self.rates.items():
            data = self._data("pairs", "unseen" if name == "reward" else None)
            for rate in rates:
                self._learn(f"{name}-{rate:g}", "sft/model", data, OBJECTIVES[name], rate)

    def _data(self, train: str, heldout: str | None = None) -> dict[str, Any]:
        """A recipe's section, of files by name."""
        unseen = {"heldout": {"file": str(self.here / f"{heldout}.jsonl")}} if heldout else {}
        return {"train": str(self.here / f"{train}.jsonl"), **unseen}

    def _learn(
        self, name: str, start: str, data: Mapping[str, Any], objective: Mapping[str, Any], rate: float,
        epochs: float = 1.0,
    ) -> None:  # fmt: skip
        sections = {
            "model": {"path": str(self.here / start), "precision": "float32"}, "objective": objective, "data": data,
            "optimizer": {"learning_rate": rate, "schedule": "cosine", "warmup": 0.05, "min_lr_ratio": 0.1},
            "training": {"epochs": epochs, "batch_size": 64, "keep_checkpoints": 1},
        }  # fmt: skip
        stage(self.here / name, sections, f"python -m {MODULE}", self.progress)

    def _pairs(self, asked: Sequence[Post]) -> list[dict[str, str]]:
        how, random = Sampling(max_new_tokens=TOKENS, batch_size=256), Random(1)
        speaker = Speaker.load(self.here / "sft" / "model", how)
        rows = speaker.drafts([p.prompt for p in asked], samples=self.plan.samples, seed=(1, 0))
        told = zip(asked, rows, strict=True)
        return [pair for p, drafts in told for pair in preferred(p, speaker.texts(drafts), self.plan, random)]

    def tried(self, name: str) -> dict[str, float]:
        """By rate: the reward model's accuracy on unseen pairs; a policy's share against gold over all temperatures."""
        return {f"{rate:g}": self._trial(name, rate) for rate in self.rates[name]}

    def _trial(self, name: str, rate: float) -> float:
        run = f"{name}-{rate:g}"
        if name == "reward":
            return read_json(self.here / run / "results.json")["heldout"]["accuracy"]["value"]
        return fmean(fmean(self.games(run, "home", heat, DEVELOPMENT)["shares"]) for heat in TEMPERATURES)

    def best(self, name: str) -> str:
        """The run at the best rate, the lower one of equals; SFT has one."""
        if name not in self.rates:
            return name
        return f"{name}-{best_rate(self.tried(name)):g}"

    def games(self, run: str, topic: str, heat: float, seed: int = TEST) -> dict[str, Any]:
        """What came of the games of `run` on posts of `topic` and `seed`."""
        number = self.plan.test if seed == TEST else self.plan.unseen
        path = self.here / f"{run}-{topic}-{heat:g}-{seed}.json"
        return cached(path, lambda: judged(self.here / run, posts(topic, number, seed), heat, self.plan.flip))

    def best_of(self) -> dict[str, Any]:
        """What came of the best of N by the best reward model."""
        best = self.best("reward")
        return cached(self.here / f"best-of-{best}.json", lambda: best_of(self.here, best, self.plan))


def judged(run: Path, asked: Sequence[Post], heat: float, flip: float) -> dict[str, Any]:
    """The oracle's share for the policy against the gold summary, both orders asked, and the true quality."""
    random = Random(f"{run.name} {heat} {asked[0].text}")
    how = Sampling(temperature=heat, max_new_tokens=TOKENS, batch_size=256)
    speaker = Speaker.load(run / "model", how)
    texts = speaker.texts(d for (d,) in speaker.drafts([p.prompt for p in asked], seed=(2, 0)))
    shares, agreeing, qualities = list[float](), 0, list[float]()
    for told, text in zip(asked, texts, strict=True):
        mine, gold = quality(told, text), quality(told, told.gold)
        if mine == gold:
            orders = [random.random() < 0.5 for _ in range(2)]
        else:
            orders = [oracle(mine > gold, flip, random) for _ in range(2)]
        share = agreed("A" if orders[0] else "B", "B" if orders[1] else "A")
        assert share is not None
        shares.append(share)
        agreeing += orders[0] == orders[1]
        qualities.append(mine)
    return {"shares": shares, "agreed": agreeing / len(shares), "quality": qualities, "texts": texts[:3]}


def best_of(here: Path, reward: str, plan: Plan) -> dict[str, Any]:
    """Many summaries of SFT to each post, by the reward model that learned from the oracle and by the truth."""
    asked = posts("home", plan.test // 3, BEST_OF)
    speaker = Speaker.load(here / "sft" / "model", Sampling(max_new_tokens=TOKENS, batch_size=256))
    rows = speaker.drafts([p.prompt for p in asked], samples=plan.best_of, seed=(3, 0))
    scores = scorer_of(here / reward / "model")(speaker.groups([p.prompt for p in asked], rows))
    told = [[quality(p, text) for text in speaker.texts(drafts)] for p, drafts in zip(asked, rows, strict=True)]
    return {"scores": scores, "quality": told}


def tables(found: Mapping[tuple[str, str, float], Mapping[str, Any]], many: Mapping[str, Any]) -> list[str]:
    """Win rates (ties halved, by both orders) and true quality by temperature and topic; best of N."""
    heats = [heat for heat in TEMPERATURES if ("sft", "home", heat) in found]
    made: list[str] = []
    for topic in ("home", "news"):
        lines: list[tuple[str, ...]] = [(f"{topic}: win rate / quality", *(f"T {heat:g}" for heat in heats))]
        for name, title in NAMES.items():
            cells = [found[name, topic, heat] for heat in heats]
            told = [
                f"{percent(bootstrap_ratio(c['shares'], [1.0] * len(c['shares'])), 0)} / {fmean(c['quality']):.2f}"
                for c in cells
            ]
            lines.append((title, *told))
        made.append(markdown(lines))
    lines = [("N", "quality, best by reward model", "best by the true reward", "KL at most, nats")]
    for n in doublings(len(many["scores"][0]))[::2]:
        means = [fmean(best(n, many[by], many["quality"])) for by in ("scores", "quality")]
        lines.append((str(n), *(f"{value:.3f}" for value in means), f"{kl_bound(n):.2f}"))
    return [*made, markdown(lines)]


def main() -> None:
    parser = command_line(MODULE, summaries.__doc__, OUT, quick="a hundredth of it: does it run")
    parser.add_argument("--flip", type=float, default=Plan.flip, help="share of the oracle's verdicts that are wrong")
    options = parser.parse_args()
    torch.set_num_threads(1)
    quick = Plan(demonstrations=256, preferred=24, test=24, unseen=12, sft_epochs=1.0, best_of=8, flip=options.flip)
    plan = quick if options.quick else Plan(flip=options.flip)
    here = options.out / f"{'quick' if options.quick else 'full'}-{plan.flip:g}"
    rates = {name: each[1:2] for name, each in RATES.items()} if options.quick else RATES
    with RichProgress() as progress:
        shelf = Shelf(here, plan, rates, progress)
        shelf.prepare()
    cells = [(n, t, h) for n in NAMES for t in ("home", "news") for h in TEMPERATURES]
    found = {(n, t, h): shelf.games(shelf.best(n), t, h) for n, t, h in cells}
    for name in rates:
        print(f"{name}: {shelf.best(name)}, of", ", ".join(f"{r}: {v:.3f}" for r, v in shelf.tried(name).items()))
    print("\n".join(tables(found, shelf.best_of())))
    if options.json:
        write_json(options.json, {"plan": plan, "games": {f"{n}, {t}, {h:g}": g for (n, t, h), g in found.items()}})
    print(f"both orders agree on {fmean(c['agreed'] for c in found.values()):.1%} of {len(cells)} × {plan.test} games")


if __name__ == "__main__":
    main()
