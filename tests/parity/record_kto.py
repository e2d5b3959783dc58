"""Record what TRL's KTO makes of fixed log-probabilities: `python tests/parity/record_kto.py`, where TRL is installed.

Writes trl_kto.json beside this file, as record.py does trl.json; `tests/objectives/test_trl_parity_kto.py` reads it.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import trl
from record import LENGTHS, by_completion, rows, said, written
from torch import Tensor
from trl.trainer.kto_trainer import KTOTrainer

KNOBS: dict[str, dict[str, Any]] = {
    "kto": {"loss_type": "kto", "beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0},
    "kto, weighted": {"loss_type": "kto", "beta": 0.5, "desirable_weight": 1.5, "undesirable_weight": 0.5},
    "apo_zero_unpaired": {
        "loss_type": "apo_zero_unpaired",
        "beta": 0.5,
        "desirable_weight": 1.5,
        "undesirable_weight": 0.5,
    },
}
KL = {"rising": [[0.4, 0.3], [-0.1, 0.6]], "falling": [[-0.4, 0.1], [-0.1, -0.3]]}
"""Log-ratios of two mismatched rows, token by token."""


class Says(torch.nn.Module):
    """A model that says one thing of the rows and another of mismatched rows, told by their width."""

    is_gradient_checkpointing = False

    def __init__(self, of_rows: Tensor, of_mismatched: Tensor) -> None:
        super().__init__()
        self.said = {x.shape[1] + 1: x for x in (of_rows, of_mismatched)}

    def forward(self, *, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        logp = self.said[input_ids.shape[1]]
        return SimpleNamespace(log_probs=logp, entropy=logp, mean_logits=logp, is_top1=logp.bool(), aux_loss=None)


def run(knobs: dict[str, Any], kl: list[list[float]]) -> dict[str, Any]:
    """KTOTrainer's loss, its KL estimate, and its gradient by each log-probability."""
    tokens, mask, policy, reference = rows()
    logp = said(policy, tokens, mask)[0].requires_grad_()
    ratio = torch.tensor(kl, dtype=torch.float64)
    trainer = SimpleNamespace(
        **knobs, calculate_KL=knobs["loss_type"] == "kto", precompute_ref_logps=False, aux_loss_enabled=False,
        model=Says(logp, ratio - 2.0), ref_model=Says(said(reference, tokens, mask)[0], torch.full_like(ratio, -2.0)),
        accelerator=SimpleNamespace(device=torch.device("cpu"), gather_for_metrics=lambda x: x),
        args=SimpleNamespace(gradient_checkpointing_kwargs=None), _total_train_tokens=0, _tp_size=1,
        _metrics={"train": defaultdict(list)},
    )  # fmt: skip
    trainer._compute_kl_logps = KTOTrainer._compute_kl_logps.__get__(trainer)
    short = torch.zeros(2, ratio.shape[1] + 1, dtype=torch.int64)
    inputs = {
        "input_ids": tokens, "attention_mask": torch.ones_like(tokens), "completion_mask": mask,
        "KL_input_ids": short, "KL_attention_mask": short + 1, "KL_completion_mask": short + 1,
        "label": torch.tensor([True] * len(LENGTHS) + [False] * len(LENGTHS)),
    }  # fmt: skip
    loss = KTOTrainer._compute_loss(trainer, trainer.model, inputs, False)
    loss.backward()
    assert logp.grad is not None
    z0 = trainer._metrics["train"]["kl"][0]
    return {"knobs": knobs, "kl": kl, "z0": z0, "loss": loss.item(), "gradient": by_completion(logp.grad)}


def main() -> None:
    tokens, mask, policy, reference = rows()
    inputs = {n: by_completion(said(x, tokens, mask)[0]) for n, x in (("policy", policy), ("reference", reference))}
    runs = {f"{name}, {way}": run(knobs, kl) for name, knobs in KNOBS.items() for way, kl in KL.items()}
    record = {"versions": {"trl": trl.__version__, "torch": torch.__version__}, "inputs": inputs, "runs": runs}
    Path(__file__).with_name("trl_kto.json").write_text(written(record), encoding="utf-8")


if __name__ == "__main__":
    main()
