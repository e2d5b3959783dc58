"""Tool use from files to the gradient, on a real pretrained model under a template that shows calls."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from support.real_model import EXACT, Independent
from support.tool_templates import HERMES, TOOL_ROWS
from support.turn_by_turn import whole_turns
from twofold.data.formats import read
from twofold.data.tokenize import Encoder
from twofold.models.adapters import LoRA
from twofold.models.load import ModelSettings, load_policy
from twofold.models.reference import with_reference
from twofold.objectives import DPO

pytestmark = pytest.mark.real


def test_three_pairs_of_tool_use_reach_the_gradient(real_model: Path, base: Independent, tmp_path: Path) -> None:
    """The same tokens from JSON lines and parquet, log-probabilities as by hand, turn by turn, and a gradient."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TOOL_ROWS), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(TOOL_ROWS), tmp_path / "rows.parquet")
    policy, loaded = load_policy(ModelSettings(path=str(real_model), precision="float32", lora=LoRA(rank=4)))
    loaded.tokenizer.chat_template = HERMES
    encoder = Encoder(loaded.tokenizer, loaded.stop_tokens)
    files = [[encoder.group(r) for r in read(str(tmp_path / name)).records] for name in ("rows.jsonl", "rows.parquet")]
    for one, other in zip(*files, strict=True):
        assert one.prompt.tolist() == other.prompt.tolist()
        assert [b.tokens.tolist() for b in one.branches] == [b.tokens.tolist() for b in other.branches]
        assert [b.asides_as_lists() for b in one.branches] == [b.asides_as_lists() for b in other.branches]
    logps = policy.logps(files[0])
    with torch.no_grad():
        for group, row in zip(files[0], logps, strict=True):
            for branch, logp in zip(group.branches, row, strict=True):
                torch.testing.assert_close(logp, whole_turns(base.model, group, branch), rtol=0, atol=EXACT)
    loss = DPO()(*policy(with_reference(files[0], logps))).terms["dpo"].value
    torch.testing.assert_close(loss.detach(), torch.full_like(loss, 2.0).log(), rtol=0, atol=1e-6)
    loss.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in policy.trainable().values())
    assert any(bool(p.grad.abs().max() > 0) for p in policy.trainable().values() if p.grad is not None)
