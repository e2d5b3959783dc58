"""The 25 kinds of verifiable instructions of IFEval: Zhou et al. (2023), arXiv:2311.07911, table 1.

A kind has its published name, as `length_constraints:number_words`, and named arguments. The verdicts equal those of
lm-eval's task `ifeval`, also where its rule is peculiar: keywords, section names and markers are regular expressions,
and a text without words is in every language. Where lm-eval draws a missing argument at random, `DataError` is raised.

Five kinds need the extra `ifeval`: languages are those of langdetect (here with a fixed seed), sentences and words in
capitals those of NLTK.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from twofold.errors import DataError, RecipeError

RELATIONS = ("less than", "at least")
OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
FENCES = ("```json", "```Json", "```JSON", "```")
REMEDY = 'write instructions as [{"kind": "keywords:existence", "keywords": ["sea"]}], with IFEval\'s names'


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction that can be checked."""

    kind: str
    arguments: Mapping[str, Any]

    def follows(self, text: str) -> bool:
        """Whether `text` follows it. An empty text follows nothing."""
        return bool(text.strip()) and KINDS[self.kind](text, **self.arguments)


def follows(text: str, kind: str, arguments: Mapping[str, Any]) -> bool:
    """Whether `text` follows one instruction. Raises `DataError` for an unknown kind or a wrong argument."""
    return instruction(kind, arguments).follows(text)


def instruction(kind: str, arguments: Mapping[str, Any]) -> Instruction:
    """The instruction, checked. Arguments of None are no arguments, as in the published rows.

    Raises `DataError` for an unknown kind, or for an argument that is missing, unknown or of another type.
    """
    if kind not in KINDS:
        raise DataError(f"{str(kind)[:60]!r} is no kind of instruction", where="", remedy=f"one of {', '.join(KINDS)}")
    given = {name: value for name, value in arguments.items() if value is not None}
    wanted = {p.name: str(p.annotation) for p in inspect.signature(KINDS[kind]).parameters.values() if p.name != "text"}
    for name in (*wanted, *given):
        if name not in given:
            raise DataError(f"{kind} lacks its argument `{name}`", where="", remedy=REMEDY)
        if name not in wanted:
            remedy = f"its arguments are {', '.join(wanted) or 'none'}"
            raise DataError(f"{kind} has no argument `{name}`", where="", remedy=remedy)
        given[name] = _typed(kind, name, given[name], wanted[name])
    if kind == "length_constraints:nth_paragraph_first_word" and given["nth_paragraph"] > given["num_paragraphs"]:
        raise DataError(f"{kind}: nth_paragraph is above num_paragraphs", where="", remedy=REMEDY)
    return Instruction(kind, given)


@lru_cache(maxsize=1024)
def instructions_of(answer: str) -> tuple[Instruction, ...]:
    """The instructions in a reference answer, from JSON. Raises `DataError` where they cannot be checked."""
    try:
        given = json.loads(answer)
    except ValueError:
        raise DataError("the instructions are no JSON", where="", remedy=REMEDY) from None
    if not isinstance(given, list) or not given or not all(isinstance(each, dict) and "kind" in each for each in given):
        raise DataError("the instructions are no list of objects with a kind", where="", remedy=REMEDY)
    return tuple(instruction(each["kind"], {k: v for k, v in each.items() if k != "kind"}) for each in given)


def strict(completion: str, instructions: Sequence[Instruction]) -> list[bool]:
    """The verdict on each instruction, of the completion as it is."""
    return [each.follows(completion) for each in instructions]


def loose(completion: str, instructions: Sequence[Instruction]) -> list[bool]:
    """The verdict on each instruction, if any of eight variants follows it: without the first line, the last, both;
    each with and without asterisks."""
    lines = completion.split("\n")
    parts = [completion, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    variants = list(dict.fromkeys([*parts, *(part.replace("*", "") for part in parts)]))
    return [any(each.follows(text) for text in variants) for each in instructions]


def _typed(kind: str, name: str, value: Any, wanted: str) -> Any:
    """The argument, if it has the type that the check's signature declares."""
    if wanted == "int" and isinstance(value, float) and value.is_integer():
        value = int(value)  # a column with nulls has numbers as floats
    right = {
        "int": isinstance(value, int) and not isinstance(value, bool) and value >= 0,
        "str": isinstance(value, str) and bool(value.strip()),
        "Sequence[str]": isinstance(value, list | tuple) and all(isinstance(word, str) for word in value) and value,
    }[wanted]
    if not right or (name.endswith("relation") and value not in RELATIONS):
        expected = {"int": "a number", "str": "a text", "Sequence[str]": "a list of texts"}[wanted]
        expected = " or ".join(map(repr, RELATIONS)) if name.endswith("relation") else expected
        raise DataError(f"{kind}: `{name}` is {str(value)[:40]!r}, not {expected}", where="", remedy=REMEDY)
    return value


def _compared(count: int, relation: str, number: int) -> bool:
    return count < number if relation == RELATIONS[0] else count >= number


@lru_cache(maxsize=4096)
def _pattern(text: str, flags: int = 0) -> re.Pattern[str]:
    """The text as a regular expression; one that is none is taken as it is."""
    try:
        return re.compile(text, flags)
    except re.error:
        return re.compile(re.escape(text), flags)


def _keywords(text: str, *, keywords: Sequence[str]) -> bool:
    return all(_pattern(word, re.IGNORECASE).search(text) for word in keywords)


def _frequency(text: str, *, keyword: str, frequency: int, relation: str) -> bool:
    return _compared(len(_pattern(keyword.strip(), re.IGNORECASE).findall(text)), relation, frequency)


def _forbidden(text: str, *, forbidden_words: Sequence[str]) -> bool:
    return not any(_pattern(rf"\b{word}\b", re.IGNORECASE).search(text) for word in forbidden_words)


def _letters(text: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    return _compared(text.lower().count(letter.strip().lower()), let_relation, let_frequency)


def _language(text: str, *, language: str) -> bool:
    return _language_of(text) in (language, None)


def _sentences(text: str, *, num_sentences: int, relation: str) -> bool:
    return _compared(len(_nltk().sent_tokenize(text)), relation, num_sentences)


def _paragraphs(text: str, *, num_paragraphs: int) -> bool:
    """Paragraphs between lines of three asterisks; an empty one is allowed only first or last."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    if not all(parts[1:-1]):
        return False
    return sum(map(bool, parts)) == num_paragraphs


def _words(text: str, *, num_words: int, relation: str) -> bool:
    return _compared(len(re.findall(r"\w+", text)), relation, num_words)


def _first_word(text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Paragraphs between empty lines. The first word ends at its first punctuation mark."""
    parts = [part.strip() for part in text.split("\n\n")]
    count = sum(map(bool, parts))
    if count != num_paragraphs or not 1 <= nth_paragraph <= count or not parts[nth_paragraph - 1]:
        return False
    word = parts[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    return re.split(r"[.,?!'\"]", word)[0].lower() == first_word.lower()


def _placeholders(text: str, *, num_placeholders: int) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


def _postscript(text: str, *, postscript_marker: str) -> bool:
    marker = postscript_marker.strip()
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return _pattern(known.get(marker, marker.lower())).search(text.lower()) is not None


def _bullets(text: str, *, num_bullets: int) -> bool:
    stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    return len(stars) + len(re.findall(r"^\s*-.*$", text, re.MULTILINE)) == num_bullets


def _constrained(text: str) -> bool:
    return any(option in text for option in OPTIONS)


def _highlights(text: str, *, num_highlights: int) -> bool:
    """Texts between two single asterisks, and between two double ones."""
    single = [part.strip("*").strip() for part in re.findall(r"\*[^\n\*]*\*", text)]
    double = [part[2:-2].strip() for part in re.findall(r"\*\*[^\n\*]*\*\*", text)]
    return sum(map(bool, single + double)) >= num_highlights


def _sections(text: str, *, section_spliter: str, num_sections: int) -> bool:
    return len(_pattern(rf"\s?{section_spliter.strip()}\s?\d+\s?").split(text)) - 1 >= num_sections


def _json(text: str) -> bool:
    text = text.strip()
    for fence in FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str) -> bool:
    return any(title.lstrip("<").rstrip(">").strip() for title in re.findall(r"<<[^\n]+>>", text))


def _two_responses(text: str) -> bool:
    """Two different texts around six asterisks; an empty part is allowed only first or last."""
    parts = [part.strip() for part in text.split("*" * 6)]
    filled = [part for part in parts if part]
    return all(parts[1:-1]) and len(filled) == 2 and filled[0] != filled[1]


def _repeated(text: str, *, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def _end(text: str, *, end_phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def _capital_words(text: str, *, capital_frequency: int, capital_relation: str) -> bool:
    words = _nltk().word_tokenize(text)
    return _compared(sum(word.isupper() for word in words), capital_relation, capital_frequency)


def _capitals(text: str) -> bool:
    return text.isupper() and _language_of(text) in ("en", None)


def _small_letters(text: str) -> bool:
    return text.islower() and _language_of(text) in ("en", None)


def _no_comma(text: str) -> bool:
    return "," not in text


def _quoted(text: str) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


KINDS: Mapping[str, Callable[..., bool]] = {
    "keywords:existence": _keywords,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": _forbidden,
    "keywords:letter_frequency": _letters,
    "language:response_language": _language,
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": _words,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": _constrained,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeated,
    "startend:end_checker": _end,
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": _capitals,
    "change_case:english_lowercase": _small_letters,
    "punctuation:no_comma": _no_comma,
    "startend:quotation": _quoted,
}
"""The check of each kind. Its keywords are the kind's arguments."""
NEEDS: Mapping[str, str] = {
    "language:response_language": "langdetect",
    "change_case:english_capital": "langdetect",
    "change_case:english_lowercase": "langdetect",
    "length_constraints:number_sentences": "nltk",
    "change_case:capital_word_frequency": "nltk",
}
"""The package that a kind needs."""


def require_packages(instructions: Sequence[Instruction]) -> None:
    """Raise RecipeError if a package that checks one of the instructions is not installed, or lacks its data."""
    for kind in dict.fromkeys(each.kind for each in instructions if each.kind in NEEDS):
        if find_spec(NEEDS[kind]) is None:
            remedy = "pip install 'twofold[ifeval]'"
            raise RecipeError(f"the package {NEEDS[kind]} is not installed", where=kind, remedy=remedy)
        if NEEDS[kind] == "nltk":
            _nltk()


@lru_cache(maxsize=1)
def _detectors() -> Any:
    """langdetect's profiles of languages, with a fixed seed: without one, its verdict on a text may vary."""
    from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory  # pyright: ignore[reportMissingImports]  # an extra

    factory = DetectorFactory()
    factory.load_profile(PROFILES_DIRECTORY)
    factory.set_seed(0)
    return factory


def _language_of(text: str) -> str | None:
    """The code of the text's language; None where nothing in it shows one."""
    from langdetect.lang_detect_exception import LangDetectException  # pyright: ignore[reportMissingImports]  # an extra

    detector = _detectors().create()
    try:
        detector.append(text)
        return detector.detect()
    except LangDetectException:
        return None


@lru_cache(maxsize=1)
def _nltk() -> Any:
    """NLTK's module of tokenizers. Raises RecipeError without its data."""
    import nltk.data  # pyright: ignore[reportMissingImports]  # an extra
    import nltk.tokenize  # pyright: ignore[reportMissingImports]  # an extra

    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        remedy = "python -m nltk.downloader punkt_tab"
        raise RecipeError("its data punkt_tab is missing", where="nltk", remedy=remedy) from None
    return nltk.tokenize
