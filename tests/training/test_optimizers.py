"""Every kind of optimizer: its step by value, what it remembers, and that a stop changes nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from support import tiny
from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.errors import RecipeError
from twofold.models.policy import Policy
from twofold.training.optim import (
    SGD,
    Adafactor,
    AdamW,
    AdamW8bit,
    AnyOptimizer,
    Joint,
    Muon,
    RMSprop,
    make_optimizer,
)
from twofold.training.trainable import Trainable

KINDS: dict[str, AnyOptimizer] = {
    "adamw": AdamW(learning_rate=1e-2),
    "adamw_8bit": AdamW8bit(learning_rate=1e-2),
    "adafactor": Adafactor(learning_rate=1e-2),
    "rmsprop": RMSprop(learning_rate=1e-2),
    "sgd": SGD(learning_rate=1e-2),
    "muon": Muon(learning_rate=1e-2),
}


def step(
    settings: AnyOptimizer, weight: torch.Tensor, *gradients: torch.Tensor, embedding: bool = False
) -> torch.Tensor:
    """The weight after a step for each gradient."""
    parameter = nn.Parameter(weight.clone())
    optimizer = make_optimizer(settings, {"w": parameter}, [parameter] if embedding else [])
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_sgd_is_the_sum_of_decayed_gradients() -> None:
    weight, g, h = noise(3, 2), noise(3, 2, seed=1), noise(3, 2, seed=2)
    torch.testing.assert_close(step(SGD(learning_rate=0.5, momentum=0.0), weight, g, h), weight - 0.5 * (g + h))
    torch.testing.assert_close(step(SGD(learning_rate=0.5, momentum=0.5), weight, g, h), weight - 0.5 * (1.5 * g + h))
    assert SGD(learning_rate=1.0).momentum == 0.9


def test_rmsprop_divides_by_the_root_of_a_running_mean() -> None:
    weight, g, h = noise(3, 2), noise(3, 2, seed=1), noise(3, 2, seed=2)
    first = 0.2 * g**2
    second = 0.8 * first + 0.2 * h**2
    expected = weight - 0.5 * (g / (first.sqrt() + 0.1) + h / (second.sqrt() + 0.1))
    torch.testing.assert_close(step(RMSprop(learning_rate=0.5, decay=0.8, epsilon=0.1), weight, g, h), expected)


def test_adafactor_keeps_a_row_and_a_column_and_moves_in_proportion_to_the_weights() -> None:
    """The first step is the rate times the weights' root mean square times a gradient scaled to a mean square of 1."""
    weight, gradient = 4 * noise(6, 5), torch.outer(torch.arange(1.0, 7), torch.tensor([1.0, -2, 3, -4, 5]))
    parameter = nn.Parameter(weight.clone())
    optimizer = make_optimizer(Adafactor(learning_rate=0.25), {"w": parameter})
    parameter.grad = gradient
    optimizer.step()
    moved = weight - parameter.detach()  # a gradient of rank 1 is factored exactly: what is left of it is its sign
    torch.testing.assert_close(moved, 0.25 * weight.square().mean().sqrt() * gradient.sign(), rtol=1e-4, atol=1e-6)
    assert sum(v.numel() for k, v in optimizer.state[parameter].items() if k != "step") == 6 + 5


def test_muon_orthogonalizes_the_matrices_of_layers() -> None:
    """A step's singular values are all about 0.2·√(longer side) times the rate: as long as a step of AdamW."""
    moved = torch.zeros(8, 4) - step(Muon(learning_rate=0.5), torch.zeros(8, 4), noise(8, 4))
    values = torch.linalg.svdvals(moved) / (0.5 * 0.2 * math.sqrt(8))
    assert values.min() > 0.5
    assert values.max() < 1.3


@pytest.mark.parametrize(("shape", "embedding"), [((8, 4), True), ((8,), False), ((2, 4, 4), False)])
def test_muon_leaves_embeddings_vectors_and_stacks_to_adamw(shape: tuple[int, ...], embedding: bool) -> None:
    weight, gradients = noise(*shape), (noise(*shape, seed=1), noise(*shape, seed=2))
    settings = {"learning_rate": 0.5, "betas": (0.5, 0.7), "epsilon": 0.1, "weight_decay": 0.1}
    found = step(Muon(**settings), weight, *gradients, embedding=embedding)  # type: ignore[arg-type]  # a table of settings
    torch.testing.assert_close(found, step(AdamW(**settings), weight, *gradients))  # type: ignore[arg-type]  # likewise


def test_muon_and_adamw_are_one_optimizer_whose_rate_one_schedule_sets() -> None:
    policy = tiny.policy(dtype=torch.float32)
    optimizer = make_optimizer(Muon(learning_rate=0.5), policy.trainable(), policy.embeddings())
    assert isinstance(optimizer, Joint)
    places = {id(p): i for i, group in enumerate(optimizer.param_groups) for p in group["params"]}
    assert sorted(places) == sorted(id(p) for p in policy.trainable().values())
    matrices = {i for n, p in policy.trainable().items() if "proj" in n for i in [places[id(p)]]}
    assert matrices == {0}
    assert {places[id(p)] for p in policy.embeddings()} == {1}
    assert all(group["lr"] == 0.5 for group in optimizer.param_groups)


def trained(settings: AnyOptimizer, steps: int, restart_after: int | None = None) -> dict[str, torch.Tensor]:
    """Weights and moments after `steps` steps over fixed gradients, with a stop and a start in between if asked for."""
    policy = Policy(tiny.llama(hidden_size=64, intermediate_size=96))
    trainable = Trainable.of("policy", policy, settings, steps)
    for number in range(steps):
        if number == restart_after:
            weights = {name: tensor.clone() for name, tensor in trainable.weights().items()}
            moments = {name: tensor.clone() for name, tensor in trainable.moments().items()}
            fresh = Policy(tiny.llama(seed=5, hidden_size=64, intermediate_size=96))
            trainable = Trainable.of("policy", fresh, settings, steps)
            trainable.restore(weights, moments, number)
        for at, parameter in enumerate(trainable.parameters.values()):
            parameter.grad = noise(*parameter.shape, seed=100 * number + at)
        trainable.optimizer.step()
        trainable.on_step_end()
    assert trainable.non_finite() == ""
    return {**trainable.weights(), **trainable.moments()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_changes_no_bit(kind: str) -> None:
    whole, resumed = trained(KINDS[kind], 5), trained(KINDS[kind], 5, restart_after=2)
    assert whole.keys() == resumed.keys()
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
    assert all(isinstance(value, torch.Tensor) for value in whole.values())  # what a checkpoint can hold


def test_moments_of_8_bits_take_a_quarter_and_follow_adamw() -> None:
    pytest.importorskip("bitsandbytes", reason="the extra `quantized` is not installed")
    weight, gradients = noise(64, 64), [noise(64, 64, seed=i) for i in range(1, 6)]
    exact = step(AdamW(learning_rate=1e-2), weight, *gradients)
    found = step(AdamW8bit(learning_rate=1e-2), weight, *gradients)
    assert 0 < (found - exact).abs().max() < 1e-2  # of five steps of 1e-2
    moments = trained(AdamW8bit(learning_rate=1e-2), 1)
    large = {n: v for n, v in moments.items() if n.endswith(("state1", "state2")) and v.numel() >= 4096}
    assert large
    assert {v.dtype for v in large.values()} == {torch.uint8}


def test_without_bitsandbytes_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes.optim", None)
    with pytest.raises(RecipeError, match=r"^optimizer\.kind: bitsandbytes is not.*\n.*twofold\[quantized\]"):
        make_optimizer(AdamW8bit(), {"w": nn.Parameter(torch.zeros(2))})


def recipe(optimizer: dict[str, Any], **model: Any) -> Recipe:
    data = {"model": {"path": "m", **model}, "data": {"train": "d.jsonl"}, "optimizer": optimizer}
    return validate(Recipe, Document("recipe.yaml", data, {}))


@pytest.mark.parametrize(
    ("optimizer", "full", "adapter"),
    [({}, 1e-6, 1e-5), ({"kind": "muon"}, 1e-6, 1e-5), ({"kind": "adamw_8bit"}, 1e-6, 1e-5),
     ({"kind": "rmsprop"}, 1e-6, 1e-5), ({"kind": "adafactor"}, 3e-5, 3e-4)],
)  # fmt: skip
def test_rates_by_default(optimizer: dict[str, Any], full: float, adapter: float) -> None:
    assert recipe(optimizer).optimizer.learning_rate == full
    assert recipe(optimizer, lora={}).optimizer.learning_rate == adapter


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [({"kind": "sgd"}, "learning_rate: has no default under sgd"), ({"kind": "sgd", "betas": [0, 0]}, "betas"),
     ({"kind": "lion"}, r"unknown kind 'lion'\n  → one of adamw"), ({"kind": "sdg"}, "did you mean `sgd`")],
)  # fmt: skip
def test_mistakes_are_named(optimizer: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(optimizer)


def test_a_section_without_a_kind_is_adamw() -> None:
    assert recipe({"betas": [0.8, 0.9]}).optimizer == AdamW(learning_rate=1e-6, betas=(0.8, 0.9))


@pytest.mark.parametrize(
    ("ours", "theirs", "names"),
    [
        (AdamW(), torch.optim.AdamW, {"betas", "eps"}),
        (RMSprop(), torch.optim.RMSprop, {"alpha", "eps"}),
    ],
)
def test_constants_by_default_are_torchs(ours: AnyOptimizer, theirs: Any, names: set[str]) -> None:
    weight = torch.nn.Parameter(torch.eye(2))
    found, want = ours.build({"layer": weight}).defaults, theirs([weight]).defaults
    assert {name: found[name] for name in names} == {name: want[name] for name in names}


def test_muon_and_what_it_leaves_have_their_own_constants() -> None:
    weights = {"layer": torch.nn.Parameter(torch.eye(2)), "vector": torch.nn.Parameter(torch.ones(2))}
    joint = Muon().build(weights)
    assert isinstance(joint, Joint)
    muon, rest = (part.defaults for part in joint.parts)
    assert muon["momentum"] == torch.optim.Muon([weights["layer"]]).defaults["momentum"]
    assert {name: rest[name] for name in ("betas", "eps")} == {"betas": (0.9, 0.999), "eps": 1e-8}
    assert SGD(learning_rate=1.0).over([{"params": [torch.nn.Parameter(torch.ones(2))]}]).defaults["momentum"] == 0.9
