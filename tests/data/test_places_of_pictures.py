"""The pictures of a row and their places, one after the other."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from twofold.data.message_keys import Malformed
from twofold.data.pictures import Pictures

REMEDY = "name a file, relative to the data's folder, or an address"
DIGEST = hashlib.sha256(b"x").hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "x.png").write_bytes(b"x")
    return str(tmp_path / "rows.jsonl")


@pytest.mark.parametrize(
    ("row", "column", "unplaced"),
    [
        ({}, "", 0), ({"images": None, "image": ""}, "", 0), ({"images": ["a", "b"]}, "images", 2),
        ({"images": ("a",), "image": "c"}, "images", 1), ({"images": [], "image": "c"}, "image", 1),
        ({"image": {"path": "a"}}, "image", 1),
    ],
)  # fmt: skip
def test_a_row_has_one_column_of_pictures(row: dict[str, Any], column: str, unplaced: int) -> None:
    found = Pictures(row, "f")
    assert (found.column, found.unplaced, found.placed_any) == (column, unplaced, False)


def test_places_take_the_pictures_in_order(file: str) -> None:
    found = Pictures({"images": ["x.png", "https://a.b/y.png", "x.png"]}, file)
    known = {"type": "image", "path": "x.png", "sha256": DIGEST}
    assert found.placed("<image>See <image>", "message 1") == [
        known, {"type": "text", "text": "See "}, {"type": "image", "path": "https://a.b/y.png"},
    ]  # fmt: skip
    assert (found.unplaced, found.placed_any) == (1, True)
    assert found.placed("no place", "message 2") == [{"type": "text", "text": "no place"}]
    assert found.part({"type": "image", "url": "x.png"}, "message 2") == known
    assert found.unplaced == 1
    assert found.part({"type": "image"}, "message 3") == known
    assert found.unplaced == 0
    with pytest.raises(Malformed) as refused:
        found.part({"type": "image"}, "message 3")
    assert refused.value.reason == "message 3 has a place for a picture, and the row names none for it"
    assert (refused.value.remedy, refused.value.check) == (REMEDY, "no picture")


@pytest.mark.parametrize(
    ("named", "read"),
    [
        ("x.png", {"path": "x.png", "sha256": DIGEST}),
        ({"path": "x.png"}, {"path": "x.png", "sha256": DIGEST}),
        ({"path": None, "url": "http://a.b/c"}, {"path": "http://a.b/c"}),
        ({"bytes": b"x", "path": "gone.png"}, {"path": "gone.png", "sha256": DIGEST}),
        ({"bytes": b"x"}, {"path": "", "sha256": DIGEST}),
        ({"bytes": None, "path": "x.png"}, {"path": "x.png", "sha256": DIGEST}),
        ("data:image/png;base64,eA==", {"path": "data:", "sha256": DIGEST}),
    ],
)
def test_a_picture_is_its_name_and_its_digest(named: Any, read: dict[str, str], file: str) -> None:
    for key in ("image", "image_url", "path", "url"):
        assert Pictures({}, file).part({"type": "image", key: named}, "message 1") == {"type": "image", **read}


def test_a_file_address_is_a_file(file: str) -> None:
    found = Pictures({}, file).part({"image": f"file://{Path(file).parent / 'x.png'}"}, "message 1")
    assert found["sha256"] == DIGEST


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ({"path": None}, "has a picture that is no name of a file"),
        (3, "has a picture that is no name of a file"),
        ("gone.png", "names the picture `gone.png`, which cannot be read"),
        ("data:image/png;base64,é", "names the picture `data:image/png;base64,é`, which cannot be read"),
        ("data:image/png;base64,eA?==", "names the picture `data:image/png;base64,eA?==`, which cannot be read"),
    ],
)
def test_what_is_no_picture_is_named(named: Any, reason: str, file: str) -> None:
    with pytest.raises(Malformed) as refused:
        Pictures({"images": [named]}, file).part({}, "message 4")
    assert (refused.value.reason, refused.value.remedy) == (f"message 4 {reason}", REMEDY)
