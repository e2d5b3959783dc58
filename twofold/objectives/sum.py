"""A weighted sum of objectives on the same rows, from one forward pass.

With dpo, bco_pair and sft it is mixed preference optimization (MPO): Wang et al. 2024, "Enhancing the Reasoning Ability
of Multimodal Large Language Models via Mixed Preference Optimization", arXiv:2411.10442. With dpo and sft on chosen it
is Iterative RPO (arXiv:2404.19733) with the likelihood averaged over tokens.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal

from twofold.batch import Batch, DataKind, Outputs, Role
from twofold.objectives.base import Domain, Loss, Objective, Term
from twofold.settings import require, settings

On = Literal["chosen", "rejected", "gold", "desirable", "undesirable"]
_ROLES: Mapping[On, Role] = {
    "chosen": Role.CHOSEN,
    "rejected": Role.REJECTED,
    "gold": Role.DEMONSTRATION,
    "desirable": Role.DESIRABLE,
    "undesirable": Role.UNDESIRABLE,
}
_SIDES: Mapping[DataKind, tuple[On, ...]] = {
    "pairs": ("chosen", "rejected"),
    "triples": ("chosen", "rejected", "gold"),
    "labels": ("desirable", "undesirable"),
}


@settings
class Summand:
    """A part of a sum. An objective on demonstrations reads the completions `on` one side of each row."""

    objective: Objective
    weight: float = 1.0
    on: On | None = None

    def __post_init__(self) -> None:
        require(0 < self.weight < math.inf, "weight must be > 0 and finite")

    @property
    def kind(self) -> str:
        """What it is called in metrics."""
        return str(getattr(self.objective, "kind", type(self.objective).__name__))

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        if self.on is None:
            return self.objective(outputs, batch)
        side, said = batch.only(_ROLES[self.on], outputs)
        loss = self.objective(said, side)
        terms, metrics = (
            {name: replace(term, unit=self._unit(term.unit)) for name, term in of.items()}
            for of in (loss.terms, loss.metrics)
        )
        return Loss(terms, metrics)

    def _unit(self, unit: str) -> str:
        """Units of one side."""
        role = _ROLES[self.on].name.lower() if self.on else ""
        return f"{unit}:{role}" if unit in ("branch", "token") else unit


@settings
class Sum(Objective):
    """Σ weight · loss over its parts. Terms and metrics of the first part have their own names, those of the others are
    behind the name of their objective. A sum of one part of weight 1 is that part."""

    kind: Literal["sum"] = "sum"
    parts: tuple[Summand, ...]

    def __post_init__(self) -> None:
        """Raises ValueError for parts that do not learn from the same rows."""
        require(len(self.parts) > 0, "parts must name at least one objective")
        require(not any(isinstance(p.objective, Sum) for p in self.parts), "parts must not be sums themselves")
        whole = [part for part in self.parts if part.on is None]
        require(len(whole) > 0, "parts need one objective without `on`: its rows are those of the run")
        first = whole[0].objective
        for part in self.parts:
            self._refuse_misfit(part, whole[0])
        reads = {"win_rate" in part.objective.requires for part in whole}
        require(len(reads) == 1, "parts disagree: sppo with probability=data reads what the others mix labels by")
        mine = [part.objective for part in self.parts]
        statistics = tuple(dict.fromkeys(name for each in mine for name in each.statistics))
        require(sum(bool(each.constant) for each in mine) < 2, "parts: two of them have running means; keep one")
        coupled = [part.kind for part in self.parts if part.objective.couples]
        require(
            not (coupled and statistics),
            f"parts do not fit: {''.join(coupled[:1])} compares a whole step, and {', '.join(statistics)} of tokens "
            "are known per pack only",
        )
        margins = ((i, part.objective.margin_setting) for i, part in enumerate(self.parts))
        vars(self).update(
            requires=tuple(dict.fromkeys(name for each in mine for name in each.requires)),
            data_kind=first.data_kind,
            reads=first.reads,
            statistics=statistics,
            couples=bool(coupled),
            domain=Domain(
                logratio=min(each.domain.logratio for each in mine),
                certain=all(each.domain.certain for each in mine),
                token=min(each.domain.token for each in mine),
            ),
            remedy=first.remedy,
            margin_setting=next((f"parts.{i}.{name}" for i, name in margins if name), None),
            margin_weighted=len(mine) == 1 and first.margin_weighted,
        )

    def _refuse_misfit(self, part: Summand, whole: Summand) -> None:
        kind, base = part.objective.data_kind, whole.objective
        if part.on is not None:
            known = _SIDES.get(base.data_kind, ())
            one = kind == "demonstrations"
            require(one, f"parts: `on` is for sft, dft and eaft, and {part.kind} learns from {kind}")
            names = ", ".join(known) or "none"
            require(part.on in known, f"parts: {base.data_kind} have no side {part.on!r}; they have {names}")
            require(base.reads == "logps", f"parts: {whole.kind} trains a reward model, which has no log-probabilities")
            return
        require(kind != "prompts", f"parts: {part.kind} learns from rollouts, and cannot be in a sum")
        hint = "; give it a side, such as `on: chosen`" if kind == "demonstrations" else ""
        require(
            kind == base.data_kind and part.objective.reads == base.reads,
            f"parts: {whole.kind} learns from {base.data_kind}, {part.kind} from {kind}{hint}",
        )

    @property
    def names(self) -> tuple[str, ...]:
        """What its parts are called: by their objective, from the second of one kind on with a number."""
        seen = Counter[str]()
        names = list[str]()
        for part in self.parts:
            seen[part.kind] += 1
            names.append(part.kind if seen[part.kind] == 1 else f"{part.kind}_{seen[part.kind]}")
        return tuple(names)

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        terms, metrics = dict[str, Term](), dict[str, Term]()
        for place, (name, part) in enumerate(zip(self.names, self.parts, strict=True)):
            loss = part(outputs, batch)
            for own, term in loss.terms.items():
                weighted = replace(term, weight=term.weight * part.weight)
                terms[own if not place else name if own == part.kind else f"{name}/{own}"] = weighted
            metrics |= {own if not place else f"{name}/{own}": term for own, term in loss.metrics.items()}
        return Loss(terms, metrics)


def members(objective: Objective) -> Iterator[Objective]:
    """The parts of a sum; any other objective is its only member."""
    yield from (part.objective for part in objective.parts) if isinstance(objective, Sum) else (objective,)
