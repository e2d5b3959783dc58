"""Supervised fine-tuning: maximum likelihood of demonstrations (Ouyang et al. 2022, arXiv:2203.02155, step 1)."""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Loss, Objective, Term, logps
from twofold.objectives.demonstrations import demonstrated
from twofold.settings import settings


@settings
class SFT(Objective):
    """−log π(y|x), averaged over tokens (as Hugging Face trainers do) or over completions (as the DPO authors do)."""

    kind: Literal["sft"] = "sft"
    average: Literal["token", "completion"] = "token"
    """token: the mean over all tokens. completion: the sum over each completion, averaged over completions."""

    data_kind = "demonstrations"

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        nll_S = -logps(outputs)
        nll_B = batch.sum(nll_S)
        term = Term(nll_S, "token") if self.average == "token" else Term(nll_B, "branch")
        return Loss({"sft": term}, demonstrated(-nll_S, batch))
