"""The figures of a mixture of experts, and which learning rates are unusual, by value."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.made_up_runs import run_data
from twofold.reports.experts import ExpertRow, ExpertUse, use_of
from twofold.reports.rates import unusual_rate
from twofold.reports.run import RunData


def with_experts(**experts: Any) -> RunData:
    run = run_data()
    return replace(run, results=replace(run.results, experts=experts))


def test_experts_stand_by_their_mean_share_with_the_range_over_layers() -> None:
    share = [[0.5, 0.0, 0.125, 0.375], [0.25, 0.125, 0.0, 0.625]]
    found = use_of(with_experts(share=share, evenness=1, tokens=40.0), "a")
    rows = [
        ExpertRow(3, 0.5, 0.375, 0.625), ExpertRow(0, 0.375, 0.25, 0.5),
        ExpertRow(1, 0.0625, 0.0, 0.125), ExpertRow(2, 0.0625, 0.0, 0.125),
    ]  # fmt: skip
    assert found == ExpertUse("a", evenness=1.0, tokens=40, layers=2, even=0.25, unused=2, rows=rows)
    assert found is not None
    assert (type(found.evenness), type(found.tokens)) == (float, int)


@pytest.mark.parametrize(("number", "shown"), [(16, list(range(16))), (17, [*range(8), *range(9, 17)])])
def test_of_more_than_sixteen_the_most_and_the_least_used_eight_are_shown(number: int, shown: list[int]) -> None:
    share = [[float(number - i) for i in range(number)]]
    found = use_of(with_experts(share=share, evenness=0.5, tokens=1), "a")
    assert found is not None
    assert [row.expert for row in found.rows] == shown


@pytest.mark.parametrize(
    "broken",
    [
        {}, {"share": []}, {"share": 3}, {"share": [3]}, {"share": [[]]}, {"share": [[0.5, 0.5], [1.0]]},
        {"share": [[0.5, "x"]]}, {"evenness": "x"}, {"evenness": None}, {"tokens": "x"}, {"tokens": None},
        {"tokens": float("nan")}, {"tokens": float("inf")},
    ],
)  # fmt: skip
def test_figures_that_are_broken_make_no_section(broken: dict[str, Any]) -> None:
    whole = {"share": [[0.5, 0.5]], "evenness": 1.0, "tokens": 3}
    assert use_of(with_experts(**whole), "a") is not None
    assert use_of(with_experts(**{**whole, **broken} if broken else {}), "a") is None


FULL, LORA, BY = "all weights", "an adapter", 1_000_000_000


@pytest.mark.parametrize(
    ("optimizer", "model", "kind", "parameters", "usual"),
    [
        ({}, {}, "dpo", BY, (1e-7, 1e-5, 10)),
        ({"kind": "adamw"}, {}, "dpo", 0, (1e-7, 1e-5, 10)),  # of unknown size
        ({}, {}, "dpo", 50_000_000, (1e-7, 1e-5, 10)),
        ({}, {}, "dpo", 49_999_999, (1e-7, 1e-5, 200)),
        ({}, {}, "dpo", 1, (1e-7, 1e-5, 200)),
        ({}, {}, "sft", BY, (1e-7, 1e-4, 10)),
        ({}, {}, "bradley_terry", BY, (1e-7, 1e-4, 10)),
        ({}, {"lora": {"rank": 8}}, "sft", BY, (1e-5, 1e-3, 10)),
        ({}, {"adapter": "a"}, "dpo", BY, (1e-5, 1e-3, 10)),
        ({"kind": "adafactor"}, {}, "dpo", BY, (3e-6, 3e-4, 10)),
    ],
)
def test_a_rate_is_unusual_below_half_of_what_is_usual_and_above_ten_times(
    optimizer: dict[str, Any], model: dict[str, Any], kind: str, parameters: int, usual: tuple[float, float, float]
) -> None:
    low, high, times = usual

    def verdict(rate: float) -> tuple[str, str] | None:
        settings = {"optimizer": {**optimizer, "learning_rate": rate}, "model": model, "objective": {"kind": kind}}
        return unusual_rate(settings, parameters)

    assert verdict(0.51 * low) == verdict(0.99 * times * high) == ("", "")
    words = f"for {LORA if model else FULL}: {low:g} to {high:g} are usual"
    assert verdict(0.49 * low) == ("low", f"{0.49 * low:g} {words}")
    assert verdict(1.01 * times * high) == ("high", f"{1.01 * times * high:g} {words}")


@pytest.mark.parametrize("optimizer", [
    {}, {"learning_rate": "x"}, {"learning_rate": 0}, {"learning_rate": -1.0}, {"learning_rate": float("inf")},
    {"learning_rate": float("nan")}, {"learning_rate": 1, "kind": "sgd"},
])  # fmt: skip
def test_a_rate_that_is_none_or_of_an_optimizer_without_a_usual_one_is_unknown(optimizer: dict[str, Any]) -> None:
    assert unusual_rate({"optimizer": optimizer}, BY) is None


def test_a_whole_number_is_a_rate() -> None:
    found = unusual_rate({"optimizer": {"learning_rate": 1}}, BY)
    assert found == ("high", "1 for all weights: 1e-07 to 1e-05 are usual")
