"""`twofold train --nodes 2` on two hosts and their cable: equal to one process, and clear words where one is lost."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.two_hosts import ROOT, SILENCE, Hosts, ended, farthest, recipe, train, two_hosts, wait_for
from twofold.training import checkpoint

pytestmark = pytest.mark.hosts
LOST = 5
AGAIN = "the same command, on every host, resumes from the last checkpoint"


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with two_hosts() as hosts:
        yield hosts


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one process."""
    path = recipe(tmp_path_factory.mktemp("alone"))
    subprocess.run([sys.executable, "-m", "twofold", "train", path], check=True, capture_output=True, cwd=ROOT)
    return path


def both(hosts: Hosts, path: Path, processes: int = 1) -> list[subprocess.Popen[str]]:
    return [hosts.begin(host, train(path, processes), path.parent) for host in "ab"]


@pytest.mark.parametrize(("kind", "processes"), [("replicate", 1), ("shard", 1), ("hybrid", 2)])
def test_two_hosts_equal_one_process(hosts: Hosts, alone: Path, tmp_path: Path, kind: str, processes: int) -> None:
    path = recipe(tmp_path / kind, kind)
    assert [code for code, _ in ended(*both(hosts, path, processes))] == [0, 0]
    assert farthest(path, alone) <= 1e-10


@pytest.mark.parametrize("kind", ["replicate", "shard"])
def test_a_cut_cable_costs_a_message_and_the_same_command_goes_on(
    hosts: Hosts, alone: Path, tmp_path: Path, kind: str
) -> None:
    path = recipe(tmp_path / kind, kind)
    running = both(hosts, path)
    wait_for(2, path, *running)
    try:
        hosts.cable("down")
        began = time.monotonic()
        (code_a, a), (code_b, b) = ended(*running, seconds=10 * SILENCE)
        seconds = time.monotonic() - began
    finally:
        hosts.cable("up")
    assert (code_a, code_b) == (LOST, LOST)
    assert a == [
        "error: the host 10.231.7.2 cannot be reached",
        f"  → look at its power and at the network; then {AGAIN}",
    ]
    assert len(b) == 2
    assert b[0].startswith("error: ")
    assert "10.231.7.1" in b[0]
    assert "cannot be reached" in b[0]
    assert seconds < 8 * SILENCE
    assert checkpoint.newest(path.parent / "out" / "run" / "checkpoints") is not None
    (code_a, a), (code_b, _) = ended(*both(hosts, path))
    assert (code_a, code_b) == (0, 0)
    assert farthest(path, alone) <= 1e-10


@pytest.mark.parametrize("lost", ["a", "b"])
def test_a_lost_host_is_named_and_the_same_command_goes_on(
    hosts: Hosts, alone: Path, tmp_path: Path, lost: str
) -> None:
    """Also the one at which all meet, and whose first process writes."""
    path = recipe(tmp_path / lost)
    running = dict(zip("ab", both(hosts, path), strict=True))
    wait_for(2, path, *running.values())
    hosts.kill(lost)
    ((code, words),) = ended(running["b" if lost == "a" else "a"], seconds=10 * SILENCE)
    assert code == LOST
    assert len(words) == 2
    assert ("10.231.7.1" if lost == "a" else "10.231.7.2") in words[0]
    assert "has ended" in words[0]
    assert [code for code, _ in ended(*both(hosts, path))] == [0, 0]
    assert farthest(path, alone) <= 1e-10


def test_a_folder_that_one_host_does_not_see_is_refused(hosts: Hosts, tmp_path: Path) -> None:
    path = recipe(tmp_path / "unseen")
    other = f"mount -t tmpfs none {path.parent / 'out'} && {train(path)}"
    found = ended(hosts.begin("a", train(path), tmp_path), hosts.begin("b", other, tmp_path))
    for code, words in found:
        assert code == 2
        assert words[0].startswith(f"error: run: {path.parent / 'out' / 'run'}: process 1, on ")
        assert "does not see the folder in which process 0 writes" in words[0]


def test_other_rows_on_a_host_are_refused_by_name(hosts: Hosts, tmp_path: Path) -> None:
    path = recipe(tmp_path / "rows")
    rows = path.parent / "data" / "pairs.jsonl"
    (tmp_path / "other").write_text(rows.read_text().replace("What is 2", "How much is 2"))
    other = f"mount --bind {tmp_path / 'other'} {rows} && {train(path)}"
    found = ended(hosts.begin("a", train(path), tmp_path), hosts.begin("b", other, tmp_path))
    assert [code for code, _ in found] == [2, 2]
    assert all(words[0].startswith("error: data (train): differs between processes: process 0: ") for _, words in found)


def test_another_version_of_a_package_is_refused_by_name(hosts: Hosts, tmp_path: Path) -> None:
    path = recipe(tmp_path / "versions")
    place = tmp_path / "site" / "transformers-9.9.9.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 9.9.9\n")
    other = hosts.begin("b", train(path), tmp_path, PYTHONPATH=f"{place.parent}:{ROOT}")
    found = ended(hosts.begin("a", train(path), tmp_path), other)
    assert [code for code, _ in found] == [2, 2]
    assert all(words[0].startswith("error: transformers: differs between processes: ") for _, words in found)
    assert all("9.9.9" in words[0] for _, words in found)
