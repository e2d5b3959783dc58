from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from twofold.errors import CheckpointError
from twofold.training.checkpoint import Checkpoint, newest, save

TENSORS = {
    "model": {
        "float32": torch.tensor([[1.5, -0.0, float("inf")], [float("nan"), 1e-45, 3.0]]),
        "bfloat16": torch.arange(7, dtype=torch.bfloat16) / 3,
        "float64": torch.tensor([1 / 3, 2**-1074], dtype=torch.float64),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
    },
    "optimizer": {"step": torch.tensor(7.0), "count": torch.tensor(3), "mask": torch.tensor([True, False])},
    "algorithm": {},
}
STATE = {"step": 3, "best": {"step": 2, "value": 1 / 3}, "queue": [1, 2, 3], "name": "Δ", "nothing": None}


def marked(step: int, attempt: int = 0) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Contents in which every part tells the step and attempt that it was made for."""
    value = torch.full((20_000,), step * 1000 + attempt, dtype=torch.int64)
    return {"model": {"w": value}, "optimizer": {"m": value + 1}}, {"step": step, "attempt": attempt}


def check_marked(found: Checkpoint) -> None:
    state = found.state
    value = state["step"] * 1000 + state["attempt"]
    assert state["step"] == found.step
    assert bool((found.tensors("model")["w"] == value).all())
    assert bool((found.tensors("optimizer")["m"] == value + 1).all())


def put(folder: Path, step: int, attempt: int = 0, *, keep: int | None = None, protect: tuple[int, ...] = ()) -> Path:
    return save(folder, step, *marked(step, attempt), keep=keep, protect=protect)


def steps(folder: Path) -> list[int]:
    """Steps that lie in `folder`; nothing else may."""
    return sorted(int(path.name.removeprefix("step-")) for path in folder.iterdir())


def forked(work: Callable[[], None]) -> int:
    """The process id of a child that does `work` and ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)


def test_what_is_saved_comes_back_to_the_bit(tmp_path: Path) -> None:
    path = save(tmp_path / "runs" / "checkpoints", 3, TENSORS, STATE, keep=None)
    found = newest(tmp_path / "runs" / "checkpoints")
    assert found is not None
    assert (found.path, found.step, found.skipped, found.state) == (path, 3, {}, STATE)
    assert path.name == "step-3"
    for name, some in TENSORS.items():
        got = found.tensors(name)
        assert got.keys() == some.keys()
        for key, want in some.items():
            assert (got[key].dtype, got[key].shape) == (want.dtype, want.shape)
            assert (
                got[key]
                .contiguous()
                .reshape(-1)
                .view(torch.uint8)
                .equal(want.contiguous().reshape(-1).view(torch.uint8))
            )
    assert sorted(file.name for file in path.iterdir()) == [
        "algorithm.safetensors", "manifest.json", "model.safetensors", "optimizer.safetensors", "state.json",
    ]  # fmt: skip
    with pytest.raises(CheckpointError, match="no tensors called 'policy'\n  → there are: algorithm, model, optimizer"):
        found.tensors("policy")


def test_the_same_contents_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (save(tmp_path / name, 3, TENSORS, STATE, keep=1) for name in ("a", "b"))
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes()


def test_no_checkpoint_is_none_and_none_whole_is_an_error(tmp_path: Path) -> None:
    assert newest(tmp_path / "absent") is None
    assert newest(tmp_path) is None
    (put(tmp_path, 1) / "state.json").unlink()
    (put(tmp_path, 2) / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"step-2: manifest.json is missing; step-1: state.json is missing"):
        newest(tmp_path)


def flip(file: Path, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def truncate(file: Path, rng: random.Random) -> None:
    os.truncate(file, rng.randrange(file.stat().st_size))


def delete(file: Path, rng: random.Random) -> None:
    file.unlink()


@pytest.mark.parametrize("damage", [flip, truncate, delete])
def test_damage_to_any_file_is_found_and_the_previous_checkpoint_taken(
    tmp_path: Path, damage: Callable[[Path, random.Random], None]
) -> None:
    save(tmp_path, 2, TENSORS, {"which": "previous"}, keep=None)
    whole = save(tmp_path, 10, TENSORS, STATE, keep=None)
    names = sorted(file.name for file in whole.iterdir())
    for trial in range(100):
        rng = random.Random(trial)
        kept = shutil.copytree(whole, tmp_path / "kept")
        damage(whole / names[trial % len(names)], rng)
        found = newest(tmp_path)
        assert found is not None
        assert (found.step, found.state) == (2, {"which": "previous"})
        assert list(found.skipped) == ["step-10"]
        assert names[trial % len(names)] in found.skipped["step-10"] or "manifest" in names[trial % len(names)]
        with pytest.raises(CheckpointError, match="step-10"):
            Checkpoint.open(whole)
        shutil.rmtree(whole)
        kept.rename(whole)
    assert Checkpoint.open(whole).step == 10


def test_a_renamed_checkpoint_and_one_of_another_format_are_refused(tmp_path: Path) -> None:
    put(tmp_path, 4).rename(tmp_path / "step-9")
    with pytest.raises(CheckpointError, match=r"step-9: manifest.json belongs to step 4"):
        newest(tmp_path)
    path = put(tmp_path, 5) / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(CheckpointError, match="format 2; this version reads format 1"):
        Checkpoint.open(path.parent)


def test_pruning_keeps_the_newest_and_the_protected(tmp_path: Path) -> None:
    for step in (1, 2, 9, 10, 11):
        put(tmp_path, step, keep=None)
    assert steps(tmp_path) == [1, 2, 9, 10, 11]
    put(tmp_path, 12, keep=2, protect=(2, 12))
    assert steps(tmp_path) == [2, 11, 12]
    put(tmp_path, 13, keep=1)
    assert steps(tmp_path) == [13]
    with pytest.raises(ValueError, match="keep"):
        put(tmp_path, 14, keep=0)


def test_what_was_just_saved_is_never_pruned_for_an_abandoned_future(tmp_path: Path) -> None:
    for step in (1, 8, 9):
        put(tmp_path, step)
    put(tmp_path, 2, keep=2)
    assert steps(tmp_path) == [1, 2]


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    put(tmp_path, 5, attempt=1)
    put(tmp_path, 5, attempt=2)
    found = newest(tmp_path)
    assert found is not None
    check_marked(found)
    assert (found.state["attempt"], steps(tmp_path)) == (2, [5])


def test_a_save_that_was_killed_while_replacing_loses_nothing(tmp_path: Path) -> None:
    put(tmp_path, 4)
    put(tmp_path, 5, attempt=1).rename(tmp_path / "step-5.replaced")
    (tmp_path / ".unfinished-x").mkdir()
    (tmp_path / ".unfinished-x" / "model.safetensors").write_bytes(b"half")
    found = newest(tmp_path)
    assert found is not None
    check_marked(found)
    assert (found.step, found.state["attempt"]) == (5, 1)
    put(tmp_path, 6)
    assert steps(tmp_path) == [4, 5, 6]
    shutil.copytree(tmp_path / "step-5", tmp_path / "step-5.replaced")
    put(tmp_path, 7)
    assert steps(tmp_path) == [4, 5, 6, 7]


def test_kill_at_any_moment_leaves_a_whole_and_recent_checkpoint(tmp_path: Path) -> None:
    put(tmp_path, 1)
    rng, unfinished = random.Random(0), 0
    for _ in range(60):
        before = newest(tmp_path)
        assert before is not None
        reader, writer = os.pipe()

        def work(start: int = before.step, out: int = writer) -> None:
            for step in range(start, start + 10_000):
                for attempt in (0, 1):
                    put(tmp_path, step + 1, attempt, keep=2)
                    os.write(out, (step + 1).to_bytes(8))

        child = forked(work)
        os.close(writer)
        with os.fdopen(reader, "rb", buffering=0) as file:
            done, started = file.read(8), time.perf_counter()
            done += file.read(8)
            time.sleep(rng.uniform(0.0, 2.0) * (time.perf_counter() - started))
            os.kill(child, signal.SIGKILL)
            assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
            done += file.readall()
        after = newest(tmp_path)
        assert after is not None
        check_marked(after)
        assert after.skipped == {}
        assert after.step >= int.from_bytes(done[-8:])
        unfinished += any(path.name.startswith(".unfinished-") for path in tmp_path.iterdir())
    assert unfinished > 10, "the kills must fall into saves"


def test_too_little_space_is_said_before_anything_is_written(tmp_path: Path) -> None:
    put(tmp_path, 1)
    huge = torch.zeros(1).expand(2**58)
    with pytest.raises(CheckpointError, match=r"needs 1,152,9\d\d,[\d,]+ bytes and [\d,]+ are free") as error:
        save(tmp_path, 2, {"model": {"w": huge}}, {}, keep=1)
    assert error.value.where == str(tmp_path)
    assert steps(tmp_path) == [1]


def failing_save(folder: Path) -> None:
    """Fork a child whose files may not exceed 50 kB: its save must fail in writing, as on a full disk."""

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        with pytest.raises(CheckpointError, match="step 2 cannot be saved") as error:
            put(folder, 2, keep=1)
        assert "earlier checkpoints are intact" in error.value.remedy

    assert os.waitpid(forked(work), 0)[1] == 0


def test_a_write_that_fails_midway_leaves_earlier_checkpoints(tmp_path: Path) -> None:
    put(tmp_path, 1)
    failing_save(tmp_path)
    assert steps(tmp_path) == [1]
    found = newest(tmp_path)
    assert found is not None
    check_marked(found)


def test_a_disk_that_fills_up_leaves_earlier_checkpoints(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not permitted here: the full disk is not tested")
    try:
        put(tmp_path, 1)
        put(tmp_path, 2)
        with pytest.raises(CheckpointError, match="are free"):
            put(tmp_path, 3)
        assert steps(tmp_path) == [1, 2]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_folder_that_cannot_be_made_and_names_that_are_no_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="step 1 cannot be saved"):
        put(tmp_path / "file" / "checkpoints", 1)
    with pytest.raises(ValueError, match="not a file name"):
        save(tmp_path, 1, {"../model": {}}, {}, keep=None)
    with pytest.raises(TypeError):
        save(tmp_path, 1, {}, {"tensor": torch.ones(1)}, keep=None)
    assert not list(tmp_path.glob("step-*"))


def test_files_then_their_folder_then_its_new_name_reach_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    sync, rename = os.fsync, Path.rename

    def synced(descriptor: int) -> None:
        happened.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).relative_to(tmp_path)}")
        sync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        happened.append(f"{path.name} becomes {Path(target).name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    put(tmp_path / "c", 7)
    aside = "c/.unfinished-step-7"
    files = ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]
    assert sorted(happened[:4]) == [f"sync {aside}/{name}" for name in files]
    assert happened[4:] == [f"sync {aside}", ".unfinished-step-7 becomes step-7", "sync c"]


def test_a_checkpoint_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = put(tmp_path / "c", 7)
    assert [p.stat().st_mode & 0o777 for p in (path.parent, path)] == [0o700, 0o700]
    assert {p.stat().st_mode & 0o777 for p in path.iterdir()} == {0o600}


def test_a_link_to_checkpoints_is_neither_resumed_nor_written_through(tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "elsewhere", 7).parent
    (tmp_path / "c").symlink_to(elsewhere)
    with pytest.raises(CheckpointError, match=r"c: is a link: twofold does not write through links"):
        newest(tmp_path / "c")
