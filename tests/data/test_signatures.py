"""Pairs of rows whose signatures are alike, compared with what their sets of grams have in common."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from twofold.data import signatures
from twofold.data.signatures import Signatures, refuse_without_datasketch
from twofold.errors import RecipeError

pytestmark = pytest.mark.skipif(importlib.util.find_spec("datasketch") is None, reason="an extra")
DRAW = np.random.default_rng(0)
A, B, C = DRAW.integers(0, 2**63, (3, 40)).astype(np.uint64)


def alike(*rows: tuple[np.ndarray, ...], threshold: float = 1.0, behind: int = 0) -> list[tuple[int, int, float]]:
    """Of rows that are different things."""
    made = Signatures(len(rows[0]))
    for exact, parts in enumerate(rows):
        made.add(parts, exact)
    assert len(made) == len(rows)
    return list(made.alike(threshold, behind))


@pytest.fixture(params=[False, True])
def little_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in {"CHUNK": 2, "AT_ONCE": 2, "RANGE": 3}.items() if request.param else ():
        monkeypatch.setattr(signatures, name, most)


@pytest.mark.usefixtures("little_memory")
def test_a_row_is_like_an_earlier_one() -> None:
    assert alike((A,), (B,), (A,)) == [(0, 2, 1.0)]
    assert alike((A,), (B,), (A,), (C,), (B,)) == [(0, 2, 1.0), (1, 4, 1.0)]
    assert alike((A,), (B,), (C,)) == []
    assert alike((A[:0],), (A[:0],)) == [(0, 1, 1.0)], "nothing is like nothing"
    assert [second for _, second, _ in alike((A,), (A,), (A,), (A,))] == [1, 2, 3]


@pytest.mark.usefixtures("little_memory")
def test_equal_rows_are_no_pair() -> None:
    made = Signatures(1)
    for grams, exact in ((A, 7), (A, 7), (B, 8), (A, 9), (A, 7)):
        made.add([grams], exact)
    found = [(first, second) for first, second, _ in made.alike(1.0)]
    assert [second for _, second in found] == [3, 4]
    assert found[1] == (3, 4)


@pytest.mark.usefixtures("little_memory")
def test_all_parts_must_be_alike() -> None:
    assert alike((A, B), (A, C), (B, A)) == []
    assert alike((A, B), (C, B), (A, B)) == [(0, 2, 1.0)]
    half = np.concatenate([A[:36], C[:4]])
    (found,) = alike((A, B), (half, B), threshold=0.6)
    assert found[:2] == (0, 1)
    assert 0.6 <= found[2] < 1.0, "the least of both"


@pytest.mark.usefixtures("little_memory")
def test_rows_behind_a_place_are_compared_with_those_before_it() -> None:
    rows = [(A,), (A,), (B,), (A,), (B,), (C,), (C,)]
    assert [(a, b) for a, b, _ in alike(*rows, behind=3)] == [(1, 3), (2, 4)] or [
        (a, b) for a, b, _ in alike(*rows, behind=3)
    ] == [(0, 3), (2, 4)]
    assert [b for _, b, _ in alike(*rows, behind=1)] == [1, 3]
    assert alike(*rows, behind=7) == []


def test_a_likeness_that_is_the_threshold_counts() -> None:
    near = np.concatenate([A[:38], C[:2]])
    ((_, _, share),) = alike((A,), (near,), threshold=0.5)
    assert share * 125 == pytest.approx(round(share * 125)), "of 125 values"
    assert alike((A,), (near,), threshold=round(share * 125) / 125)
    assert alike((A,), (near,), threshold=share + 0.004) == []


def test_what_is_asked_twice_is_the_same() -> None:
    made = Signatures(1)
    for exact, grams in enumerate((A, B, A)):
        made.add([grams], exact)
    assert list(made.alike(1.0)) == list(made.alike(1.0)) == [(0, 2, 1.0)]


def test_long_texts_are_hashed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Signatures(1)._signature(A)
    monkeypatch.setattr(signatures, "CHUNK", 7)
    assert Signatures(1)._signature(A).tolist() == whole.tolist()
    assert whole.shape == (125,)


def test_without_the_package_the_option_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_without_datasketch("--near")
    monkeypatch.setattr(signatures, "find_spec", lambda name: None)
    with pytest.raises(RecipeError) as error:
        refuse_without_datasketch("--near")
    assert error.value.what == "the package datasketch is not installed"
    assert (error.value.where, error.value.remedy) == (
        "--near", "pip install 'twofold[duplicates]', or leave --near out",
    )  # fmt: skip
