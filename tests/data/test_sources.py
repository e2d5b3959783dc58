"""Several files to train on: a list, a pattern, a mixture; and shares that leave something to train on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.config.load import from_overrides, validate
from twofold.data.dataset import Reader
from twofold.data.readers import files
from twofold.data.settings import DataSettings, DataSource, DataSplit
from twofold.errors import DataError, RecipeError
from twofold.progress import Silent

Write = Callable[..., str]


def pairs(*prompts: str) -> list[dict[str, str]]:
    return [{"prompt": p, "chosen": "b", "rejected": "c"} for p in prompts]


def prompts(folder: Path, **data: Any) -> list[str]:
    return [str(r.prompt) for r in Reader(DataSettings(**data), folder / "cache", 0, Silent()).read(None).train]


def test_a_list_and_a_pattern_are_one_pool(write: Write, tmp_path: Path) -> None:
    a, b = write("a.jsonl", *pairs("1", "2")), write("b.jsonl", *pairs("3"))
    write("c.txt", "no rows")
    pattern = str(tmp_path / "*.jsonl")
    for train in ((a, b), (DataSource(file=a), b), pattern, (pattern,)):
        assert prompts(tmp_path, train=train) == ["1", "2", "3"]
        assert not DataSettings(train=train).is_mixture
    assert prompts(tmp_path, train=(b, a)) == ["3", "1", "2"]
    assert prompts(tmp_path, train=(b, DataSource(file=a, limit=1))) == ["3", "1"]
    (tmp_path / "odd[1].jsonl").write_text((tmp_path / "b.jsonl").read_text())
    assert prompts(tmp_path, train=str(tmp_path / "odd[1].jsonl")) == ["3"]


def test_a_pattern_reads_with_the_columns_of_its_section(write: Write, tmp_path: Path) -> None:
    write("a.jsonl", {"question": "1", "chosen": "b", "rejected": "c"})
    columns = {"prompt": "question"}
    assert prompts(tmp_path, train=str(tmp_path / "*.jsonl"), columns=columns) == ["1"]
    assert prompts(tmp_path, train=(DataSource(file=str(tmp_path / "*.jsonl"), columns=columns),)) == ["1"]


def test_a_recipe_takes_both(write: Write, tmp_path: Path) -> None:
    a, b = write("a.jsonl", *pairs("1")), write("b.jsonl", *pairs("2"))
    made = validate(DataSettings, from_overrides([f"train=[{a}, {b}]"]))
    assert [s.file for s in made.sources] == [a, b]
    made = validate(DataSettings, from_overrides([f"train=[{a}, {{file: {b}, limit: 1}}]"]))
    assert [(s.file, s.limit) for s in made.sources] == [(a, None), (b, 1)]
    made = validate(DataSettings, from_overrides([f"train='{tmp_path}/?.jsonl'"]))
    assert [s.file for s in made.sources] == [a, b]


def test_a_pattern_that_matches_nothing_says_what_is_there(write: Write, tmp_path: Path) -> None:
    write("a.jsonl", *pairs("1"))
    with pytest.raises(DataError, match=r"no file matches this pattern\n  → `.*` holds `a.jsonl`"):
        prompts(tmp_path, train=str(tmp_path / "*.parquet"))
    with pytest.raises(DataError, match="no file matches"):
        prompts(tmp_path, train=str(tmp_path / "nowhere" / "*.jsonl"))


def test_what_does_not_go_with_a_pattern_is_refused(write: Write, tmp_path: Path) -> None:
    a, pattern = write("a.jsonl", *pairs("1")), str(tmp_path / "*.jsonl")
    for again in (pattern, str(tmp_path / "." / ".." / tmp_path.name / "a.jsonl"), f"{tmp_path}/./a.jsonl"):
        with pytest.raises(DataError, match=r"a\.jsonl: is in data\.train twice\n  → name it once"):
            prompts(tmp_path, train=(a, again))
    for wrong in (lambda: DataSource(file=pattern, weight=1.0), lambda: DataSettings(train=pattern, limit=3)):
        with pytest.raises(ValueError, match="not with a pattern"):
            wrong()
    with pytest.raises(RecipeError, match="twice"):
        validate(DataSettings, from_overrides([f"train=[{a}, {a}]"]))


@pytest.mark.parametrize(("heldout", "generator", "fits"), [(0.9, 0.3, False), (0.5, 0.5, False), (0.1, 0.3, True)])
def test_shares_leave_something_to_train_on(heldout: float, generator: float, fits: bool) -> None:
    splits: dict[str, Any] = {"heldout": DataSplit(fraction=heldout), "generator": DataSplit(fraction=generator)}
    if fits:
        assert DataSettings(train="a.jsonl", **splits).generator == DataSplit(fraction=generator)
        return
    with pytest.raises(ValueError, match="leave no row to train on"):
        DataSettings(train="a.jsonl", **splits)


def test_ignored_keys_and_bounds_reach_the_reader(write: Write, tmp_path: Path) -> None:
    path = write("a.jsonl", {**pairs("1")[0], "summary": "x"}, {**pairs("2" * 50)[0], "summary": "y"})
    with pytest.raises(DataError, match="`summary`"):
        prompts(tmp_path, train=path)
    assert prompts(tmp_path, train=path, ignore=("summary",)) == ["1", "2" * 50]
    bounds = validate(DataSettings, from_overrides([f"train={path}", "bounds.bytes=99", "ignore=[summary]"]))
    with pytest.raises(DataError, match="row 2 is longer than 99 bytes"):
        Reader(bounds, tmp_path / "cache", 0, Silent()).read(None)


def test_two_stars_are_any_number_of_folders(write: Write, tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    written = [write(name, *pairs(name)) for name in ("a.jsonl", "x/b.jsonl", "x/y/c.jsonl")]
    assert files(str(tmp_path / "**" / "*.jsonl")) == written
    assert files(str(tmp_path / "*" / "*.jsonl")) == written[1:2]
    assert files(written[0]) == written[:1]
