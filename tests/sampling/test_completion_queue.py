"""How many prompts are read at a time, in which order their completions begin, and with which noise."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from support import tiny
from twofold.sampling import local
from twofold.sampling.base import Sampling
from twofold.sampling.local import CompletionQueue, LocalSampler, StaticDecoder, draw_for_trial, unusable_logits
from twofold.sampling.logits_processor import uniforms


class Reading:
    """A sampler that reads prompts: `read` has how many at a time."""

    def __init__(self, batch_size: int, refills: bool) -> None:
        self.settings = Sampling(batch_size=batch_size, max_new_tokens=3)
        self.refills, self.read = refills, list[int]()
        self.model = SimpleNamespace(device=torch.device("cpu"))

    def start(self, prompts: Sequence[Tensor]) -> Any:
        self.read.append(len(prompts))
        return SimpleNamespace(select=lambda index: index.tolist())


PROMPTS = [torch.tensor([n]) for n in range(20)]


def queue(batch_size: int, draws: int, refills: bool = True, prompts: int = 20) -> tuple[CompletionQueue, Reading]:
    sampler = Reading(batch_size, refills)
    return CompletionQueue(cast(Any, sampler), PROMPTS[:prompts], draws, (3, 4)), sampler


@pytest.mark.parametrize(
    ("batch_size", "draws", "refills", "read"),
    [
        (16, 2, True, [8, 1, 1, 1]),  # then for two free slots
        (16, 1, True, [16, 2, 2]),
        (24, 1, True, [20]),
        (16, 3, True, [6, 1, 1, 1]),
        (16, 16, True, [1, 1, 1, 1]),
        (4, 8, True, [1, 1, 1, 1]),
        (32, 2, True, [16, 2, 2]),
        (16, 3, False, [5, 5, 5, 5]),
        (2, 3, False, [1, 1, 1, 1]),
    ],
)
def test_prompts_are_read_as_slots_become_free(batch_size: int, draws: int, refills: bool, read: list[int]) -> None:
    assert local.AHEAD == 8
    supply, sampler = queue(batch_size, draws, refills)
    while supply.take(batch_size) is not None and len(sampler.read) < 5:
        pass
    assert sampler.read[: len(read)] == read


def test_completions_begin_in_order_with_their_own_noise() -> None:
    supply, sampler = queue(4, 2, prompts=3)
    first = supply.take(3)
    assert first is not None
    assert [list(first.rows), first.prefilled] == [[(0, 0), (0, 1), (1, 0)], [0, 0, 1]]
    want = torch.stack([torch.from_numpy(uniforms((3, 4), PROMPTS[p], i, 3)) for p, i in first.rows])
    assert torch.equal(first.noise_AN, want)
    second, third, fourth = (supply.take(3) for _ in range(3))
    assert second is not None
    assert third is not None
    assert [list(second.rows), second.prefilled] == [[(1, 1)], [1]], "of one group only"
    assert [list(third.rows), third.prefilled] == [[(2, 0), (2, 1)], [0, 0]]
    assert fourth is None
    assert supply.take(3) is None
    assert sampler.read == [2, 1]


def test_a_static_decoder_forgets_its_steps_where_weights_or_rule_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[str] = []
    graphs = SimpleNamespace(forget=lambda: forgotten.append("x"))
    at = iter([[1], [1], [2], [2]])
    monkeypatch.setattr(local, "StaticStore", lambda *arguments: arguments)
    monkeypatch.setattr(local, "Graphs", lambda device, tell: graphs)
    monkeypatch.setattr(local, "addresses", lambda model: next(at))
    made: list[Any] = []
    monkeypatch.setattr(local, "Slots", lambda *arguments: made.append(arguments) or SimpleNamespace(rule=arguments[1]))
    model = SimpleNamespace(device="cpu")
    sampler = SimpleNamespace(model=model, settings=Sampling(batch_size=5), tell=print, ends="ends")
    decoder = StaticDecoder(cast(Any, sampler), 64)
    assert decoder.store == (model, 5, 64, 8)
    for count in (0, 1, 1):
        decoder.check()
        assert len(forgotten) == count
    like = cast(Any, "like")
    slots = decoder.slots(cast(Any, "rule"), like)
    assert decoder.slots(cast(Any, "rule"), like) is slots
    assert decoder.slots(cast(Any, "other"), like) is not slots
    assert made == [(5, "rule", "ends", "like"), (5, "other", "ends", "like")]
    assert len(forgotten) == 3


def test_a_trial_draws_three_completions_of_each_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Recording:
        def __init__(self, *arguments: Any, **how: Any) -> None:
            made.extend((arguments, how))

        def sample(self, prompts: Any, **how: Any) -> list[Any]:
            made.extend((prompts, how))
            return []

    monkeypatch.setattr(local, "LocalSampler", Recording)
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=20))
    model: Any = SimpleNamespace(config=config)
    assert draw_for_trial(model, "rows", PROMPTS[:2], 9) == []
    (of, tokenizer, stops, settings), how, prompts, drawn = made
    assert (of, tokenizer, list(stops), how) == (model, None, [0, 8, 16], {"drive": "rows"})
    assert (settings.max_new_tokens, settings.batch_size, settings.cache) == (9, 6, "growing")
    assert (prompts, drawn) == (PROMPTS[:2], {"samples": 3})


def test_logits_that_are_no_numbers_name_prompt_and_token() -> None:
    error = unusable_logits("prompt 2 of 3", 5)
    assert error.what.startswith("the model's logits are not finite at token 5 of a completion")
    assert error.where == "prompt 2 of 3"


def test_a_window_keeps_its_slots_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = "a layer of this model keeps only a window: no completion takes the slot of a finished one"
    monkeypatch.setattr(local, "cache_fault", lambda model, draw: "")
    for refillable, note in ((False, asked), (True, "")):
        monkeypatch.setattr(local, "refillable", lambda model, known=refillable: known)
        monkeypatch.setattr(local, "encodes_prompts", lambda model: False)
        sampler = LocalSampler(tiny.llama(), cast(Any, None), {0}, Sampling(cache="growing"))
        assert (sampler.refills, sampler.note) == (refillable, note)
    monkeypatch.setattr(local, "cache_fault", lambda model, draw: "why")
    assert sampler.note == "completions are computed as whole rows, without a cache, which is slow: why"
    assert LocalSampler(tiny.llama(), cast(Any, None), {0}, Sampling(cache="growing"), drive="rows").note == ""
