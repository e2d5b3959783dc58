"""What a checkpoint's faults are called, where they are, and the way out; and what is looked at without its tensors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from twofold.errors import CheckpointError
from twofold.training.checkpoint import Checkpoint, newest, newest_state, save, set_aside

TENSORS = {"model": {"w": torch.arange(6.0), "b": torch.ones(3, dtype=torch.bfloat16)}, "none": {}}


def put(folder: Path, step: int, **state: Any) -> Path:
    return save(folder, step, TENSORS, {"step": step, **state}, keep=None)


def test_the_state_that_is_whole_is_read_whatever_the_tensors_are(tmp_path: Path) -> None:
    assert newest_state(tmp_path / "absent") is None
    assert newest_state(tmp_path) is None
    for step in (2, 10, 9):
        put(tmp_path, step)
    (tmp_path / "step-10" / "model.safetensors").unlink()
    assert newest_state(tmp_path) == (tmp_path / "step-10", {"step": 10})
    (tmp_path / "step-10" / "state.json").write_text('{"step": 99}')
    assert newest_state(tmp_path) == (tmp_path / "step-9", {"step": 9})
    (tmp_path / "step-9" / "manifest.json").unlink()
    assert newest_state(tmp_path) == (tmp_path / "step-2", {"step": 2})
    (tmp_path / "step-2" / "state.json").unlink()
    assert newest_state(tmp_path) is None


def test_what_replaced_a_checkpoint_comes_before_it(tmp_path: Path) -> None:
    put(tmp_path, 5, old=True).rename(tmp_path / "step-5.replaced")
    put(tmp_path.with_name("other"), 5)
    (tmp_path.with_name("other") / "step-5").rename(tmp_path / "step-5")
    put(tmp_path.with_name("other"), 4)
    (tmp_path.with_name("other") / "step-4").rename(tmp_path / "step-4")
    (tmp_path / "step-6").write_text("no folder")
    (tmp_path / "step-7x").mkdir()
    assert newest_state(tmp_path) == (tmp_path / "step-5", {"step": 5})
    shutil.rmtree(tmp_path / "step-5")
    assert newest_state(tmp_path) == (tmp_path / "step-5.replaced", {"step": 5, "old": True})
    shutil.rmtree(tmp_path / "step-5.replaced")
    assert newest_state(tmp_path) == (tmp_path / "step-4", {"step": 4})


def test_a_checkpoint_that_is_set_aside_is_not_resumed(tmp_path: Path) -> None:
    for step in (1, 2):
        put(tmp_path, step)
    set_aside(tmp_path, 2)
    put(tmp_path, 2, again=True)
    set_aside(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-1", "step-2.set-aside"]
    assert json.loads((tmp_path / "step-2.set-aside" / "state.json").read_text()) == {"step": 2, "again": True}
    found = newest(tmp_path)
    assert found is not None
    assert (found.step, found.skipped) == (1, {})


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """A manifest with another content, written as it is written."""

    def edit(path: Path) -> None:
        listed = json.loads(path.read_text())
        change(listed)
        path.write_text(json.dumps(listed, indent=1) + "\n")

    return edit


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda path: path.write_text("{"), "manifest.json is damaged"),
        (lambda path: path.write_text("[]\n"), "manifest.json is damaged"),
        (lambda path: path.write_text(path.read_text().strip()), "manifest.json is damaged"),
        (lambda path: path.write_text(path.read_text() + "\n"), "manifest.json is damaged"),
        (lambda path: path.write_bytes(b"\xff" + path.read_bytes()), "manifest.json is damaged"),
        (edited(lambda listed: listed.pop("format")), "manifest.json is damaged"),
        (edited(lambda listed: listed.update(files=[1])), "manifest.json is damaged"),
        (edited(lambda listed: listed.update(files=["state.json"])), "manifest.json is damaged"),
        (edited(lambda listed: listed["files"].pop("state.json")), "manifest.json is damaged"),
        (edited(lambda listed: listed.update(format=7)), "format 7; this version reads format 1"),
        (edited(lambda listed: listed.update(step=4)), "manifest.json belongs to step 4"),
        (edited(lambda listed: listed["files"].update({"x": {"size": 1, "sha256": ""}})), "x is missing"),
        (lambda path: path.unlink(), "manifest.json is missing"),
        (as_folder, "cannot be read: [Errno 21] Is a directory: "),
        (lambda path: (path.parent / "state.json").write_text("{}"), "state.json has 2 bytes instead of 14"),
        (lambda path: (path.parent / "state.json").write_bytes(b"{}" + b" " * 12), "state.json does not match its sha"),
        (lambda path: (path.parent / "model.safetensors").unlink(), "model.safetensors is missing"),
    ],
)  # fmt: skip
def test_faults_have_names(tmp_path: Path, damage: Callable[[Path], object], fault: str) -> None:
    path = put(tmp_path, 3)
    assert Checkpoint.open(path).step == Checkpoint.open(str(path)).step == 3
    damage(path / "manifest.json")
    with pytest.raises(CheckpointError) as error:
        Checkpoint.open(path)
    assert error.value.what.startswith(fault)
    assert (error.value.where, error.value.remedy) == (str(path), "resume from another checkpoint")
    with pytest.raises(CheckpointError) as error:
        newest(tmp_path)
    assert error.value.what.startswith(f"no checkpoint is whole (step-3: {fault}")
    assert (error.value.where, error.value.remedy) == (
        str(tmp_path), "remove the folder to start again from step 0",
    )  # fmt: skip


def test_a_folder_that_is_no_checkpoint_is_not_opened(tmp_path: Path) -> None:
    put(tmp_path, 3).rename(tmp_path / "mine")
    with pytest.raises(CheckpointError, match=r"mine: manifest\.json belongs to step 3"):
        Checkpoint.open(tmp_path / "mine")


def test_tensors_that_are_not_there_or_cannot_be_read(tmp_path: Path) -> None:
    path = save(tmp_path, 3, {}, {}, keep=None)
    found = Checkpoint.open(path)
    with pytest.raises(CheckpointError) as error:
        found.tensors("model")
    assert str(error.value) == f"{path}: no tensors called 'model'\n  → there are: none"
    (path / "model.safetensors").write_bytes(b"damaged since it was opened")
    with pytest.raises(CheckpointError, match=r"cannot be read: ") as error:
        found.tensors("model")
    assert error.value.where == str(path / "model.safetensors")


def test_a_link_to_checkpoints_is_refused_with_the_ways_out_and_an_empty_one_is_none(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert newest(tmp_path / "link") is None
    put(tmp_path / "elsewhere", 1)
    with pytest.raises(CheckpointError) as error:
        newest(str(tmp_path / "link"))
    assert str(error.value) == (
        f"{tmp_path / 'link'}: is a link: twofold does not write through links\n"
        "  → move the folder that it points to here, or start over with --no-resume, which does not touch it"
    )


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_what_a_checkpoint_needs_is_its_bytes_its_headers_and_a_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six float32 and three bfloat16, 512 bytes for each of the two tensors, the state, and 64 KiB."""
    state = {"name": "Δ"}
    needed = 6 * 4 + 3 * 2 + 2 * 512 + len('{\n "name": "Δ"\n}'.encode()) + 65536
    for free in (needed, needed - 1):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: Usage(10**9, 0, free))
        if free == needed:
            path = save(tmp_path, 1, TENSORS, state, keep=1)
            assert (path / "state.json").read_text(encoding="utf-8") == '{\n "name": "Δ"\n}'
            continue
        with pytest.raises(CheckpointError) as error:
            save(tmp_path, 2, TENSORS, state, keep=1)
    assert str(error.value) == (
        f"{tmp_path}: a checkpoint needs {needed:,} bytes and {needed - 1:,} are free\n"
        "  → free disk space, keep fewer checkpoints, or choose another folder"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]


def test_a_save_that_fails_says_where_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(CheckpointError) as error:
        put(tmp_path, 2)
    assert str(error.value) == (
        f"{tmp_path}: step 2 cannot be saved: [Errno 5] Input/output error\n"
        "  → earlier checkpoints are intact; free or repair the disk, then resume"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, -1])
def test_at_least_one_checkpoint_stays(tmp_path: Path, keep: int) -> None:
    with pytest.raises(ValueError) as error:
        save(tmp_path, 1, {}, {}, keep=keep)
    assert str(error.value) == "keep must be ≥ 1, or None to keep all"
    with pytest.raises(ValueError) as error:
        save(tmp_path, 1, {"fine": {}, "a/b": {}}, {}, keep=1)
    assert str(error.value) == "not a file name: 'a/b'"


def test_which_checkpoints_stay(tmp_path: Path) -> None:
    """Of 1, 4, 8 and 9 and a save of step 5: with one to keep, 5; the abandoned future goes before the past."""
    for keep, protect, want in ((1, (), [5]), (2, (), [4, 5]), (3, (), [1, 4, 5]), (4, (), [1, 4, 5, 9]),
                                (1, (1, 8, 77), [1, 5, 8]), (None, (), [1, 4, 5, 8, 9])):  # fmt: skip
        folder = tmp_path / f"{keep}-{len(protect)}"
        for step in (1, 4, 8, 9):
            save(folder, step, {}, {}, keep=None)
        save(folder, 5, {}, {}, keep=keep, protect=protect)
        assert sorted(int(p.name.removeprefix("step-")) for p in folder.iterdir()) == want
