"""The error handling of every verb: a fault of the machine, a file or a user's code becomes one message; so does a bug.

The traceback of a bug goes to a file, for the bug report. `--debug` shows every traceback in the terminal.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from twofold.errors import LostProcessError, TwofoldError

BUG = 1
"""Exit code of an error that is not the user's mistake."""

REMEDIES = {
    errno.ENOSPC: "free space there, or write to another disk; then give the same command again",
    errno.EDQUOT: "free space there, or write to another disk; then give the same command again",
    errno.EACCES: "choose a place that you may read and write, or change its rights",
    errno.EPERM: "choose a place that you may read and write, or change its rights",
    errno.EROFS: "choose a place that can be written to",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "check the path",
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "a part of the path is a file: name another",
    errno.EEXIST: "name a path that does not exist",
    errno.ELOOP: "the link points to itself: name the file that it should point to",
    errno.EFBIG: "name a smaller file: a recipe or a rubric is a short text",
    errno.EMFILE: "raise the limit on open files: ulimit -n 4096",
    errno.ENOMEM: "close other programs, or take a smaller model or batch",
}
"""The remedy for an error of the system."""

_PACKAGE = str(Path(__file__).resolve().parent) + os.sep
_LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_GLOO = "gloo"  # the communication library, which raises plain RuntimeErrors
_LOST = ("DistBackendError", "DistNetworkError", "DistStoreError")
_PEER = re.compile(r"\[([0-9a-fA-F.:]+)\]:\d+")
_SILENT = ("timed out", "timeout", "unreachable", "no route")
_AGAIN = "the same command, on every host, resumes from the last checkpoint"
_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "maximum allowed dimension exceeded")


def outcome(error: Exception) -> tuple[TwofoldError, int]:
    """The message for `error`, and the exit code."""
    known = explained(error)
    return (known, known.exit_code) if known else (as_bug(error), BUG)


def explained(error: Exception) -> TwofoldError | None:
    """The message for a fault of the system, a file, a package or the user's own code; None for a bug."""
    name, module = type(error).__name__, type(error).__module__
    text = (str(error).strip().splitlines() or [name])[0]
    if isinstance(error, OSError):
        return _of_system(error, text)
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _MEMORY):
        remedy = "take smaller packs (training.packing.tokens), a smaller batch or model, or model.lora={rank: 16}"
        return TwofoldError("there is not enough memory", where="", remedy=remedy)
    if name in _LOST or (name == "RuntimeError" and _GLOO in text.lower()):
        return _lost(text)
    if isinstance(error, OverflowError):
        return TwofoldError(f"a number is too large: {text}", where="", remedy="choose a smaller one")
    if isinstance(error, UnicodeError):
        return TwofoldError(
            f"a text is not valid Unicode: {text}", where="", remedy="save the file as UTF-8; name it in UTF-8"
        )
    if isinstance(error, RecursionError):
        return TwofoldError("the input is nested too deeply", where="", remedy="flatten it")
    if isinstance(error, ImportError) and not str(error.name or "twofold").startswith("twofold"):
        return TwofoldError(f"a package is missing: {text}", where="", remedy=f"pip install {error.name}")
    if name == "SafetensorError":
        return TwofoldError(
            f"a .safetensors file is damaged: {text}", where="", remedy="copy or download the file again"
        )
    if module.startswith("pyarrow"):
        return TwofoldError(f"a table cannot be read: {text}", where="", remedy="copy or write the file again")
    frame = _innermost(error)
    if frame is not None and not frame[0].startswith(_PACKAGE):
        where = f"{Path(frame[0]).name}:{frame[1]}"
        return TwofoldError(f"your code raised {name}: {text}", where=where, remedy="--debug shows the traceback")
    return None


def _lost(text: str) -> LostProcessError:
    """The error of a lost process, from the message of the communication library."""
    peer = _PEER.search(text)
    there = "" if peer is None or peer[1].startswith("127.") else peer[1]
    if any(words in text.lower() for words in _SILENT):
        what = f"the host {there} cannot be reached" if there else "another host cannot be reached"
        remedy = f"look at its power and at the network; then {_AGAIN}"
    else:
        what = f"another process of this run has ended{there and f', on {there}'}"
        remedy = f"look at its message, if there is one; {_AGAIN}"
    return LostProcessError(what, where="", remedy=remedy)


def as_bug(error: Exception) -> TwofoldError:
    """The message for a fault of twofold itself. Its traceback goes to a separate file."""
    frame = _innermost(error)
    place = f" ({frame[0].removeprefix(_PACKAGE)}:{frame[1]})" if frame else ""
    what = f"twofold failed where it should not: {type(error).__name__}: {error}{place}"
    return TwofoldError(what, where="", remedy=f"please report it, with the command and {_traceback_file(error)}")


def _of_system(error: OSError, text: str) -> TwofoldError:
    if error.errno is None or error.strerror is None:
        return TwofoldError(text, where="", remedy="check the path and the connection")
    what = error.strerror[:1].lower() + error.strerror[1:]
    names = [str(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes | os.PathLike)]
    return TwofoldError(what, where=" and ".join(names), remedy=REMEDIES.get(error.errno, ""))


def _innermost(error: Exception) -> tuple[str, int] | None:
    """File and line of the last frame that is not in a library."""
    return next(reversed(list(_places(error))), None)


def _places(error: Exception) -> Iterator[tuple[str, int]]:
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = _file(frame)
        library = path.startswith(_LIBRARIES) or "site-packages" in path or "dist-packages" in path
        if path.startswith(_PACKAGE) or (path and not library):
            yield path, line


def _file(frame: FrameType) -> str:
    return os.path.abspath(frame.f_code.co_filename) if os.path.exists(frame.f_code.co_filename) else ""


def _traceback_file(error: Exception) -> str:
    text = f"{' '.join(sys.argv)}\n\n{''.join(traceback.format_exception(error))}"
    try:
        number, path = tempfile.mkstemp(prefix="twofold-", suffix=".txt")
        with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return "what --debug shows"
    return path
