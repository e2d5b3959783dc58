"""Losses and gradients against those of TRL's own code (tests/parity/trl.json, written by tests/parity/record.py).

Each entry says how TRL's knobs translate; each disagreement says why, and whom the paper bears out.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from support.scenes import Scene, branch, group, outputs, total
from twofold.batch import Batch, Role
from twofold.config.load import Document, validate
from twofold.config.peers import trl
from twofold.config.schema import Recipe
from twofold.objectives import (
    AOT,
    CPO,
    DPO,
    EXO,
    FDPO,
    IPO,
    LDDPO,
    LNDPO,
    NCA,
    ORPO,
    RSO,
    SFT,
    SPPO,
    WPO,
    AlphaPO,
    AnchoredPO,
    BCOPair,
    DiscoPOP,
    RobustDPO,
    SimPO,
    SLiC,
)
from twofold.objectives.base import Objective

AGREE: dict[str, Objective] = {
    # loss_type sigmoid: beta is beta.
    "sigmoid": DPO(beta=0.1),
    # label_smoothing is the paper's ε.
    "robust": RobustDPO(beta=0.1, epsilon=0.2),
    # beta is RSO's γ.
    "hinge": RSO(gamma=0.4),
    # beta is τ; log-ratios are divided by length, as the authors ran it: our logratio=mean.
    "ipo": IPO(tau=0.1, logratio="mean"),
    # label_smoothing is ε.
    "exo_pair": EXO(beta=0.1, epsilon=1e-3),
    "nca_pair": NCA(beta=0.1),
    "bco_pair": BCOPair(beta=0.1),
    # beta is 1/η, and P is 1.
    "sppo_hard": SPPO(eta=10.0),
    "apo_zero": AnchoredPO(beta=0.1),
    "apo_down": AnchoredPO(beta=0.1, anchor="down"),
    # label_smoothing is label_smoothing; TRL sorts each device's micro-batch, here it is the whole step.
    "aot": AOT(beta=0.1),
    "aot_unpaired": AOT(beta=0.1, form="unpaired"),
    # discopop_tau is τ.
    "discopop": DiscoPOP(beta=0.1, tau=0.05),
    "sigmoid_norm": LNDPO(beta=5.0),
    # f_divergence_type; its constants cancel between chosen and rejected.
    "forward_kl": FDPO(beta=0.1, divergence="forward_kl"),
    "js_divergence": FDPO(beta=0.1, divergence="js"),
    # f_alpha_divergence_coef is 1 − α of the paper.
    "alpha_divergence": FDPO(beta=0.1, divergence="alpha", alpha=0.7),
    # ld_alpha is α.
    "ld_alpha": LDDPO(beta=0.1, alpha=0.5),
    # use_weighting: the sampled alignment.
    "use_weighting": WPO(beta=0.1, alignment="sampled"),
    # CPOTrainer's loss_type simpo: simpo_gamma is γ, cpo_alpha 0.
    "simpo": SimPO(beta=2.0, gamma=0.5),
    # CPOTrainer's loss_type ipo: IPO under a uniform reference, cpo_alpha is nll.
    "cpo, ipo alone": IPO(tau=0.1, logratio="mean", reference_free=True),
    # simpo again, and alpha is α.
    "alphapo": AlphaPO(beta=2.5, gamma=0.5, alpha=0.25),
    "alphapo, alpha -0.5": AlphaPO(beta=2.5, gamma=0.5, alpha=-0.5),
}

DISAGREE = {
    "sigmoid, label_smoothing 0.2": "TRL's sigmoid no longer reads label_smoothing; the note on cDPO does",
    "sigmoid + sft": "TRL averages the likelihood over the batch's tokens, Iterative RPO over each completion's",
    "cpo": "as sigmoid + sft",
    "cpo, label_smoothing 0.2": "as sigmoid + sft",
    "cpo, ipo": "as sigmoid + sft",
    "cpo, hinge": "as sigmoid + sft; and it is β times SLiC's at δ = 1/β, which only a learning rate can tell",
    "cpo, hinge alone": "that factor β alone",
    "orpo": "as sigmoid + sft; TRL's also counts the prompt's tokens beyond the first, of which there are none here",
}
OF_CHOSEN = {"sft": "the likelihood of chosen alone, averaged over tokens: SFT as it is"}


@cache
def record() -> dict[str, Any]:
    path = Path(__file__).parents[1] / "parity" / "trl.json"
    return json.loads(path.read_text(encoding="utf-8"))


def run(name: str) -> dict[str, Any]:
    return record()["runs"][name]


def slope(name: str) -> Tensor:
    """TRL's gradient by each log-probability [S]."""
    return torch.cat([vector(x) for row in run(name)["gradient"] for x in row])


def vector(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def scene() -> Scene:
    said = {n: [[vector(x) for x in row] for row in value] for n, value in record()["inputs"].items()}
    groups = []
    for i, refs in enumerate(said["reference"]):
        sides = zip((Role.CHOSEN, Role.REJECTED), refs, strict=True)
        groups.append(group(str(i), *(branch(r, ref) for r, ref in sides)))
    return groups, said["policy"]


def told(objective: Objective) -> tuple[float, Tensor]:
    """The loss, and its gradient by each log-probability."""
    groups, logps = scene()
    collision_S = torch.cat([vector(x) for row in record()["inputs"]["log_collision"] for x in row])
    said, batch = replace(outputs(logps), statistics={"log_collision": collision_S}), Batch.of(groups)
    value = total(objective(said, batch), batch)
    (grad_S,) = torch.autograd.grad(value, said.logp_S)
    return value.item(), grad_S


def loss(objective: Objective) -> float:
    return told(objective)[0]


def likelihood() -> tuple[float, float]:
    """−log π of chosen, averaged over the batch's tokens and over the completions' means."""
    chosen = [row[0] for row in scene()[1]]
    by_token = torch.cat(chosen).mean().item()
    return -by_token, -sum(x.mean().item() for x in chosen) / len(chosen)


def test_every_recorded_run_is_judged() -> None:
    assert record()["versions"]["trl"] == "1.16.0"
    assert set(record()["runs"]) == {*AGREE, *OF_CHOSEN, *DISAGREE}


@pytest.mark.parametrize("name", AGREE)
def test_losses_and_gradients_are_trls(name: str) -> None:
    """To 1e-9; to 1e-6 where TRL computes in float32 (EXO: its ε)."""
    objective, want = AGREE[name], run(name)
    tolerance = 1e-6 if name in ("alpha_divergence", "exo_pair") else 1e-9
    assert loss(objective) == pytest.approx(want["loss"], rel=tolerance)
    torch.testing.assert_close(told(objective)[1], slope(name), rtol=10 * tolerance, atol=tolerance)


def test_label_smoothing_is_ours_alone() -> None:
    assert run("sigmoid, label_smoothing 0.2")["loss"] == run("sigmoid")["loss"]
    assert loss(DPO(beta=0.1, label_smoothing=0.2)) != pytest.approx(run("sigmoid")["loss"], rel=1e-3)


def test_likelihood_is_per_completion_here_and_per_token_of_the_batch_there() -> None:
    """Completions of 4, 1, 3 and 6 tokens weigh alike with us; there the longest weighs six times the shortest. With
    that one difference undone the losses agree."""
    theirs, ours = likelihood()
    assert abs(theirs - ours) > 0.01
    undone = 0.7 * (theirs - ours)
    assert loss(DPO(beta=0.1, nll=0.7)) + undone == pytest.approx(run("sigmoid + sft")["loss"], rel=1e-9)
    smoothed = DPO(beta=0.1, label_smoothing=0.2, reference_free=True, nll=1.0)
    assert loss(smoothed) + theirs - ours == pytest.approx(run("cpo, label_smoothing 0.2")["loss"], rel=1e-9)
    square = IPO(tau=0.1, logratio="mean", reference_free=True, nll=1.0)
    assert loss(square) + theirs - ours == pytest.approx(run("cpo, ipo")["loss"], rel=1e-9)
    hinge = SLiC(delta=1 / 0.4, lam=1 / 0.4, likelihood="mean")
    assert 0.4 * loss(hinge) + theirs - ours == pytest.approx(run("cpo, hinge")["loss"], rel=1e-9)
    assert loss(CPO(beta=0.1)) + theirs - ours == pytest.approx(run("cpo")["loss"], rel=1e-9)
    assert loss(ORPO(lam=0.1)) + theirs - ours == pytest.approx(run("orpo")["loss"], rel=1e-6)


IMPORTED: dict[str, dict[str, Any]] = {
    "sigmoid": {"loss_type": "sigmoid"},
    "sigmoid + sft": {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7]},
    "cpo": {"cpo_alpha": 1.0},
    "cpo, label_smoothing 0.2": {"cpo_alpha": 1.0, "label_smoothing": 0.2},
    "cpo, ipo": {"cpo_alpha": 1.0, "loss_type": "ipo"},
}


@pytest.mark.parametrize("name", IMPORTED)
def test_an_imported_configuration_is_its_loss(name: str) -> None:
    keys = {"model_name_or_path": "m", "dataset_name": "d", "beta": 0.1, **IMPORTED[name]}
    objective = validate(Recipe, Document(name, trl.convert(keys, None).recipe, {})).objective
    value, grad_S = told(objective)
    assert value == pytest.approx(run(name)["loss"], rel=1e-9)
    torch.testing.assert_close(grad_S, slope(name), rtol=1e-8, atol=1e-9)


def test_their_hinge_without_a_reference_is_slics() -> None:
    """max(0, 1 − β·m) = β·max(0, 1/β − m)."""
    value, grad_S = told(SLiC(delta=1 / 0.4, lam=0.0))
    assert 0.4 * value == pytest.approx(run("cpo, hinge alone")["loss"], rel=1e-12)
    torch.testing.assert_close(0.4 * grad_S, slope("cpo, hinge alone"), rtol=1e-9, atol=1e-12)


def test_their_likelihood_is_that_of_sft() -> None:
    """Averaged over tokens, SFT on the chosen completions is TRL's `sft`."""
    chosen = [[row[0]] for row in scene()[1]]
    groups = [group(str(i), branch(Role.DEMONSTRATION, x)) for i, (x,) in enumerate(chosen)]
    batch = Batch.of(groups)
    said = outputs(chosen)
    value = total(SFT()(said, batch), batch)
    assert math.isclose(value.item(), likelihood()[0], rel_tol=1e-12)
    assert math.isclose(value.item(), run("sft")["loss"], rel_tol=1e-12)
    (grad_S,) = torch.autograd.grad(value, said.logp_S)
    theirs = [[vector(x) for x in row] for row in run("sft")["gradient"]]
    torch.testing.assert_close(grad_S, torch.cat([row[0] for row in theirs]))
    assert not torch.cat([row[1] for row in theirs]).any()
