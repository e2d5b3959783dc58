"""The credit of each token in a policy's implicit reward, and the parts of a pair that make its margin.

Rafailov, Hejna, Park and Finn 2024, "From r to Q*: Your Language Model is Secretly a Q-Function", arXiv:2404.12358. By
its equation 10, β·log π(a|s)/π_ref(a|s) = r(s, a) + V(s′) − V(s) at the optimum. A token's credit is therefore an
*advantage*, the change in the policy's expected reward. Summed over a completion the credits are its reward minus V of
the prompt, which all completions of the prompt share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from twofold.analysis.causes import Gram, opening
from twofold.batch import Group, Role
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.models.reference import COLUMN, Reference, with_reference
from twofold.statistics import Estimate, clustered_mean, mean_by_cluster

Values = NDArray[np.float64]

PARTS = ("opening", "first", "middle", "ending")
"""Parts of a pair: tokens at the start of both, the first that differs, the middle, tokens at the end of both."""
LONGEST = 3  # tokens of a phrase
_GOOD = (Role.CHOSEN, Role.DESIRABLE, Role.DEMONSTRATION, Role.TRUTH)
_BAD = (Role.REJECTED, Role.UNDESIRABLE)


@dataclass(frozen=True)
class Credited:
    """A completion: `tokens` [n], log π of each in nats and its credit, β·log π/π_ref, in units of reward. `between`
    are the tokens in between that only the context has: before which token, and which."""

    role: Role
    rank: int
    tokens: tuple[int, ...]
    logp: Values
    credit: Values
    between: tuple[tuple[int, tuple[int, ...]], ...] = ()

    @property
    def reward(self) -> float:
        """The implicit reward: the sum in token order, as the objectives take it."""
        return float(np.cumsum(self.credit)[-1])

    @property
    def label(self) -> str:
        """What a reader calls it: chosen, rejected, rank 1 …"""
        return f"rank {self.rank + 1}" if self.role is Role.RANKED else self.role.name.lower()


@dataclass(frozen=True)
class CreditedRow:
    """A group with the credit of every token of its completions. `prompt` are token ids, `numbers` the row's weight,
    probability and margin, which change no credit."""

    name: str
    prompt: tuple[int, ...]
    completions: tuple[Credited, ...]
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def ends(self) -> tuple[Credited, Credited] | None:
        """Chosen and rejected, or the best and the worst of a ranking; None for other rows."""
        roles = [c.role for c in self.completions]
        if roles == [Role.CHOSEN, Role.REJECTED] or (len(roles) > 1 and set(roles) == {Role.RANKED}):
            return self.completions[0], self.completions[-1]
        return None


def token_rewards(
    policy: Policy,
    groups: Sequence[Group],
    *,
    beta: float,
    reference: Reference | None = None,
    packing: Packing | None = None,
) -> list[CreditedRow]:
    """β·(log π − log π_ref) of every token of `groups`, against `reference` or the column `ref_logp` that they carry.

    Both models read the same packs as in training. Raises ValueError where neither reference nor column is there.
    """
    packing = packing or Packing()
    if reference is None and not all(g.has(COLUMN) for g in groups):
        raise ValueError("token rewards need a reference, or its log-probabilities on every completion")
    own = policy.logps(groups, packing)
    if reference is not None:
        groups = with_reference(groups, reference.logps(groups, packing))
    return [_row(g, mine, beta) for g, mine in zip(groups, own, strict=True)]


def _row(group: Group, own: Sequence[Tensor], beta: float) -> CreditedRow:
    told = [
        Credited(
            b.role, rank, tuple(b.tokens.tolist()), mine.double().numpy(),
            beta * (mine - b.token_columns[COLUMN]).double().numpy(),
            tuple((aside.at, tuple(aside.tokens.tolist())) for aside in b.asides),
        )
        for rank, (b, mine) in enumerate(zip(group.branches, own, strict=True))
    ]  # fmt: skip
    return CreditedRow(group.name, tuple(group.prompt.tolist()), tuple(told), group.numbers)


@dataclass(frozen=True)
class Phrase:
    """Tokens that occur in `rows` rows: their total credit per occurrence (clustered by row), and their counts in
    better and in worse completions."""

    text: str
    tokens: Gram
    credit: Estimate
    rows: int
    better: int
    worse: int


@dataclass(frozen=True)
class Ledger:
    """The phrases with the highest and with the lowest credit, each list in order."""

    counted: int
    credited: tuple[Phrase, ...]
    blamed: tuple[Phrase, ...]


@dataclass
class _Tally:
    """Statistics of one phrase: per row the sum of its credit and its count, and its counts on both sides."""

    sums: list[float] = field(default_factory=list[float])
    counts: list[int] = field(default_factory=list[int])
    better: int = 0
    worse: int = 0


def ledger(
    rows: Sequence[CreditedRow],
    text: Callable[[Gram], str],
    *,
    lengths: range = range(1, 2),
    fewest: int = 10,
    least: float = 0.0,
    top: int = 10,
) -> Ledger:
    """Phrases of `lengths` tokens in at least `fewest` rows, ordered by their credit beyond chance: credited by the
    lower end of their interval, if that is above `least`, blamed by the upper end, if that is below −`least`. Phrases
    within a listed phrase, around it, or that always continue it are left out.

    That order keeps the luck of rare phrases off the top, but corrects for no selection among the `counted` ones.
    """
    tallies = {g: t for g, t in _tallies(rows, lengths).items() if len(t.sums) >= max(2, fewest)}
    means = {g: clustered_mean(t.sums, t.counts) for g, t in tallies.items()}

    def phrases(grams: Sequence[Gram]) -> tuple[Phrase, ...]:
        return tuple(
            Phrase(text(g), g, means[g], len(tallies[g].sums), tallies[g].better, tallies[g].worse)
            for g in _apart(grams, top, means)
        )

    best = sorted((g for g, e in means.items() if e.low > least), key=lambda g: (-means[g].low, g))
    worst = sorted((g for g, e in means.items() if e.high < -least), key=lambda g: (means[g].high, g))
    return Ledger(len(means), phrases(best), phrases(worst))


def _apart(grams: Sequence[Gram], top: int, means: Mapping[Gram, Estimate]) -> list[Gram]:
    """The first `top` phrases of which none is within another or always continues another."""
    kept: list[Gram] = []

    def same(a: Gram, b: Gram) -> bool:
        goes_on = means[a].n == means[b].n and (_goes_on(a, b) or _goes_on(b, a))
        return goes_on or _within(a, b) or _within(b, a)

    for gram in grams:
        if len(kept) == top:
            break
        if not any(same(gram, other) for other in kept):
            kept.append(gram)
    return kept


def _within(inner: Gram, outer: Gram) -> bool:
    return any(outer[at : at + len(inner)] == inner for at in range(len(outer) - len(inner) + 1))


def _goes_on(before: Gram, after: Gram) -> bool:
    return any(before[-n:] == after[:n] for n in range(1, min(len(before), len(after)) + 1))


def _tallies(rows: Sequence[CreditedRow], lengths: range) -> dict[Gram, _Tally]:
    found: defaultdict[Gram, _Tally] = defaultdict(_Tally)
    for row in rows:
        here: dict[Gram, tuple[float, int]] = {}
        for said in row.completions:
            total = np.concatenate([[0.0], np.cumsum(said.credit)])
            better, worse = said.role in _GOOD, said.role in _BAD
            for n in lengths:
                for at in range(len(said.tokens) - n + 1):
                    gram = said.tokens[at : at + n]
                    earned, count = here.get(gram, (0.0, 0))
                    here[gram] = earned + float(total[at + n] - total[at]), count + 1
                    found[gram].better += better
                    found[gram].worse += worse
        for gram, (earned, count) in here.items():
            found[gram].sums.append(earned)
            found[gram].counts.append(count)
    return found


@dataclass(frozen=True)
class Parting:
    """Where a pair's sides part: the margin (implicit reward of chosen less that of rejected) as a sum over PARTS, and
    how many tokens both begin and end with. What both begin with earns the same on both sides."""

    name: str
    margin: float
    parts: Mapping[str, float]
    opening: int
    ending: int
    lengths: tuple[int, int]


def parting(row: CreditedRow) -> Parting | None:
    """The parting of a pair, or of the ends of a ranking; None for rows that compare nothing."""
    if row.ends is None:
        return None
    chosen, rejected = row.ends
    start = opening(chosen.tokens, rejected.tokens)
    after = (chosen.tokens[start + 1 :], rejected.tokens[start + 1 :])
    end = opening(after[0][::-1], after[1][::-1])
    a, b = (_parts(c.credit, start, end) for c in (chosen, rejected))
    return Parting(
        row.name,
        chosen.reward - rejected.reward,
        {name: a[name] - b[name] for name in PARTS},
        start,
        end,
        (len(chosen.tokens), len(rejected.tokens)),
    )


def _parts(credit: Values, start: int, end: int) -> dict[str, float]:
    stop = max(len(credit) - end, start + 1)
    cuts = (slice(0, start), slice(start, start + 1), slice(start + 1, stop), slice(stop, None))
    return {name: float(credit[cut].sum()) for name, cut in zip(PARTS, cuts, strict=True)}


@dataclass(frozen=True)
class Partings:
    """Over pairs: the margin and each part's contribution in units of reward, and the mean share of a pair's tokens in
    each of PARTS."""

    margin: Estimate
    parts: Mapping[str, Estimate]
    tokens: Mapping[str, float]
    opening: Estimate

    def as_dict(self) -> dict[str, Any]:
        parts = {n: {"credit": e.as_dict(), "tokens": self.tokens[n]} for n, e in self.parts.items()}
        return {"margin": self.margin.as_dict(), "parts": parts, "opening": self.opening.as_dict()}


def partings(found: Sequence[Parting], prompts: Sequence[Hashable] = ()) -> Partings:
    """The means over pairs, with Student's t intervals; over prompts, where pairs have the same entry of `prompts`."""
    shares = [_token_shares(p) for p in found]
    return Partings(
        mean_by_cluster([p.margin for p in found], prompts),
        {name: mean_by_cluster([p.parts[name] for p in found], prompts) for name in PARTS},
        {name: float(np.mean([s[name] for s in shares])) for name in PARTS},
        mean_by_cluster([p.opening for p in found], prompts),
    )


def _token_shares(pair: Parting) -> dict[str, float]:
    whole = sum(pair.lengths)
    first = sum(n > pair.opening for n in pair.lengths)
    counts = {"opening": 2 * pair.opening, "first": first, "ending": 2 * pair.ending}
    counts["middle"] = whole - sum(counts.values())
    return {name: counts[name] / whole for name in PARTS}


@dataclass(frozen=True)
class Planted:
    """The rank of a planted token at `place` among the `values` [n] of its completion."""

    values: Values
    place: int

    @property
    def rank(self) -> float:
        """1 for the lowest of the completion; ties share their ranks."""
        own = self.values[self.place]
        return 1 + float((self.values < own).sum()) + (float((self.values == own).sum()) - 1) / 2

    @property
    def auc(self) -> float:
        """The share of the completion's other tokens with a higher value; a tie counts half. 1 is perfect, ½ is
        chance."""
        return (len(self.values) - self.rank) / (len(self.values) - 1)
