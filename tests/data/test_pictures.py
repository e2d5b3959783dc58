"""Pictures of messages are read with their paths and digests, and no model is trained on a row without them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.chat_templates import FAMILIES
from support.tool_templates import said
from twofold.data.chat import as_request
from twofold.data.formats import read
from twofold.data.tokenize import Encoder
from twofold.data.validate import check
from twofold.errors import DataError
from twofold.records import Message

Write = Callable[..., str]
BYTES = b"a heron"
KNOWN = {"type": "image", "path": "heron.jpg", "sha256": hashlib.sha256(BYTES).hexdigest()}
TEXT = {"type": "text", "text": "What bird?"}
SIDES = {"chosen": [said("A heron.")], "rejected": [said("A gull.")]}


@pytest.fixture(autouse=True)
def heron(tmp_path: Path) -> None:
    (tmp_path / "heron.jpg").write_bytes(BYTES)


def asked(*parts: dict[str, Any], **row: Any) -> dict[str, Any]:
    return {"prompt": [{"role": "user", "content": list(parts)}], **SIDES, **row}


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        (asked({"type": "image"}, TEXT, images=["heron.jpg"]), [KNOWN, TEXT]),
        (asked({"type": "image", "image": "heron.jpg"}, TEXT), [KNOWN, TEXT]),
        (asked(TEXT, {"type": "image_url", "image_url": {"url": "heron.jpg"}}), [TEXT, KNOWN]),
        (asked({"type": "image_url", "image_url": {"url": "https://a.b/c.png"}}, TEXT),
         [{"type": "image", "path": "https://a.b/c.png"}, TEXT]),
        (asked({"type": "image", "image": "data:image/png;base64," + base64.b64encode(BYTES).decode()}, TEXT),
         [{**KNOWN, "path": "data:"}, TEXT]),
        ({"prompt": "<image>What bird?", "chosen": "A heron.", "rejected": "A gull.", "images": ["heron.jpg"]},
         [KNOWN, TEXT]),
        ({"messages": [{"role": "user", "content": "What bird?<image>"}, said("A heron.")], "image": "heron.jpg"},
         [TEXT, KNOWN]),
    ],
)  # fmt: skip
def test_pictures_are_read_with_their_digests_and_refused_by_the_encoder(
    write: Write, row: dict[str, Any], parts: list[dict[str, Any]]
) -> None:
    path = write("rows.jsonl", row)
    report = check(path)
    assert report.ok
    assert [fault.check for fault in report.warnings] == ["pictures"]
    (record,) = read(path).records
    (message,) = record.prompt
    assert isinstance(message, Message)
    assert (message.content, json.loads(message.more)) == ("What bird?", {"parts": parts})
    assert message.as_dict() == {"role": "user", "content": parts}
    assert Message.of(message.as_dict()) == message
    made = FAMILIES[0].tokenizer()
    with pytest.raises(DataError, match=r"rows.jsonl:1, `prompt`: message 1 holds `.*`: no model here sees pictures"):
        Encoder(made, frozenset({made.eos_token_id})).group(record)
    with pytest.raises(DataError, match="pictures"):
        as_request(record.prompt)


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        (asked({"type": "image"}, TEXT), "prompt", "message 1 has a place for a picture, and the row names none for it"),  # noqa: E501
        (asked({"type": "image"}, TEXT, images=["owl.jpg"]), "prompt",
         "message 1 names the picture `owl.jpg`, which cannot be read"),
        (asked({"type": "image"}, TEXT, images=[3]), "prompt", "message 1 has a picture that is no name of a file"),
        (asked({"type": "image"}, TEXT, images=["heron.jpg"] * 3), "images",
         "names 2 more pictures than the messages have places for"),
        (asked(TEXT, images=["heron.jpg"]), "images", "holds a picture, which is not read"),
        (asked({"type": "input_audio"}, TEXT), "prompt",
         "message 1 holds a part of the type `input_audio`: sound or film, which is not read"),
    ],
)  # fmt: skip
def test_pictures_without_a_place_and_places_without_one_are_refused(
    write: Write, row: dict[str, Any], field: str, reason: str
) -> None:
    (fault,) = check(write("rows.jsonl", row)).errors
    assert (fault.row, fault.field, fault.reason) == (1, field, reason)


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"type": "image", "image": "heron.jpg", "text": "a caption"}, "the key `text` of a picture is filled"),
        ({"type": "image", "image": "heron.jpg", "url": "https://a.b/c.png"}, "the key `url` of a picture is filled"),
        ({"type": "image", "image": "data:image/svg+xml,<svg/>"}, "which cannot be read"),
        ({"type": "image", "image": "/dev/zero"}, "names the picture `/dev/zero`, which cannot be read"),
        ({"type": "image", "image": "."}, "names the picture `.`, which cannot be read"),
    ],
)
def test_no_picture_is_read_as_less_or_without_an_end(write: Write, part: dict[str, Any], reason: str) -> None:
    (fault,) = check(write("rows.jsonl", asked(part, TEXT))).errors
    assert reason in fault.reason


def test_the_detail_of_a_picture_is_none_of_its_contents(write: Write) -> None:
    assert check(write("rows.jsonl", asked({"type": "image_url", "image_url": "heron.jpg", "detail": "low"}, TEXT))).ok
