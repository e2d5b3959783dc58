"""Blocks of several processes are put together in their own number format."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from twofold.errors import CheckpointError
from twofold.training.checkpoint import Checkpoint, save
from twofold.training.tensor_files import Part, files_of, read, write
from twofold.world import World


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.int64, torch.bool], ids=str)
def test_a_whole_of_blocks_has_their_number_format(tmp_path: Path, dtype: torch.dtype) -> None:
    """2⁵³ − 1 and a third are not what they were in float32."""
    whole = torch.tensor([[2**53 - 1, 1], [0, 3], [1 / 3, 7]], dtype=torch.float64).to(dtype)
    for rank, (begin, end) in enumerate(pairwise((0, 1, 3))):
        part = Part(whole[begin:end], [begin, 0], [3, 2])
        write(tmp_path, "model", {"w": part}, World(rank=rank, size=2))
    result = read(files_of(tmp_path, "model"), lambda _: None)["w"]
    assert result.dtype == dtype
    assert torch.equal(result, whole)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int64], ids=str)
def test_a_copy_for_the_background_is_one_and_in_its_number_format(dtype: torch.dtype) -> None:
    value = torch.tensor([1, 2], dtype=dtype)
    apart = Part(value, [4], [9]).apart()
    assert (apart.value.dtype, apart.value.device.type, apart.begin, apart.shape) == (dtype, "cpu", [4], [9])
    assert apart.value.data_ptr() != value.data_ptr()


def test_sets_of_several_processes_go_by_one_name_in_what_there_is(tmp_path: Path) -> None:
    path = save(tmp_path, 3, {"policy": {"w": torch.ones(1)}}, {}, keep=None)
    for rank in (0, 1):
        write(path, "critic", {"v": Part(torch.ones(1, 2), [rank, 0], [2, 2])}, World(rank=rank, size=2))
    with pytest.raises(CheckpointError) as error:
        Checkpoint(path, 3).tensors("model")
    assert str(error.value) == f"{path}: no tensors called 'model'\n  → there are: critic, policy"


def test_a_set_that_cannot_be_read_names_its_file_and_the_way_out(tmp_path: Path) -> None:
    path = save(tmp_path, 3, {"policy": {"w": torch.ones(1)}}, {}, keep=None)
    write(path, "critic", {"v": Part(torch.ones(1, 2), [0, 0], [2, 2])}, World(rank=0, size=2))
    with pytest.raises(CheckpointError) as error:
        Checkpoint(path, 3).tensors("critic")
    file = path / "critic.0-of-2.safetensors"
    assert str(error.value) == (
        f"{file}: cannot be read: v is not there as a whole\n  → resume from another checkpoint"
    )
