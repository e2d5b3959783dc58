"""Statistics of a policy: the entropy with gradient, the others without; by tiles, by rows, by a called head."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from support import tiny
from twofold.models.attention import stock_attention
from twofold.models.logprob import statistics_of
from twofold.models.policy import LanguageHead, Policy

NAMES = ["entropy", "top_entropy", "log_greedy"]


class Called(nn.Module):
    """A head that is no plain linear layer."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner

    @property
    def weight(self) -> torch.Tensor:
        return self.inner.weight

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.inner(hidden)


@pytest.mark.parametrize("how", ["tiles", "rows", "called"])
def test_the_entropy_has_a_gradient_and_no_other_has(how: str) -> None:
    model: Any = tiny.llama().double()
    if how == "called":
        model.lm_head = Called(model.lm_head)
    policy = Policy(model, sharing="rows" if how == "rows" else "shared")
    groups = tiny.groups((3, 2, 4))
    found = policy(groups, NAMES)[0].statistics
    rows = [torch.cat([g.prompt, b.tokens[:-1]]) for g in groups for b in g.branches]
    with torch.no_grad(), stock_attention(model):
        logits = torch.cat([model(input_ids=row[None], use_cache=False).logits[0, 2:] for row in rows])
    logp = logits.log_softmax(-1)
    assert list(found) == NAMES
    torch.testing.assert_close(found["entropy"].detach(), -(logp.exp() * logp).sum(-1), rtol=1e-6, atol=1e-6)
    for name in NAMES[1:]:
        torch.testing.assert_close(found[name], statistics_of(logits)[name], rtol=1e-6, atol=1e-6)
    assert [found[name].requires_grad for name in NAMES] == [True, False, False]
    others = policy(groups, NAMES[1:])[0].statistics
    assert [others[name].requires_grad for name in NAMES[1:]] == [False, False]
    with torch.no_grad():
        assert not policy(groups, NAMES)[0].statistics["entropy"].requires_grad


def test_only_what_is_named_is_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = tiny.llama()
    hidden = torch.zeros(2, 32)
    head = LanguageHead()
    assert list(head.statistics(model, [], hidden, ["entropy"])) == ["entropy"]
    assert set(head.statistics(model, [], hidden, ["log_greedy"])) == {"log_greedy", "log_collision"}
    both = head.statistics(model, [], hidden, ["entropy", "top_entropy"])
    assert set(both) == {"entropy", "log_greedy", "log_collision", "top_entropy"}
