"""Two hosts on one machine: network namespaces that know each other by a cable that can be cut."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
STEPS = 8
PORT = 29400
SILENCE = 10
"""Seconds out of reach after which a host is lost, in these runs."""


def _ip(*words: str, check: bool = True) -> str:
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True).stdout


@dataclass
class Hosts:
    """Hosts `a` and `b`, and what was started on them."""

    tag: str
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def name(self, host: str) -> str:
        return f"{self.tag}-{host}"

    def begin(self, host: str, command: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
        """A shell's command on this host, with mounts of its own."""
        known = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT), **environment}
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name(host), "sh", "-c", command], cwd=cwd, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **known},
        )  # fmt: skip
        self.running.append(process)
        return process

    def cable(self, state: str) -> None:
        """`up` or `down`; of host b, which then has no way to host a."""
        _ip("-n", self.name("b"), "link", "set", f"{self.tag}b", state)

    def traffic(self) -> int:
        """Bytes that host b has sent to host a and got from it."""
        place = f"/sys/class/net/{self.tag}b/statistics"
        text = subprocess.run(
            ["ip", "netns", "exec", self.name("b"), "cat", f"{place}/tx_bytes", f"{place}/rx_bytes"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        return sum(map(int, text.split()))

    def kill(self, host: str) -> None:
        """Everything on this host, at once."""
        for number in _ip("netns", "pids", self.name(host)).split():
            subprocess.run(["kill", "-9", number], check=False)


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Skips aloud where this user may not make them."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("two hosts need root and the program ip")
    tag = f"tf{os.getpid() % 10**6}"
    hosts = Hosts(tag)
    try:
        for host in "ab":
            _ip("netns", "add", hosts.name(host))
        _ip(
            "link",
            "add",
            f"{tag}a",
            "netns",
            hosts.name("a"),
            "type",
            "veth",
            "peer",
            f"{tag}b",
            "netns",
            hosts.name("b"),
        )
        for number, host in enumerate("ab", 1):
            _ip("-n", hosts.name(host), "addr", "add", f"10.231.7.{number}/24", "dev", f"{tag}{host}")
            _ip("-n", hosts.name(host), "link", "set", f"{tag}{host}", "up")
            _ip("-n", hosts.name(host), "link", "set", "lo", "up")
        yield hosts
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
    finally:
        for host in "ab":
            hosts.kill(host)
        for process in hosts.running:
            process.kill()
            process.communicate()
        for host in "ab":
            _ip("netns", "del", hosts.name(host), check=False)


def recipe(folder: Path, kind: str = "shard") -> Path:
    """A recipe of a few steps; its data in `data`, its run in `out`, so that a host may see another one there."""
    for name in ("data", "out"):
        (folder / name).mkdir(parents=True)
    rows = [
        {"prompt": f"What is {a} + {b}?", "chosen": f"{a}+{b}={a + b}\n#### {a + b}", "rejected": f"#### {a * b + 1}"}
        for a in range(2, 8)
        for b in range(2, 8)
    ]
    (folder / "data" / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "recipe.yaml"
    path.write_text(
        f"model: {{path: {ROOT / 'twofold/demo/base'}, device: cpu, precision: float64}}\n"
        f"data: {{train: {folder / 'data' / 'pairs.jsonl'}}}\n"
        "optimizer: {learning_rate: 5.0e-4}\n"
        f"training: {{steps: {STEPS}, batch_size: 8, checkpoint_every: 1}}\n"
        f"run: {folder / 'out' / 'run'}\nworld: {{kind: {kind}, timeout: {SILENCE}}}\n"
    )
    return path


def train(path: Path, processes: int = 1) -> str:
    """The command, the same on both hosts."""
    meet = f"--nodes 2 --processes {processes} --rendezvous 10.231.7.1:{PORT}"
    return f"exec {sys.executable} -m twofold train {path} {meet}"


def ended(*processes: subprocess.Popen[str], seconds: float = 600) -> list[tuple[int, list[str]]]:
    """The exit code of each, and its lines of messages."""
    done = [process.communicate(timeout=seconds) for process in processes]
    return [(process.returncode, _messages(err)) for process, (_, err) in zip(processes, done, strict=True)]


def _messages(err: str) -> list[str]:
    """What was written from the first error on, or all where there is none."""
    lines = err.splitlines()
    first = next((n for n, line in enumerate(lines) if line.startswith("error:")), 0)
    return lines[first:]


def wait_for(step: int, path: Path, *running: subprocess.Popen[str]) -> None:
    """Until this step has been saved."""
    until = time.monotonic() + 300
    while not (path.parent / "out" / "run" / "checkpoints" / f"step-{step}").is_dir():
        assert all(process.poll() is None for process in running)
        assert time.monotonic() < until
        time.sleep(0.02)


def farthest(path: Path, alone: Path) -> float:
    """The largest difference of a weight of the two finished models."""
    a, b = (load_file(p.parent / "out" / "run" / "model" / "model.safetensors") for p in (path, alone))
    assert list(a) == list(b)
    return max(float((a[name] - b[name]).abs().max()) for name in a)
