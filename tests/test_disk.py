"""What is written stands whole, private and in its own place; what is signed is known again."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from twofold import disk, manifest
from twofold.errors import RecipeError


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_file_is_replaced_whole_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o644)
    with pytest.raises(TypeError), disk.replacing(path) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert path.read_text() == "old"
    disk.write(path, "new")
    assert (path.read_text(), mode(path)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_link_is_replaced_and_what_it_names_stays(tmp_path: Path, link: object) -> None:
    outside, path, log = (tmp_path / name for name in ("outside", "results.json", "metrics.jsonl"))
    outside.write_text("precious")
    for each in (path, log):
        link(each, outside)  # type: ignore[operator]
    disk.write(path, "mine")
    disk.own(log)
    with log.open("a") as file:
        file.write(" and more")
    assert (path.read_text(), log.read_text()) == ("mine", "precious and more")
    assert (outside.read_text(), path.is_symlink(), log.is_symlink()) == ("precious", False, False)


def test_a_link_to_nothing_or_to_a_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "nothing").symlink_to(tmp_path / "missing")
    (tmp_path / "folder").symlink_to(tmp_path)
    for name in ("nothing", "folder"):
        disk.write(tmp_path / name, "x")
        assert (tmp_path / name).read_text() == "x"
        assert not (tmp_path / name).is_symlink()
    assert not (tmp_path / "missing").exists()


def test_a_device_or_a_pipe_is_written_to_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        disk.write(Path("/dev/full"), "x" * 10_000)
    assert Path("/dev/full").is_char_device()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    disk.write(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()


def test_a_signed_object_is_known_and_no_other_byte_is(tmp_path: Path) -> None:
    row = {"text": 'é", "check": "0123456789abcdef"}', "n": [1, {"check": "x"}]}
    data, noise = disk.signed(row, about="a"), random.Random(0)
    assert disk.verified(data, about="a") == row
    assert disk.verified(data, about="b") is None
    for _ in range(200):
        at = noise.randrange(len(data))
        changed = data[:at] + bytes([data[at] ^ 1 << noise.randrange(8)]) + data[at + 1 :]
        assert disk.verified(changed, about="a") is None
        assert disk.verified(data[:at], about="a") is None
    disk.write_signed(tmp_path / "a.json", row, about="a")
    assert disk.read_signed(tmp_path / "a.json", about="a") == row
    assert disk.read_signed(tmp_path / "b.json") is None


def test_a_folder_takes_the_place_of_whatever_is_there(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("precious")
    (tmp_path / "link").symlink_to(outside)
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "old").write_text("")
    for name in ("link", "file", "full", "none"):
        made = tmp_path / "made"
        made.mkdir()
        (made / "new").write_text("")
        disk.put_folder(made, tmp_path / name)
        assert [p.name for p in (tmp_path / name).iterdir()] == ["new"]
    assert (outside / "x").read_text() == "precious"


def test_a_manifest_tells_what_is_missing_longer_or_other(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).write_text(name)
    assert manifest.faults(tmp_path) == {}
    manifest.write(tmp_path, of={"seed": 1})
    assert manifest.made_of(tmp_path) == {"seed": 1}
    (tmp_path / "a").unlink()
    (tmp_path / "b").write_text("bb")
    (tmp_path / "c").write_text("x")
    expected = {"a": "is missing", "b": "has 2 bytes instead of 1", "c": "does not match its sha256"}
    assert manifest.faults(tmp_path) == expected
    assert manifest.faults(tmp_path, lambda name: name != "a") == {k: v for k, v in expected.items() if k != "a"}
    assert manifest.made_of(tmp_path) is None
    manifest.forget(tmp_path, "a")
    manifest.record(tmp_path, "b")
    assert manifest.faults(tmp_path) == {"c": "does not match its sha256"}
    (tmp_path / manifest.MANIFEST).write_text("{}")
    assert manifest.faults(tmp_path) == {manifest.MANIFEST: "is damaged"}


def test_a_path_that_only_a_shell_expands_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    with pytest.raises(RecipeError) as error:
        disk.make_folder(Path("~/runs/a"))
    assert str(error.value) == "~/runs/a: `~` is not expanded here\n  → write /home/me/runs/a"
    assert list(tmp_path.iterdir()) == []
    disk.make_folder(tmp_path / "~")
    disk.make_folder(Path("~/runs/a"))  # somebody wants it
    disk.make_folder(Path("~nobody-of-this-name"))
    assert (tmp_path / "~" / "runs" / "a").is_dir()


def test_a_full_disk_names_the_file() -> None:
    with pytest.raises(OSError, match="/dev/full"):
        disk.write(Path("/dev/full"), "x")
