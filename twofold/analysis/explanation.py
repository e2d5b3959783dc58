"""The results of `twofold explain`: what a policy has learned from preferences, token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import Any

from twofold.analysis.credit import LONGEST, Credited, CreditedRow, Ledger, Partings, ledger, parting, partings
from twofold.analysis.displacement import Displacement, split
from twofold.analysis.drift import Drift
from twofold.batch import Group
from twofold.statistics import Estimate, mean_by_cluster, share_by_cluster

Decode = Callable[[Sequence[int]], str]
LEAST = 0.01  # nats that a listed token or phrase surely gains or loses: 1% of its probability
MOST_TOKENS = 800
"""Of one completion on the page; the rest is counted."""


@dataclass(frozen=True)
class Explanation:
    """`rewards` are mean implicit rewards by what completions are; `tokens` and `phrases` what earns and costs most. Of
    pairs (and the ends of rankings) the share in order, where the sides part, and what became of chosen."""

    beta: float
    rows: tuple[CreditedRow, ...]
    rewards: Mapping[str, Estimate]
    tokens: Ledger
    phrases: Ledger
    accuracy: Estimate | None = None
    partings: Partings | None = None
    displacement: Displacement | None = None
    drift: Drift | None = None

    @property
    def has_numbers(self) -> bool:
        """Whether rows have a weight, a probability or a margin. Every row counts once here."""
        return any(row.numbers for row in self.rows)

    def as_dict(self, decode: Decode, shown: Iterable[int] | None = None) -> dict[str, Any]:
        """The answer as JSON; the rows at the indices `shown` (all where None) with the text of every token."""
        indices = range(len(self.rows)) if shown is None else shown
        parts = {"accuracy": self.accuracy, "partings": self.partings, "displacement": self.displacement}
        told = {name: part.as_dict() for name, part in parts.items() if part is not None}
        return {
            "beta": self.beta,
            "n": len(self.rows),
            "rewards": {name: e.as_dict() for name, e in self.rewards.items()},
            **(told | ({"drift": _plain(self.drift)} if self.drift else {})),
            "tokens": _plain(self.tokens),
            "phrases": _plain(self.phrases),
            "rows": [self._row(self.rows[i], decode) for i in indices],
        }

    def _row(self, row: CreditedRow, decode: Decode) -> dict[str, Any]:
        change = next((p for p in self.displacement.pairs if p.name == row.name), None) if self.displacement else None
        told = {
            "name": row.name,
            "prompt": decode(row.prompt),
            "completions": [_completion(row.prompt, said, decode) for said in row.completions],
        }
        if row.numbers:
            told["numbers"] = dict(row.numbers)
        if change is not None:
            told |= {"chosen_change": change.chosen, "likely": change.likely, "likeness": change.likeness}
        if (where := parting(row)) is not None:
            told |= {"margin": where.margin, "parts": dict(where.parts), "opening": where.opening}
        return told


def explain(
    rows: Sequence[CreditedRow],
    groups: Sequence[Group],
    decode: Decode,
    *,
    beta: float,
    fewest: int = 10,
    drift: Drift | None = None,
) -> Explanation:
    """Read the credited `rows` of `groups`; `fewest` is the minimum number of rows of a reported token or phrase.

    Raises ValueError without rows.
    """
    if not rows:
        raise ValueError("nothing to explain: no rows")
    parted = [(row.prompt, p) for row in rows if (p := parting(row)) is not None]
    prompts, found = [prompt for prompt, _ in parted], [p for _, p in parted]
    compared = [(row, g) for row, g in zip(rows, groups, strict=True) if row.ends is not None]
    return Explanation(
        beta=beta,
        rows=tuple(rows),
        rewards=_rewards(rows),
        tokens=ledger(rows, decode, fewest=fewest, least=LEAST * beta),
        phrases=ledger(rows, decode, lengths=range(2, LONGEST + 1), fewest=fewest, least=LEAST * beta),
        accuracy=share_by_cluster([p.margin > 0 for p in found], prompts) if found else None,
        partings=partings(found, prompts) if found else None,
        displacement=_displaced(compared, beta, decode) if compared else None,
        drift=drift,
    )


def _plain(told: Drift | Ledger) -> dict[str, Any]:
    """Its fields; an interval's `count` only where there is one."""
    return asdict(told, dict_factory=lambda items: {k: v for k, v in items if v is not None})


def _rewards(rows: Sequence[CreditedRow]) -> dict[str, Estimate]:
    found: dict[str, list[tuple[float, tuple[int, ...]]]] = {}
    for prompt, each in ((row.prompt, c) for row in rows for c in row.completions):
        found.setdefault(each.label, []).append((each.reward, prompt))
    return {name: mean_by_cluster([r for r, _ in some], [p for _, p in some]) for name, some in found.items()}


def _displaced(compared: Sequence[tuple[CreditedRow, Group]], beta: float, decode: Decode) -> Displacement:
    """From the same numbers: credit over β is the change of log-probability."""
    changes = [[side.credit / beta for side in row.ends or ()] for row, _ in compared]
    return split([g for _, g in compared], changes, text=lambda tokens: decode(tokens.tolist()))


def _completion(prompt: Sequence[int], said: Credited, decode: Decode) -> dict[str, Any]:
    texts, context, before, done = list[str](), list[dict[str, Any]](), prompt, 0
    for at, ids in (*said.between, (MOST_TOKENS, ())):
        texts += pieces(before, said.tokens[done : min(at, MOST_TOKENS)], decode)
        if ids and at < MOST_TOKENS:
            context.append({"before": at, "text": decode(ids)})
        before, done = ids or before, at
    return {
        "label": said.label,
        "reward": said.reward,
        "length": len(said.tokens),
        "tokens": [
            {"id": token, "text": piece, "credit": float(credit), "logp": float(logp)}
            for token, piece, credit, logp in zip(said.tokens, texts, said.credit, said.logp, strict=False)
        ],
        **({"context": context} if context else {}),
    }


def pieces(prompt: Sequence[int], tokens: Sequence[int], decode: Decode) -> list[str]:
    """The text that each token adds behind `prompt`, so that they concatenate to the completion; a token that ends
    within a character adds nothing, and the one that completes it all of it."""
    lead = list(prompt[-8:])
    whole = [decode([*lead, *tokens[:n]]) for n in range(len(tokens) + 1)]
    ends = list(accumulate((_agreed(text, whole[-1]) for text in whole), max))
    return [whole[-1][a:b] for a, b in pairwise(ends)]


def _agreed(text: str, whole: str) -> int:
    """How much of the start of `text` is in `whole`."""
    if whole.startswith(text):
        return len(text)
    return next((i for i, (a, b) in enumerate(zip(whole, text, strict=False)) if a != b), min(len(text), len(whole)))
