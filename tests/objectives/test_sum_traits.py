"""What a sum takes from its parts: columns, statistics, domain, advice, the setting of a margin, names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from support.scenes import preferences
from twofold.batch import Batch, Outputs
from twofold.objectives import CPO, DPO, IPO, ORPO, SFT, WPO, BradleyTerry, SimPO, SLiC
from twofold.objectives.base import Domain, Loss, Objective, Term
from twofold.objectives.checks import heard, leaf
from twofold.objectives.sum import Sum, Summand, members


@dataclass(frozen=True)
class Own(Objective):
    """Another's objective, with whatever domain it has."""

    domain: Domain = Domain()  # noqa: RUF009  # frozen

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        return Loss({"Own": Term(torch.ones(2), "pair", 3.0, spread=True)}, {"m": Term(torch.ones(2), "pair")})


def summed(*parts: tuple[Any, ...]) -> Sum:
    return Sum(parts=tuple(Summand(objective=o, weight=w, on=on[0] if on else None) for o, w, *on in parts))


def test_a_part_weighs_1_and_reads_the_rows_themselves() -> None:
    part = Summand(objective=DPO())
    assert (part.weight, part.on, part.kind) == (1.0, None, "dpo")
    assert Summand(objective=Own()).kind == "Own"


def test_columns_and_statistics_are_those_of_all_each_once() -> None:
    made = summed((SimPO(), 1.0), (DPO(), 1.0), (WPO(), 1.0), (DPO(beta=0.2), 1.0))
    assert made.requires == ("ref_logp",)
    assert made.statistics == WPO().statistics
    assert (made.couples, made.data_kind, made.reads) == (False, "pairs", "logps")


def test_the_domain_is_what_all_of_them_bear() -> None:
    made = summed((Own(Domain(7.0, True, 9.0)), 1.0), (Own(Domain(8.0, False, 5.0)), 1.0))
    assert made.domain == Domain(7.0, False, 5.0)
    assert summed((Own(Domain(8.0)), 1.0)).domain == Domain(8.0, True)


def test_advice_is_that_of_the_first_with_rows_of_its_own() -> None:
    made = summed((SFT(), 1.0, "chosen"), (DPO(), 1.0), (CPO(), 1.0))
    assert made.remedy == DPO().remedy
    assert DPO().remedy not in (CPO().remedy, SFT().remedy)


def test_the_setting_of_the_margin_is_told_with_its_place() -> None:
    assert summed((IPO(), 1.0), (ORPO(), 1.0)).margin_setting is None
    assert summed((IPO(), 1.0), (SLiC(), 1.0), (SimPO(), 1.0)).margin_setting == f"parts.1.{SLiC().margin_setting}"
    assert summed((SimPO(), 1.0)).margin_setting == f"parts.0.{SimPO().margin_setting}"


def test_the_margins_gradient_is_that_of_one_alone() -> None:
    assert summed((DPO(), 1.0)).margin_weighted
    assert not summed((DPO(), 1.0), (DPO(), 1.0)).margin_weighted


def test_a_side_of_scores_is_refused() -> None:
    @dataclass(frozen=True)
    class Scored(Objective):
        kind: str = "scored"
        reads = "scores"

    with pytest.raises(ValueError, match=r"^parts: scored trains a reward model, which has no log-probabilities$"):
        summed((Scored(), 1.0), (SFT(), 1.0, "chosen"))
    with pytest.raises(ValueError, match=r"^parts: dpo learns from pairs, scored from pairs$"):
        summed((DPO(), 1.0), (Scored(), 1.0))


def test_hints_are_only_for_what_may_have_a_side() -> None:
    with pytest.raises(ValueError, match=r"^parts: dpo learns from pairs, bradley_terry from rankings$"):
        summed((DPO(), 1.0), (BradleyTerry(), 1.0))


def test_names_of_parts_count_from_the_second_of_a_kind() -> None:
    made = summed((DPO(), 1.0), (SimPO(), 1.0), (DPO(), 1.0), (DPO(), 1.0), (SimPO(), 1.0))
    assert made.names == ("dpo", "simpo", "dpo_2", "dpo_3", "simpo_2")


def test_terms_of_the_second_are_behind_its_name_and_keep_the_rest() -> None:
    made = summed((Own(), 1.0), (Own(), 2.0))
    batch = Batch.of(preferences(2, torch.Generator().manual_seed(0))[0])
    loss = made(Outputs(torch.zeros(1)), batch)
    assert {n: (t.weight, t.unit, t.spread) for n, t in loss.terms.items()} == {
        "Own": (3.0, "pair", True),
        "Own_2": (6.0, "pair", True),
    }
    assert [*loss.metrics] == ["m", "Own_2/m"]


def test_terms_of_other_names_have_both() -> None:
    """The likelihood beside the second DPO is under the second's name; a side's terms are under that side's unit."""
    scene = preferences(3, torch.Generator().manual_seed(1))
    made = summed((DPO(), 1.0), (DPO(nll=0.5), 1.0), (SFT(average="completion"), 1.0, "rejected"))
    loss = made(heard(made, leaf(scene[1])), Batch.of(scene[0]))
    assert [*loss.terms] == ["dpo", "dpo_2", "dpo_2/nll", "sft"]
    assert loss.terms["sft"].unit == "branch:rejected"
    units = {name: term.unit for name, term in loss.metrics.items() if name.startswith("sft/")}
    assert {*units.values()} <= {"branch:rejected", "token:rejected"}
    assert [type(o) for o in members(made)] == [DPO, DPO, SFT]
