"""Record what TRL makes of fixed log-probabilities: `python tests/parity/record.py`, in an environment that has TRL.

Writes trl.json beside this file. TRL is no dependency of the tests: `tests/objectives/test_trl_parity.py` reads the
record and says how the knobs translate. TRL's own loss code runs here on a model that only says what it was given.
"""

from __future__ import annotations

import json
import platform
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers
import trl
from torch import Tensor
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer

LENGTHS = [(4, 2), (1, 5), (3, 3), (6, 4)]
"""Tokens of chosen and rejected."""
VOCABULARY = 7
DEFAULTS: dict[str, Any] = {
    "beta": 0.1, "label_smoothing": 0.0, "loss_types": ["sigmoid"], "loss_weights": [1.0], "ld_alpha": None,
    "f_divergence_type": "reverse_kl", "f_alpha_divergence_coef": 0.5, "use_weighting": False, "discopop_tau": 0.05,
}  # fmt: skip
DPO_RUNS: dict[str, dict[str, Any]] = {
    "sigmoid": {},
    "sigmoid, label_smoothing 0.2": {"label_smoothing": 0.2},
    "sigmoid + sft": {"loss_types": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7]},
    "robust": {"loss_types": ["robust"], "label_smoothing": 0.2},
    "sft": {"loss_types": ["sft"]},
    "hinge": {"loss_types": ["hinge"], "beta": 0.4},
    "ipo": {"loss_types": ["ipo"]},
    "exo_pair": {"loss_types": ["exo_pair"], "label_smoothing": 1e-3},
    "nca_pair": {"loss_types": ["nca_pair"]},
    "bco_pair": {"loss_types": ["bco_pair"]},
    "sppo_hard": {"loss_types": ["sppo_hard"]},
    "apo_zero": {"loss_types": ["apo_zero"]},
    "apo_down": {"loss_types": ["apo_down"]},
    "discopop": {"loss_types": ["discopop"]},
    "sigmoid_norm": {"loss_types": ["sigmoid_norm"], "beta": 5.0},
    "forward_kl": {"f_divergence_type": "forward_kl"},
    "js_divergence": {"f_divergence_type": "js_divergence"},
    "alpha_divergence": {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.3},
    "ld_alpha": {"ld_alpha": 0.5},
    "use_weighting": {"use_weighting": True},
    "aot": {"loss_types": ["aot"]},
    "aot_unpaired": {"loss_types": ["aot_unpaired"]},
}
CPO_RUNS: dict[str, dict[str, Any]] = {
    "cpo, label_smoothing 0.2": {"loss_type": "sigmoid", "label_smoothing": 0.2},
    "cpo, hinge": {"loss_type": "hinge", "beta": 0.4},
    "cpo, hinge alone": {"loss_type": "hinge", "beta": 0.4, "cpo_alpha": 0.0},
    "cpo, ipo": {"loss_type": "ipo"},
    "cpo, ipo alone": {"loss_type": "ipo", "cpo_alpha": 0.0},
    "alphapo": {"loss_type": "simpo", "beta": 2.5, "alpha": 0.25, "cpo_alpha": 0.0},
    "alphapo, alpha -0.5": {"loss_type": "simpo", "beta": 2.5, "alpha": -0.5, "cpo_alpha": 0.0},
}
SINGLE = ("alpha_divergence",)
"""Runs for which TRL knows no float64."""


class Says(torch.nn.Module):
    """A model whose outputs are given."""

    is_gradient_checkpointing = False

    def __init__(self, outputs: Any) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, *_: Any, **__: Any) -> Any:
        return self.outputs


def rows(sides: Sequence[tuple[int, ...]] = LENGTHS) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tokens, their mask (a prompt of one token, then the completion), logits of policy and of reference; chosen rows
    first, as TRL has them."""
    noise = torch.Generator().manual_seed(0)
    lengths = [n for side in zip(*sides, strict=True) for n in side]
    shape = len(lengths), 1 + max(lengths)
    tokens = torch.randint(VOCABULARY, shape, generator=noise)
    mask = torch.tensor([[0] + [1] * n + [0] * (shape[1] - 1 - n) for n in lengths])
    policy, reference = (2 * torch.randn(*shape, VOCABULARY, generator=noise, dtype=torch.float64) for _ in range(2))
    return tokens, mask, policy, policy + 0.3 * reference


def said(logits: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """log π of each token and the log of its Σ π², 0 off the completion."""
    logp = logits[:, :-1].log_softmax(-1)
    of_token = logp.gather(-1, tokens[:, 1:, None]).squeeze(-1)
    return of_token * mask[:, 1:], (2 * logp).logsumexp(-1) * mask[:, 1:]


def accelerator() -> SimpleNamespace:
    return SimpleNamespace(device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x)


def dpo(knobs: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """DPOTrainer's loss, and its gradient by each log-probability."""
    tokens, mask, policy, reference = rows()
    logp, collision = (x.to(dtype) for x in said(policy, tokens, mask))
    logp.requires_grad_()
    flat = torch.zeros_like(logp)

    def outputs(log_probs: Tensor) -> SimpleNamespace:
        rest = {"entropy": flat, "mean_logits": flat, "is_top1": flat.bool(), "aux_loss": None}
        return SimpleNamespace(log_probs=log_probs, log_sum_sq_probs=collision, **rest)

    settings = {**DEFAULTS, **knobs}
    trainer = SimpleNamespace(
        **settings, model=Says(outputs(logp)), ref_model=Says(outputs(said(reference, tokens, mask)[0].to(dtype))),
        accelerator=accelerator(), aux_loss_enabled=False, precompute_ref_logps=False, _tp_size=1,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=settings["discopop_tau"]),
        _metrics={"train": defaultdict(list), "eval": defaultdict(list)}, _total_train_tokens=0,
    )  # fmt: skip
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "completion_mask": mask}
    loss = DPOTrainer._compute_loss(trainer, trainer.model, inputs, False)
    loss.backward()
    assert logp.grad is not None
    return {"knobs": settings, "loss": loss.item(), "gradient": by_completion(logp.grad)}


def without_reference(trainer: type, knobs: dict[str, Any]) -> dict[str, Any]:
    """CPOTrainer's or ORPOTrainer's loss, from logits on, and its gradient by each log-probability."""
    tokens, mask, policy, _ = rows()
    policy.requires_grad_()
    labels, attention = tokens.masked_fill(mask == 0, -100), mask.clone()
    attention[:, 0] = 1
    num = len(LENGTHS)
    batch = {
        f"{side}_{name}": value[part]
        for side, part in (("chosen", slice(num)), ("rejected", slice(num, None)))
        for name, value in (("input_ids", tokens), ("labels", labels), ("attention_mask", attention))
    }
    me = SimpleNamespace(
        **knobs,
        accelerator=accelerator(),
        is_encoder_decoder=False,
        aux_loss_enabled=False,
        padding_value=0,
        pad_token_id=0,
    )
    for name in ("concatenated_forward", "cpo_loss", "odds_ratio_loss"):
        if hasattr(trainer, name):
            setattr(me, name, getattr(trainer, name).__get__(me))
    for name in ("concatenated_inputs", "get_batch_logps"):
        setattr(me, name, getattr(trainer, name))
    loss, _ = trainer.get_batch_loss_metrics(me, Says(SimpleNamespace(logits=policy)), batch)
    loss.backward()
    assert policy.grad is not None
    return {"knobs": knobs, "loss": loss.item(), "gradient": by_completion(by_logp(policy, policy.grad, tokens, mask))}


def by_logp(logits: Tensor, gradient: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """A gradient by logits as one by the log-probability of each token, which are all that the loss knows of them:
    that of the token's own logit is 1 − π times as large."""
    of_token = gradient[:, :-1].gather(-1, tokens[:, 1:, None]).squeeze(-1)
    return of_token * mask[:, 1:] / -said(logits.detach(), tokens, mask)[0].masked_fill(mask[:, 1:] == 0, -1.0).expm1()


def by_completion(value: Tensor, sides: Sequence[tuple[int, ...]] = LENGTHS) -> list[list[list[float]]]:
    """Per pair the values of chosen, of rejected and of what else there is, without padding."""
    num = len(sides)
    return [[value[k * num + i, :n].tolist() for k, n in enumerate(row)] for i, row in enumerate(sides)]


def main() -> None:
    tokens, mask, policy, reference = rows()
    logp, collision = said(policy, tokens, mask)
    inputs = {
        "policy": by_completion(logp),
        "reference": by_completion(said(reference, tokens, mask)[0]),
        "log_collision": by_completion(collision),
    }
    runs = {name: dpo(knobs, torch.float32 if name in SINGLE else torch.float64) for name, knobs in DPO_RUNS.items()}
    cpo = {"beta": 0.1, "alpha": 0.0, "label_smoothing": 0.0, "simpo_gamma": 0.5, "cpo_alpha": 1.0}
    runs["cpo"] = without_reference(CPOTrainer, {**cpo, "loss_type": "sigmoid"})
    runs["simpo"] = without_reference(CPOTrainer, {**cpo, "beta": 2.0, "loss_type": "simpo", "cpo_alpha": 0.0})
    runs |= {name: without_reference(CPOTrainer, {**cpo, **knobs}) for name, knobs in CPO_RUNS.items()}
    runs["orpo"] = without_reference(ORPOTrainer, {"beta": 0.1})
    versions = {"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__}
    record = {"versions": {**versions, "python": platform.python_version()}, "inputs": inputs, "runs": runs}
    Path(__file__).with_name("trl.json").write_text(written(record), encoding="utf-8")


def written(record: dict[str, dict[str, Any]]) -> str:
    """JSON, one line for each entry of each part."""
    parts = []
    for part, entries in record.items():
        lines = [f"    {json.dumps(name)}: {json.dumps(value)}" for name, value in entries.items()]
        parts.append(f"  {json.dumps(part)}: {{\n" + ",\n".join(lines) + "\n  }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    main()
