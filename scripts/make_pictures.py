"""The pictures of docs/dpo-in-pictures.md, from twofold's own objectives: `python scripts/make_pictures.py`.

Every curve is what an objective returns for log-probabilities chosen by hand, or for a table of a few answers that is
trained with it. A test repeats the numbers of the page."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "pictures"
sys.path.insert(0, str(ROOT))

from twofold import DPO, RSO, Batch, Group, Objective, Outputs, PDPOGenerator
from twofold.batch import Branch, Role

TOKEN = torch.zeros(1, dtype=torch.int64)
REFERENCE = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
REWARD = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)
FEATURES = torch.tensor([[1.0, 0.5, 0.0], [1.5, 0.0, 0.5], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
"""What four answers have in common: chosen and rejected share their first feature, the other two have none."""
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#777777"


def pairs(chosen: Tensor, rejected: Tensor) -> Batch:
    """Pairs of one-token answers whose reference log-probabilities are `chosen` [n] and `rejected` [n]."""
    sides = ((Role.CHOSEN, chosen), (Role.REJECTED, rejected))
    return Batch.of(
        [
            Group(
                str(number),
                TOKEN,
                tuple(Branch(TOKEN, role, {"ref_logp": ref[number : number + 1]}) for role, ref in sides),
            )
            for number in range(len(chosen))
        ]
    )


def pair_losses(objective: Objective, chosen: Tensor, rejected: Tensor, batch: Batch) -> Tensor:
    """The loss [n] of each pair where the policy's log-probabilities are `chosen` and `rejected`."""
    loss = objective(Outputs(torch.stack([chosen, rejected], 1).flatten()), batch)
    return sum((term.weight * term.value for term in loss.terms.values()), torch.zeros_like(chosen))


def along_margins(objective: Objective, margins: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and gradient weight (minus its derivative) at log-ratios of ± half a margin."""
    margins = margins.clone().requires_grad_()
    zero = torch.zeros_like(margins)
    losses = pair_losses(objective, margins / 2, -margins / 2, pairs(zero.detach(), zero.detach()))
    (slope,) = torch.autograd.grad(losses.sum(), margins)
    return losses.detach(), -slope


def optimum(beta: float) -> Tensor:
    """The policy that maximizes reward less β·KL: π_ref·exp(r/β)/Z."""
    return (REFERENCE.log() + REWARD / beta).softmax(0)


def trained(beta: float, steps: int = 30) -> Tensor:
    """The policy that DPO trains from REFERENCE on preferences by REWARD, each ordered pair by its probability."""
    better, worse = torch.tensor([(a, b) for a in range(3) for b in range(3) if a != b]).T
    often = (REWARD[better] - REWARD[worse]).sigmoid()
    reference = REFERENCE.log()
    batch = pairs(reference[better], reference[worse])

    def loss(logits: Tensor) -> Tensor:
        logp = logits.log_softmax(0)
        return (often * pair_losses(DPO(beta=beta), logp[better], logp[worse], batch)).sum()

    return _descended(loss, reference.clone(), steps)[-1].softmax(0)


def _descended(loss: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> list[Tensor]:
    """The parameters before and after each step of LBFGS."""
    parameters = start.requires_grad_()
    optimizer = torch.optim.LBFGS([parameters], max_iter=steps, tolerance_grad=1e-12, tolerance_change=1e-15)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(parameters)
        value.backward()
        return value

    optimizer.step(closure)
    return [start.detach(), parameters.detach()]


def displaced(nll: float, steps: int = 100, rate: float = 0.5) -> Tensor:
    """Log-probabilities [steps + 1, 4] of four answers with FEATURES while DPO trains on one pair of them."""
    theta = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    start = (FEATURES @ theta).log_softmax(0).detach()
    batch, objective, rows = pairs(start[:1], start[1:2]), DPO(beta=0.5, nll=nll), []
    for _ in range(steps + 1):
        logp = (FEATURES @ theta).log_softmax(0)
        rows.append(logp.detach())
        (slope,) = torch.autograd.grad(pair_losses(objective, logp[:1], logp[1:2], batch).sum(), theta)
        theta = (theta - rate * slope).detach().requires_grad_()
    return torch.stack(rows)


def along_drafts(form: str, rewards: Tensor, truth: float = 1.0) -> tuple[Tensor, Tensor]:
    """PDPO's generator: loss and pull (minus its derivative) of samples by implicit reward, `truth` the answer's."""
    rewards = rewards.clone().requires_grad_()
    zero = torch.zeros(1, dtype=torch.float64)
    drafts = [Branch(TOKEN, Role.DRAFT, {"ref_logp": zero}, {"truth_logratio": truth}) for _ in rewards]
    loss = PDPOGenerator(form=form, beta=1.0)(Outputs(rewards), Batch.of([Group("draft", TOKEN, tuple(drafts))]))  # type: ignore[arg-type]
    values = sum((term.value for term in loss.terms.values()), torch.zeros_like(rewards))
    (slope,) = torch.autograd.grad(values.sum(), rewards)
    return values.detach(), -slope


def _panels(count: int, titles: Sequence[str]) -> tuple[Any, Any]:
    from matplotlib import pyplot

    pyplot.rcParams.update(
        {"svg.hashsalt": "twofold", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}
    )
    figure, axes = pyplot.subplots(1, count, figsize=(4.2 * count, 3.2), layout="constrained")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=11)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def draw_loss() -> Any:
    margins = torch.linspace(-6, 6, 241, dtype=torch.float64)
    figure, axes = _panels(2, ["Loss of a pair", "How hard the pair pulls"])
    curves = [("DPO", DPO(beta=1.0), BLUE), ("DPO, label_smoothing 0.1", DPO(beta=1.0, label_smoothing=0.1), ORANGE)]
    for name, objective, color in [*curves, ("RSO, a hinge", RSO(gamma=1.0), GREEN)]:
        for axis, values in zip(axes, along_margins(objective, margins), strict=True):
            axis.plot(margins, values, color=color, label=name)
    for axis in axes:
        axis.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
        axis.set_xlabel("margin: reward of chosen − reward of rejected")
    axes[0].legend(frameon=False)
    return figure


def draw_optimum() -> Any:
    betas = (2.0, 0.5)
    figure, axes = _panels(3, ["the reference", *(f"optimum at β = {beta:g}" for beta in betas)])
    for axis, bars in zip(axes, [REFERENCE, *map(optimum, betas)], strict=True):
        axis.bar(range(3), bars, color=[BLUE, GREY, ORANGE])
        axis.set_xticks(
            range(3), [f"answer {name}\nreward {value:g}" for name, value in zip("ABC", REWARD, strict=True)]
        )
        axis.set_ylim(0, 1)
    for axis, beta in zip(axes[1:], betas, strict=True):
        axis.plot(range(3), trained(beta), "kx", label="trained with DPO")
        axis.legend(frameon=False, loc="upper left")
    axes[0].set_ylabel("probability")
    return figure


def draw_displacement() -> Any:
    figure, axes = _panels(2, ["DPO", "DPO with nll 1"])
    for axis, nll in zip(axes, (0.0, 1.0), strict=True):
        probabilities = displaced(nll).exp()
        for column, name, color in ((0, "chosen", BLUE), (1, "rejected", ORANGE), (2, "each other answer", GREY)):
            axis.plot(probabilities[:, column], color=color, label=name)
        axis.set_xlabel("step")
        axis.set_ylim(0, 1)
    axes[0].set_ylabel("probability")
    axes[0].legend(frameon=False)
    return figure


def draw_generator() -> Any:
    rewards = torch.linspace(-2, 3, 251, dtype=torch.float64)
    figure, axes = _panels(2, ["Loss of a sample", "How hard the sample is pulled up"])
    for form, color in (("hinge", BLUE), ("softplus", ORANGE), ("square", GREEN)):
        for axis, values in zip(axes, along_drafts(form, rewards), strict=True):
            axis.plot(rewards, values, color=color, label=form)
    for axis in axes:
        axis.axvline(1.0, color=GREY, linewidth=0.8, linestyle=":")
        axis.set_xlabel("implicit reward of the sample (ground truth: 1)")
    axes[0].legend(frameon=False)
    return figure


PICTURES = {"loss": draw_loss, "optimum": draw_optimum, "displacement": draw_displacement, "generator": draw_generator}

if __name__ == "__main__":
    import matplotlib

    matplotlib.use("svg")
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        draw().savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
        print(FOLDER / f"{name}.svg")
