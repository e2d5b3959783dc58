"""Whatever the scores are: what is preferred scored higher, what is labelled good reached the bound."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from support import tiny
from twofold.datagen.label import differences
from twofold.datagen.rows import Choice, Judged, rows_of, worth_judging
from twofold.judges.questions import Question
from twofold.records import Candidate, Message, Source

SCORES = st.lists(st.sampled_from([-1.5, 0.0, 0.5, 1.0, 7.0]), min_size=1, max_size=6)


def judged(scores: list[float]) -> Judged:
    candidates = tuple(Candidate(f"answer {i}", {"sample": i}) for i in range(len(scores)))
    question = Question((Message("user", "p"),), Source("f", 3), None, candidates)
    return Judged(question, tuple(scores), {"kind": "test"})


def score_of(scores: list[float], text: object) -> float:
    return scores[int(str(text).split()[1])]


@tiny.PROPERTY
@given(SCORES, st.booleans(), st.sampled_from([0.0, 1.0]))
def test_pairs_prefer_what_scored_higher(scores: list[float], all_pairs: bool, gap: float) -> None:
    rows = list(rows_of(judged(scores), Choice("pairs", all_pairs, gap)))
    leads = [score_of(scores, r["chosen"]) - score_of(scores, r["rejected"]) for r in rows]
    assert all(lead > 0 and lead >= gap for lead in leads)
    possible = [a - b for a in scores for b in scores if a - b > 0 and a - b >= gap]
    assert len(rows) == (len(possible) if all_pairs else bool(possible))
    if rows and not all_pairs:
        assert leads == [max(scores) - min(scores)]
    for row, lead in zip(rows, leads, strict=True):
        told = row["provenance"]
        assert told["scores"][0] - told["scores"][1] == lead
        assert row["chosen"] == f"answer {told['chosen']['sample']}"
        assert row["prompt"] == [{"role": "user", "content": "p"}]


@tiny.PROPERTY
@given(SCORES)
def test_rankings_fall_strictly(scores: list[float]) -> None:
    rows = list(rows_of(judged(scores), Choice("rankings")))
    assert len(rows) == (len(set(scores)) > 1)
    for row in rows:
        assert row["scores"] == sorted(set(scores), reverse=True)
        assert row["scores"] == [score_of(scores, text) for text in row["completions"]]
        assert all(a > b for a, b in pairwise(row["scores"]))


@tiny.PROPERTY
@given(SCORES, st.sampled_from([None, 0.5, 1.0]))
def test_labels_say_on_which_side_of_the_bound_a_score_is(scores: list[float], threshold: float | None) -> None:
    rows = list(rows_of(judged(scores), Choice("labels", threshold=threshold, middle=0.5)))
    kept = [s for s in scores if threshold is not None or s != 0.5]
    assert [r["label"] for r in rows] == [s >= (0.5 if threshold is None else threshold) for s in kept]


def test_what_says_nothing_or_was_cut_is_not_judged() -> None:
    whole, cut, empty = Candidate("a", {}), Candidate("b", {}, truncated=True), Candidate(" \n", {})
    assert worth_judging([whole, cut, empty], keep_truncated=False) == (whole,)
    assert worth_judging([whole, cut, empty], keep_truncated=True) == (whole, cut)


@tiny.PROPERTY
@given(st.text("ab \n<é", max_size=30), st.text("ab \n<é", max_size=30))
def test_marked_pieces_are_the_texts(left: str, right: str) -> None:
    pieces = differences(left, right)
    assert tuple("".join(text for text, _ in side) for side in pieces) == (left, right)
    same = ["".join(text for text, differs in side if not differs) for side in pieces]
    assert same[0] == same[1]
