"""Kinds of instructions at their bounds, by hand: counts, parts that are empty, markers, and what is cut off."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from twofold.rewards import ifeval
from twofold.rewards.ifeval import KINDS, NEEDS, follows

BULLETS, TITLE, JSON = (
    "detectable_format:number_bullet_lists", "detectable_format:title", "detectable_format:json_format",
)  # fmt: skip
TWO, QUOTED, PARAGRAPHS = "combination:two_responses", "startend:quotation", "length_constraints:number_paragraphs"
SECTIONS, HIGHLIGHTS = "detectable_format:multiple_sections", "detectable_format:number_highlighted_sections"
FIRST, SCRIPT = "length_constraints:nth_paragraph_first_word", "detectable_content:postscript"
LETTERS, WORDS = "keywords:letter_frequency", "length_constraints:number_words"
STARS = "*" * 6


@pytest.mark.parametrize(
    ("kind", "text", "count"),
    [
        (BULLETS, "* a\n* b\n- c", 3), (BULLETS, "  - a\n** b\ntext", 1), (BULLETS, "a\n*", 0),
        (BULLETS, "a * b\nc - d", 0), (BULLETS, "-a\n-b", 2),
        (PARAGRAPHS, "a *** b", 2), (PARAGRAPHS, "*** a ***", 1), (PARAGRAPHS, "a\n***\nb\n***\nc", 3),
        (PARAGRAPHS, "a", 1),
    ],
)  # fmt: skip
def test_what_is_counted_exactly(kind: str, text: str, count: int) -> None:
    name = "num_bullets" if kind == BULLETS else "num_paragraphs"
    assert [n for n in range(6) if follows(text, kind, {name: n})] == [count]


@pytest.mark.parametrize(
    ("kind", "arguments", "name", "text", "most"),
    [
        ("detectable_content:number_placeholders", {}, "num_placeholders", "[a] [] b] [c d]", 3),
        ("detectable_content:number_placeholders", {}, "num_placeholders", "[a\nb]", 0),
        (HIGHLIGHTS, {}, "num_highlights", "*a* and **b** and * *", 2),
        (HIGHLIGHTS, {}, "num_highlights", "*a\nb*", 0), (HIGHLIGHTS, {}, "num_highlights", "****", 0),
        (HIGHLIGHTS, {}, "num_highlights", "**a**", 1), (HIGHLIGHTS, {}, "num_highlights", "*a* *b* *c*", 3),
        (SECTIONS, {"section_spliter": " Part "}, "num_sections", "Part 1\na\nPart 22\nb", 2),
        (SECTIONS, {"section_spliter": "Part"}, "num_sections", "Part one", 0),
        (SECTIONS, {"section_spliter": "Part"}, "num_sections", "Part3", 1),
    ],
)  # fmt: skip
def test_what_may_be_more(kind: str, arguments: dict[str, Any], name: str, text: str, most: int) -> None:
    assert [n for n in range(6) if follows(text, kind, {**arguments, name: n})] == list(range(most + 1))


@pytest.mark.parametrize(
    ("kind", "text", "right"),
    [
        (TITLE, "<<A title>>\ntext", True), (TITLE, "<< >>", False), (TITLE, "<title>", False),
        (TITLE, "<<a\nb>>", False), (TITLE, "<<<>>>", False),
        (JSON, '{"a": 1}', True), (JSON, '```json\n{"a": 1}\n```', True), (JSON, '```JSON\n[1]\n```', True),
        (JSON, "```Json\n1```", True), (JSON, "```\n1\n```", True), (JSON, "{a: 1}", False),
        (JSON, "It is {}", False), (JSON, "[" * 100_000, False),
        (TWO, f"a{STARS}b", True), (TWO, f"a {STARS} a", False), (TWO, f"a{STARS}b{STARS}c", False),
        (TWO, f"{STARS}a{STARS}b{STARS}", True), (TWO, f"a{STARS}{STARS}b", False), (TWO, "a" + "*" * 5 + "b", False),
        (TWO, f"a{STARS} ", False),
        (QUOTED, '"a"', True), (QUOTED, ' "a" ', True), (QUOTED, '"', False), (QUOTED, '""', True),
        (QUOTED, '"a', False), (QUOTED, 'a"', False), (QUOTED, "'a'", False),
        ("punctuation:no_comma", "a; b", True), ("punctuation:no_comma", "a, b", False),
        ("detectable_format:constrained_response", "Well. My answer is maybe.", True),
        ("detectable_format:constrained_response", "My answer is perhaps.", False),
        ("detectable_format:constrained_response", "my answer is no.", False),
    ],
)  # fmt: skip
def test_forms_without_arguments(kind: str, text: str, right: bool) -> None:
    assert follows(text, kind, {}) is right


@pytest.mark.parametrize("text", ["a *** *** b", "a******b", "*** *** a"])
def test_an_empty_paragraph_is_allowed_only_first_or_last(text: str) -> None:
    assert not any(follows(text, PARAGRAPHS, {"num_paragraphs": n}) for n in range(5))


@pytest.mark.parametrize(
    ("text", "nth", "right"),
    [
        ("One a.\n\n'Two' b\n\n\"Three, c", 1, "one"), ("One a.\n\n'Two' b\n\n\"Three, c", 2, "two"),
        ("One a.\n\n'Two' b\n\n\"Three, c", 3, "three"), ("One\n\n\n\nTwo\n\nThree!b", 1, "one"),
        ("One\n\nTwo\n\nThree!b", 3, "three"), ("Who?me\n\nb\n\nc", 1, "who"), ("it's\n\nb\n\nc", 1, "it"),
    ],
)  # fmt: skip
def test_the_first_word_of_a_paragraph_ends_at_its_punctuation(text: str, nth: int, right: str) -> None:
    how = {"num_paragraphs": 3, "nth_paragraph": nth}
    assert follows(text, FIRST, {**how, "first_word": right.upper()})
    assert not follows(text, FIRST, {**how, "first_word": f"{right}x"})
    assert not follows(f"{text}\n\nmore", FIRST, {**how, "first_word": right})


def test_a_paragraph_that_is_empty_or_none_has_no_first_word() -> None:
    assert not follows("a\n\n\n\nb", FIRST, {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "b"})
    assert not follows("a\n\nb", FIRST, {"num_paragraphs": 2, "nth_paragraph": 0, "first_word": "a"})


@pytest.mark.parametrize(
    ("marker", "text", "right"),
    [
        ("P.S.", "a\np. s. b", True), ("P.S.", "PS b", False), ("P.S.", "P.S b", False), ("P.P.S", "p.p. s b", True),
        ("P.P.S", "P.S. b", False), ("P.P.S", "p. p.s", True), ("Note:", "a\nNOTE: b", True),
        (" Note: ", "note: b", True),
        ("Note:", "a", False), ("(", "a ( b", True),
    ],
)  # fmt: skip
def test_markers_of_a_postscript(marker: str, text: str, right: bool) -> None:
    assert follows(text, SCRIPT, {"postscript_marker": marker}) is right


@pytest.mark.parametrize(
    ("kind", "arguments", "text", "right"),
    [
        ("keywords:existence", {"keywords": ["Sea", "land"]}, "the LAND and the sea", True),
        ("keywords:existence", {"keywords": ["sea", "land"]}, "the sea", False),
        ("keywords:existence", {"keywords": ["("]}, "a (", True),
        ("keywords:forbidden_words", {"forbidden_words": ["sea", "sky"]}, "Seaside", True),
        ("keywords:forbidden_words", {"forbidden_words": ["sea", "sky"]}, "the SKY!", False),
        ("combination:repeat_prompt", {"prompt_to_repeat": " Say it. "}, "  say IT. Yes", True),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "Yes: say it.", False),
        ("startend:end_checker", {"end_phrase": " Bye! "}, 'So "bye!"', True),
        ("startend:end_checker", {"end_phrase": "Bye!"}, "Bye! then", False),
    ],
)  # fmt: skip
def test_words_and_phrases(kind: str, arguments: dict[str, Any], text: str, right: bool) -> None:
    assert follows(text, kind, arguments) is right


@pytest.mark.parametrize(
    ("kind", "count", "text"),
    [("keywords:frequency", 2, "Sea, seaside, a"), (LETTERS, 3, "Aa, ba"), (WORDS, 3, "one two-three!")],
)
def test_counts_are_less_or_at_least(kind: str, count: int, text: str) -> None:
    def verdicts(relation: str) -> list[bool]:
        how = {
            "keywords:frequency": lambda n: {"keyword": " sea ", "frequency": n, "relation": relation},
            LETTERS: lambda n: {"letter": " A ", "let_frequency": n, "let_relation": relation},
            WORDS: lambda n: {"num_words": n, "relation": relation},
        }[kind]
        return [follows(text, kind, how(n)) for n in (count - 1, count, count + 1)]

    assert verdicts("at least") == [True, True, False]
    assert verdicts("less than") == [False, False, True]


def test_a_table_of_packages_names_kinds_that_there_are() -> None:
    assert {kind: package for kind, package in NEEDS.items() if kind in KINDS} == NEEDS
    assert [*NEEDS.values()] == ["langdetect"] * 3 + ["nltk"] * 2
    assert len(KINDS) == 25


def test_languages_are_detected_with_a_fixed_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The profiles are loaded once; a text that shows no language is of none."""
    calls: list[Any] = []

    class Silent(Exception):
        pass

    class Detector:
        def append(self, text: str) -> None:
            calls.append(text)
            if text == "123":
                raise Silent

        def detect(self) -> str:
            return "de"

    class Factory:
        def load_profile(self, folder: str) -> None:
            calls.append(("profiles", folder))

        def set_seed(self, seed: int) -> None:
            calls.append(("seed", seed))

        create = staticmethod(Detector)

    package, factory, error = (
        ModuleType(name) for name in ("langdetect", "langdetect.detector_factory", "langdetect.lang_detect_exception")
    )
    factory.__dict__.update(PROFILES_DIRECTORY="here", DetectorFactory=Factory)
    error.__dict__["LangDetectException"] = Silent
    for module in (package, factory, error):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    ifeval._detectors.cache_clear()
    try:
        assert [ifeval._language_of(text) for text in ("ja", "123")] == ["de", None]
        assert calls == [("profiles", "here"), ("seed", 0), "ja", "123"]
    finally:
        ifeval._detectors.cache_clear()
