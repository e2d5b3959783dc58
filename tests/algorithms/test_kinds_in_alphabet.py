"""Kinds and choices on both sides of the one that counts: objectives, gates and gradients that fit, and that do not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from support.pdpo_toy import Scripted, algorithm, draft
from twofold.algorithms.base import AlgorithmSettings
from twofold.algorithms.offline import Offline
from twofold.algorithms.online import Online
from twofold.algorithms.pdpo import PDPO
from twofold.algorithms.policy_gradient import PolicyGradient
from twofold.algorithms.schedules import Ramp
from twofold.data.settings import DataSettings, DataSplit
from twofold.judges.gates import GateSettings
from twofold.judges.registry import RewardSource
from twofold.models.reference import ReferenceSettings
from twofold.objectives import DPO, IPO, KTO, PPO, SFT, TPO, BradleyTerry, PlackettLuce
from twofold.objectives.pdpo import GeneratorSettings
from twofold.rewards.implicit import Implicit
from twofold.sampling.base import Sampling
from twofold.training.trainer import TrainingSettings


def recipe(objective: Any, **changes: Any) -> Any:
    made: dict[str, Any] = {
        "objective": objective, "data": DataSettings(train="rows.jsonl"), "reference": ReferenceSettings(),
        "sampling": Sampling(), "training": TrainingSettings(batch_size=4),
    }  # fmt: skip
    return SimpleNamespace(**{**made, **changes})


PAIRED = "algorithm online needs an objective on pairs"
ROLLED = "objective learns from rollouts: it needs algorithm.kind=policy_gradient"
GRADED = "algorithm policy_gradient needs objective ppo, grpo, rloo or reinforce"


@pytest.mark.parametrize(
    ("settings", "objective", "words"),
    [
        *((Offline(), each, "") for each in (SFT(), KTO(), DPO(), PlackettLuce(), TPO(), BradleyTerry())),
        (Offline(), PPO(), ROLLED), (Online(), PPO(), ROLLED),
        *((Online(), each, PAIRED) for each in (SFT(), KTO(), PlackettLuce(), TPO(), BradleyTerry())),
        (Online(), IPO(), ""), (PolicyGradient(), PPO(), ""),
        *((PolicyGradient(), each, GRADED) for each in (SFT(), DPO(), PlackettLuce(), TPO())),
    ],
)  # fmt: skip
def test_which_objectives_fit(settings: AlgorithmSettings, objective: Any, words: str) -> None:
    if not words:
        settings.refuse_misfit(recipe(objective))
        return
    with pytest.raises(ValueError) as refused:
        settings.refuse_misfit(recipe(objective))
    assert str(refused.value) == words


@pytest.mark.parametrize("kind", ["cached", "live", "moving"])
def test_a_fresh_reference_is_not_moved_by_others(kind: Any) -> None:
    made = recipe(DPO(), reference=ReferenceSettings(kind=kind))
    Online().refuse_misfit(made)
    if kind != "moving":
        Online(reference="fresh").refuse_misfit(made)
        return
    with pytest.raises(ValueError) as refused:
        Online(reference="fresh").refuse_misfit(made)
    assert str(refused.value) == "algorithm.reference fresh moves the reference already: leave reference.kind out"


def test_all_prompts_need_no_multiple_of_the_batch() -> None:
    """Which rows there are is known later."""
    Online(prompts="all").refuse_misfit(recipe(DPO()))
    for prompts in (4, 8, None):
        Online(prompts=prompts).refuse_misfit(recipe(DPO()))
    with pytest.raises(ValueError) as refused:
        Online(prompts=10).refuse_misfit(recipe(DPO()))
    assert str(refused.value) == "algorithm.prompts must be a multiple of training.batch_size (4)"


JUDGE = GateSettings(source="reward:folder")


@pytest.mark.parametrize("gate", ["judge", "verifier"])
def test_each_gate_needs_who_judges(gate: Any) -> None:
    """In the run; and a gate may leave out what does not pass."""
    judge = JUDGE if gate == "judge" else None
    how = PDPO(generator=GeneratorSettings(gate=gate), judge=judge, gate_average="passed", warmup=0, prompts=1)
    assert how.gate_average == "passed"
    with pytest.raises(ValueError) as refused:
        algorithm(how, Scripted([[draft(1, 0)]]))
    assert str(refused.value) == "a gate needs a judge"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"generator": GeneratorSettings(gradient_to="truth", gate="verifier"), "gate_average": "passed"},
         "`gradient_to: truth` and `both` need correct and wrong drafts: gate_average drawn"),
        ({"generator": GeneratorSettings(gate="judge")}, "gate judge needs judge: {source: …}"),
        ({"generator": GeneratorSettings(gate="verifier"), "judge": JUDGE}, "judge requires `generator.gate: judge`"),
        ({"judge": JUDGE}, "judge requires `generator.gate: judge`"),
        ({"gate_average": "passed"}, "gate_average passed needs a gate"),
        ({"generator": GeneratorSettings(baseline="leave_one_out")},
         "baseline leave_one_out needs samples ≥ 2: others of the same prompt"),
        ({"generator": GeneratorSettings(baseline="leave_one_out", gate="verifier"), "samples": 2,
          "gate_average": "passed"}, "baseline leave_one_out compares all drafts: gate_average drawn"),
        ({"generator": GeneratorSettings(clip=0.2)}, "clip needs reuse_steps ≥ 2: fresh drafts have not moved"),
        ({"ramp": {"gamma": Ramp(to=-0.1)}},
         "ramp.gamma.to must be ≥ 0"),
        ({"reuse_steps": 0}, "reuse_steps must be ≥ 1"), ({"prompts": 0}, "prompts and samples must be ≥ 1"),
    ],
)  # fmt: skip
def test_options_that_exclude_each_other_in_whole_sentences(how: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as refused:
        PDPO(**how)
    assert str(refused.value) == words


SERVER, SCORING = "llm:http://127.0.0.1:9/v1#m", "llm-score:http://127.0.0.1:9/v1#m"
NEED = "labels bradley_terry and stop_penalty need rewards: `truth` and `llm:` have none"
TRUTH = "`judge: truth` pairs each sample with the reference answer: reference_samples, pairs: no effect"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"samples": 0, "reference_samples": 2}, "samples must be ≥ 1, reference_samples ≥ 0"),
        ({"reference_samples": -1}, "samples must be ≥ 1, reference_samples ≥ 0"),
        ({"prompts": -4}, "prompts must be ≥ 1"), ({"epochs": 0}, "epochs must be ≥ 1 and scale > 0"),
        ({"scale": -1.0}, "epochs must be ≥ 1 and scale > 0"),
        ({"stop_penalty": -0.1}, "stop_penalty and alpha must be ≥ 0"),
        ({"alpha": -0.1, "reference_samples": 1}, "stop_penalty and alpha must be ≥ 0"),
        ({"most": 0, "pairs": "all"}, "most (≥ 1) goes with pairs all"),
        ({"judge": (RewardSource(source="verifier"), RewardSource(source="truth"))},
         "judge: `truth` and language models cannot be combined with other judges"),
        ({"rubric": "r", "judge": "reward:m"}, "rubric needs a language model as judge"),
        ({"judge": "implicit"}, "implicit.reference: name what the model came from"),
        ({"implicit": Implicit(reference="m")}, "implicit needs judge implicit"),
        ({"alpha_decay": "linear", "reference_samples": 1}, "alpha_decay needs an alpha > 0"),
        ({"alpha": 0.1}, "alpha needs reference_samples ≥ 1: what it pushes down"),
        *(({"judge": judge, "samples": 2, **more}, NEED) for judge in ("truth", SERVER)
          for more in ({"labels": "bradley_terry"}, {"stop_penalty": 0.1})),
        ({"judge": "truth", "reference_samples": 1}, TRUTH), ({"judge": "truth", "pairs": "all"}, TRUTH),
        ({"samples": 1}, "samples must be ≥ 2, to compare samples of a prompt"),
    ],
)  # fmt: skip
def test_online_settings_that_do_nothing_in_whole_sentences(how: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as refused:
        Online(**how)
    assert str(refused.value) == words


@pytest.mark.parametrize("judge", ["verifier", SCORING])
def test_scores_are_rewards_of_samples(judge: str) -> None:
    made = Online(judge=judge, labels="bradley_terry", stop_penalty=0.1, scale=0.01, samples=1, reference_samples=1)
    assert (made.labels, made.imitates_answers, made.is_rewarded) == ("bradley_terry", False, judge == "verifier")
    assert Online(judge="truth", samples=1).imitates_answers


def test_rows_for_validation_need_rewards() -> None:
    data = DataSettings(train="rows.jsonl", heldout=DataSplit(file="problems.jsonl"))
    for judge in ("truth", SERVER, SCORING):
        with pytest.raises(ValueError) as refused:
            Online(judge=judge).refuse_misfit(recipe(DPO(), data=data))
        assert str(refused.value) == (
            "data.heldout needs a judge that gives rewards: measure with evaluation.tasks instead"
        )
    Online(judge="reward:m").refuse_misfit(recipe(DPO(), data=data))
