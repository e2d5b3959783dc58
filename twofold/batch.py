"""The data that the layers exchange: groups of token sequences, and a model's outputs for them.

Shape suffixes, here and everywhere: T tokens in a pack, S scored tokens, B branches, G groups, H hidden, V vocabulary.
A *group* is a prompt with its *branches* (completions). A demonstration has one branch, a pair two, and a ranking all
of its completions, best first. The generator of PDPO has its samples.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

DataKind = Literal["pairs", "triples", "rankings", "labels", "steps", "demonstrations", "prompts"]
"""The kinds of rows. Triples are pairs with an additional gold answer. Steps are solutions with rated steps. Prompts
are answered by the policy itself, in rollouts."""


WEIGHT, PROBABILITY = "weight", "probability"
"""Branch columns of a row, the same on all of its branches: how much it counts, and how likely its order (its label)
is right. A row without them counts once and is right."""
ROW_NUMBERS = (WEIGHT, PROBABILITY, "margin")
"""The branch columns that a row of any format may have next to its texts."""

STEP_LABEL = "step_label"
"""Token column: at the token after each rated step its label from 0 (wrong) to 1 (right), elsewhere −1."""

ENCODED_PROMPTS = "twofold_encoded_prompts"
"""The attribute of a tokenizer that is true if its model has an encoder for prompts. Then prompt and completion are two
separate texts."""


class Role(IntEnum):
    """The role of a branch in its group."""

    DEMONSTRATION = 0
    CHOSEN = 1
    REJECTED = 2
    DRAFT = 3
    TRUTH = 4
    RANKED = 5
    DESIRABLE = 6
    UNDESIRABLE = 7
    STEPS = 8


@dataclass(frozen=True)
class Aside:
    """Tokens of a branch that are read and not scored: a tool's result, a user's turn. They come before its scored
    token `at`, or behind the last where `at` is the number of scored tokens. With `fresh` the row starts again behind
    the group's prompt: templates may render earlier turns differently from how they were generated."""

    at: int
    tokens: Tensor
    fresh: bool = False


def asides_of(lists: Sequence[Sequence[Any]]) -> tuple[Aside, ...]:
    """Asides again, from `Branch.asides_as_lists`."""
    return tuple(Aside(at, torch.tensor(tokens, dtype=torch.int64), fresh) for at, fresh, tokens in lists)


class Strand(NamedTuple):
    """A row behind the group's prompt: its tokens [m], and which of them are scored [k]; None for all."""

    tokens: Tensor
    scored: Tensor | None = None


@dataclass(frozen=True)
class Branch:
    """A completion: `tokens` [n] int64 with the stop token, all of them scored, its frozen columns, and what is
    between its tokens unscored, in order.

    `token_columns` hold [n] tensors (reference log-probs …), `columns` numbers (the ground truth's log-ratio …).
    """

    tokens: Tensor
    role: Role
    token_columns: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    columns: Mapping[str, float] = field(default_factory=dict[str, float])
    asides: tuple[Aside, ...] = ()

    def strands(self, *, ends: bool = False) -> list[Strand]:
        """The rows to compute, whose scored tokens are those of the branch in order; most branches have one. Nothing
        follows the last scored token of a row; with `ends` there is only the last row, with all of its tokens."""
        if not self.asides:
            return [Strand(self.tokens)]
        rows: list[tuple[list[Tensor], list[Tensor]]] = [([], [])]
        done = 0
        for aside in (*self.asides, Aside(len(self.tokens), self.tokens[:0])):
            parts, scored = rows[-1]
            _extend(parts, scored, self.tokens[done : aside.at])
            done = aside.at
            if aside.fresh:
                rows[len(rows) - (not scored) :] = [([], [])]
            rows[-1][0].append(aside.tokens)
        if ends:
            return [Strand(torch.cat(rows[-1][0]))]
        made = [(torch.cat(parts), torch.cat(scored)) for parts, scored in rows if scored]
        return [Strand(tokens[: int(scored[-1]) + 1], scored) for tokens, scored in made]

    def asides_as_lists(self) -> list[list[Any]]:
        """Its asides as numbers: at, fresh, and the tokens."""
        tokens: list[Any] = [aside.tokens for aside in self.asides]
        return [[a.at, a.fresh, t.tolist()] for a, t in zip(self.asides, tokens, strict=True)]

    def spans(self) -> list[tuple[Tensor, bool]]:
        """All of its tokens in order, piece by piece, and whether a piece is scored."""
        pieces: list[tuple[Tensor, bool]] = []
        done = 0
        for aside in self.asides:
            pieces += [(self.tokens[done : aside.at], True), (aside.tokens, False)]
            done = aside.at
        return [piece for piece in (*pieces, (self.tokens[done:], True)) if len(piece[0])]

    @property
    def names(self) -> set[str]:
        """The names of its columns."""
        return {*self.token_columns, *self.columns}

    def with_columns(self, columns: Mapping[str, Tensor | float]) -> Branch:
        """The same branch with further columns; a tensor is a token column."""
        tokens = {k: v for k, v in columns.items() if isinstance(v, Tensor)}
        numbers = {k: float(v) for k, v in columns.items() if not isinstance(v, Tensor)}
        return replace(self, token_columns={**self.token_columns, **tokens}, columns={**self.columns, **numbers})


@dataclass(frozen=True)
class Group:
    """A prompt [P] (P ≥ 1) and its branches. `name` is what errors call it; `truth` [n] holds the ground truth."""

    name: str
    prompt: Tensor
    branches: tuple[Branch, ...]
    truth: Tensor | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens that a pack holds for this group: the prompt once, each row of a branch without its last token."""
        return self.prompt.numel() + sum(s.tokens.numel() - 1 for b in self.branches for s in b.strands())

    @property
    def longest(self) -> int:
        """Tokens of the longest row behind the prompt."""
        return max((s.tokens.numel() for b in self.branches for s in b.strands()), default=0)

    def with_columns(self, columns: Sequence[Mapping[str, Tensor | float]]) -> Group:
        """The same group with further columns, one mapping per branch."""
        branches = (b.with_columns(c) for b, c in zip(self.branches, columns, strict=True))
        return replace(self, branches=tuple(branches))

    def only_columns(self, names: Collection[str]) -> Group:
        """The same group without any columns but `names`."""
        branches = (
            replace(
                b,
                token_columns={k: v for k, v in b.token_columns.items() if k in names},
                columns={k: v for k, v in b.columns.items() if k in names},
            )
            for b in self.branches
        )
        return replace(self, branches=tuple(branches))

    def has(self, column: str) -> bool:
        """Whether every branch carries `column`."""
        return all(column in b.names for b in self.branches)

    @property
    def weight(self) -> float | None:
        """How much its row counts, if it has a weight."""
        return self.numbers.get(WEIGHT)

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers that its row has next to its texts, by name."""
        return {name: b.columns[name] for b in self.branches[:1] for name in ROW_NUMBERS if name in b.columns}


def with_row_columns(groups: Sequence[Group]) -> list[Group]:
    """`groups` in which all have a row's columns where one has them: a row without a weight counts once, and without a
    probability its order is right."""
    there = [name for name in (WEIGHT, PROBABILITY) if any(name in b.columns for g in groups for b in g.branches)]
    if not there:
        return list(groups)
    once = dict.fromkeys(there, 1.0)
    return [g.with_columns([{**once, **{k: b.columns[k] for k in there if k in b.columns}} for b in g.branches])
            for g in groups]  # fmt: skip


def with_shared_columns(groups: Sequence[Group]) -> list[Group]:
    """`groups` with only those columns that all of their branches have."""
    names = [b.names for g in groups for b in g.branches]
    shared = set[str].intersection(*names) if names else set[str]()
    return list(groups) if all(n == shared for n in names) else [g.only_columns(shared) for g in groups]


UNITS = ("group", "pair", "branch", "token", "step")


@dataclass(frozen=True)
class Batch:
    """The input of an objective: the branches with their groups and roles, and the frozen columns; no token ids."""

    names: tuple[str, ...]
    group_B: Tensor
    role_B: Tensor
    length_B: Tensor
    branch_S: Tensor
    token_columns: Mapping[str, Tensor]
    branch_columns: Mapping[str, Tensor]

    @classmethod
    def of(cls, groups: Sequence[Group], device: torch.device | str = "cpu") -> Batch:
        """Collate `groups` in order. Raises ValueError for a column that some branches have and others lack."""
        branches = [b for g in groups for b in g.branches]
        group = [i for i, g in enumerate(groups) for _ in g.branches]
        length_B = torch.tensor([len(b.tokens) for b in branches], dtype=torch.int64)
        _refuse_uneven_columns(groups)
        first = branches[0] if branches else Branch(length_B, Role.DRAFT)
        tokens = {k: torch.cat([b.token_columns[k] for b in branches]) for k in first.token_columns}
        numbers = {k: torch.tensor([b.columns[k] for b in branches], dtype=torch.float64) for k in first.columns}
        return cls(
            names=tuple(g.name for g in groups),
            group_B=torch.tensor(group, dtype=torch.int64, device=device),
            role_B=torch.tensor([int(b.role) for b in branches], dtype=torch.int64, device=device),
            length_B=length_B.to(device),
            branch_S=torch.repeat_interleave(torch.arange(len(branches)), length_B).to(device),
            token_columns={k: v.to(device) for k, v in tokens.items()},
            branch_columns={k: v.to(device) for k, v in numbers.items()},
        )

    @property
    def num_branches(self) -> int:
        return len(self.length_B)

    @property
    def rated_S(self) -> Tensor:
        """Whether a rated step ends before each token."""
        return self.token_columns[STEP_LABEL] >= 0

    def of_role(self, role: Role) -> Tensor:
        """Indices [n] of the branches that play `role`, in order."""
        return (self.role_B == int(role)).nonzero().squeeze(1)

    def count(self, unit: str) -> int:
        """How many of `unit` the batch holds; `token:chosen` or `branch:draft` restrict a unit to a role."""
        base, _, role = unit.partition(":")
        if base not in UNITS:
            raise ValueError(f"unit {unit!r}: expected one of {UNITS}, with an optional ':role'")
        if base == "group":
            return len(self.names)
        if base == "pair":
            return len(self.of_role(Role.CHOSEN))
        if base == "step":
            return int(self.rated_S.sum())
        mask = self.role_B == int(Role[role.upper()]) if role else torch.ones_like(self.role_B, dtype=torch.bool)
        return int(mask.sum()) if base == "branch" else int(self.length_B[mask].sum())

    def weights(self, unit: str) -> Tensor | None:
        """How much each entry of `unit` counts [n] (float64), in the order of a term's entries; None where every row
        counts once."""
        weight_B = self.branch_columns.get(WEIGHT)
        if weight_B is None:
            return None
        base, _, role = unit.partition(":")
        if base == "group":
            return weight_B.new_ones(len(self.names)).index_copy(0, self.group_B, weight_B)
        if base == "pair":
            return weight_B[self.of_role(Role.CHOSEN)]
        if base == "step":
            return weight_B[self.branch_S[self.rated_S]]
        mask_B = self.role_B == int(Role[role.upper()]) if role else torch.ones_like(self.role_B, dtype=torch.bool)
        return weight_B[mask_B] if base == "branch" else weight_B[self.branch_S[mask_B[self.branch_S]]]

    def mass(self, unit: str) -> float:
        """The sum of the weights of `unit`: what a sum over its entries is divided by for a mean."""
        weight_N = self.weights(unit)
        return self.count(unit) if weight_N is None else weight_N.sum().item()

    def sum(self, value_S: Tensor) -> Tensor:
        """Sums [B] of a per-token value over each branch, in token order."""
        return value_S.new_zeros(self.num_branches).index_add(0, self.branch_S, value_S)

    def sum_groups(self, value_B: Tensor) -> Tensor:
        """Sums [G] of a value over the branches of each group."""
        return value_B.new_zeros(len(self.names)).index_add(0, self.group_B, value_B)

    def only(self, role: Role, outputs: Outputs) -> tuple[Batch, Outputs]:
        """The batch and its outputs with only the branches of this role. Groups keep their positions."""
        index_B, mask_B = self.of_role(role), self.role_B == int(role)
        mask_S, place_B = mask_B[self.branch_S], torch.cumsum(mask_B, 0) - 1
        batch = replace(
            self,
            group_B=self.group_B[index_B],
            role_B=self.role_B[index_B],
            length_B=self.length_B[index_B],
            branch_S=place_B[self.branch_S[mask_S]],
            token_columns={k: v[mask_S] for k, v in self.token_columns.items()},
            branch_columns={k: v[index_B] for k, v in self.branch_columns.items()},
        )
        said = Outputs(
            None if outputs.logp_S is None else outputs.logp_S[mask_S],
            None if outputs.score_B is None else outputs.score_B[index_B],
            None if outputs.value_S is None else outputs.value_S[mask_S],
            {k: v[mask_S] for k, v in outputs.statistics.items()},
        )
        return batch, said

    def from_groups_of(self, other: Batch, value_B: Tensor) -> Tensor:
        """For each branch, the value of its group's only branch in `other`. `value_B` has a value per branch there."""
        place_G = other.group_B.new_zeros(len(other.names))
        place_G[other.group_B] = torch.arange(other.num_branches, device=place_G.device)
        return value_B[place_G[self.group_B]]


@dataclass(frozen=True)
class Outputs:
    """A model's outputs for a batch. A policy has `logp_S`, the log-probability of each scored token (nats). A reward
    model has `score_B`, the score of each branch. A value model has `value_S`, its estimate before each scored token.
    The others are None. float32, or float64 for float64 models."""

    logp_S: Tensor | None = None
    score_B: Tensor | None = None
    value_S: Tensor | None = None
    statistics: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Statistics that the objective requires: [S] each (`models/logprob.py` lists them). Only `entropy` has a
    gradient."""
    routing: Routing | None = None
    """Of a mixture of experts, if requested."""


@dataclass(frozen=True)
class Routing:
    """The routing of tokens, by layer and expert: sums [L, E] of router probabilities, how often each expert was chosen
    [L, E], and the number of tokens, counted in every layer. Values of several packs can be added."""

    probability_LE: Tensor
    chosen_LE: Tensor
    rows: float

    def __add__(self, other: Routing) -> Routing:
        return Routing(
            self.probability_LE + other.probability_LE, self.chosen_LE + other.chosen_LE, self.rows + other.rows
        )

    def imbalance(self, whole: Routing) -> Tensor:
        """The contribution of these tokens to the load-balancing loss of `whole`, of which they are a part:
        E · Σ_e (share of tokens through e) · (mean probability of e). Choices have no gradient, probabilities do."""
        share_E = whole.chosen_LE.sum(0) / whole.rows
        return self.probability_LE.shape[1] * (share_E * self.probability_LE.sum(0) / whole.rows).sum()

    def shares(self) -> Tensor:
        """Each expert's share [L, E] of all choices in a layer."""
        return self.chosen_LE / self.chosen_LE.sum(1, keepdim=True)

    def figures(self) -> dict[str, float]:
        """How even the use of experts is, and the largest and smallest share of an expert in a layer."""
        shares = self.shares()
        return {
            "experts/evenness": self.evenness(),
            "experts/largest_share": float(shares.max()),
            "experts/smallest_share": float(shares.min()),
        }

    def evenness(self) -> float:
        """Entropy of the shares over that of equal ones, the mean of all layers: 1 is even use, 0 a single expert."""
        shares_LE = self.shares().double()
        entropy_L = -torch.xlogy(shares_LE, shares_LE).sum(1)
        return float(entropy_L.mean() / math.log(self.chosen_LE.shape[1])) if self.chosen_LE.shape[1] > 1 else 1.0


def _extend(parts: list[Tensor], scored: list[Tensor], tokens: Tensor) -> None:
    """Add scored `tokens` to a row."""
    if len(tokens):
        begin = sum(map(len, parts))
        parts.append(tokens)
        scored.append(torch.arange(begin, begin + len(tokens)))


def _refuse_uneven_columns(groups: Sequence[Group]) -> None:
    """Raise ValueError unless all branches have the same columns."""
    known = [(group.name, branch.names) for group in groups for branch in group.branches]
    for name, names in known:
        for column in sorted(known[0][1] ^ names):
            has, lacks = (known[0][0], name) if column in known[0][1] else (name, known[0][0])
            raise ValueError(
                f"the column {column!r} is on {has} and not on all branches of {lacks}: give it to all or to none"
            )
