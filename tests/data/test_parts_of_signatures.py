"""Signatures are those of `datasketch`; keys of a band come in ranges, each row once, and in order of rows."""

from __future__ import annotations

import numpy as np
import pytest

from twofold.data import signatures
from twofold.data.signatures import BAND, BANDS, PERMUTATIONS, Signatures

datasketch = pytest.importorskip("datasketch")
GRAMS = np.random.default_rng(5).integers(0, 2**63, (40, 12)).astype(np.uint64) * np.uint64(2)


def test_a_signature_is_that_of_the_upper_halves_of_its_grams() -> None:
    theirs = datasketch.MinHash(PERMUTATIONS, hashfunc=int)
    for gram in GRAMS[0].tolist():
        theirs.update(gram >> 32)
    assert Signatures(1)._signature(GRAMS[0]).tolist() == theirs.hashvalues.tolist()
    assert (PERMUTATIONS, BANDS, BAND) == (125, 25, 5)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Signatures:
    """40 rows, written four at a time; a band has four ranges of keys, read six or more at a time."""
    for name, most in {"CHUNK": 4, "AT_ONCE": 6, "RANGE": 10}.items():
        monkeypatch.setattr(signatures, name, most)
    rows = Signatures(1)
    for row, grams in enumerate(GRAMS):
        rows.add([grams], 1000 + row)
    return rows


@pytest.mark.parametrize("band", [0, 1, 12, 24])
def test_each_row_has_one_key_in_the_range_that_it_is_in(made: Signatures, band: int) -> None:
    every = list[int]()
    for part in range(4):
        arrays = list(made._part(band, part))
        assert all(len(array) >= 6 for array in arrays[:-1])
        rows = [row for array in arrays for row in array["row"].tolist()]
        assert rows == sorted(rows)
        for array in arrays:
            assert array["exact"].tolist() == [1000 + row for row in array["row"].tolist()]
            assert all(part << 62 <= key < part + 1 << 62 for key in array["key"].tolist())
        every += rows
    assert sorted(every) == list(range(40))
    assert list(made._part(band, 4)) == []


def test_keys_are_those_of_the_least_values_of_all_parts(made: Signatures) -> None:
    """Two rows have one key where the five values of a band are the same."""
    first = {int(row): int(key) for part in range(4) for array in made._part(3, part)
             for row, key in zip(array["row"], array["key"], strict=True)}  # fmt: skip
    both = Signatures(2)
    for row, grams in enumerate(GRAMS):
        both.add([grams, grams], row)
    again = {int(row): int(key) for part in range(4) for array in both._part(3, part)
             for row, key in zip(array["row"], array["key"], strict=True)}  # fmt: skip
    assert first == again
    assert len(set(first.values())) == 40


def test_the_stored_values_are_read_by_row(made: Signatures) -> None:
    values = made._read(np.array([3, 0, 39]))
    assert values.shape == (3, 1, 125)
    assert [row[0].tolist() for row in values] == [made._signature(GRAMS[n]).tolist() for n in (3, 0, 39)]
    one, other = np.array([0, 1]), np.array([0, 0])
    assert made._likeness(one, other)[0] == 1.0
    same = (values[1, 0] == made._read(np.array([1]))[0, 0]).mean()
    assert made._likeness(one, other)[1] == same < 0.1


def test_each_range_of_a_band_is_read_once(made: Signatures, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four ranges of ten keys for 40 rows, five for 41."""
    parts, read = list[tuple[int, int]](), made._part
    monkeypatch.setattr(made, "_part", lambda band, part: parts.append((band, part)) or read(band, part))
    assert list(made.alike(0.9)) == []
    assert parts == [(band, part) for band in range(25) for part in range(4)]
    parts.clear()
    made.add([GRAMS[7]], 2000)
    assert list(made.alike(0.9)) == [(7, 40, 1.0)]
    assert parts == [(band, part) for band in range(25) for part in range(5)]
    assert list(made.alike(0.9, behind=40)) == [(7, 40, 1.0)]
    assert list(made.alike(0.9, behind=41)) == []
