"""Where settings of sampling end, whose numbers of a generation_config count, and what noise selects."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from twofold.errors import RecipeError
from twofold.sampling.base import Sampling, ServerSettings
from twofold.sampling.logits_processor import LogitsProcessor, keep_min_p, keep_top_p

URL = "http://h"
OWN = Sampling(use_generation_config=True)


@pytest.mark.parametrize(
    ("how", "cap"),
    [
        ({}, None), ({"ahead": 1}, 2.0), ({"importance_cap": "none", "ahead": 1}, None), ({"importance_cap": 1.0}, 1.0),
        ({"importance_cap": 5.5, "ahead": 1}, 5.5),
    ],
)  # fmt: skip
def test_the_cap_of_importance_weights(how: dict[str, Any], cap: float | None) -> None:
    assert ServerSettings(url=URL, **how).cap == cap


CAP, AHEAD = "importance_cap must be ≥ 1, auto or none", "ahead must be 0 or 1: one step at most"
PUSHES = "sync_every and parallel must be ≥ 1"
TIMES = "timeout must be > 0, pause ≥ 0, attempts in 1 … 64"
NAMED = "url names a model behind # with push none, and only then"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"importance_cap": 0.99}, CAP), ({"importance_cap": math.inf}, CAP), ({"importance_cap": -1.0}, CAP),
        ({"ahead": 2}, AHEAD), ({"ahead": -1}, AHEAD), ({"sync_every": 0}, PUSHES), ({"parallel": 0}, PUSHES),
        ({"timeout": 0.0}, TIMES), ({"pause": -0.1}, TIMES), ({"attempts": 0}, TIMES), ({"attempts": 65}, TIMES),
        ({"url": ()}, "url must name a server"), ({"url": "h"}, "url must begin with http:// or https://"),
        ({"url": "http://h#m"}, NAMED), ({"push": "none"}, NAMED),
        ({"url": ("http://h#m", "http://i#n"), "push": "none"}, "url names one model, the same on all servers"),
        ({"url": "http://h#m", "push": "none", "engine": "sglang"}, "push none is for vllm"),
        ({"engine": "transformers"}, "transformers takes whole models: push folder"),
        ({"engine": "transformers", "push": "folder", "importance_cap": 3.0},
         "transformers reports no log-probabilities, so that there are no importance weights: importance_cap none"),
    ],
)  # fmt: skip
def test_a_server_that_cannot_be_is_refused_in_these_words(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refused:
        ServerSettings(**{"url": URL, **how})
    assert str(refused.value) == message


def test_several_servers_have_one_name_of_the_model() -> None:
    urls = ("http://h#m", "https://i#m")
    assert ServerSettings(url=urls, push="none").urls() == urls
    assert ServerSettings(url=URL).urls() == (URL,)


WHOLE = (
    "importance weights need completions from the full distribution: set temperature 1, top_p 1 and top_k 0, "
    "or server.importance_cap none"
)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"temperature": -0.01}, "temperature must be ≥ 0"), ({"top_p": 0.0}, "top_p must be in (0, 1]"),
        ({"top_p": 1.01}, "top_p must be in (0, 1]"), ({"top_k": -1}, "top_k must be ≥ 0"),
        ({"max_new_tokens": 0}, "max_new_tokens and batch_size must be ≥ 1"),
        ({"batch_size": 0}, "max_new_tokens and batch_size must be ≥ 1"),
        ({"max_new_tokens": 1_000_001}, "max_new_tokens must be ≤ 1000000"),
        ({"temperature": 0.9, "cap": 2.0}, WHOLE), ({"top_p": 0.9, "cap": 2.0}, WHOLE),
        ({"top_k": 1, "cap": 2.0}, WHOLE),
    ],
)  # fmt: skip
def test_completions_that_cannot_be_drawn_are_refused_in_these_words(how: dict[str, Any], message: str) -> None:
    cap = how.pop("cap", None)
    server = None if cap is None else ServerSettings(url=URL, importance_cap=cap)
    with pytest.raises(ValueError) as refused:
        Sampling(server=server, **how)
    assert str(refused.value) == message


def test_cut_distributions_need_no_importance_weights() -> None:
    cut: Any = {"temperature": 0.5, "top_p": 0.5, "top_k": 5}
    plain = ServerSettings(url=URL)
    assert Sampling(server=plain, **cut).server == plain
    weighed = ServerSettings(url=URL, importance_cap=2.0)
    assert Sampling(server=weighed).server == weighed
    assert Sampling(**cut).server is None


def of(**config: object) -> LogitsProcessor:
    model: Any = SimpleNamespace(generation_config=SimpleNamespace(**config))
    return LogitsProcessor.of(OWN, model)


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p", "repetition_penalty", "min_p"])
@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan, "much", [1]])
def test_what_is_no_number_from_0_up_is_refused(name: str, value: object) -> None:
    with pytest.raises(RecipeError) as refused:
        of(**{name: value})
    assert str(refused.value) == (
        f"sampling.use_generation_config: the model's generation_config has {name}: {value!r}\n"
        "  → write a number ≥ 0 there"
    )
    assert of(**{name: 0}) != of(**{name: 2})


def test_settings_that_are_ignored_are_refused_in_these_words() -> None:
    with pytest.raises(RecipeError) as refused:
        of(typical_p=0.5, penalty_alpha=1, num_beams=1)
    assert str(refused.value) == (
        "sampling.use_generation_config: the model's generation_config has settings that are not supported here "
        "(typical_p: 0.5, penalty_alpha: 1)\n"
        "  → leave it out and set temperature, top_p, top_k, or remove these lines from generation_config.json"
    )


LOGITS = torch.tensor([[0.1, 0.4, 0.2, 0.3]], dtype=torch.float64).log()


@pytest.mark.parametrize(
    ("rule", "tokens"),
    [
        (LogitsProcessor(1.0, 1, 1.0), {1}), (LogitsProcessor(1.0, 0, 0.0), {1}),
        (LogitsProcessor(1.0, 0, 1.0, 1.0, 1.0), {1}), (LogitsProcessor(1.0, 0, 1.0, 1.0, 2.0), {1}),
        (LogitsProcessor(2.0, 0, 1.0, 1.0, 0.9), {1}), (LogitsProcessor(1.0, 0, 0.39), {1}),
        (LogitsProcessor(1.0, 0, 0.41), {1, 3}), (LogitsProcessor(1.0, 0, 2.0), {0, 1, 2, 3}),
    ],
)  # fmt: skip
def test_the_best_token_always_remains(rule: LogitsProcessor, tokens: set[int]) -> None:
    """top_p of 0 and min_p of 1 or more leave one token, as in `generate`."""
    noise = torch.linspace(0, 1 - 1e-9, 100, dtype=torch.float64)
    token_A, logp_A = rule.draw(LOGITS.expand(100, -1), None, noise)
    assert set(token_A.tolist()) == tokens
    assert logp_A.tolist() == pytest.approx(LOGITS[0, token_A].tolist())


def test_cuts_at_their_ends() -> None:
    assert keep_top_p(LOGITS, 0.0).isinf().tolist() == [[True, False, True, True]]
    assert keep_min_p(LOGITS, 1.0).isinf().tolist() == [[True, False, True, True]]
    assert keep_min_p(LOGITS, 3.0).isinf().tolist() == [[True, False, True, True]]
    even = torch.zeros(1, 3)
    assert keep_min_p(even, 1.0).tolist() == keep_min_p(even, 5.0).tolist() == [[0.0, 0.0, 0.0]]
