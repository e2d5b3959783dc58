"""One problem's drafts as a scene, and a table of logits that learns by PDPO's generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from support.scenes import Scene, branch, evaluate, even, group, total
from twofold.batch import Batch, Outputs, Role
from twofold.objectives import PDPOGenerator

THETA, REF = [0.3, -0.4, 0.1, 0.8], [0.0, 0.2, -0.5, 0.6]

Columns = dict[str, Any]


def scene(logps: Sequence[float], refs: Sequence[float], truth: float, *columns: Columns) -> Scene:
    """One problem's drafts of two tokens; `truth` is the ground truth's log-ratio."""
    base = {"truth_logratio": truth, "truth_length": 2.0}
    branches = [branch(Role.DRAFT, even(r, 2), base) for r in refs]
    further = columns or ({},) * len(branches)
    made = [b.with_columns(c) for b, c in zip(branches, further, strict=True)]
    return [group("0", *made)], [[even(p, 2) for p in logps]]


def found(objective: PDPOGenerator, made: Scene) -> tuple[list[float], list[float]]:
    """The loss of each draft, and the gradient by its log-probability, times the number of drafts."""
    loss, grad_B, batch = evaluate(objective, made)
    return loss.terms["pdpo"].value.tolist(), (grad_B * batch.num_branches).tolist()


def table(theta: Tensor, drawn: Sequence[int], right: Sequence[int] = ()) -> tuple[Outputs, Batch]:
    """Answers `drawn` as drafts of one prompt; answer 0 is the truth, answer 3 has three tokens, others one."""
    logp_Y, ref_Y = theta.log_softmax(0), torch.tensor(REF, dtype=torch.float64).log_softmax(0)
    truth = {"truth_logratio": (logp_Y[0] - ref_Y[0]).item(), "truth_length": 1.0}
    branches = []
    for y in drawn:
        length = 3 if y == 3 else 1
        columns = {"correct": float(y in right), "old_logp": (logp_Y[y] / length).detach().expand(length)}
        branches.append(branch(Role.DRAFT, (ref_Y[y] / length).expand(length), truth).with_columns(columns))
    logp_S = torch.cat(
        [(logp_Y[y] / len(b.tokens)).expand(len(b.tokens)) for y, b in zip(drawn, branches, strict=True)]
    )
    return Outputs(logp_S), Batch.of([group("0", *branches)])


def learn(objective: PDPOGenerator, drawn: Callable[[Tensor], list[int]], steps: int = 400) -> Tensor:
    """Probabilities after SGD on drafts of the policy, from the reference; 1 and 2 are right, 3 is the likeliest."""
    theta = torch.tensor(REF, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([theta], lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        outputs, batch = table(theta, drawn(theta.detach().softmax(0)), right=(1, 2))
        total(objective(outputs, batch), batch).backward()
        optimizer.step()
    return theta.detach().softmax(0)
