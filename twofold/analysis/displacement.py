"""Likelihood displacement: why chosen completions became less likely, by kind of token and by pair.

Razin, Malladi, Bhaskar, Chen, Arora and Hanin 2024, "Unintentional Unalignment: Likelihood Displacement in Direct
Preference Optimization", arXiv:2410.08847; Pal et al. 2024 (DPOP), arXiv:2402.13228. Every token of a chosen completion
counts under the first of CAUSES that applies to it; tokens to which none applies are `elsewhere`. The split shows which
tokens lost log-probability. This is evidence of the cause, not proof.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twofold.analysis.causes import Gram, Patterns, likeness, shared
from twofold.analysis.credit import token_rewards
from twofold.batch import Group, Role
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import COLUMN, Reference
from twofold.statistics import Estimate, bootstrap_ratio, mean_by_cluster, share_by_cluster

CAUSES = ("pattern", "shared", "opening")
"""Rejected in other pairs; also in rejected; among the first OPENING tokens. The most specific cause is first."""
ELSEWHERE = "elsewhere"
OPENING = 5
WORST = 10
"""Pairs, and half as many patterns, that results.json names."""
MOST = 128
FEWEST = 5
_BULK = 1 / 2  # of the tokens, or of one pair's loss
NEAR = 0.8
"""Similarity from which a pair counts as nearly equal."""
_SLIGHT = 0.05  # nats per token
_NOTHING = 0.01  # nats of a completion

_LIES = {
    "pattern": "on patterns that are chosen here and rejected in other pairs",
    "shared": "on tokens that are also in rejected: pushed down with it",
    "opening": f"on the first {OPENING} tokens: the policy has come to open its answers in another way",
}
_REMEDIES = {
    "pattern": "read the pairs that hold these patterns, whose labels may contradict each other; where they are noise, "
    "objective.label_smoothing or robust_dpo",
    "shared": "hold chosen up with objective.nll=1 under dpo, or with dpop, nca or cal_dpo; leave out the pairs that "
    "are most alike",
    "opening": "fit the policy to chosen first (objective.kind=sft), or prefer among answers of its own",
    "": "train less or with a lower learning rate, or hold chosen up with objective.nll=1 under dpo",
}


@dataclass(frozen=True)
class Cause:
    """`nats`: share of what chosen tokens lost; `tokens`: share of the chosen tokens that are of this kind."""

    nats: Estimate
    tokens: float


@dataclass(frozen=True)
class Change:
    """A pair: change of log-probability of each side against the reference, nats; and what chosen's tokens lost that
    fell, by cause. `likeness` is 1 for equal completions; `tokens` are those of chosen."""

    name: str
    chosen: float
    rejected: float
    lost: Mapping[str, float]
    likeness: float
    tokens: int

    @property
    def likely(self) -> str:
        """The likely cause of the fall of this pair's chosen, from this pair only: "near-equal", the member of CAUSES
        that holds half of what it lost, "length" (many tokens that lost little each) or ELSEWHERE; "" where it has not
        fallen, or by less than 0.01 nats."""
        if self.chosen > -_NOTHING:
            return ""
        if self.likeness >= NEAR:
            return "near-equal"
        most = max(CAUSES, key=lambda name: self.lost[name])
        if self.lost[most] >= _BULK * sum(self.lost.values()):
            return most
        return "length" if -self.chosen < _SLIGHT * self.tokens else ELSEWHERE


@dataclass(frozen=True)
class LostPattern:
    """A pattern (`tokens`, shown as `text`) on which `nats` were lost. The counts are of pairs where only chosen or
    only rejected contains it."""

    tokens: Gram
    text: str
    nats: float
    chosen: int
    rejected: int


@dataclass(frozen=True)
class Displacement:
    """The answer. `positions` hold by side the mean change at each token position, while enough pairs are as long;
    `alike` and `unlike` the change of chosen in the half of the pairs whose sides are more, and less, alike."""

    chosen: Estimate
    rejected: Estimate
    fell: Estimate
    causes: Mapping[str, Cause]
    positions: Mapping[str, tuple[Estimate, ...]]
    alike: Estimate
    unlike: Estimate
    patterns: tuple[LostPattern, ...]
    pairs: tuple[Change, ...]

    @property
    def cause(self) -> str:
        """The member of CAUSES on which chosen lost most, if that is more than its tokens' share beyond the luck of the
        pairs; or if most tokens are of its kind, so that none of them can exceed its share. Else, or without a fall,
        ""."""
        name = max(self.causes, key=lambda n: self.causes[n].nats.value)
        most = self.causes[name]
        bulk = name != "opening" and most.tokens >= _BULK  # short completions are all opening, which is not informative
        named = self.chosen.value < 0 and name in CAUSES and (most.nats.low > most.tokens or bulk)
        return name if named else ""

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.chosen.value >= 0:
            return f"chosen has not fallen: {self.chosen.value:+.2f} nats in the mean"
        fall = f"chosen fell {-self.chosen.value:.1f} nats in the mean of {self.chosen.n} pairs; "
        if not self.cause:
            return fall + "what it lost is on no one kind of token"
        found = self.causes[self.cause]
        share = f"{found.nats.value:.0%} ({found.nats.low:.0%} to {found.nats.high:.0%})"
        return f"{fall}{share} of what it lost is {_LIES[self.cause]}; they are {found.tokens:.0%} of its tokens"

    @property
    def remedy(self) -> str:
        return "" if self.chosen.value >= 0 else _REMEDIES[self.cause]

    def as_dict(self) -> dict[str, Any]:
        """The data for results.json, with only the pairs that fell most."""
        worst = sorted(self.pairs, key=lambda pair: pair.chosen)[:WORST]
        sides = {n: getattr(self, n).as_dict() for n in ("chosen", "rejected", "fell", "alike", "unlike")}
        return {
            "verdict": self.verdict,
            "cause": self.cause,
            "remedy": self.remedy,
            **sides,
            "causes": {n: {"nats": c.nats.as_dict(), "tokens": c.tokens} for n, c in self.causes.items()},
            "positions": {n: [e.as_dict() for e in found] for n, found in self.positions.items()},
            "patterns": [{k: v for k, v in asdict(p).items() if k != "tokens"} for p in self.patterns],
            "likely": dict(Counter(p.likely for p in self.pairs if p.likely).most_common()),
            "worst": [{**asdict(p), "likely": p.likely} for p in worst],
        }


def displacement(
    policy: Policy,
    pairs: Sequence[Group],
    *,
    reference: Reference | None = None,
    others: Sequence[Group] = (),
    text: Callable[[Tensor], str] | None = None,
    packing: Packing | None = None,
) -> Displacement:
    """How `policy` moved on `pairs` against `reference` (or against the column `ref_logp` that they carry).

    Of a ranking the best and the worst count as a pair. `others` are more pairs of the same data, which show the
    patterns that it rejects. `text` converts tokens to text. Raises ValueError without pairs or reference.
    """
    groups = [_ends(g) for g in pairs]
    if not groups or (reference is None and not all(g.has(COLUMN) for g in groups)):
        raise ValueError("displacement needs pairs, and a reference or its log-probabilities on each of them")
    rows = token_rewards(policy, groups, beta=1.0, reference=reference, packing=packing)
    return split(groups, [[c.credit for c in row.completions] for row in rows], others=others, text=text)


def split(
    groups: Sequence[Group],
    changes: Sequence[Sequence[NDArray[np.float64]]],
    *,
    others: Sequence[Group] = (),
    text: Callable[[Tensor], str] | None = None,
) -> Displacement:
    """The same from the `changes` of log-probability [n] of the chosen and of the rejected tokens of each pair, or of
    the best and the worst of a ranking."""
    groups = [_ends(g) for g in groups]
    tokens = [_tokens(g) for g in groups]
    known = {g.name for g in groups}
    patterns = Patterns([*tokens, *(_tokens(_ends(g)) for g in others if g.name not in known)])
    told: list[Change] = []
    counts = np.zeros((len(groups), len(CAUSES) + 1))
    nats: dict[Gram, float] = {}
    for i, (group, (chosen, rejected), (up, down)) in enumerate(zip(groups, tokens, changes, strict=True)):
        lost, contested = np.maximum(-up, 0), patterns.contested(chosen, rejected)
        kind = _kinds(chosen, rejected, contested)
        counts[i] = np.bincount(kind, minlength=len(CAUSES) + 1)
        by_cause = np.bincount(kind, weights=lost, minlength=len(CAUSES) + 1).tolist()
        for gram, nat in zip(contested, lost, strict=True):
            if gram is not None:
                nats[gram] = nats.get(gram, 0.0) + float(nat)
        told.append(
            Change(
                group.name, float(up.sum()), float(down.sum()),
                dict(zip((*CAUSES, ELSEWHERE), by_cause, strict=True)), likeness(chosen, rejected), len(chosen),
            )
        )  # fmt: skip
    prompts = [g.prompt.numpy().tobytes() for g in groups]
    alike, unlike = _halves(told, prompts)
    top = sorted(nats, key=lambda g: (-nats[g], g))[: WORST // 2]
    return Displacement(
        chosen=mean_by_cluster([p.chosen for p in told], prompts),
        rejected=mean_by_cluster([p.rejected for p in told], prompts),
        fell=share_by_cluster([p.chosen < 0 for p in told], prompts),
        causes=_causes(told, counts, prompts),
        positions={n: _positions([row[i] for row in changes], prompts) for i, n in enumerate(("chosen", "rejected"))},
        alike=alike,
        unlike=unlike,
        patterns=tuple(
            LostPattern(g, text(torch.tensor(g)) if text else str(g), nats[g], patterns.won[g], patterns.lost[g])
            for g in top
        ),
        pairs=tuple(told),
    )


def _ends(group: Group) -> Group:
    """Chosen and rejected, which are the ends of a ranking. Raises ValueError for other groups."""
    branches = {b.role: b for b in group.branches}
    if branches.keys() == {Role.RANKED}:
        best, worst = group.branches[0], group.branches[-1]
        return replace(group, branches=(replace(best, role=Role.CHOSEN), replace(worst, role=Role.REJECTED)))
    if branches.keys() != {Role.CHOSEN, Role.REJECTED}:
        raise ValueError(f"{group.name} is neither a pair nor a ranking")
    return replace(group, branches=(branches[Role.CHOSEN], branches[Role.REJECTED]))


def _tokens(pair: Group) -> tuple[list[int], list[int]]:
    chosen, rejected = pair.branches
    return chosen.tokens.tolist(), rejected.tokens.tolist()


def _kinds(chosen: list[int], rejected: list[int], contested: Sequence[Gram | None]) -> NDArray[np.int64]:
    """For each chosen token the index of the first of CAUSES that can reach it; len(CAUSES) for none."""
    pattern = np.array([gram is not None for gram in contested])
    reach = (pattern, shared(chosen, rejected), np.arange(len(chosen)) < OPENING)
    return np.select(reach, range(len(CAUSES)), len(CAUSES))


def _causes(told: Sequence[Change], counts: NDArray[np.float64], prompts: Sequence[bytes]) -> dict[str, Cause]:
    whole = [sum(p.lost.values()) for p in told]
    shares = counts.sum(0) / counts.sum()
    return {
        name: Cause(bootstrap_ratio([p.lost[name] for p in told], whole, clusters=prompts), float(share))
        for name, share in zip((*CAUSES, ELSEWHERE), shares, strict=True)
    }


def _positions(rows: Sequence[NDArray[np.float64]], prompts: Sequence[bytes]) -> tuple[Estimate, ...]:
    """The mean at each position, while a tenth of the pairs and at least FEWEST reach it."""
    fewest = max(FEWEST, len(rows) / 10)
    columns = (
        [(float(row[at]), p) for row, p in zip(rows, prompts, strict=True) if at < len(row)] for at in range(MOST)
    )
    found: list[Estimate] = []
    for column in columns:
        if len(column) < fewest:
            break
        found.append(mean_by_cluster([value for value, _ in column], [prompt for _, prompt in column]))
    return tuple(found)


def _halves(told: Sequence[Change], prompts: Sequence[bytes]) -> tuple[Estimate, Estimate]:
    order = sorted(range(len(told)), key=lambda i: -told[i].likeness)
    half = len(order) // 2
    first, second = (
        mean_by_cluster([told[i].chosen for i in some], [prompts[i] for i in some])
        for some in (order[:half], order[half:])
    )
    return first, second
