"""Who plays in which step."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.tiny import PROPERTY
from twofold.algorithms.pdpo import PDPO, PartSchedule
from twofold.algorithms.schedules import Ramp
from twofold.judges.gates import GateSettings
from twofold.objectives import PDPOGenerator
from twofold.objectives.pdpo import GeneratorSettings

D, G, BOTH = (True, False), (False, True), (True, True)


def test_joint_plays_both_after_the_warm_up() -> None:
    assert [PartSchedule(2).at(s) for s in range(5)] == [D, D, BOTH, BOTH, BOTH]
    assert [PartSchedule(2).before(s) for s in range(6)] == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (5, 3)]


def test_alternate_plays_one_after_the_other() -> None:
    turns = PartSchedule(1, (2, 1))
    assert [turns.at(s) for s in range(8)] == [D, D, D, G, D, D, G, D]
    assert [turns.before(s) for s in range(8)] == [(0, 0), (1, 0), (2, 0), (3, 0), (3, 1), (4, 1), (5, 1), (5, 2)]


def test_without_warm_up_both_play_at_once() -> None:
    assert PartSchedule(0).at(0) == BOTH
    assert PartSchedule(0, (1, 1)).at(0) == D
    assert PartSchedule(0, (1, 1)).at(1) == G


@PROPERTY
@given(st.integers(0, 7), st.none() | st.tuples(st.integers(1, 4), st.integers(1, 4)), st.integers(0, 60))
def test_before_counts_what_at_says(warm: int, cycle: tuple[int, int] | None, step: int) -> None:
    """Nobody's data is skipped while the other plays, and somebody plays in every step."""
    turns = PartSchedule(warm, cycle)
    played = [turns.at(s) for s in range(step)]
    assert turns.before(step) == (sum(d for d, _ in played), sum(g for _, g in played))
    assert any(turns.at(step))


def test_warm_up_is_a_fraction_below_1_and_steps_from_1_on() -> None:
    assert [PDPO(warmup=w).warm_steps(60) for w in (0, 0.1, 0.5, 1, 7)] == [0, 6, 30, 1, 7]


@pytest.mark.parametrize(
    ("field", "value"),
    [("gamma", -0.1), ("prompts", 0), ("samples", 0), ("warmup", -1.0), ("turns", (0, 1)), ("turns", (4, 0))],
)
def test_settings_that_cannot_be_meant_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        PDPO(**{field: value})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ramp": {"gamma": Ramp(to=-1.0)}}, "ramp.gamma"),
        ({"reuse_steps": 0}, "reuse_steps"),
        ({"generator": GeneratorSettings(baseline="leave_one_out")}, "samples ≥ 2"),
        (
            {
                "generator": GeneratorSettings(baseline="leave_one_out", gate="verifier"),
                "samples": 2,
                "gate_average": "passed",
            },
            "compares all",
        ),
        ({"gate_average": "passed"}, "needs a gate"),
        ({"generator": GeneratorSettings(clip=0.2)}, "reuse_steps ≥ 2"),
        (
            {"generator": GeneratorSettings(gradient_to="both", gate="verifier"), "gate_average": "passed"},
            "need correct and wrong drafts",
        ),
        ({"generator": GeneratorSettings(gate="judge")}, "gate judge needs judge"),
        ({"judge": GateSettings(source="verifier")}, "judge requires `generator.gate: judge`"),
        (
            {"generator": GeneratorSettings(gate="verifier"), "judge": GateSettings(source="verifier")},
            "judge requires `generator.gate: judge`",
        ),
    ],
)
def test_options_that_would_do_nothing_or_harm_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PDPO(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"clip": 2.0}, "clip must be in"),
        ({"kl": -1.0}, "kl must be"),
        ({"gradient_to": "truth", "direction": "down"}, "moves no draft"),
        ({"gradient_to": "both", "form": "square"}, "pushes the ground truth down"),
    ],
)
def test_options_of_the_generator_that_would_do_nothing_or_harm_are_refused(
    given: dict[str, Any], message: str
) -> None:
    for settings in (GeneratorSettings, PDPOGenerator):
        with pytest.raises(ValueError, match=message):
            settings(**given)


def test_gamma_is_constant_or_rises_after_the_warm_up() -> None:
    assert [PDPO(gamma=0.3).gamma_at(step, 40) for step in (4, 5, 39)] == [0.3] * 3
    rising = PDPO(gamma=0.25, warmup=2, ramp={"gamma": Ramp(to=1.0, over=4)})
    assert [rising.gamma_at(step, 40) for step in range(2, 8)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert PDPO(gamma=0.0, warmup=0, ramp={"gamma": Ramp(to=0.9, over=0.25)}).gamma_at(4, 40) == pytest.approx(0.4)


def test_a_ramp_says_what_it_changes() -> None:
    ramp = {"gamma": Ramp(to=0.9), "beta": Ramp(to=0.2)}
    assert PDPO(ramp=ramp).discriminator_ramp == {"beta": Ramp(to=0.2)}


def test_the_generators_objective_has_the_settings_of_the_algorithm() -> None:
    how = GeneratorSettings(form="softplus", per_token=True)
    assert PDPO(generator=how).objective(0.7) == PDPOGenerator(beta=0.7, form="softplus", per_token=True)
    stale = GeneratorSettings(margin=0.5, direction="down", gate="verifier", baseline="leave_one_out", clip=0.3)
    assert PDPO(generator=stale, samples=2, reuse_steps=2).objective(0.7) == PDPOGenerator(
        beta=0.7, margin=0.5, direction="down", gate="verifier", baseline="leave_one_out", clip=0.3
    )
