"""When a step is run for real, when it is captured, and when it is replayed: with CUDA's own parts played by others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from twofold.sampling.static import Graphs


class Device:
    """What a GPU is asked for, in order; a capture runs its step once, and fails where `fails` says so."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self.log = fails, list[str]()

    def stream(self, name: str) -> Any:
        class Stream:
            def wait_stream(stream, other: Any) -> None:  # of this device
                self.log.append(f"{name} waits for {other.name}")

        made = Stream()
        made.name = name  # type: ignore[attr-defined]  # for the log
        return made

    @contextmanager
    def on(self, stream: Any) -> Iterator[None]:
        self.log.append(f"on {stream.name}")
        yield

    @contextmanager
    def capture(self, graph: Any, stream: Any) -> Iterator[None]:
        self.log.append(f"capture on {stream.name}")
        yield
        if self.fails:
            raise RuntimeError(self.fails)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device()

    class Graph:
        def replay(self) -> None:
            made.log.append("replay")

    main = made.stream("main")
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: made.stream(f"aside of {device}"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(torch.cuda, "stream", made.on)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: made.capture(graph, stream))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    return made


WARM = ["aside of cuda waits for main", "on aside of cuda", "step", "main waits for aside of cuda"]


def test_two_steps_warm_a_key_up_then_it_is_captured_and_replayed(device: Device) -> None:
    graphs = Graphs(torch.device("cuda"), device.log.append)
    for _ in range(4):
        graphs.run("key", lambda: device.log.append("step"))
    assert device.log == [*WARM, *WARM, "capture on aside of cuda", "step", "replay", "replay"]
    assert (len(graphs), graphs.failed) == (1, False)
    device.log.clear()
    graphs.run("other", lambda: device.log.append("step"))
    assert device.log == WARM


def test_what_is_forgotten_is_warmed_up_anew(device: Device) -> None:
    graphs = Graphs(torch.device("cuda"), device.log.append)
    for _ in range(3):
        graphs.run("key", lambda: device.log.append("step"))
    graphs.forget()
    device.log.clear()
    for _ in range(3):
        graphs.run("key", lambda: device.log.append("step"))
    assert device.log == [*WARM, *WARM, "capture on aside of cuda", "step", "replay"]


def test_where_no_graph_can_be_captured_steps_are_run_as_they_are(device: Device) -> None:
    """It is told once, in one line."""
    told: list[str] = []
    graphs = Graphs(torch.device("cuda"), told.append)
    for _ in range(2):
        graphs.run("key", lambda: None)
    device.fails = "operation not permitted\nwhen capturing"
    for _ in range(3):
        graphs.run("key", lambda: device.log.append("step"))
    assert device.log[-5:] == ["capture on aside of cuda", *["step"] * 4]  # in vain, and then three times as it is
    assert told == ["no CUDA graph of a decoding step could be captured: operation not permitted"]
    assert (graphs.failed, len(graphs)) == (True, 0)


def test_elsewhere_a_step_is_a_step(device: Device) -> None:
    graphs = Graphs(torch.device("cpu"), device.log.append)
    for _ in range(4):
        graphs.run("key", lambda: device.log.append("step"))
    assert (device.log, len(graphs)) == (["step"] * 4, 0)
