"""Evaluating against generating along the training: panels of the figure, and the tables beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.pretrained.figure import draw, gains_table, looks_table, panel_of

LINES = {
    "DPO": [(0.75, 0.25), (0.8, 0.5), (0.8, 0.75), (0.9, 1.0)],
    "GRPO": [(0.5, 0.5), (0.5, 0.5), (0.5, 0.5), (0.7, 0.5)],
    "PDPO, gate": [(0.9, 0.0)] * 4,
}


def cells(*names: str) -> dict[str, dict[int, dict[str, Any]]]:
    """The base, and screenings that were looked at three times before their end."""
    found: dict[str, dict[int, dict[str, Any]]] = {"base": {0: {"values": [0.0, 0.5]}}}
    for name in names:
        *looks, (right, value) = LINES[name]
        along = [{"accuracy": {"right": 20 * a, "n": 20}, "value": v} for a, v in looks]
        found[name] = {0: {"along": along, "accuracy": {"right": 20 * right, "n": 20}, "values": [value]}}
    return found


def test_each_kind_of_method_has_a_panel(tmp_path: Path) -> None:
    """A method's name is in the legend of its own panel. Other panels have only its gray line."""
    assert [panel_of(name) for name in ("SimPO", "PDPO", "PDPO, verified", "PDPO, gate", "SPIN", "PPO")] == [
        "offline", "PDPO and its forms", "PDPO and its forms", "PDPO, one part changed", "on policy", "on policy",
    ]  # fmt: skip
    text = draw(cells(*LINES), tmp_path / "figure.svg").read_text()
    for shown in ("offline", "on policy", "PDPO, one part changed", *LINES, "value of its answers, %"):
        assert f">{shown}</text>" in text, shown
    assert ">PDPO and its forms</text>" not in text
    assert (text.count(">DPO</text>"), text.count("held-out pairs in order, %")) == (1, 2)


def test_the_tables_have_every_look_and_what_was_gained_when() -> None:
    """Interventions have looks, and no part in the means. DPO gains 25 and 0 points at first, then 15 and 75."""
    assert looks_table(cells("GRPO")) == [
        ("method", *(f"{what} {part}/4" for what in ("in order", "value") for part in (1, 2, 3, 4))),
        ("GRPO", "50.0", "50.0", "50.0", "70.0", "50.0", "50.0", "50.0", "50.0"),
    ]
    assert [row[0] for row in looks_table(cells(*LINES))] == ["method", "DPO", "GRPO", "PDPO, gate"]
    assert gains_table(cells(*LINES)) == [
        ("2 methods", "in order", "value"),
        ("first 1/4 of the tokens", "+12.5 [−146.3, +171.3]", "+12.5 [−146.3, +171.3]"),
        ("the rest", "+17.5 [−14.3, +49.3]", "+37.5 [−439.0, +514.0]"),
    ]
    assert gains_table(cells("DPO", "PDPO, gate")) == []
