"""Issues by their place, and names as messages show them."""

from __future__ import annotations

import pytest

from twofold.data import issues
from twofold.data.issues import Issue, IssueError, nearest, quoted, shortened


@pytest.mark.parametrize(
    ("row", "field", "where"), [(3, "a", "f:3, `a`"), (3, "", "f:3"), (0, "a", "f, `a`"), (0, "", "f")]
)
def test_an_issue_is_placed_by_file_row_and_field(row: int, field: str, where: str) -> None:
    made = Issue("f", row, field, "is odd", "look")
    assert (made.where, made.severity, made.check) == (where, "error", "")
    error = IssueError(made)
    assert (error.fault, str(error)) == (made, f"{where}: is odd\n  → look")


def test_a_name_is_shown_up_to_sixty_letters() -> None:
    assert [shortened(name) for name in ("x" * 60, "x" * 61, "", "a\tb")] == ["x" * 60, "x" * 60 + "…", "", "a\\tb"]


def test_names_are_listed_up_to_a_number() -> None:
    names = [str(number) for number in range(14)]
    assert quoted(names[:12]) == ", ".join(f"`{name}`" for name in names[:12])
    assert quoted(names[:13]).endswith("`11` and 1 more")
    assert quoted(names, 1) == "`0` and 13 more"
    assert quoted([]) == ""


def test_a_name_that_is_nearly_known_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    known = ["prompt", "Chosen", "rejected"]
    assert [nearest(name, known) for name in ("promt", "CHOSEN", "xyz", "")] == ["prompt", "Chosen", None, None]
    long = "x" * 60
    assert nearest(long, [long + "y"]) is None
    assert nearest(long + "y", [long]) is None
    assert nearest(long[1:], [long]) == long
    monkeypatch.setattr(issues, "_COMPARED", 2)
    assert nearest("prompt", ["a", "b", "prompt"]) is None
    assert nearest("prompt", ["a", "prompt", "b"]) == "prompt"
