"""Arguments of instructions at their bounds, packages that are not there, and verdicts beside what they detect."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from twofold.errors import DataError, RecipeError
from twofold.rewards import ifeval
from twofold.rewards.ifeval import Instruction, follows, instruction, instructions_of, loose, require_packages, strict

WORDS, LETTERS, PARAGRAPH = (
    "length_constraints:number_words", "keywords:letter_frequency", "length_constraints:nth_paragraph_first_word",
)  # fmt: skip


def refusal(kind: Any, **arguments: Any) -> tuple[str, str, str]:
    with pytest.raises(DataError) as error:
        instruction(kind, arguments)
    return error.value.what, error.value.where, error.value.remedy


@pytest.mark.parametrize(
    ("kind", "arguments", "what"),
    [
        (WORDS, {"num_words": -1, "relation": "at least"}, f"{WORDS}: `num_words` is '-1', not a number"),
        (WORDS, {"num_words": True, "relation": "at least"}, f"{WORDS}: `num_words` is 'True', not a number"),
        (WORDS, {"num_words": 2.5, "relation": "at least"}, f"{WORDS}: `num_words` is '2.5', not a number"),
        (WORDS, {"num_words": 2}, f"{WORDS} lacks its argument `relation`"),
        (LETTERS, {"letter": " ", "let_frequency": 1, "let_relation": "at least"},
         f"{LETTERS}: `letter` is ' ', not a text"),
        (LETTERS, {"letter": "a", "let_frequency": 1, "let_relation": "more than"},
         f"{LETTERS}: `let_relation` is 'more than', not 'less than' or 'at least'"),
        ("keywords:existence", {"keywords": []}, "keywords:existence: `keywords` is '[]', not a list of texts"),
        ("keywords:existence", {"keywords": ["a", 3]},
         "keywords:existence: `keywords` is \"['a', 3]\", not a list of texts"),
        ("startend:end_checker", {"end_phrase": ["x" * 50]},
         f"startend:end_checker: `end_phrase` is {('[' + chr(39) + 'x' * 50)[:40]!r}, not a text"),
        (PARAGRAPH, {"num_paragraphs": 1, "nth_paragraph": 2, "first_word": "a"},
         f"{PARAGRAPH}: nth_paragraph is above num_paragraphs"),
    ],
)  # fmt: skip
def test_an_argument_has_its_type(kind: str, arguments: dict[str, Any], what: str) -> None:
    assert refusal(kind, **arguments) == (what, "", ifeval.REMEDY)


def test_what_no_kind_has_is_refused_with_what_there_is() -> None:
    what, where, remedy = refusal("x" * 70)
    assert (what, where) == (f"{'x' * 60!r} is no kind of instruction", "")
    assert remedy == f"one of {', '.join(ifeval.KINDS)}"
    assert refusal("punctuation:no_comma", letter="a") == (
        "punctuation:no_comma has no argument `letter`", "", "its arguments are none",
    )  # fmt: skip
    assert refusal(WORDS, num_words=1, relation="at least", letter="a")[2] == "its arguments are num_words, relation"


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (WORDS, {"num_words": 0, "relation": "less than"}),
        (WORDS, {"num_words": 3.0, "relation": "at least"}),
        (PARAGRAPH, {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "a"}),
        ("keywords:existence", {"keywords": ("a",)}),
    ],
)
def test_arguments_at_their_bounds_are_taken(kind: str, arguments: dict[str, Any]) -> None:
    made = instruction(kind, arguments)
    assert made == Instruction(kind, arguments)
    assert all(type(value) is not float for value in made.arguments.values())


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("[", "the instructions are no JSON"),
        ("[]", "the instructions are no list of objects with a kind"),
        ("{}", "the instructions are no list of objects with a kind"),
        ('[{"kind": "punctuation:no_comma"}, {"name": 1}]', "the instructions are no list of objects with a kind"),
        ("[3]", "the instructions are no list of objects with a kind"),
    ],
)
def test_a_reference_answer_is_a_list_of_instructions(answer: str, what: str) -> None:
    with pytest.raises(DataError) as error:
        instructions_of(answer)
    assert (error.value.what, error.value.where, error.value.remedy) == (what, "", ifeval.REMEDY)
    assert instructions_of('[{"kind": "punctuation:no_comma"}]') == (Instruction("punctuation:no_comma", {}),)


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_text_follows_nothing(text: str) -> None:
    told = [instruction("punctuation:no_comma", {}), instruction(WORDS, {"num_words": 5, "relation": "less than"})]
    assert strict(text, told) == loose(text, told) == [False, False]


@pytest.mark.parametrize(
    ("text", "variants"),
    [
        ("a, b\nc", True),
        ("c\na, b", True),
        ("a,\nc\nb,", True),
        ("a, b", False),
        ("a,\nb,\nc", False),
        ("a,\nb,\nc,", False),
    ],
)
def test_loose_leaves_the_first_and_the_last_line_out(text: str, variants: bool) -> None:
    told = [instruction("punctuation:no_comma", {})]
    assert (strict(text, told), loose(text, told)) == ([False], [variants])


def test_loose_leaves_asterisks_out() -> None:
    told = [instruction("startend:end_checker", {"end_phrase": "done"})]
    assert (strict("well **done**", told), loose("well **done**", told)) == ([False], [True])
    assert loose("Sure:\nwell **done**\nBye", told) == [True]


@pytest.mark.parametrize(("language", "same"), [("en", True), (None, True), ("de", False)])
def test_letters_of_one_case_are_english_or_of_no_language(
    monkeypatch: pytest.MonkeyPatch, language: str | None, same: bool
) -> None:
    monkeypatch.setattr(ifeval, "_language_of", lambda text: language)
    assert follows("ABC!", "change_case:english_capital", {}) is same
    assert follows("abc!", "change_case:english_lowercase", {}) is same
    assert not follows("AbC!", "change_case:english_capital", {})
    assert not follows("aBc!", "change_case:english_lowercase", {})
    assert follows("abc", "language:response_language", {"language": "en"}) is same
    assert follows("abc", "language:response_language", {"language": "de"}) is (language in ("de", None))


def test_sentences_and_capital_words_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    told = SimpleNamespace(sent_tokenize=lambda text: text.split("."), word_tokenize=str.split)
    monkeypatch.setattr(ifeval, "_nltk", lambda: told)
    sentences, capitals = "length_constraints:number_sentences", "change_case:capital_word_frequency"
    for number, least in ((2, True), (3, False)):
        assert follows("a. b", sentences, {"num_sentences": number, "relation": "at least"}) is least
        assert follows("a. b", sentences, {"num_sentences": number, "relation": "less than"}) is not least
        how = {"capital_frequency": number, "capital_relation": "at least"}
        assert follows("A bB CD e", capitals, how) is least


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()
    monkeypatch.setattr(ifeval, "find_spec", lambda name: asked.append(name))
    require_packages([Instruction("punctuation:no_comma", {})])
    assert asked == []
    kinds = ["punctuation:no_comma", "change_case:english_capital", "length_constraints:number_sentences"]
    with pytest.raises(RecipeError) as error:
        require_packages([Instruction(kind, {}) for kind in kinds])
    assert error.value.what == "the package langdetect is not installed"
    assert (error.value.where, error.value.remedy) == ("change_case:english_capital", "pip install 'twofold[ifeval]'")
    assert asked == ["langdetect"]


def test_data_of_a_package_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise LookupError(name)

    package, data, tokenize = (ModuleType(name) for name in ("nltk", "nltk.data", "nltk.tokenize"))
    package.data, package.tokenize, data.find = data, tokenize, missing  # type: ignore[attr-defined]  # as nltk has them
    for module in (package, data, tokenize):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(ifeval, "find_spec", lambda name: name)
    ifeval._nltk.cache_clear()
    with pytest.raises(RecipeError) as error:
        require_packages([Instruction("length_constraints:number_sentences", {})])
    assert error.value.what == "its data punkt_tab is missing"
    assert (error.value.where, error.value.remedy) == ("nltk", "python -m nltk.downloader punkt_tab")
    data.find = lambda name: None  # type: ignore[attr-defined]
    require_packages([Instruction("language:response_language", {}), Instruction("change_case:english_capital", {})])
    assert ifeval._nltk() is tokenize
    ifeval._nltk.cache_clear()
