"""Bradley–Terry's losses and gradients against those of TRL's own code (tests/parity/trl_reward.json).

`margin: data` is TRL's margin column, `centring` its center_rewards_coefficient; its accuracy is float32.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.reward_scenes import evaluate, pairs
from support.scenes import gradient, total
from twofold.batch import Batch
from twofold.objectives import BradleyTerry

RECORD: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "parity" / "trl_reward.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", RECORD["runs"])
def test_loss_and_gradient_are_trls(name: str) -> None:
    assert RECORD["versions"]["trl"] == "1.16.0"
    run = RECORD["runs"][name]
    margins = run["margins"]
    objective = BradleyTerry(margin=0.0 if margins is None else "data", centring=run["coefficient"] or 0.0)
    scene = pairs(RECORD["inputs"], margins or ())
    loss = evaluate(objective, scene)
    assert total(loss, Batch.of(scene[0])).item() == pytest.approx(run["loss"], rel=1e-12)
    found = gradient(objective, scene).reshape(-1, 2).T.flatten().tolist()
    assert found == pytest.approx(run["gradient"], rel=1e-11, abs=1e-15)
    for figure in ("accuracy", "margin"):
        assert loss.metrics[figure].value.mean().item() == pytest.approx(run[figure], rel=1e-6)
