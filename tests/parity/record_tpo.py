"""Record what TRL's TPO makes of fixed log-probabilities: `python tests/parity/record_tpo.py`, where TRL is installed.

Writes trl_tpo.json beside this file, as record.py does trl.json; `tests/objectives/test_tpo.py` reads it.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import trl
from record import Says, accelerator, by_completion, by_logp, rows, said, written
from trl.experimental.tpo import TPOTrainer

LENGTHS = [(4, 2, 3), (1, 5, 4), (3, 3, 1), (6, 4, 2)]
"""Tokens of chosen, rejected and gold."""
DEFAULTS: dict[str, Any] = {"beta": 0.1, "label_smoothing": 0.0, "tpo_alpha": 0.7, "tpo_l_gamma": 0.5}
RUNS: dict[str, dict[str, Any]] = {
    "sigmoid": {"loss_type": "sigmoid"},
    "tpo-l": {"loss_type": "tpo-l", "beta": 2.0},
    "hinge": {"loss_type": "hinge"},
    "ipo": {"loss_type": "ipo"},
}


def run(knobs: dict[str, Any]) -> dict[str, Any]:
    """TPOTrainer's loss, and its gradient by each log-probability."""
    tokens, mask, policy, _ = rows(LENGTHS)
    model = Says(SimpleNamespace(logits=policy.requires_grad_()))
    trainer = SimpleNamespace(
        **knobs, model=model, accelerator=accelerator(), aux_loss_enabled=False, _total_train_tokens=0, _tp_size=1,
        _metrics={"train": defaultdict(list)},
    )  # fmt: skip
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "completion_mask": mask}
    loss = TPOTrainer._compute_loss(trainer, model, inputs, False)
    loss.backward()
    assert policy.grad is not None
    gradient = by_completion(by_logp(policy, policy.grad, tokens, mask), LENGTHS)
    return {"knobs": knobs, "loss": loss.item(), "gradient": gradient}


def main() -> None:
    tokens, mask, policy, _ = rows(LENGTHS)
    inputs = {"policy": by_completion(said(policy, tokens, mask)[0], LENGTHS)}
    runs = {name: run({**DEFAULTS, **knobs}) for name, knobs in RUNS.items()}
    record = {"versions": {"trl": trl.__version__, "torch": torch.__version__}, "inputs": inputs, "runs": runs}
    Path(__file__).with_name("trl_tpo.json").write_text(written(record), encoding="utf-8")


if __name__ == "__main__":
    main()
