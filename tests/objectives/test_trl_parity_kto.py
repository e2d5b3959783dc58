"""KTO's losses and gradients against those of TRL's own code (tests/parity/trl_kto.json, written by record_kto.py).

beta, desirable_weight and undesirable_weight are ours; TRL's KL estimate is our z₀, of other mismatched rows;
its apo_zero_unpaired is z₀ held at 0, which the paper of that loss has on pairs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from support.scenes import branch, gradient, group, outputs, total
from twofold.batch import Batch, Role
from twofold.objectives import KTO
from twofold.training.kl_baseline import clamped_mean

RECORD: dict[str, Any] = json.loads((Path(__file__).parents[1] / "parity" / "trl_kto.json").read_text(encoding="utf-8"))


def vector(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("name", RECORD["runs"])
def test_loss_and_gradient_are_trls(name: str) -> None:
    assert RECORD["versions"]["trl"] == "1.16.0"
    run = RECORD["runs"][name]
    knobs = dict(run["knobs"])
    held = knobs.pop("loss_type") == "apo_zero_unpaired"
    z0 = 0.0 if held else clamped_mean([sum(row) for row in run["kl"]])
    assert z0 == pytest.approx(run["z0"], rel=1e-12)
    assert (z0 > 0.5) == (name.endswith("rising") and not held)
    groups, logps = [], []
    for i, (mine, theirs) in enumerate(zip(RECORD["inputs"]["policy"], RECORD["inputs"]["reference"], strict=True)):
        for role, said, ref in zip((Role.DESIRABLE, Role.UNDESIRABLE), mine, theirs, strict=True):
            groups.append(group(f"{i}", branch(role, vector(ref), {} if held else {"z0": z0})))
            logps.append([vector(said)])
    objective, batch = KTO(**knobs, z0="zero" if held else "estimate"), Batch.of(groups)
    assert total(objective(outputs(logps), batch), batch).item() == pytest.approx(run["loss"], rel=1e-12)
    want = torch.cat([vector(x) for row in run["gradient"] for x in row])
    torch.testing.assert_close(gradient(objective, (groups, logps)), want, rtol=1e-11, atol=1e-13)
