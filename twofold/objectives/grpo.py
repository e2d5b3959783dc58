"""Group relative policy optimization (GRPO).

Shao et al. 2024, "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models",
arXiv:2402.03300, equation 3. Mean over all tokens and a wider upper clip: DAPO, arXiv:2503.14476. A constant divisor
instead of lengths: Liu et al. 2025 (Dr. GRPO), arXiv:2503.20783.
"""

from __future__ import annotations

from typing import Literal

from twofold.batch import Batch, Outputs
from twofold.objectives.base import Baseline, Domain, Loss, Objective, Scale, Term, logratios, trait
from twofold.objectives.importance import token_weighted
from twofold.objectives.kl import ESTIMATORS, Estimator
from twofold.objectives.surrogate import Average, advantages, averaged, clipped, moves, rollout_metrics, stopped
from twofold.settings import require, settings


@settings
class GRPO(Objective):
    """−min(ρ·A, clip(ρ)·A) + β·KL of each token, ρ = π/π_old, A = (reward − the prompt's mean) / the prompt's standard
    deviation. The KL estimate is part of the loss."""

    kind: Literal["grpo"] = "grpo"
    beta: float = 0.04
    """Weight of the KL estimate in the loss. With 0 no reference model is needed."""
    estimator: Estimator = "k3"
    """KL estimator. Its gradient in a loss is ∇KL(π_ref ‖ π) with k3, ∇KL(π ‖ π_ref) with k2, and 0 with k1."""
    clip: float = 0.2
    """ε: clip range of a token's probability ratio."""
    clip_high: float | None = None
    """A separate ε for ratios above 1 (DAPO: 0.28)."""
    average: Average = "completion"
    """completion: mean over each completion, then over completions. token: mean over all tokens. constant: divide by
    `length` (Dr. GRPO)."""
    length: int | None = None
    """For constant: the divisor of a completion's sum, such as sampling.max_new_tokens."""
    scale: Scale = "group"
    """Divisor of the advantage: the standard deviation of the prompt's rewards, of the rollout's, or nothing (Dr.
    GRPO)."""

    data_kind = "prompts"

    def __post_init__(self) -> None:
        require(self.beta >= 0, "beta must be ≥ 0")
        require(0 < self.clip < 1, "clip must be in (0, 1)")
        require(self.clip_high is None or self.clip_high >= self.clip, "clip_high must be ≥ clip")
        require((self.average == "constant") == (self.length is not None), "length goes with average constant")

    @trait
    def requires(self) -> tuple[str, ...]:
        return ("old_logp", "advantage", *(("ref_logp",) if self.beta else ()))

    @trait
    def comparison(self) -> tuple[Baseline | None, Scale]:
        return "group", self.scale

    @trait
    def domain(self) -> Domain:
        return Domain(logratio=80.0) if self.beta and self.estimator == "k3" else Domain()

    def __call__(self, outputs: Outputs, batch: Batch) -> Loss:
        ratio_S = moves(outputs, batch).exp()
        advantage_S = advantages(batch, ratio_S.dtype)[batch.branch_S]
        loss_S = -clipped(advantage_S, ratio_S, self.clip, self.clip_high)
        terms = {"grpo": averaged(token_weighted(loss_S, batch), batch, self.average, self.length)}
        if self.beta:
            kl_S = token_weighted(ESTIMATORS[self.estimator](logratios(outputs, batch)), batch)
            terms["kl"] = averaged(kl_S, batch, self.average, self.length, self.beta)
        clip = Term(stopped(advantage_S, ratio_S, self.clip, self.clip_high), "token")
        return Loss(
            terms, {"ratio": Term(ratio_S.detach(), "token"), "clipped": clip, **rollout_metrics(outputs, batch)}
        )
