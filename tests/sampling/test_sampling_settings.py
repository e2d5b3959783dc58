"""How drafts are drawn: what is taken by default, and where each setting ends."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch

from twofold.sampling.base import MOST_TOKENS, Sample, Sampling, ServerSettings, sampler_metrics
from twofold.sampling.beam import Beams

URL = {"url": "http://h"}
RANGES: list[tuple[Any, dict[str, Any], str, list[Any], list[Any]]] = [
    (Sampling, {}, "temperature", [0.0, 0.5, 2.0], [-0.01]),
    (Sampling, {}, "top_p", [1e-9, 1.0], [0.0, 1.01, -0.5]),
    (Sampling, {}, "top_k", [0, 1, 50], [-1]),
    (Sampling, {}, "max_new_tokens", [1, 1_000_000], [0, -1, 1_000_001]),
    (Sampling, {}, "batch_size", [1, 512], [0, -1]),
    (ServerSettings, URL, "sync_every", [1, 5], [0, -1]),
    (ServerSettings, URL, "parallel", [1, 64], [0, -1]),
    (ServerSettings, URL, "timeout", [0.1], [0.0, -1.0]),
    (ServerSettings, URL, "pause", [0.0, 2.0], [-0.1]),
    (ServerSettings, URL, "attempts", [1, 64], [0, 65]),
    (Beams, {}, "width", [1, 9], [0, -1]),
    (Beams, {}, "max_new_tokens", [1, 9], [0, -1]),
]


@pytest.mark.parametrize(("make", "base", "name", "inside", "outside"), RANGES, ids=lambda x: str(x)[:40])
def test_a_setting_ends_where_it_says(
    make: Any, base: dict[str, Any], name: str, inside: list[Any], outside: list[Any]
) -> None:
    assert [getattr(make(**base, **{name: x}), name) for x in inside] == inside
    for x in outside:
        with pytest.raises(ValueError, match=name):
            make(**base, **{name: x})


def test_the_policy_itself_is_drawn_from_by_default() -> None:
    """No truncation of its distribution, 256 tokens at most, in this process."""
    assert asdict(Sampling()) == {
        "temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 256, "stop": (), "use_generation_config": False,
        "batch_size": 64, "cache": "auto", "server": None,
    }  # fmt: skip
    assert MOST_TOKENS == 10**6


def test_a_server_by_default() -> None:
    """A fresh adapter every step; six attempts, from a second's pause on; two minutes for an answer."""
    assert asdict(ServerSettings(url="https://h")) == {
        "url": "https://h", "engine": "vllm", "push": "adapter", "sync_every": 1, "timeout": 120.0, "attempts": 6,
        "pause": 1.0, "parallel": 32, "ahead": 0, "importance_cap": "auto",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("url", "push", "fits"),
    [
        ("http://h", "adapter", True),
        ("https://h", "folder", True),
        ("http://h#m", "none", True),
        ("http://h", "none", False),
        ("http://h#m", "adapter", False),
        ("http://h#m", "folder", False),
        ("h:80", "adapter", False),
        ("ftp://h", "adapter", False),
    ],
)
def test_a_url_names_a_model_where_nothing_is_pushed_and_only_there(url: str, push: Any, fits: bool) -> None:
    if fits:
        assert ServerSettings(url=url, push=push).url == url
    else:
        with pytest.raises(ValueError, match="url"):
            ServerSettings(url=url, push=push)


def test_beams_by_default() -> None:
    assert (Beams().width, Beams().max_new_tokens) == (5, 256)


def test_a_sampler_without_figures_tells_none() -> None:
    class Quiet:
        def sample(self, *_: object, **__: object) -> list[list[Sample]]:
            return []

    class Telling(Quiet):
        metrics = {"served/behind": 2.0}  # noqa: RUF012  # as samplers have it

    assert sampler_metrics(Quiet()) == {}
    told = sampler_metrics(Telling())
    assert told == {"served/behind": 2.0}
    assert told is not Telling.metrics


def test_a_draft_is_not_changed() -> None:
    draft = Sample(torch.tensor([1]), torch.tensor([0.0]), truncated=False)
    with pytest.raises(AttributeError):
        draft.truncated = True  # type: ignore[misc]  # that is the point
