"""What a larger vocabulary costs our step, beside the bare matrix products that it needs, measured in the same turn."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.turns import Job, Turns
from benchmarks.twofold_worker import InOrder, prepare


def cpu_seconds(work: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


class Products:
    """The products of one step's head: logits, logits again in the backward pass, gradients of states and weight,
    and the reference's logits where it is live. The memory of their results is touched beforehand."""

    def __init__(self, num_scored: int, num_hidden: int, num_vocabulary: int, *, live: bool) -> None:
        self.hidden_SH = torch.randn(num_scored, num_hidden)
        self.weight_VH = torch.randn(num_vocabulary, num_hidden)
        self.logits_SV = torch.ones(num_scored, num_vocabulary)
        self.d_hidden_SH, self.d_weight_VH = torch.ones_like(self.hidden_SH), torch.ones_like(self.weight_VH)
        self.forwards = 3 if live else 2

    def __call__(self) -> Tensor:
        for _ in range(self.forwards):
            torch.mm(self.hidden_SH, self.weight_VH.t(), out=self.logits_SV)
        torch.mm(self.logits_SV, self.weight_VH, out=self.d_hidden_SH)
        return torch.mm(self.logits_SV.t(), self.hidden_SH, out=self.d_weight_VH)


def main(job: Job) -> None:
    """`job.model` names two folders, the smaller vocabulary first. A turn is a step and the products of each."""
    torch.set_num_threads(1)
    sides = []
    for model in job.model.split("\n"):
        policy, step, groups = prepare(job, model)
        sides.append((step, InOrder(groups, job), policy.model.config))
    turns = Turns({"hidden": sides[0][2].hidden_size, "vocabularies": [config.vocab_size for _, _, config in sides]})
    for at in range(job.turns):
        turns.wait()
        seconds, bare = [], []
        for step, algorithm, config in sides:
            round = algorithm.round(at, {})
            num_scored = sum(len(b.tokens) for g in round.parts[0].groups for b in g.branches)
            products = Products(num_scored, config.hidden_size, config.vocab_size, live=job.reference == "live")
            seconds.append(cpu_seconds(lambda: step(round)))  # noqa: B023  called at once
            bare.append(cpu_seconds(products))
            del products
        turns.answer(seconds=seconds, bare=bare)


if __name__ == "__main__":
    main(Job(**json.loads(sys.argv[1])))
