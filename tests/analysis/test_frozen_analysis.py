"""What this room makes is frozen: nobody on the way changes it. What has a state of its own is listed."""

from __future__ import annotations

from support.frozen import by_keyword, changeable
from support.usual_defaults import constants, numbers, switched_on, unusual
from twofold import analysis


def test_only_what_has_a_state_can_be_changed() -> None:
    assert changeable(analysis) == {"_Tally"}


def test_what_nobody_names_is_as_everywhere() -> None:
    assert unusual(analysis) == {"ExplainSettings.__init__.max_length": 1024, "explain_model.max_length": 1024}


def test_a_switch_is_off_unless_somebody_asks() -> None:
    assert switched_on(analysis) == set()


def test_constants_are_these() -> None:
    assert constants(analysis) == {
        "causes.LONGEST": 3, "causes.CHANCE": 0.01, "credit.LONGEST": 3, "displacement.OPENING": 5,
        "displacement.WORST": 10, "displacement.MOST": 128, "displacement.FEWEST": 5, "displacement._BULK": 0.5,
        "displacement.NEAR": 0.8, "displacement._SLIGHT": 0.05, "displacement._NOTHING": 0.01, "drift.LONGEST": 3,
        "explanation.LEAST": 0.01, "explanation.MOST_TOKENS": 800,
    }  # fmt: skip


def test_numbers_that_nobody_names_are_these() -> None:
    assert numbers(analysis) == {
        "ledger.fewest": 10, "ledger.top": 10, "ExplainSettings.beta": 0.1, "ExplainSettings.fewest": 10,
        "explain_model.beta": 0.1, "explain_model.fewest": 10, "explain.fewest": 10,
    }  # fmt: skip


def test_settings_are_keywords() -> None:
    assert by_keyword(analysis) == {"ExplainSettings"}
