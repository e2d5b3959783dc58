"""A stop in the middle of an evaluation, numbers that are not finite, and what is then resumed."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.resumable_runs import STEPS, left_behind, loop
from twofold.errors import NonFiniteError
from twofold.signals import Stop
from twofold.training.step import Round
from twofold.training.trainer import Evaluation, Trainer


def with_slow_evaluation(run: Path, at: int, *, slow: bool, **training: object) -> Trainer:
    """A run whose evaluation after `at` steps takes a minute, where `slow`; its figures are the same in any case."""
    made = loop(run, "offline", **training)
    (heldout,) = made.evaluators

    def evaluate() -> Evaluation:
        found = heldout()
        if slow and made.state.step == at:
            (run / "evaluating").touch()
            time.sleep(60)
        return Evaluation(found.figures, [{"name": "made", "loss": found.figures["heldout/loss"]}])

    made.evaluators = [evaluate]
    return made


def stopped_while_evaluating(run: Path, at: int, number: int, **training: object) -> None:
    """A process that gets a signal in its evaluation after `at` steps, and has to be gone soon."""
    run.mkdir()
    made = with_slow_evaluation(run, at, slow=True, **training)
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            with Stop() as stop:
                outcome = made.train(stop=stop)
            code = 7 if outcome.stopped and outcome.step == at else 98
        finally:
            os._exit(code)
    while not (run / "evaluating").exists():
        time.sleep(0.01)
    began = time.monotonic()
    os.kill(pid, number)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert time.monotonic() - began < 20
    (run / "evaluating").unlink()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("at", [0, 2, STEPS])
def test_an_evaluation_is_dropped_and_made_again(tmp_path: Path, at: int, number: int) -> None:
    """Before the first step, in between, after the last: the same bytes as a run that nobody stopped."""
    (tmp_path / "whole").mkdir()
    with_slow_evaluation(tmp_path / "whole", at, slow=False).train()
    stopped_while_evaluating(tmp_path / "run", at, number)
    assert not with_slow_evaluation(tmp_path / "run", at, slow=False).train().stopped
    assert left_behind(tmp_path / "run") == left_behind(tmp_path / "whole")


def test_a_dropped_evaluation_counts_for_the_best_step_and_for_patience(tmp_path: Path) -> None:
    """heldout/loss falls, so the first is the best, and two worse ones end the run after 4 steps."""
    settings = {"best_metric": "heldout/loss", "patience": 2}
    stopped_while_evaluating(tmp_path / "run", 4, signal.SIGTERM, **settings)
    outcome = with_slow_evaluation(tmp_path / "run", 4, slow=False, **settings).train()
    assert (outcome.step, outcome.best_step, outcome.stopped) == (4, 0, False)


def exploding(run: Path, at: int, rate: float) -> Trainer:
    """A run whose rate becomes `rate` in step `at`."""
    made = loop(run, "offline", checkpoint_every=1, evaluate_every=100)
    play = made.algorithm.round

    def explode(step: int, state: dict[str, Any]) -> Round:
        if step == at:
            for group in made.step.policy.optimizer.param_groups:
                group["lr"] = rate
        return play(step, state)

    made.algorithm.round = explode  # type: ignore[method-assign]
    return made


def assert_finite_checkpoints(run: Path, steps: list[str]) -> None:
    paths = sorted((run / "checkpoints").iterdir())
    assert [p.name for p in paths] == steps
    for path in paths:
        files = path.glob("*.safetensors")
        assert all(torch.isfinite(t).all() for file in files for t in load_file(file).values())


def test_weights_are_looked_at_after_the_update(tmp_path: Path) -> None:
    """A rate that no weight survives is refused before it is saved, and the way out is one."""
    with pytest.raises(NonFiniteError, match=r"after the update .* is not finite; the update was not saved") as stop:
        exploding(tmp_path, 3, 1e39).train()
    assert "resumes from its checkpoint of step 3" in stop.value.remedy
    assert_finite_checkpoints(tmp_path, ["step-2", "step-3"])
    assert loop(tmp_path, "offline", checkpoint_every=1, evaluate_every=100).train().step == STEPS


def test_a_checkpoint_whose_own_numbers_are_not_finite_is_set_aside(tmp_path: Path) -> None:
    """Finite weights, too large for a forward pass: resuming from them could end in one way only."""
    with pytest.raises(NonFiniteError, match="nothing was updated") as stop:
        exploding(tmp_path, 3, 1e37).train()
    assert "resumes from its checkpoint of step 3" in stop.value.remedy
    assert_finite_checkpoints(tmp_path, ["step-3", "step-4.set-aside"])
    assert loop(tmp_path, "offline", checkpoint_every=1, evaluate_every=100).train().step == STEPS


@pytest.mark.parametrize("what", ["weight", "exp_avg_sq"])
def test_weights_and_moments_that_are_not_finite_have_a_name(tmp_path: Path, what: str) -> None:
    policy = loop(tmp_path, "offline").step.policy
    assert policy.non_finite() == ""
    name, parameter = next(iter(policy.parameters.items()))
    if what == "weight":
        with torch.no_grad():
            parameter.view(-1)[3] = -float("inf")
        assert policy.non_finite() == name
    else:
        policy.optimizer.state[parameter] = {what: torch.full_like(parameter, float("nan"))}
        assert policy.non_finite() == f"{name}/{what}"


def test_large_weights_are_finite(tmp_path: Path) -> None:
    policy = loop(tmp_path, "offline").step.policy
    with torch.no_grad():
        next(iter(policy.parameters.values())).fill_(1e38)  # the square is not
    assert policy.non_finite() == ""


def test_without_a_checkpoint_the_way_out_begins_again(tmp_path: Path) -> None:
    made = loop(tmp_path, "offline", checkpoint_every=100)
    with torch.no_grad():
        next(iter(made.step.policy.parameters.values())).fill_(float("nan"))
    with pytest.raises(NonFiniteError) as stop:
        made.train()
    assert "starts over" in stop.value.remedy


def test_a_short_run_writes_one_checkpoint(tmp_path: Path) -> None:
    loop(tmp_path, "offline", checkpoint_every=None).train()
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == [f"step-{STEPS}"]
    metrics = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(metrics) == STEPS + 4


def test_minutes_between_checkpoints_are_obeyed(tmp_path: Path) -> None:
    """0 minutes: as often as a tenth of the time allows, so at least the first step of all."""
    loop(tmp_path, "offline", checkpoint_every=None, checkpoint_minutes=0.0, keep_checkpoints=99).train()
    assert (tmp_path / "checkpoints" / "step-1").is_dir()
