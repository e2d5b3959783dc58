"""Parts of the sampler in this process: when its cache is static, which precision it has, where stop strings cut."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import nn

from support import tiny
from twofold.errors import NonFiniteError, RecipeError
from twofold.sampling import local
from twofold.sampling.base import Sample, Sampling, ServerSettings
from twofold.sampling.local import Decoding, LocalSampler, evaluating
from twofold.sampling.static import Unfit

NO_TEXT = cast(Any, None)


def sampler(told: list[str] | None = None, settings: Sampling | None = None, **decoding: Any) -> LocalSampler:
    heard = [] if told is None else told
    return LocalSampler(tiny.llama(), NO_TEXT, {7, 3}, settings or Sampling(), heard.append, **decoding)


def test_what_it_holds_from_the_start() -> None:
    made = sampler(settings=Sampling(max_new_tokens=5))
    assert (made.steps, made._rows, made._warned, made._shares, made._fits) == (0, False, False, False, True)
    assert (made._static, made._drive, made._autocast, made._casts) == (None, "auto", None, None)
    assert (made.ends.stop_tokens, made.ends.max_new_tokens, made.ends.max_positions) == ([3, 7], 5, 64)
    given = sampler(drive="rows", autocast=torch.bfloat16, casts="casts")
    assert (given._drive, given._rows, given._autocast, given._casts) == ("rows", True, torch.bfloat16, "casts")


def test_a_server_samples_elsewhere() -> None:
    with pytest.raises(RecipeError) as error:
        sampler(settings=Sampling(server=ServerSettings(url="http://a:1")))
    assert str(error.value) == (
        "sampling.server: these completions are sampled in this process\n"
        "  → leave it out: a server samples only the completions of training"
    )


@pytest.mark.parametrize(
    ("cache", "device", "changed", "static"),
    [
        ("static", "cpu", {}, True),
        ("auto", "cpu", {}, False),
        ("auto", "cuda", {}, True),
        ("growing", "cuda", {}, False),
        ("static", "cpu", {"_rows": True}, False),
        ("static", "cpu", {"_fits": False}, False),
        ("static", "cpu", {"_static": SimpleNamespace(graphs=SimpleNamespace(failed=True))}, False),
        ("static", "cpu", {"_static": SimpleNamespace(graphs=SimpleNamespace(failed=False))}, True),
        ("static", "cpu", {"shards": True}, False),
    ],
)
def test_when_the_cache_is_static(
    cache: Any, device: str, changed: dict[str, Any], static: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sampler(settings=Sampling(cache=cache))
    made.model = cast(Any, SimpleNamespace(device=torch.device(device)))
    monkeypatch.setattr(local, "in_shards", lambda model: changed.get("shards", False))
    vars(made).update({name: value for name, value in changed.items() if name != "shards"})
    assert made.static is static


@pytest.mark.parametrize(
    ("rows", "shares", "way"),
    [(True, True, "rows"), (True, False, "rows"), (False, True, "shared"), (False, False, "copies")],
)
def test_the_way_of_a_store(rows: bool, shares: bool, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "started", lambda *given: given)
    monkeypatch.setattr(local, "store_of", lambda *given: given)
    made = sampler()
    made._rows, made._shares = rows, shares
    assert cast(Any, made.start([])) == ([], made.model, way)
    assert cast(Any, made.store()) == (made.model, way)


@pytest.mark.parametrize(
    ("trained", "static", "autocast", "narrow"),
    [
        (True, None, torch.bfloat16, True),
        (False, None, torch.bfloat16, False),
        (True, "static", torch.bfloat16, False),
        (True, None, None, False),
    ],
)
def test_products_are_narrow_where_casts_last(trained: bool, static: Any, autocast: Any, narrow: bool) -> None:
    made = sampler(autocast=autocast)
    made.model.requires_grad_(trained)
    with made._precision(static):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert product.dtype == (torch.bfloat16 if narrow else torch.float32)
        assert torch.is_autocast_enabled("cpu") is narrow


@pytest.mark.parametrize(
    ("trained", "static", "shards", "cast_"),
    [(True, None, False, True), (False, None, False, False), (True, "static", False, False), (True, None, True, False)],
)
def test_casts_are_made_once_where_they_last(
    trained: bool, static: Any, shards: bool, cast_: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(local, "in_shards", lambda model: shards)
    made = sampler(autocast=torch.bfloat16, casts=SimpleNamespace(of=lambda model: asked.append(model) or "cast"))
    made.model.requires_grad_(trained)
    found = cast(Any, made._precision(static))
    assert (asked, found == "cast") == ([made.model] if cast_ else [], cast_)
    if not cast_:
        with found:
            assert not torch.is_autocast_enabled("cpu")


def test_whole_rows_are_chosen_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    made = sampler(told, Sampling(max_new_tokens=5))
    restarted: list[Any] = []
    reasons = iter(["why", "why", ""])
    asked: list[Any] = []
    monkeypatch.setattr(local, "why_recompute", lambda *given: asked.append(given) or next(reasons))
    monkeypatch.setattr(local, "restart_rotary", restarted.append)
    for rows, restarts in ((True, 0), (True, 0), (False, 1)):
        made._choose([])
        assert (made._rows, len(restarted)) == (rows, restarts)
    assert asked == [(made.model, [], 5, local.draw_for_trial)] * 3
    assert told == ["completions are computed as whole rows, without a cache, which is slow: why"]
    fixed = sampler(told, drive="rows")
    fixed._choose([])
    assert (fixed._rows, len(asked), len(told)) == (True, 3, 1)


def test_a_static_decoder_is_made_for_the_longest_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    made = sampler(told, Sampling(max_new_tokens=10, cache="static"))
    refused: list[Any] = []
    checked: list[int] = []

    def decoder(of: LocalSampler, columns: int) -> Any:
        return SimpleNamespace(
            store=SimpleNamespace(columns=columns),
            check=lambda: checked.append(columns),
            graphs=SimpleNamespace(failed=False),
        )

    monkeypatch.setattr(local, "refuse_unfit_model", lambda *given: refused.append(given))
    monkeypatch.setattr(local, "StaticDecoder", decoder)
    for longest, columns in ((20, 30), (20, 30), (12, 30), (21, 31), (60, 64)):
        found = cast(Any, made._prepared(longest))
        assert (found.store.columns, made._static is found) == (columns, True)
    assert checked == [30, 30, 30, 31, 64]
    assert refused == [(made.model, 8)]
    made.settings = Sampling(cache="growing")
    assert (made._prepared(5), made._static) == (None, None)


def test_what_does_not_fit_a_static_cache_is_told_and_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    made = sampler(told, Sampling(cache="static"))

    def refuses(*given: Any) -> None:
        raise Unfit("too wide")

    monkeypatch.setattr(local, "refuse_unfit_model", refuses)
    assert [made._prepared(5), made._prepared(5)] == [None, None]
    assert (made._fits, made.static) == (False, False)
    assert told == ["completions are decoded with a growing cache: too wide"]


class Words:
    """A tokenizer of letters, which asks for the text as it is."""

    def decode(self, tokens: list[int], **how: Any) -> str:
        assert how == {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        return "".join(chr(token) for token in tokens)


def test_a_completion_is_cut_after_the_token_that_completes_a_stop_string() -> None:
    """What was read before is not read again; an empty slot is passed over, one without the string is read to its
    end."""
    texts = ["abSTOPcdSTOP", "abcdefghSTOP", "STOPabcdefgh", "abcdefghSTOP", "abSTOPcdefgh"]
    slots = SimpleNamespace(
        size=4,
        rows=["a", "b", None, "d", "e"],
        read_A=torch.tensor([0, 0, 0, 8, 0]),
        drawn_A=torch.tensor([12, 8, 12, 12, 12]),
        token_AN=torch.tensor([[ord(letter) for letter in text] for text in texts]),
        stopped_A=torch.zeros(5, dtype=torch.bool),
        done_A=torch.zeros(5, dtype=torch.bool),
    )
    of = SimpleNamespace(tokenizer=Words(), settings=Sampling(stop=("nothing", "STOP")))
    decoding = SimpleNamespace(slots=slots, sampler=of)
    decoding._has_stop = lambda tokens: Decoding._has_stop(cast(Any, decoding), tokens)
    Decoding._read(cast(Any, decoding))
    assert slots.drawn_A.tolist() == [6, 8, 12, 12, 12]
    assert slots.read_A.tolist() == [6, 8, 12, 12, 0], "only as many as there are slots"
    assert slots.stopped_A.tolist() == slots.done_A.tolist() == [True, False, False, True, False]
    Decoding._read(cast(Any, decoding))
    assert slots.drawn_A.tolist() == [6, 8, 12, 12, 12]


def test_numbers_that_are_none_name_the_prompt() -> None:
    good, bad = (
        Sample(torch.arange(3), torch.zeros(3), False),
        Sample(torch.arange(2), torch.tensor([0.0, torch.nan]), False),
    )
    local._refuse_nan([[good], [good, good]])
    with pytest.raises(NonFiniteError) as error:
        local._refuse_nan([[good], [good, bad], [good]])
    assert (error.value.where, "at token 2 of" in error.value.what) == ("prompt 2 of 3", True)


def test_modes_are_each_modules_own_again() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Linear(1, 1))
    model[0].eval()
    with evaluating(cast(Any, model)):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [True, False, True]

    def fails() -> None:
        with evaluating(cast(Any, model)):
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert [module.training for module in model.modules()] == [True, False, True]


def test_no_completion_is_asked_for_in_vain() -> None:
    with pytest.raises(ValueError, match=r"^samples must be ≥ 1$"):
        sampler().sample([torch.tensor([1])], samples=0)


def test_greedy_completions_are_drawn_once_and_given_out_as_often_as_asked() -> None:
    made = sampler(settings=Sampling(temperature=0, max_new_tokens=4, cache="growing"))
    made.model.train()
    prompt, other = torch.tensor([5, 6]), torch.tensor([9])
    found = made.sample([prompt, other, prompt.clone()], samples=3)
    assert [len(row) for row in found] == [3, 3, 3]
    assert found[0][0] is found[0][2] is found[2][1]
    assert 0 < made.steps <= 4
    assert made.model.training
    assert made.sample([]) == []
