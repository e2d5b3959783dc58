"""Pictures of messages: which file or address each is, and the digest of its bytes, before any model reads them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twofold.data.issues import shortened
from twofold.data.keys import unread
from twofold.data.message_keys import Malformed

COLUMNS = ("images", "image")
"""Columns with the pictures of a row, in the order of their places."""
PLACE = "<image>"
"""Where a text has a picture."""
TYPES = ("image", "image_url", "input_image")
_KEYS = ("image", "image_url", "path", "url")
_REMEDY = "name a file, relative to the data's folder, or an address"


class Pictures:
    """The pictures of one row, for the places in its messages, in order; names are relative to the row's `file`."""

    def __init__(self, row: Mapping[str, Any], file: str) -> None:
        self._file, self.placed_any = file, False
        self.column = "" if row.keys().isdisjoint(COLUMNS) else next((name for name in COLUMNS if row.get(name)), "")
        value = row[self.column] if self.column else []
        self._left: list[Any] = list(value) if isinstance(value, list | tuple) else [value]

    @property
    def unplaced(self) -> int:
        """How many no message has a place for."""
        return len(self._left)

    def part(self, part: Mapping[str, Any], place: str) -> dict[str, Any]:
        """A part of a message as a picture with its digest; raises `Malformed`."""
        keys = [key for key in _KEYS if part.get(key)]
        if lost := [*keys[1:], *unread(part, ("type", "detail", *_KEYS))]:
            reason = f"{place}: the key `{shortened(lost[0])}` of a picture is filled, and twofold does not read it"
            raise Malformed(reason, "name one picture a part, and write texts as parts of their own", "unread key")
        named = part[keys[0]] if keys else None
        if named is None and not self._left:
            raise Malformed(f"{place} has a place for a picture, and the row names none for it", _REMEDY, "no picture")
        self.placed_any = True
        return {"type": "image", **self._known(self._left.pop(0) if named is None else named, place)}

    def placed(self, text: str, place: str) -> list[dict[str, Any]]:
        """A text with places for pictures as parts."""
        return list(self._placed(text.split(PLACE), place))

    def _placed(self, texts: Iterable[str], place: str) -> Iterator[dict[str, Any]]:
        for number, text in enumerate(texts):
            if number:
                yield self.part({}, place)
            if text:
                yield {"type": "text", "text": text}

    def _known(self, named: Any, place: str) -> dict[str, Any]:
        """The name of a picture and the digest of its bytes; of an address in the net there is none."""
        if isinstance(named, Mapping):
            content, inner = named.get("bytes"), next((named[key] for key in ("path", "url") if named.get(key)), None)
            if isinstance(content, bytes):
                return {"path": inner or "", "sha256": hashlib.sha256(content).hexdigest()}
            named = inner
        if not isinstance(named, str):
            raise Malformed(f"{place} has a picture that is no name of a file", _REMEDY, "no picture")
        if named.startswith(("http://", "https://")):
            return {"path": named}
        return {"path": named if not named.startswith("data:") else "data:", "sha256": self._digest(named, place)}

    def _digest(self, named: str, place: str) -> str:
        """Of the data in an address, or of a file. What is no file, as a device without an end, is not read."""
        with suppress(OSError, ValueError):
            if named.startswith("data:"):
                if content := named.partition("base64,")[2]:
                    return hashlib.sha256(base64.b64decode(content, validate=True)).hexdigest()
            elif (path := Path(self._file).parent / named.removeprefix("file://")).is_file():
                with path.open("rb") as picture:
                    return hashlib.file_digest(picture, "sha256").hexdigest()
        reason = f"{place} names the picture `{shortened(named)}`, which cannot be read"
        raise Malformed(reason, _REMEDY, "no picture")
