"""Rows that fit no format: which one is nearest by its keys, what the message has, and rows of another format."""

from __future__ import annotations

from typing import Any

import pytest

from twofold.data.issues import Issue
from twofold.data.shapes import SHAPES, detect, is_unjudged, parse, unknown
from twofold.records import Demonstration, Pair, Source, Task

AT = Source("f", 3)
COMMON = (
    "common shapes: prompt + chosen + rejected; messages + chosen + rejected; prompt + completion + label; prompt + "
    "completion; messages; conversations (sharegpt); conversation of input + output (Capybara); prompt + answer; "
    "question + answer (all in docs/data.md)"
)
MAPPING = "; name yours with `columns`, e.g. columns.prompt=instruction"


def near(*pairs: tuple[str, str]) -> str:
    return " ".join([*(f"`{wrong}`: did you mean `{right}`?" for wrong, right in pairs), COMMON])


@pytest.mark.parametrize(
    ("keys", "remedy"),
    [
        (("promt",), near(("promt", "prompt"))),
        (("mesages", "lable"), near(("mesages", "messages"), ("lable", "label"))),
        (("promt", "chosn", "rejectd"), near(("promt", "prompt"), ("chosn", "chosen"), ("rejectd", "rejected"))),
        (("prompt", "mesages", "lable"), near(("mesages", "messages"), ("lable", "label"))),
        (("prompt", "rejected", "labl"), COMMON + MAPPING),
        (("prompt", "chosn"), near(("chosn", "chosen"))),
        (("x", "y"), COMMON + MAPPING),
    ],
)
def test_the_nearest_format_is_the_one_with_the_largest_share_of_its_keys(keys: tuple[str, ...], remedy: str) -> None:
    """A key counts, a nearly equal one a little less; of equal shares the format with more keys is nearer."""
    shown = ", ".join(f"`{key}`" for key in keys)
    reason = f"no known shape has the columns {shown}"
    assert unknown(dict.fromkeys(keys, "x"), AT) == Issue("f", 3, "", reason, remedy, check="unknown shape")


def test_a_row_without_columns_has_none() -> None:
    issue = unknown({}, AT)
    assert (issue.reason, issue.remedy) == ("no known shape has the columns (none)", COMMON + MAPPING)


def test_answers_in_no_order_are_for_a_judge_to_order() -> None:
    remedy = "judge them with `twofold data label` or `twofold data build`; listed best first they are `completions`"
    reason = "are in no order: there is no preference"
    assert unknown({"prompt": "p", "answers": ["a", "b"]}, AT) == Issue(
        "f", 3, "answers", reason, remedy, check="unjudged answers"
    )
    rows = ({"answers": ["a"]}, {"prompt": "p"}, {"prompt": "p", "answers": "a"}, {"prompt": "p", "answers": [1]})
    assert [is_unjudged(row) for row in rows] == [False] * 4
    assert is_unjudged({"prompt": "p", "answers": ("a",)})


def shape_of(name: str) -> Any:
    return next(shape for shape in SHAPES if shape.name == name)


PAIR = shape_of("prompt + chosen + rejected")
TEXTS = {"prompt": "p", "chosen": "a", "rejected": "b"}


@pytest.mark.parametrize(
    ("row", "issues"),
    [
        ({"prompt": "p", "chosen": "a", "rejcted": "b"},
         [Issue("f", 3, "rejected", "is missing; the row has `prompt`, `chosen`, `rejcted`",
                "`rejcted`: did you mean `rejected`?", check="missing field")]),
        ({"prompt": "p"},
         [Issue("f", 3, "", "has the shape prompt, but the rows before it prompt + chosen + rejected",
                "keep one shape per file", check="mixed formats")]),
        ({"x": 1, "rejected": "b"},
         [Issue("f", 3, name, "is missing; the row has `x`, `rejected`",
                f"the file's shape is prompt + chosen + rejected: add `{name}` or remove the row",
                check="missing field") for name in ("prompt", "chosen")]),
        ({},
         [Issue("f", 3, name, "is missing; the row has no keys",
                f"the file's shape is prompt + chosen + rejected: add `{name}` or remove the row",
                check="missing field") for name in ("prompt", "chosen", "rejected")]),
        ({**TEXTS, "mood": "x"},
         [Issue("f", 3, "mood", "is filled, and twofold does not read it",
                "leave it out, or drop it by data.ignore=[mood] (--ignore mood)", check="unread key")]),
    ],
)  # fmt: skip
def test_what_a_row_lacks_or_has_beyond_its_format_is_named_in_full(row: dict[str, Any], issues: list[Issue]) -> None:
    assert parse(PAIR, row, AT, []) == issues


def test_keys_of_other_formats_may_be_unread_where_columns_chose_the_format() -> None:
    """Other unknown keys may be only where the whole row is passed on, unless they are known to matter."""
    row = {**TEXTS, "answer": "1", "completion": "c", "mood": "x", "mask": 1}
    plain, named, whole, both = (
        parse(PAIR, row, AT, [], names, how)
        for names, how in (((), False), (("prompt",), False), ((), True), (("prompt",), True))
    )
    fields = [[issue.field for issue in issues] for issues in (plain, named, whole, both) if isinstance(issues, list)]
    assert fields == [["completion", "mood", "mask"], ["mood", "mask"], ["mask"], ["mask"]]
    del row["mask"]
    assert parse(PAIR, row, AT, [], (), whole=True) == Pair("p", "a", "b", AT)


@pytest.mark.parametrize(
    ("row", "named", "name"),
    [
        ({**TEXTS, "completion": "c"}, (), "prompt + chosen + rejected"),
        ({**TEXTS, "completion": "c"}, ("prompt", "completion"), "prompt + completion"),
        ({**TEXTS, "chosen": None, "completion": "c"}, (), "prompt + completion"),
        ({**TEXTS, "chosen": None}, (), "prompt + chosen + rejected"),
        ({**TEXTS, "weight": 1}, ("prompt", "weight"), "prompt + chosen + rejected"),
        ({"prompt": "p", "completion": "c", "system": "s"}, ("system", "completion"), "prompt + completion"),
        ({"prompt": "p", "completion": "c"}, ("margin", "prompt"), "prompt + completion"),
        ({"prompt": "p", "answer": "1"}, ("nothing",), "prompt + answer"),
    ],
)
def test_filled_formats_and_those_of_the_columns_come_first(row: Any, named: tuple[str, ...], name: str) -> None:
    shape = detect(row, named)
    assert shape is not None
    assert shape.name == name


def test_a_later_row_whose_values_are_of_another_format_is_named() -> None:
    text, boxed = shape_of("problem + answer"), shape_of("problem + solution (MATH)")
    row = {"problem": "p", "solution": "so 2", "answer": "2"}
    assert parse(boxed, row, AT, []) == [
        Issue("f", 3, "", "has the shape problem + answer, but the rows before it problem + solution (MATH)",
              "keep one shape per file", check="mixed formats")
    ]  # fmt: skip
    assert parse(text, row, AT, []) == Task("p", "2", AT)


def test_richer_rows_are_of_another_format_only_where_all_its_keys_are_filled() -> None:
    shape = shape_of("prompt + completion")
    row = {"prompt": "p", "completion": "c"}
    assert parse(shape, {**row, "label": True}, AT, []) == [
        Issue("f", 3, "", "has the shape prompt + completion + label, but the rows before it prompt + completion",
              "keep one shape per file", check="mixed formats")
    ]  # fmt: skip
    assert parse(shape, {**row, "answer": None}, AT, []) == Demonstration("p", "c", AT)


def test_pictures_without_places_and_those_that_have_one_are_noted_in_full() -> None:
    picture = {"type": "image", "image": "https://a.b/c.png"}
    row = {"prompt": [{"role": "user", "content": [picture]}], "chosen": "a", "rejected": "b"}
    notes: list[Issue] = []
    assert isinstance(parse(PAIR, row, AT, notes), Pair)
    seen = "holds pictures, which are read and which no model here sees: training refuses the row"
    assert notes == [Issue("f", 3, "", seen, "leave the row out of training", "warning", "pictures")]
    row = {"prompt": "<image>p", "chosen": "a", "rejected": "b", "images": ["https://a.b/c.png"] * 2}
    assert parse(PAIR, row, AT, notes) == [
        Issue("f", 3, "images", "names 1 more pictures than the messages have places for",
              'write a part {"type": "image"} or <image> for each', check="no picture")
    ]  # fmt: skip
    assert [(note.field, note.check) for note in notes] == [("", "pictures"), ("images", "pictures")]


@pytest.mark.parametrize(
    ("name", "row", "fits"),
    [
        ("problem + solution (MATH)", {"problem": "p", "solution": "\\boxed{1}"}, True),
        ("problem + solution (MATH)", {"problem": "p", "solution": "1"}, False),
        ("problem + solution (MATH)", {"problem": "p", "solution": ["\\boxed"]}, False),
        ("problem + solution (MATH)", {"problem": "p", "solution": "\\boxed{1}", "prompt": "q"}, False),
        ("problem + answer", {"problem": "p", "answer": "1"}, True),
        ("problem + answer", {"problem": "p", "answer": "1", "prompt": "q"}, False),
        ("problem + answer", {"problem": "p", "answer": "1", "question": "q"}, False),
        ("GSM8K model solutions", {"question": "q", "ground_truth": "1", "m": {"is_correct": 1, "solution": ""}}, True),
        ("GSM8K model solutions", {"question": "q", "ground_truth": "1", "m": {"is_correct": 1}}, False),
        ("GSM8K model solutions", {"question": "q", "ground_truth": "1", "m": ["is_correct", "solution"]}, False),
        ("Anthropic HH (raw turns)", {"chosen": "\n\nHuman: \n\nAssistant:", "rejected": "\n\nHuman:\n\nAssistant:"},
         True),
        ("Anthropic HH (raw turns)", {"chosen": "\n\nHuman: a", "rejected": "\n\nHuman:\n\nAssistant:"}, False),
        ("Anthropic HH (raw turns)", {"chosen": "\n\nHuman:\n\nAssistant:", "rejected": "a\n\nAssistant:"}, False),
        ("chosen + rejected (shared beginning)", {"chosen": "a", "rejected": "b"}, True),
        ("chosen + rejected (shared beginning)", {"chosen": "a", "rejected": []}, False),
        ("chosen + rejected (shared beginning)", {"chosen": [], "rejected": "b"}, False),
        ("conversation of input + output (Capybara)", {"conversation": [{"input": "a", "output": "b"}]}, True),
        ("conversation of input + output (Capybara)", {"conversation": [{"input": "a"}]}, False),
        ("conversation of input + output (Capybara)", {"conversation": []}, False),
        ("conversation of input + output (Capybara)", {"conversation": {"input": "a", "output": "b"}}, False),
        ("prompt + answers (ranked)", {"prompt": "p", "answers": [{"text": "a", "rank": 1}]}, True),
        ("prompt + answers (ranked)", {"prompt": "p", "answers": []}, False),
        ("prompt + answers (ranked)", {"prompt": "p", "answers": [{"text": "a"}]}, False),
        ("prompt + answers (ranked)", {"prompt": "p", "answers": [{"score": 1}]}, False),
        ("prompt + lists of chosen and rejected (RewardBench 2)", {"prompt": "p", "chosen": ["a"], "rejected": ["b"]},
         True),
        ("prompt + lists of chosen and rejected (RewardBench 2)", {"prompt": "p", "chosen": ["a"], "rejected": []},
         False),
        ("prompt + lists of chosen and rejected (RewardBench 2)", {"prompt": "p", "chosen": "a", "rejected": ["b"]},
         False),
        ("prompt + completion + answer", {"prompt": "p", "completion": "c", "answer": None}, False),
        ("prompt + completion + answer", {"prompt": "p", "completion": "c", "answer": 2.5}, True),
        ("input + label with marks (Math-Shepherd)", {"input": "a ки", "label": "a +"}, True),
        ("input + label with marks (Math-Shepherd)", {"input": "a", "label": "a +"}, False),
        ("input + label with marks (Math-Shepherd)", {"input": "a ки", "label": 1}, False),
    ],
)  # fmt: skip
def test_values_decide_where_keys_are_not_enough(name: str, row: dict[str, Any], fits: bool) -> None:
    assert shape_of(name).fits(row) is fits


BESIDE = {
    "info + summaries + choice (OpenAI summaries)": ("extra", "batch"),
    "history + human_ref_A + human_ref_B (SHP)": (
        "upvote_ratio", "created_at_utc_A", "created_at_utc_B", "score_A", "score_B", "seconds_difference",
        "score_ratio", "c_root_id_A", "c_root_id_B",
    ),
    "prompt + response_1 + response_2 (HelpSteer2)": (
        "preference_statement", "preference_elaboration", "three_most_similar_preferences",
        "all_preferences_unprocessed",
    ),
    "context + response1 + response2 (HelpSteer3)": ("individual_preference",),
    "conversation_a + conversation_b + winner (LMArena)": (
        "model_a", "model_b", "anony", "tstamp", "toxic_chat_tag", "evaluation_order", "conv_metadata", "category_tag",
        "is_code", "full_conversation",
    ),
    "prompt + response_a + response_b (LMArena)": ("model_a", "model_b"),
    "problem + steps + label (ProcessBench)": ("final_answer_correct", "generator"),
    "question + label of steps (PRM800K)": (
        "generation", "is_quality_control_question", "is_initial_screening_question",
    ),
    "input + label with marks (Math-Shepherd)": ("task",),
    "prompt + lists of chosen and rejected (RewardBench 2)": (
        "num_correct", "num_incorrect", "total_completions", "additional_metadata", "num_rejected",
    ),
    "problem + answer": ("solution",),
    "instruction + output (alpaca)": ("text",),
    "query + response": (),
    "prompt + chosen + rejected": (),
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_what_a_published_set_has_in_addition_may_be_unread(name: str) -> None:
    assert tuple(shape_of(name).beside({"x": 1})) == BESIDE[name]


def test_what_annotators_think_of_each_response_may_be_unread() -> None:
    row = {"prompt": "p", "response_0": "a", "response_0_sha256": "x", "is_response_1_safe": True, "response_2": "b"}
    known = ["response_0_sha256", "is_response_1_safe", "safer_response_id", "prompt_source"]
    assert shape_of("prompt + response_0 + response_1 (PKU-SafeRLHF)").beside(row) == known
