"""Completions of several turns: log-probabilities and gradients equal a computation by hand, turn by turn, in packs and
in rows; what lies between turns is read and not scored; and tool use from files reaches the gradient."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers as tr
from torch import Tensor

from support import tiny
from support.tool_templates import TOOL_FAMILIES, TOOL_ROWS
from support.turn_by_turn import rows_by_hand, whole_turns
from twofold.batch import Aside, Branch, Group, Role, asides_of
from twofold.data.formats import read
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.data.workers import _received, _sent
from twofold.models.attention import stock_attention
from twofold.models.heads import RewardModel, ValueModel
from twofold.models.packing import Packing, pack
from twofold.models.policy import Policy
from twofold.objectives import DPO

EXACT: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}
Sharing = Literal["auto", "rows"]


def tokens(length: int, seed: int) -> Tensor:
    return torch.randint(tiny.VOCABULARY, (length,), generator=torch.Generator().manual_seed(seed))


def trajectories() -> list[Group]:
    """Turns that continue, that begin anew, both, unscored ends and beginnings, beside an ordinary pair."""
    between = (Aside(2, tokens(3, 1)), Aside(4, tokens(1, 2)))
    anew = (Aside(0, tokens(2, 3)), Aside(3, tokens(4, 4), fresh=True), Aside(5, tokens(2, 5)), Aside(6, tokens(3, 6)))
    first = Group(
        "turns",
        tokens(5, 7),
        (Branch(tokens(6, 8), Role.CHOSEN, asides=between), Branch(tokens(6, 9), Role.REJECTED, asides=anew)),
    )
    second = Group(
        "anew",
        tokens(3, 10),
        (
            Branch(tokens(2, 11), Role.CHOSEN, asides=(Aside(0, tokens(1, 12)), Aside(0, tokens(2, 13), fresh=True))),
            Branch(tokens(4, 14), Role.REJECTED, asides=(Aside(4, tokens(2, 15), fresh=True),)),
        ),
    )
    return [first, *tiny.groups((4, 3, 5)), second]


def by_hand(model: tr.PreTrainedModel, group: Group, branch: Branch) -> Tensor:
    """Log-probabilities [n], each from a row of its own."""
    made: list[Tensor] = []
    for before, said in rows_by_hand(group, branch):
        with stock_attention(model):
            logits = model(input_ids=torch.tensor([before]), use_cache=False).logits[0, -1]
        made.append(logits.log_softmax(-1)[said[0]])
    return torch.stack(made)


@pytest.mark.parametrize("packing", [Packing(), Packing(groups=1)], ids=["together", "alone"])
@pytest.mark.parametrize("sharing", ["auto", "rows"])
def test_each_turn_is_scored_after_what_comes_before_it(sharing: Sharing, packing: Packing) -> None:
    policy, groups = tiny.policy(sharing=sharing), trajectories()
    assert policy.shared == (sharing == "auto")
    with torch.no_grad():
        expected = [[by_hand(policy.model, g, b) for b in g.branches] for g in groups]
    for row, want in zip(policy.logps(groups, packing), expected, strict=True):
        for a, b in zip(row, want, strict=True):
            torch.testing.assert_close(a, b, **EXACT)


@pytest.mark.parametrize("sharing", ["auto", "rows"])
def test_gradients_equal_those_by_hand(sharing: Sharing) -> None:
    policy, groups = Policy(tiny.gpt2().double(), sharing=sharing), trajectories()  # all of it in float64
    weight_S = torch.linspace(-1, 1, sum(len(b.tokens) for g in groups for b in g.branches), dtype=torch.float64)
    (policy(groups)[0].logp_S * weight_S).sum().backward()
    found = tiny.gradients(policy)
    policy.zero_grad()
    logp = torch.cat([by_hand(policy.model, g, b) for g in groups for b in g.branches])
    (logp * weight_S).sum().backward()
    for name, gradient in tiny.gradients(policy).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-12)


def test_a_pack_holds_each_row_once_and_never_what_follows_its_last_scored_token() -> None:
    group = trajectories()[0]
    chosen, rejected = (b.strands() for b in group.branches)
    assert [len(s.tokens) for s in chosen] == [10]
    assert [len(s.tokens) for s in rejected] == [5, 9]  # 2 + 3; 4 + 2 + 2 + 1, without the three behind
    assert group.num_tokens == 5 + 9 + 4 + 8 == pack([group]).token_T.shape[1]
    assert group.longest == 10
    assert [int(s.scored[0]) for s in rejected if s.scored is not None] == [2, 4]


def test_heads_read_trajectories_as_rows_do() -> None:
    """A score is read behind all of the last row, its unscored end too; values before each scored token."""
    groups = trajectories()
    config = tr.LlamaConfig(**{**tiny.DECODER, "num_labels": 1})
    model: Any = tiny.sharp(tr.LlamaForSequenceClassification(config)).double()
    reward, value = RewardModel(model), ValueModel(model)
    assert reward.shared
    assert value.shared
    for group, scores, values in zip(groups, reward.scores(groups), value.values(groups), strict=True):
        for branch, score, expected in zip(group.branches, scores, values, strict=True):
            whole = torch.cat([group.prompt, branch.strands(ends=True)[-1].tokens])
            with torch.no_grad(), stock_attention(model):
                hidden = model.model(input_ids=whole[None], use_cache=False).last_hidden_state[0, -1]
                rows = [torch.tensor([before]) for before, _ in rows_by_hand(group, branch)]
                before = [model.model(input_ids=row, use_cache=False).last_hidden_state[0, -1] for row in rows]
                assert score == pytest.approx(model.score(hidden).item(), rel=1e-12)
                torch.testing.assert_close(expected, model.score(torch.stack(before)).squeeze(1), **EXACT)


def test_asides_travel_as_numbers() -> None:
    for branch in trajectories()[0].branches:
        again = asides_of(json.loads(json.dumps(branch.asides_as_lists())))
        assert [(a.at, a.fresh, a.tokens.tolist()) for a in again] == [
            (a.at, a.fresh, a.tokens.tolist()) for a in branch.asides
        ]


@pytest.mark.parametrize("name", ["hermes", "qwen3-tools"])
def test_tool_use_reaches_the_gradient_from_json_lines_and_parquet(tmp_path: Path, name: str) -> None:
    """Three pairs (a call as the answer, a call in the prompt, whole trajectories): the gradient of DPO's loss is the
    same from both files, and equals that of a loss by hand, turn by turn."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TOOL_ROWS), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(TOOL_ROWS), tmp_path / "rows.parquet")
    family = next(f for f in TOOL_FAMILIES if f.name == name)
    made = family.tokenizer()
    encoder = Encoder(made, frozenset({made.eos_token_id}), TokenizeSettings(max_length=2048))
    policy = Policy(tiny.gpt2(vocab_size=len(made), n_positions=2048, n_layer=1).double())
    found: list[dict[str, Tensor]] = []
    for file in ("rows.jsonl", "rows.parquet"):
        groups = [_received(*_sent(row)).group for row in encoder.rows(read(str(tmp_path / file)).records)]
        known = [
            g.with_columns([{"ref_logp": torch.zeros(len(b.tokens)).double()} for b in g.branches]) for g in groups if g
        ]
        policy.zero_grad()
        DPO(beta=0.01)(*policy(known)).terms["dpo"].value.sum().backward()
        found.append(tiny.gradients(policy))
    policy.zero_grad()
    for group in known:
        chosen, rejected = (whole_turns(policy.model, group, b).sum() for b in group.branches)
        (-torch.nn.functional.logsigmoid(0.01 * (chosen - rejected))).backward()
    for key, gradient in tiny.gradients(policy).items():
        assert torch.equal(found[0][key], found[1][key])
        torch.testing.assert_close(found[0][key], gradient, rtol=1e-9, atol=1e-12)
