"""Why prompts are not shared, in words; how far a trial may be off; and which prompts are read in one pass."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from support import tiny
from twofold.models.attention import UnsupportedAttention
from twofold.sampling import shared_prompt
from twofold.sampling.shared_prompt import Prompt, SharedStore, Sharing, SharingMask, shared_attention, why_copied


def lengths(*sizes: int) -> list[list[int]]:
    prompts = [torch.zeros(n) for n in sizes]
    return [[len(prompt) for prompt in run] for run in shared_prompt._similar(prompts)]


def test_a_pass_has_at_most_64_numbers_of_padding() -> None:
    assert lengths(70, 6) == [[70, 6]]
    assert lengths(70, 5) == [[70], [5]]
    assert lengths(70, 38, 38) == [[70, 38, 38]]
    assert lengths(70, 38, 37) == [[70, 38], [37]]
    assert lengths(5, 70, 70) == [[5], [70, 70]]
    assert (lengths(), lengths(3)) == ([], [[3]])


@pytest.mark.parametrize(
    ("device", "encodes", "window", "why"),
    [
        ("cuda", False, False, "the attention of this device does not return the log-sum-exp of its scores"),
        ("cpu", True, False, "its prompts are read by an encoder"),
        ("cpu", False, True, "a layer keeps only a window"),
        ("cpu", False, False, "tried"),
    ],
)
def test_why_each_completion_has_a_copy(
    device: str, encodes: bool, window: bool, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is tried once per kind, precision and config."""
    tries: list[Any] = []
    monkeypatch.setattr(shared_prompt, "encodes_prompts", lambda model: encodes)
    monkeypatch.setattr(shared_prompt, "refillable", lambda model: not window)
    monkeypatch.setattr(shared_prompt, "_tried", lambda model: tries.append(model) or "tried")
    monkeypatch.setattr(shared_prompt, "_known", {})

    def model(size: int, dtype: torch.dtype) -> Any:
        config = SimpleNamespace(to_dict=lambda: {"size": size})
        return SimpleNamespace(device=torch.device(device), config=config, dtype=dtype)

    kinds = [(1, torch.float32), (1, torch.float32), (1, torch.float64), (2, torch.float32), (1, torch.bfloat16)]
    assert [why_copied(model(*kind)) for kind in kinds] == [why] * 5
    assert [each.dtype for each in tries] == ([kinds[i][1] for i in (0, 2, 3)] if why == "tried" else [])


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-6), (torch.float32, 1e-3), (torch.bfloat16, 0.1), (torch.float16, 0.1)]
)
def test_a_trial_may_be_off_by_as_much_as_its_precision(
    dtype: torch.dtype, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: Any = tiny.llama().to(dtype)
    errors = iter([bound, bound * 1.01])
    given: list[Any] = []
    monkeypatch.setattr(shared_prompt, "small_copy", lambda model: None)
    monkeypatch.setattr(shared_prompt, "step_error", lambda *what: given.append(what) or next(errors))
    assert shared_prompt._tried(tried) == ""
    assert shared_prompt._tried(tried) == f"a step with shared prompts is off by {bound * 1.01:.1e} of the logits"
    assert (given[0][0], type(given[0][1])) == (tried, SharedStore)


def test_a_trial_is_of_a_small_copy_and_its_fault_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    small, asked = tiny.llama(), list[Any]()

    def fails(model: Any, *rest: Any) -> float:
        asked.append(model)
        raise KeyError("one\ntwo")

    monkeypatch.setattr(shared_prompt, "small_copy", lambda model: small)
    monkeypatch.setattr(shared_prompt, "step_error", fails)
    assert shared_prompt._tried(tiny.llama()).startswith("a step with shared prompts fails: ")
    assert asked[0] is small


def test_what_a_store_begins_with_and_how_it_is_regrouped() -> None:
    store = SharedStore(tiny.llama())
    assert (store.prompts, store.layer, store.width, store.padded, store.refills) == ([], 0, 0, False, True)
    assert [layer.number for layer in store.layers] == [0, 1]
    one, two = Prompt([], 3), Prompt([], 5)
    start = shared_prompt.SharedStart(None, *[torch.zeros(2)] * 3, prompts=[one, two])
    store.fill(torch.tensor([0, 1]), start)
    store._regroup(torch.tensor([4, 6]))
    assert (store.width, store.padded, store.length_A.tolist(), store._moved) == (1, False, [3, 5], False)
    store._regroup(torch.tensor([4, 9]))
    assert (store.width, store.padded) == (4, True)
    store.fill(torch.tensor([1, 0]), start)
    assert (store.prompts, store._moved) == ([two, one], True)


def test_a_bias_hides_the_columns_before_a_rows_own_tokens() -> None:
    store = SharedStore(tiny.llama())
    assert store.bias(torch.float32) is None
    store._own_AT = torch.tensor([[False, True], [True, True]])
    bias = store.bias(torch.float64)
    assert bias is not None
    assert (bias[:, 0, 0].tolist(), bias.dtype) == ([[-torch.inf, 0.0], [0.0, 0.0]], torch.float64)
    assert store.bias(torch.float64) is bias
    assert bias.shape == (2, 1, 1, 2)


@pytest.mark.parametrize("mixed", [False, True])
def test_shared_attention_is_one_softmax_over_prompt_and_own_tokens(mixed: bool) -> None:
    """Four heads over two of keys, three rows of two prompts, with another scale than the usual one."""
    noise = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=noise)

    prompts = [Prompt([(random(1, 2, n, 8), random(1, 2, n, 8))], n) for n in (3, 5)]
    rows = [prompts[i] for i in ((0, 1, 0) if mixed else (0, 0, 1))]
    store = SharedStore(tiny.llama())
    store.sharing, store.layer = Sharing.of(rows), 0
    query, key, value = random(3, 4, 1, 8), random(3, 2, 2, 8), random(3, 2, 2, 8)
    store._own_AT = torch.tensor([[False, True], [True, True], [True, True]])
    module: Any = tiny.llama().model.layers[0].self_attn
    found, weights = shared_attention(module, query, key, value, SharingMask.of(store), scaling=0.7, dropout=0.0)
    assert weights is None
    assert found.shape == (3, 1, 4, 8)
    for row, prompt in enumerate(rows):
        first = 1 if row == 0 else 0
        for head in range(4):
            keys = torch.cat([prompt.layers[0][0][0, head // 2], key[row, head // 2, first:]])
            values = torch.cat([prompt.layers[0][1][0, head // 2], value[row, head // 2, first:]])
            want = (keys @ query[row, head, 0] * 0.7).softmax(0) @ values
            torch.testing.assert_close(found[row, 0, head], want, rtol=1e-5, atol=1e-5)
    with pytest.raises(UnsupportedAttention, match=r"^the model does not pass its mask to the attention$"):
        shared_attention(module, random(3, 4, 2, 8), key, value, SharingMask.of(store))
    assert cast(Any, SharingMask.of(store)).to(torch.float64).store is store
