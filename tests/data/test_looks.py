"""Which further checks are made of a source, and which of the one that it is compared with."""

from __future__ import annotations

import pytest

from twofold.data.contamination import Contamination, EvaluationPrompts
from twofold.data.issues import Issue
from twofold.data.looks import Further
from twofold.data.markup import turn_markup
from twofold.data.near import NearDuplicates, NearPrompts
from twofold.data.profile import Profile
from twofold.data.repeats import Overlap
from twofold.data.scores import LowMargins
from twofold.data.scripts import OtherScripts
from twofold.records import Pair, Source


def kinds(further: Further, *, compared: bool) -> tuple[list[str], list[str]]:
    ours, theirs = further.made(compared)
    return [type(look).__name__ for look in ours], [type(look).__name__ for look in theirs]


def test_nothing_further_is_nothing() -> None:
    assert kinds(Further(), compared=False) == ([], [])
    assert kinds(Further(looks=(Profile(),)), compared=False) == (["Profile"], [])
    shared = [Contamination.__name__, Overlap.__name__]
    assert kinds(Further(), compared=True) == (shared, [EvaluationPrompts.__name__, "_Other"])


def test_each_check_is_made_where_it_is_asked_for() -> None:
    pytest.importorskip("datasketch")
    assert kinds(Further(near=0.5), compared=False) == ([NearDuplicates.__name__], [])
    assert kinds(Further(least_margin=0.0), compared=False) == ([LowMargins.__name__], [])
    assert kinds(Further(scripts=True), compared=False) == ([OtherScripts.__name__], [])
    ours, theirs = kinds(Further(near=0.0, scripts=True), compared=True)
    assert ours == ["NearDuplicates", "OtherScripts", "Contamination", "Overlap", NearPrompts.__name__]
    assert theirs == ["EvaluationPrompts", "_Other", "_Before"]


def test_checks_have_their_thresholds() -> None:
    pytest.importorskip("datasketch")
    near, low, contamination, _, prompts = Further(0.75, 0.25, 1.5).made(compared=True)[0]
    assert isinstance(near, NearDuplicates)
    assert isinstance(low, LowMargins)
    assert isinstance(contamination, Contamination)
    assert isinstance(prompts, NearPrompts)
    assert (near._threshold, low._least, contamination._threshold, prompts._threshold) == (0.75, 1.5, 0.25, 0.75)


def test_markup_is_named_once_a_field_with_its_place() -> None:
    record = Pair("[INST] q", "a [/INST] b <|im_end|>", "c < d [e]", Source("f", 3))
    read = (("prompt", "[INST] q"), ("chosen", "a [/INST] b <|im_end|>"), ("rejected", "c < d [e]"))
    remedy = "cut the completion there: the chat template marks the turns"
    assert turn_markup(record, read) == [
        Issue("f", 3, "chosen", "holds the turn markup '<|im_end|>' at position 13", remedy, "warning", "turn markup")
    ]
    later = (("prompt", "[INST]"), ("chosen", "plain"), ("rejected", "[/INST]"))
    assert [(fault.field, fault.reason) for fault in turn_markup(record, later)] == [
        ("rejected", "holds the turn markup '[/INST]' at position 1")
    ]
