from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.data.split import alike, loose_problem, overlaps, prompt_key, refuse_overlap, split_by_prompt
from twofold.errors import DataError
from twofold.records import Message, Source, Task


def task(prompt: str, row: int = 1, file: str = "train.jsonl") -> Task:
    return Task(prompt, "1", Source(file, row))


def tasks(prompts: list[int]) -> list[Task]:
    return [task(f"problem {p}", row) for row, p in enumerate(prompts, 1)]


@given(
    prompts=st.lists(st.integers(0, 9), min_size=12, max_size=40), fraction=st.floats(0.3, 0.9), seed=st.integers(0, 99)
)
def test_no_prompt_is_on_both_sides_and_no_row_is_lost(prompts: list[int], fraction: float, seed: int) -> None:
    records = tasks(prompts)
    try:
        first, second = split_by_prompt(records, fraction=fraction, seed=seed)
    except DataError:
        assert min(prompts.count(p) for p in prompts) > round(fraction * len(prompts))
        return
    assert not {r.prompt for r in first} & {r.prompt for r in second}
    assert sorted([*first, *second], key=lambda r: r.source.row) == records
    assert 0 < len(first) <= round(fraction * len(records))
    assert [r.source.row for r in first] == sorted(r.source.row for r in first)
    assert split_by_prompt(records, fraction=fraction, seed=seed) == (first, second)


def test_a_count_is_met_exactly_where_every_prompt_is_its_own() -> None:
    first, second = split_by_prompt(tasks(list(range(7473))), count=6000, seed=3)
    assert (len(first), len(second)) == (6000, 1473)
    assert split_by_prompt(tasks(list(range(7473))), count=6000, seed=4)[0] != first


@pytest.mark.parametrize("count", [0, 3, 4])
def test_an_empty_side_is_refused(count: int) -> None:
    with pytest.raises(DataError, match=f"cannot put {count} of 3 rows"):
        split_by_prompt(tasks([1, 2, 3]), count=count, seed=0)


def test_what_to_do_about_an_empty_side_depends_on_the_rows() -> None:
    for prompts, remedy in (
        ([1, 2, 3], "ask for 1 to 2 rows"),
        ([1, 2], "ask for 1 to 1 rows"),
        ([1], "provide more rows"),
    ):
        with pytest.raises(DataError) as error:
            split_by_prompt(tasks(prompts), count=len(prompts), seed=0)
        assert error.value.remedy == remedy


def test_a_prompt_with_more_rows_than_asked_for_is_refused() -> None:
    with pytest.raises(DataError, match=r"the 1 asked for, .*never put on two sides\n  → ask for more rows"):
        split_by_prompt(tasks([1, 1, 2, 2]), count=1, seed=0)


def test_count_or_fraction_must_be_given_and_not_both() -> None:
    with pytest.raises(ValueError, match="either a count or a fraction"):
        split_by_prompt(tasks([1, 2]), seed=0)
    with pytest.raises(ValueError, match="either a count or a fraction"):
        split_by_prompt(tasks([1, 2]), count=1, fraction=0.5, seed=0)


def test_spacing_system_message_and_wrapping_do_not_make_another_problem() -> None:
    chat = (Message("system", "Be brief."), Message("user", "What is\n1 + 1?"))
    assert prompt_key(chat) == prompt_key(" What is 1  + 1?\n") == "What is 1 + 1?"


def test_both_forms_of_an_accented_letter_are_one_problem() -> None:
    assert prompt_key("Le cafe\u0301?") == prompt_key((Message("user", "Le caf\u00e9?"),)) == "Le caf\u00e9?"
    with pytest.raises(DataError, match="1 of 1 evaluation rows have a prompt that is trained on"):
        refuse_overlap([task("Le caf\u00e9?", 1)], [task("Le cafe\u0301?", 1, "test.jsonl")])


def test_overlap_is_refused_by_the_first_rows() -> None:
    train = tasks([1, 2, 3, 2])
    evaluation = [task(f"problem  {p}", row, "test.jsonl") for row, p in enumerate([9, 2, 3], 1)]
    assert [(t.source.row, e.source.row) for t, e in overlaps(train, evaluation)] == [(2, 2), (3, 3)]
    with pytest.raises(DataError) as error:
        refuse_overlap(train, evaluation)
    assert "2 of 3 evaluation rows" in str(error.value)
    assert "test.jsonl:2 = train.jsonl:2, test.jsonl:3 = train.jsonl:3" in str(error.value)
    assert error.value.where == "test.jsonl"


def test_an_overlap_is_of_the_file_of_its_first_row() -> None:
    evaluation = [task("problem 1", 1, "first.jsonl"), task("problem 2", 1, "second.jsonl")]
    with pytest.raises(DataError) as error:
        refuse_overlap(tasks([2, 1]), evaluation)
    assert error.value.where == "first.jsonl"


@pytest.mark.parametrize(("count", "end"), [(2, ""), (3, ""), (4, " …"), (5, " …")])
def test_at_most_three_rows_of_an_overlap_are_named(count: int, end: str) -> None:
    prompts = list(range(1, count + 1))
    evaluation = [task(f"problem {p}", p, "test.jsonl") for p in prompts]
    named = ", ".join(f"test.jsonl:{n} = train.jsonl:{n}" for n in prompts[:3])
    with pytest.raises(DataError) as error:
        refuse_overlap(tasks(prompts), evaluation)
    assert error.value.what == (f"{count} of {count} evaluation rows have a prompt that is trained on: {named}{end}")


@pytest.mark.parametrize("place", range(3))
def test_no_place_in_the_training_data_hides_a_leak(place: int) -> None:
    train, asked = tasks([1, 2, 3]), task(f"problem {place + 1}", 1, "test.jsonl")
    assert [(t.source.row, e.source.row) for t, e in overlaps(train, [asked])] == [(place + 1, 1)]
    assert [t.source.row for t, _ in overlaps(train[place : place + 1], [asked])] == [place + 1]


def test_disjoint_data_passes() -> None:
    refuse_overlap(tasks([1, 2]), tasks([3]))
    assert overlaps(tasks([1, 2]), tasks([3])) == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What is 2 + 3?", "what is  2 + 3", True),
        ("Hello, World!", "hello world", True),
        ('He said: "go".', "he said go", True),
        ("Straße", "STRASSE", True),
        ("2 - 3", "2 + 3", False),
        ("2 * (3 + 4)", "(2 * 3) + 4", False),
        ("1.5 apples", "15 apples", False),
        ("-3", "3", False),
        ("?", "!", False),
        ("a b", "ab", False),
    ],
)
def test_problems_are_alike_but_for_case_spacing_and_marks(one: str, other: str, same: bool) -> None:
    assert (loose_problem(task(one)) == loose_problem(task(other))) == same
    assert alike([task("x"), task(one)], [task(other), task("y")]) == same


def test_alike_rows_are_counted_in_what_is_measured() -> None:
    assert alike(tasks([1, 2]), []) == 0
    assert alike([], tasks([1, 2])) == 0
    assert alike([task("Problem 1!")], [*tasks([1, 2]), task("PROBLEM 1")]) == 2
