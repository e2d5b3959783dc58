"""The loop of decoding: how often slots are looked at, which rows leave, and who begins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from support import tiny
from twofold.errors import NonFiniteError
from twofold.sampling import local
from twofold.sampling.base import Sampling
from twofold.sampling.local import CompletionQueue, Decoding, LocalSampler, draw_for_trial, unusable_logits


def decoding(horizon: int, *, stop: bool = False, static: Any = None, device: str = "cpu") -> Any:
    made = object.__new__(Decoding)
    made.sampler = cast(Any, SimpleNamespace(settings=Sampling(stop=("x",) if stop else ())))
    made.static, made.horizon, made.step, made.completions = static, horizon, 0, {}
    made.slots = cast(Any, SimpleNamespace(slot_A=torch.empty(1, device=device)))
    return made


@pytest.mark.parametrize(
    ("how", "looks"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]), ({"stop": True}, [8, 16, 17, 18]),
        ({"device": "meta"}, [8, 16, 17, 18]), ({"static": True}, [8, 16, 17, 18]),
    ],
)  # fmt: skip
def test_slots_are_looked_at_every_eighth_step_where_a_look_is_expensive(how: dict[str, Any], looks: list[int]) -> None:
    """And in every step from the one on in which the longest completion ends, here the 17th; the 18th look ends it."""
    keys: list[Any] = []
    if how.pop("static", False):
        graphs = SimpleNamespace(run=lambda key, act: (keys.append(key), act()))
        how["static"] = SimpleNamespace(graphs=graphs, store=SimpleNamespace(key=(8, 64)))
    made, at, advances = decoding(17, **how), list[int](), list[int]()
    made._look = lambda: at.append(made.step) or made.step < 18
    made._advance = lambda: advances.append(made.step)
    assert made.run() is made.completions
    assert (at, advances, made.step) == (looks, list(range(1, 18)), 18)
    assert keys == ([(8, 64)] * 17 if "static" in how else [])


class Scene:
    """Slots, a store and a supply whose calls are recorded; `free` are the free slots at each look."""

    def __init__(self, free: list[list[int]], live: list[int], size: int, refills: bool = True) -> None:
        self.free, self.left, self.size, self.refills = free, live, size, refills
        self.log: list[Any] = []
        self.waiting = ["ab", None, None]  # two completions

    def release(self) -> Any:
        return {(len(self.log), 0): "done"}, torch.tensor(self.free.pop(0), dtype=torch.int64)

    def take(self, most: int) -> Any:
        self.log.append(("take", most))
        return self.waiting.pop(0)

    def live(self) -> torch.Tensor:
        return torch.tensor(self.left)

    def size_for(self, live: int, size: int) -> int:
        self.log.append(("size", live, size))
        return live

    def keep(self, index: torch.Tensor, size: int | None = None) -> None:
        self.log.append(("keep", index.tolist(), size))
        self.size = self.size if size is None else size


def looked(scene: Scene) -> tuple[bool, Any]:
    made = object.__new__(Decoding)
    made.sampler = cast(Any, SimpleNamespace(settings=Sampling()))
    made.slots = made.store = made.supply = cast(Any, scene)
    made.completions = {}
    made._begin = lambda slot_A, fresh: scene.log.append(("begin", slot_A.tolist(), fresh))  # type: ignore[method-assign]
    made._settle = lambda: scene.log.append("settle")  # type: ignore[method-assign]
    return made._look(), made


def test_a_look_fills_free_slots_and_then_drops_rows() -> None:
    scene = Scene([[0, 2, 3, 5], [3, 5]], [1, 4], 6)
    left, made = looked(scene)
    assert left
    assert scene.log == [
        ("take", 4), ("begin", [0, 2], "ab"), ("take", 2), ("size", 2, 6),
        ("keep", [1, 4], 2), ("keep", [1, 4], None), "settle",
    ]  # fmt: skip
    assert list(made.completions) == [(0, 0), (2, 0)]


@pytest.mark.parametrize(
    ("free", "live", "size", "refills", "log"),
    [
        ([[]], [0, 1], 2, True, [("size", 2, 2), "settle"]),
        ([[1]], [0], 2, False, [("size", 1, 2), ("keep", [0], 1), ("keep", [0], None), "settle"]),
        ([[0, 1]], [], 2, False, [("size", 0, 2), ("keep", [], 0)]),
    ],
)  # fmt: skip
def test_a_look_without_anything_to_begin(
    free: list[list[int]], live: list[int], size: int, refills: bool, log: list[Any]
) -> None:
    """Nothing is copied where all rows stay, and nothing is settled where none is left."""
    scene = Scene(free, live, size, refills)
    assert (looked(scene)[0], scene.log) == (bool(live), log)


def test_the_horizon_is_the_longest_completion_from_its_begin_on() -> None:
    made = decoding(12)
    calls: list[Any] = []
    made.store = SimpleNamespace(fill=lambda *arguments: calls.append(arguments))
    made.slots = SimpleNamespace(begin=lambda *arguments: calls.append(arguments) or 9)
    fresh: Any = SimpleNamespace(prefilled="start")
    for step, horizon in ((2, 12), (3, 12), (4, 13), (10, 19)):
        made.step = step
        made._begin("slots", fresh)
        assert made.horizon == horizon
    assert calls[:2] == [("slots", "start"), ("slots", fresh)]


def test_completions_are_taken_where_the_model_is() -> None:
    """They lie elsewhere than tensors do by default."""
    model = SimpleNamespace(device=torch.device("cpu"))
    start = SimpleNamespace(select=lambda index: index.tolist())
    sampler: Any = SimpleNamespace(
        settings=Sampling(batch_size=4, max_new_tokens=3), refills=True, model=model, start=lambda prompts: start
    )
    queue = CompletionQueue(sampler, [torch.tensor([5])], 2, (0, 0))
    with torch.device("meta"):
        fresh = queue.take(4)
    assert fresh is not None
    assert (fresh.prefilled, tuple(fresh.noise_AN.shape), fresh.noise_AN.device.type) == ([0, 0], (2, 3), "cpu")


def test_longest_prompts_come_first_whatever_their_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt that occurs twice is completed once."""
    lengths: list[int] = []

    def prompts_of(prompts: Any) -> list[int]:
        lengths.extend(len(p) for p in prompts)
        return list(range(len(prompts)))

    monkeypatch.setattr(local, "own_prompts", prompts_of)
    no_text: Any = None
    sampler = LocalSampler(tiny.llama(), no_text, {3}, Sampling(max_new_tokens=2))
    prompts = [torch.full((n,), token) for n, token in ((2, 9), (5, 1), (3, 60), (5, 1), (4, 30))]
    drawn = sampler.sample(prompts)
    assert lengths == [5, 4, 3, 2]
    assert drawn[1] == drawn[3]


def test_unusable_logits_in_words() -> None:
    error = unusable_logits("prompt 2 of 3", 5)
    assert isinstance(error, NonFiniteError)
    assert str(error) == (
        "prompt 2 of 3: the model's logits are not finite at token 5 of a completion, so nothing can be sampled from "
        "them\n  → its weights are damaged or have diverged: take an earlier checkpoint, or set model.precision=float32"
    )


@pytest.mark.parametrize("drive", ["cache", "rows"])
def test_completions_of_a_trial_end_at_every_eighth_token(drive: Any) -> None:
    model = tiny.llama()
    drawn = draw_for_trial(model, drive, [torch.tensor([5, 6]), torch.tensor([7])], 30)
    assert [len(row) for row in drawn] == [3, 3]
    for sample in (s for row in drawn for s in row):
        stops = [i for i, token in enumerate(sample.tokens.tolist()) if token % 8 == 0]
        assert stops == ([] if sample.truncated else [len(sample.tokens) - 1])
