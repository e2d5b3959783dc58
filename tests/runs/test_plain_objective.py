"""A plain class as the objective of a run: `requires`, a call, and nothing inherited."""

from __future__ import annotations

import json
from pathlib import Path

import twofold


class Mine:
    """As README.md has it."""

    requires = ("ref_logp",)

    def __call__(self, outputs: twofold.Outputs, batch: twofold.Batch) -> twofold.Loss:
        logratio = batch.sum(outputs.logp_S - batch.token_columns["ref_logp"])
        return twofold.Loss({"mine": twofold.Term((1 - 0.1 * (logratio[0::2] - logratio[1::2])).relu(), "pair")})


def test_it_trains_and_another_object_of_it_goes_on(tmp_path: Path, base: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"{a}+1?", "chosen": f"{a + 1}", "rejected": f"{a}"} for a in range(1, 9)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = tmp_path / "run"
    for _ in range(2):
        found = twofold.train(
            str(base), str(data), objective=Mine(), training={"steps": 2, "batch_size": 4}, run=str(run)
        )
        assert found.outcome.step == 2
    first, *_ = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert abs(first["loss/mine"] - 1) < 1e-6
    assert f"kind: {__name__}:Mine" in (run / "resolved.yaml").read_text(encoding="utf-8")
