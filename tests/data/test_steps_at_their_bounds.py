"""Rated steps at the bounds of what each format takes, and each of their faults in full."""

from __future__ import annotations

from typing import Any

import pytest

from twofold.data.shapes import SHAPES
from twofold.data.shapes.fields import Fields
from twofold.data.steps import SEPARATOR, keep_separator, separator_of, step_ends, step_labels
from twofold.errors import DataError
from twofold.records import Source, Steps

AT = Source("f", 3)
STEPWISE = "prompt + completions (steps) + labels"
BENCH = "problem + steps + label (ProcessBench)"
PRM = "question + label of steps (PRM800K)"
SHEPHERD = "input + label with marks (Math-Shepherd)"
LISTED = "list the steps of one solution, and a label for each [error: no rated step]"


def parsed(name: str, row: dict[str, Any]) -> tuple[Steps, list[str]]:
    fields = Fields(row, AT)
    record = next(shape for shape in SHAPES if shape.name == name).parse(fields)
    assert isinstance(record, Steps)
    issues = [*fields.faults, *fields.remarks]
    return record, [f"{i.field}: {i.reason} → {i.remedy} [{i.severity}: {i.check}]" for i in issues]


@pytest.mark.parametrize(
    ("label", "labels"),
    [
        (-1, (1.0, 1.0, 1.0)), (0, (0.0, None, None)), (1, (1.0, 0.0, None)), (2, (1.0, 1.0, 0.0)), (3, None),
        (-2, None), (1.0, None), (None, None), (False, None),
    ],
)  # fmt: skip
def test_the_first_wrong_step_is_one_of_the_steps(label: Any, labels: Any) -> None:
    record, faults = parsed(BENCH, {"problem": "p", "steps": ["a", "b", "c"], "label": label})
    place = "label: is not the place of a step → write the place of the first wrong step from 0, or -1"
    assert faults == ([] if labels else [f"{place} [error: mistyped field]"])
    assert record.labels == (labels or ())


@pytest.mark.parametrize(
    ("steps", "label", "faults"),
    [
        ([], 0, ["steps: is empty → " + LISTED]),
        ([], 1, ["steps: is empty → " + LISTED, "label: is not the place of a step → write the place of the first "
                 "wrong step from 0, or -1 [error: mistyped field]"]),
        ("ab", 0, ["steps: is text, not a list → " + LISTED]),
        (None, -1, ["steps: is null, not a list → " + LISTED]),
        (["a", 3], 0, ["completions[2]: is a number, not the text of a step → write each step as text [error: mistyped "
                       "field]"]),
    ],
)  # fmt: skip
def test_steps_are_a_list_of_texts(steps: Any, label: int, faults: list[str]) -> None:
    assert parsed(BENCH, {"problem": "p", "steps": steps, "label": label})[1][: len(faults)] == faults


NUMBER = "write true for a right step, false for a wrong one, a probability, or null where it is unrated"


@pytest.mark.parametrize(
    ("labels", "read", "faults"),
    [
        ([True, False], (1.0, 0.0), []), ([1, 0], (1.0, 0.0), []), ([0.25, None], (0.25, None), []),
        ([True, -0.5], (), [f"labels[2]: is -0.5, not true, false or a probability → {NUMBER} [error: mistyped "
                            "field]"]),
        ([1.5, True], (), [f"labels[1]: is 1.5, not true, false or a probability → {NUMBER} [error: mistyped field]"]),
        (["a", True], (), [f"labels[1]: is text, not true, false or a probability → {NUMBER} [error: mistyped field]"]),
        ([True], (), ["labels: has 1 labels for 2 steps → give each step true, false, a number from 0 to 1, or null "
                      "where it is unrated [error: mistyped field]"]),
        ([True] * 3, (), ["labels: has 3 labels for 2 steps → give each step true, false, a number from 0 to 1, or "
                          "null where it is unrated [error: mistyped field]"]),
        ([None, None], (), ["labels: rate no step → rate a step, or remove the row [error: no rated step]"]),
        ([], (), [f"labels: is empty → {LISTED}"]), (3, (), [f"labels: is a number, not a list → {LISTED}"]),
    ],
)  # fmt: skip
def test_labels_are_truths_or_probabilities(labels: Any, read: Any, faults: list[str]) -> None:
    record, issues = parsed(STEPWISE, {"prompt": "p", "completions": ["a", "b"], "labels": labels})
    assert (record.labels, issues) == (read, faults)
    assert record.steps == (("a", "b") if read else ())


MARKED = "q Step 1: x ки\nStep 2: y ки"


@pytest.mark.parametrize(
    ("text", "label", "steps", "labels", "faults"),
    [
        (MARKED, "q Step 1: x +\nStep 2: y -", ("Step 1: x", "Step 2: y"), (1.0, 0.0), []),
        ("q Step 1: x Step 1: y ки\nz ки", "q Step 1: x Step 1: y -\nz +", ("Step 1: x Step 1: y", "z"), (0.0, 1.0),
         []),
        ("q  Step 1 : x ки \n", "q  Step 1 : x +", ("Step 1 : x",), (1.0,), []),
        (MARKED, "q Step 1: x +\nStep 2: z -", (), (),
         ["label: is not the input with + or - after step 2 → write the input again, with + or - instead of each ки "
          "[error: mistyped field]"]),
        (MARKED, "q Step 1: x ?\nStep 2: y ?", (), (),
         ["label: is not the input with + or - after step 1 → write the input again, with + or - instead of each ки "
          "[error: mistyped field]"]),
        (MARKED + " z", "q Step 1: x +\nStep 2: y -", (), (),
         ["input: has text behind its last ки → end the last step with ки [error: mistyped field]"]),
        ("q 1: x ки", "q 1: x +", (), (),
         ["input: has no `Step 1:`, where the solution begins → mark where it begins [error: mistyped field]"]),
        ("q Step 1: x", "q Step 1: x", (), (),
         ["input: is no text with ки after each step → write it and `label` as texts, or remove the row [error: "
          "mistyped field]"]),
    ],
)  # fmt: skip
def test_marks_end_steps(text: str, label: str, steps: Any, labels: Any, faults: list[str]) -> None:
    record, issues = parsed(SHEPHERD, {"input": text, "label": label})
    assert (record.steps, record.labels, issues) == (steps, labels, faults)
    assert record.prompt == ("q" if steps else "")


def step(*ratings: int | None, chosen: Any = None, human: str = "") -> dict[str, Any]:
    """A step with candidates called a, b, c."""
    candidates = [{"text": name, "rating": rating} for name, rating in zip("abc", ratings, strict=False)]
    own = {"text": human} if human else None
    return {"completions": candidates, "chosen_completion": chosen, "human_completion": own}


def further(count: int) -> list[str]:
    return [
        f"label: has {count} further rated candidates, and only the chosen steps are read → write a row with its own "
        "steps for each candidate to use them [warning: unread candidates]"
    ]


@pytest.mark.parametrize(
    ("steps", "texts", "labels", "issues"),
    [
        ([step(1, chosen=0), step(-1, 0, chosen=1)], ("a", "b"), (1.0, 1.0), further(1)),
        ([step(1, -1, 0, chosen=1)], ("b",), (0.0,), further(2)),
        ([step(None, -1, 1)], ("b",), (0.0,), further(1)),
        ([step(None, None, 1, chosen=0), step(1, chosen=0)], ("a", "a"), (None, 1.0), further(1)),
        ([step(1), step(1, chosen=0)], ("a",), (1.0,), []),
        ([step(1, chosen=0), step(), step(1, chosen=0)], ("a",), (1.0,), []),
        ([step(1, -1, human="h"), step(0, chosen=0)], ("h", "a"), (1.0, 1.0), further(2)),
        ([step(None, chosen=0), step(0, chosen=0), step(-1, chosen=0)], ("a",) * 3, (None, 1.0, 0.0), []),
    ],
)  # fmt: skip
def test_the_chosen_candidate_of_each_step_is_read(steps: Any, texts: Any, labels: Any, issues: list[str]) -> None:
    """Up to the first step without one, of which the first that is rated is read."""
    record, notes = parsed(PRM, {"question": {"problem": "p"}, "label": {"steps": steps}})
    assert (record.prompt, record.steps, record.labels, notes) == ("p", texts, labels, issues)


RATING = (
    "is none of -1, 0 and 1 → write -1 for a wrong step, 1 for a right one, 0 for a neutral one [error: mistyped field]"
)


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        ([step(1, chosen=1)], "label.steps[1]: names candidate 1 of 1 → name a candidate by its place from 0 [error: "
                              "mistyped field]"),
        ([step(1, chosen=0), step(1, chosen=-1)],
         "label.steps[2]: names candidate -1 of 1 → name a candidate by its place from 0 [error: mistyped field]"),
        ([step(1, chosen="0")],
         "label.steps[1]: names candidate '0' of 1 → name a candidate by its place from 0 [error: mistyped field]"),
        ([step(1, chosen=0), step(2, chosen=0)],
         f"label.steps[2].rating: {RATING}"),
        ([step(True, chosen=0)],
         f"label.steps[1].rating: {RATING}"),
    ],
)  # fmt: skip
def test_a_candidate_is_named_by_its_place(steps: Any, fault: str) -> None:
    assert parsed(PRM, {"question": {"problem": "p"}, "label": {"steps": steps}})[1][0] == fault


@pytest.mark.parametrize(
    ("row", "fits"),
    [
        ({"question": {"problem": "p"}, "label": {"steps": []}}, True),
        ({"question": {"problem": "p"}, "label": {"steps": [{}]}}, True),
        ({"question": {"problem": "p"}, "label": {"steps": [{"completions": None, "human_completion": {}}]}}, True),
        ({"question": {"text": "p"}, "label": {"steps": []}}, False),
        ({"question": "problem", "label": {"steps": []}}, False),
        ({"question": {"problem": "p"}, "label": "steps"}, False),
        ({"question": {"problem": "p"}, "label": {"steps": [[]]}}, False),
        ({"question": {"problem": "p"}, "label": {"steps": [{"completions": "a"}]}}, False),
        ({"question": {"problem": "p"}, "label": {"steps": [{"completions": ["a"]}]}}, False),
        ({"question": {"problem": "p"}, "label": {"steps": [{"human_completion": "a"}]}}, False),
    ],
)
def test_candidates_are_objects(row: dict[str, Any], fits: bool) -> None:
    assert next(shape for shape in SHAPES if shape.name == PRM).fits(row) is fits
    if not fits:
        assert parsed(PRM, row)[1] == [
            'label: and `question` are not a problem and the candidates of its steps → write {"problem": "…"} as '
            'question and {"steps": [{"completions": […]}]} as label, or remove the row [error: mistyped field]'
        ]


def test_a_step_ends_at_the_first_token_that_shows_all_of_it() -> None:
    """Tokens of two letters each: of `ab cd ef` the steps end in the first, the third and the last."""
    text = "ab cd ef"

    def decode(ids: Any) -> str:
        return text[: 2 * len(ids)]

    assert step_ends(decode, [0] * 4, ["ab", " cd ", "ef"], AT) == [1, 3, 4]
    assert step_ends(decode, [0] * 4, ["a", "d"], AT) == [1, 3]
    with pytest.raises(DataError) as error:
        step_ends(decode, [0] * 4, ["ab", "zz"], AT)
    assert str(error.value) == (
        "f:3, `completions[2]`: is not in the solution as the tokenizer renders it\n  → normalize its characters"
    )
    with pytest.raises(DataError) as error:
        step_ends(decode, [0] * 4, ["c", "d e", "f"], AT)
    assert str(error.value) == (
        "f:3, `completions[3]`: ends in the same token as the step before\n  → join the two steps"
    )

    assert step_ends(decode, [0] * 4, ["c", "d e", "f"], AT, join=True) == [2, 4]
    assert step_ends(decode, [0] * 4, ["ab", "c", "d", "f"], AT, join=True) == [1, 2, 3, 4]


def test_labels_are_at_the_token_after_each_step() -> None:
    assert step_labels(6, [1, 3, 5], [1.0, None, 0.25]).tolist() == [-1, 1, -1, -1, -1, 0.25]


def test_a_separator_is_a_mark_of_the_tokenizer() -> None:
    class Tokenizer:
        def __init__(self) -> None:
            self.init_kwargs = {"other": 1}

    made = Tokenizer()
    assert (SEPARATOR, separator_of(made)) == ("twofold_step_separator", None)
    keep_separator(made, "\n")
    assert (made.init_kwargs, separator_of(made)) == ({"other": 1, "twofold_step_separator": "\n"}, "\n")
    keep_separator(made, None)
    keep_separator(made, None)
    assert made.init_kwargs == {"other": 1}
