"""Letters that are enough to tell a script by, and how many of another one may be among them."""

from __future__ import annotations

import pytest

from twofold.data.issues import Issue
from twofold.data.scripts import OtherScripts, main_script, scripts_of
from twofold.records import Completion, Demonstration, Message, Pair, Ranking, Record, Source

AT = Source("f", 3)
LATIN, CYRILLIC = "a", "я"


def found(*records: Record) -> list[tuple[int, str, str]]:
    look = OtherScripts()
    for record in records:
        look.see(record, {})
    faults = list(look.faults("f"))
    remedy = "remove the row if the language is wrong; translations are in another script by right"
    assert all((f.file, f.remedy, f.severity, f.check) == ("f", remedy, "warning", "other script") for f in faults)
    assert all(isinstance(f, Issue) for f in faults)
    return [(f.row, f.field, f.reason) for f in faults]


def other(prompt: str, completion: Completion) -> bool:
    return bool(found(Demonstration(prompt, completion, AT)))


def test_scripts_are_counted_by_letters() -> None:
    assert scripts_of("a1é я!я") == {"Latin": 2, "Cyrillic": 2}
    assert scripts_of("あア漢ー") == {"Japanese": 2, "Cjk": 1} or scripts_of("あア漢") == {"Japanese": 2, "Cjk": 1}
    assert [main_script(text) for text in ("", "1", "é", "яя é", "אب")] == ["", "", "Latin", "Cyrillic", "Hebrew"]


@pytest.mark.parametrize(("letters", "known"), [(19, False), (20, True)])
def test_twenty_letters_are_evidence(letters: int, known: bool) -> None:
    assert other(LATIN * letters, CYRILLIC * 40) is known
    assert other(LATIN * 40, CYRILLIC * letters) is known
    assert other(f"{LATIN * letters} 123 456 789", CYRILLIC * 40) is known


@pytest.mark.parametrize(("same", "is_other"), [(2, True), (3, False)])
def test_a_tenth_may_be_of_the_prompts_script(same: int, is_other: bool) -> None:
    assert other(LATIN * 30, LATIN * same + CYRILLIC * (20 - same) + "1 2 3") is is_other


@pytest.mark.parametrize("prompt", [CYRILLIC * 20, "ก" * 20, "א" * 20])
def test_ascii_is_latin_behind_any_prompt(prompt: str) -> None:
    assert other(prompt, LATIN * 20)
    assert not other(LATIN * 20, LATIN * 20)


def test_only_the_first_letters_count() -> None:
    assert not other(LATIN * 30, LATIN * 400 + CYRILLIC * 4000)
    assert other(LATIN * 30, CYRILLIC * 400 + LATIN * 4000)
    assert not other(" " * 400 + LATIN * 30, CYRILLIC * 40)


def test_without_a_prompt_the_first_completion_counts() -> None:
    reason = "is in Cyrillic letters, the text that it belongs to in Latin ones"
    ranking = Ranking("", (LATIN * 20, CYRILLIC * 20, LATIN * 20, CYRILLIC * 21), AT)
    assert found(ranking) == [(3, "completions[2]", reason), (3, "completions[4]", reason)]
    assert found(Ranking("", (LATIN * 19, CYRILLIC * 20), AT)) == []
    chat = (Message("system", CYRILLIC * 40), Message("user", LATIN * 20))
    rows = [Pair(chat, LATIN * 20, CYRILLIC * 20, Source("f", n)) for n in (5, 6)]
    assert found(*rows) == [(5, "rejected", reason), (6, "rejected", reason)]
