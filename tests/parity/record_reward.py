"""Record what TRL's RewardTrainer makes of fixed scores: `python tests/parity/record_reward.py`, where there is TRL.

Writes trl_reward.json beside this file, as record.py does trl.json; `test_trl_parity_reward.py` reads it.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import trl
from record import Says, accelerator, written
from trl.trainer.reward_trainer import RewardTrainer

CHOSEN = [1.2, -0.3, 4.0, 0.0, -2.5]
REJECTED = [0.4, 0.1, -3.0, 0.0, 1.5]
MARGINS = [1.0, 0.25, 0.0, 2.0, -0.5]
RUNS: dict[str, tuple[float | None, list[float] | None]] = {
    "plain": (None, None),
    "margin": (None, MARGINS),
    "centred": (0.01, None),
    "margin and centred": (0.1, MARGINS),
}


def run(coefficient: float | None, margins: list[float] | None) -> dict[str, Any]:
    """RewardTrainer's loss and metrics, and its gradient by each score."""
    logits = torch.tensor([*CHOSEN, *REJECTED], dtype=torch.float64)[:, None].requires_grad_()
    model = Says(SimpleNamespace(logits=logits))
    trainer = SimpleNamespace(
        model=model, args=SimpleNamespace(center_rewards_coefficient=coefficient), accelerator=accelerator(),
        _metrics={"train": defaultdict(list)}, _total_train_tokens=0, _tp_size=1,
    )  # fmt: skip
    inputs: dict[str, Any] = {"attention_mask": torch.ones(len(logits), 1, dtype=torch.int64)}
    if margins is not None:
        inputs["margin"] = torch.tensor(margins, dtype=torch.float64)
    loss = RewardTrainer.compute_loss(trainer, model, inputs)
    loss.backward()
    assert logits.grad is not None
    told = {name: trainer._metrics["train"][name][0] for name in ("accuracy", "margin")}
    gradient = logits.grad[:, 0].tolist()
    return {"coefficient": coefficient, "margins": margins, "loss": loss.item(), "gradient": gradient, **told}


def main() -> None:
    inputs = {"chosen": CHOSEN, "rejected": REJECTED}
    runs = {name: run(*knobs) for name, knobs in RUNS.items()}
    record = {"versions": {"trl": trl.__version__, "torch": torch.__version__}, "inputs": inputs, "runs": runs}
    Path(__file__).with_name("trl_reward.json").write_text(written(record), encoding="utf-8")


if __name__ == "__main__":
    main()
