"""What the settings of each algorithm may be, what they tell a run, and with which sections of a recipe they fit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from twofold.algorithms.base import Algorithm, AlgorithmSettings
from twofold.algorithms.gae import ValueModelSettings
from twofold.algorithms.offline import Offline
from twofold.algorithms.online import Online
from twofold.algorithms.pdpo import PDPO
from twofold.algorithms.policy_gradient import PolicyGradient, RewardKL
from twofold.algorithms.schedules import Ramp
from twofold.data.settings import DataSettings, DataSource, DataSplit
from twofold.judges.gates import GateSettings
from twofold.judges.registry import ONLINE, REWARD, RewardSource
from twofold.models.reference import ReferenceSettings
from twofold.objectives import DPO, GRPO, IPO, KTO, PPO, RLOO, SFT, BradleyTerry, PDPOGenerator, Reinforce
from twofold.objectives.pdpo import GeneratorSettings
from twofold.rewards.implicit import Implicit
from twofold.sampling.base import Sampling
from twofold.training.trainer import TrainingSettings

TWO = (RewardSource(source="verifier"), RewardSource(source="reward:folder", weight=0.5))
SERVER = "llm:http://127.0.0.1:9/v1#m"
SCORING = "llm-score:http://127.0.0.1:9/v1#m"

REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (Online, {"samples": 0}, "samples must be ≥ 1"),
    (Online, {"reference_samples": -1}, "reference_samples ≥ 0"),
    (Online, {"samples": 1}, "samples must be ≥ 2, to compare"),
    (Online, {"prompts": 0}, "prompts must be ≥ 1"),
    (Online, {"epochs": 0}, "epochs must be ≥ 1"),
    (Online, {"scale": 0.0}, "scale > 0"),
    (Online, {"stop_penalty": -0.1}, "stop_penalty and alpha"),
    (Online, {"alpha": -0.1}, "stop_penalty and alpha"),
    (Online, {"most": 0, "pairs": "all"}, "most"),
    (Online, {"most": 1}, "goes with pairs all"),
    (Online, {"judge": (RewardSource(source="verifier"), RewardSource(source=SERVER))}, "cannot be combined"),
    (Online, {"judge": (RewardSource(source="verifier"), RewardSource(source="truth"))}, "cannot be combined"),
    (Online, {"rubric": "x"}, "rubric needs a language model"),
    (Online, {"implicit": Implicit(beta=0.2)}, "implicit needs judge implicit"),
    (Online, {"judge": "implicit"}, "name what the model came from"),
    (Online, {"alpha_decay": "linear"}, "alpha_decay needs an alpha"),
    (Online, {"alpha": 0.1}, "alpha needs reference_samples ≥ 1"),
    (Online, {"judge": "truth", "samples": 1, "labels": "bradley_terry"}, "`truth` and `llm:` have none"),
    (Online, {"judge": "truth", "samples": 1, "stop_penalty": 0.1}, "`truth` and `llm:` have none"),
    (Online, {"judge": SERVER, "labels": "bradley_terry"}, "`truth` and `llm:` have none"),
    (Online, {"judge": "truth", "samples": 1, "reference_samples": 1}, "pairs: no effect"),
    (Online, {"judge": "truth", "samples": 2, "pairs": "all"}, "pairs: no effect"),
    (PolicyGradient, {"rollouts": 0}, "rollouts must be ≥ 1"),
    (PolicyGradient, {"samples": 0}, "samples and epochs"),
    (PolicyGradient, {"epochs": 0}, "samples and epochs"),
    (PolicyGradient, {"stop_penalty": -0.1}, "stop_penalty"),
    (PolicyGradient, {"reward": "truth"}, "truth"),
    (RewardKL, {"coefficient": -0.1}, "coefficient must be"),
    (RewardKL, {"coefficient": 0.1, "target": 0.0}, "target must be > 0"),
    (RewardKL, {"target": 1.0}, "target needs a coefficient"),
    (RewardKL, {"horizon": 0.0}, "horizon must be > 0"),
    (PDPO, {"gamma": -0.1}, "gamma must be ≥ 0"),
    (PDPO, {"samples": 0}, "prompts and samples"),
    (PDPO, {"warmup": -0.1}, "warmup must be"),
    (PDPO, {"turns": (-1, 1)}, "both turns must be"),
    (ValueModelSettings, {"discount": 1.01}, "discount"),
    (ValueModelSettings, {"gae_lambda": -0.1}, "gae_lambda"),
    (ValueModelSettings, {"clip": -0.2}, "clip must be > 0"),
    (ValueModelSettings, {"learning_rate": -1e-3}, "learning_rate"),
    (Ramp, {"to": 1.0, "over": 0.0}, "over must be > 0"),
]
TAKEN: list[tuple[Any, dict[str, Any]]] = [
    (Online, {"samples": 1, "reference_samples": 1}),
    (Online, {"samples": 1, "reference_samples": 1, "alpha": 0.1, "alpha_decay": "linear"}),
    (Online, {"judge": "truth", "samples": 1}),
    (Online, {"judge": SERVER, "rubric": "x"}),
    (Online, {"judge": SCORING, "labels": "bradley_terry", "stop_penalty": 0.5}),
    (Online, {"judge": "implicit", "implicit": Implicit(reference="m")}),
    (Online, {"judge": TWO}),
    (Online, {"prompts": 1, "epochs": 1, "scale": 0.1}),
    (Online, {"prompts": "all"}),
    (Online, {"most": 1, "pairs": "all"}),
    (PolicyGradient, {"rollouts": 1, "samples": 1, "epochs": 1, "stop_penalty": 0.5}),
    (RewardKL, {"coefficient": 0.1, "target": 0.1, "horizon": 0.5}),
    (PDPO, {"gamma": 0.0, "warmup": 0, "turns": (1, 1), "prompts": 1, "reuse_steps": 1}),
    (PDPO, {"ramp": {"gamma": Ramp(to=0.0)}}),
    (PDPO, {"generator": GeneratorSettings(baseline="leave_one_out"), "samples": 2}),
    (PDPO, {"generator": GeneratorSettings(clip=0.2), "reuse_steps": 2}),
    (PDPO, {"generator": GeneratorSettings(gate="verifier"), "gate_average": "passed"}),
    (PDPO, {"generator": GeneratorSettings(gradient_to="both", gate="verifier")}),
    (ValueModelSettings, {"discount": 1.0, "gae_lambda": 0.0, "clip": None, "learning_rate": 1e-9}),
    (ValueModelSettings, {"discount": 0.01, "gae_lambda": 1.0, "clip": 0.01}),
]


@pytest.mark.parametrize(("make", "given", "message"), REFUSED)
def test_what_cannot_be_meant_is_refused(make: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**given)


@pytest.mark.parametrize(("make", "given"), TAKEN)
def test_what_can_be_meant_is_taken(make: Any, given: dict[str, Any]) -> None:
    made = make(**given)
    assert {name: getattr(made, name) for name in given} == given


def test_what_is_taken_by_default() -> None:
    online, gradient, pdpo, kl = Online(), PolicyGradient(), PDPO(), RewardKL()
    assert (online.judge, online.samples, online.reference_samples, online.most) == ("verifier", 2, 0, None)
    assert (online.scale, online.stop_penalty, online.epochs, online.alpha) == (1.0, 0.0, 1, 0.0)
    assert (gradient.samples, gradient.epochs, gradient.stop_penalty, gradient.normalize) == (4, 1, 0.0, False)
    assert (kl.coefficient, kl.estimator, kl.target, kl.horizon) == (0.0, "k1", None, 10_000.0)
    assert (pdpo.gamma, pdpo.prompts, pdpo.samples, pdpo.reuse_steps) == (0.1, 8, 1, 1)
    assert (pdpo.warmup, pdpo.turns, pdpo.drop_truncated) == (0.1, (4, 1), True)
    critic = ValueModelSettings()
    assert (critic.learning_rate, critic.clip, critic.discount, critic.gae_lambda) == (None, 0.2, 1.0, 0.95)
    assert Ramp(to=1.0).over == 1.0


KL, VALUED = RewardKL(coefficient=0.1), ValueModelSettings()
TRAITS: list[tuple[AlgorithmSettings, dict[str, Any]]] = [
    (Offline(), {"draws_drafts": False, "answers_rows": False, "passes": 1, "needs_reference": False,
                 "is_rewarded": False, "rewards": (), "implicit_judge": None, "value_model": None}),
    (PDPO(), {"draws_drafts": True, "answers_rows": False, "passes": 1, "needs_reference": True, "is_rewarded": False,
              "rewards": (), "implicit_judge": None, "value_model": None}),
    (Online(epochs=3), {"draws_drafts": True, "answers_rows": True, "passes": 3, "needs_reference": False,
                        "is_rewarded": True, "rewards": TWO[:1], "judge_place": ONLINE}),
    (Online(samples=1, reference_samples=1), {"needs_reference": True}),
    (Online(judge=TWO), {"rewards": TWO, "is_rewarded": True}),
    (Online(judge="truth"), {"is_rewarded": False}),
    (Online(judge=SERVER), {"is_rewarded": False}),
    (Online(judge=SCORING), {"is_rewarded": False}),
    (Online(judge="implicit", implicit=Implicit(reference="m")),
     {"is_rewarded": True, "implicit_judge": Implicit(reference="m")}),
    (PolicyGradient(epochs=2), {"draws_drafts": True, "answers_rows": True, "passes": 2, "needs_reference": False,
                                "is_rewarded": True, "rewards": TWO[:1], "value_model": None, "judge_place": REWARD}),
    (PolicyGradient(reward=TWO, kl=KL, value=VALUED),
     {"needs_reference": True, "rewards": TWO, "value_model": VALUED, "implicit_judge": None}),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "traits"), TRAITS, ids=str)
def test_what_a_run_is_told(settings: AlgorithmSettings, traits: dict[str, Any]) -> None:
    assert {name: getattr(settings, name) for name in traits} == traits


def test_which_rows_each_trains_on_and_when_the_reference_is_renewed() -> None:
    assert [Offline().data_kind(o) for o in (DPO(), SFT(), KTO())] == ["pairs", "demonstrations", "labels"]
    assert (PDPO().data_kind(DPO()), Online().data_kind(DPO())) == ("pairs", "prompts")
    assert PolicyGradient().data_kind(PPO()) == "prompts"
    assert [s.reference_interval(4, 12) for s in (Offline(), PDPO(), PolicyGradient(), Online())] == [None] * 4
    assert Online(reference="fresh").reference_interval(4, 12) == 1
    assert Online(reference="fresh", prompts=8, epochs=3).reference_interval(4, 12) == 6
    assert Online(reference="fresh", prompts="all").reference_interval(4, 14) == 3


def test_how_large_a_round_is() -> None:
    """Prompts asked for, a batch, or as many of all rows as fill whole steps."""
    assert [Online(prompts=p).size(4, 14) for p in (None, 8, "all")] == [4, 8, 12]
    assert [Online(prompts=p, epochs=2).steps_per_round(4, 14) for p in (None, 8, "all")] == [2, 4, 6]
    with pytest.raises(ValueError, match=r"multiple of training.batch_size \(4\)"):
        Online(prompts=6).size(4, 14)
    with pytest.raises(ValueError, match=r"training.batch_size \(4\) is more than there are rows \(3\)"):
        Online(prompts="all").size(4, 3)
    assert [PolicyGradient(rollouts=r, epochs=2).steps_per_rollout(4) for r in (None, 4, 12)] == [2, 2, 6]
    with pytest.raises(ValueError, match=r"algorithm.rollouts must be a multiple"):
        PolicyGradient(rollouts=6).steps_per_rollout(4)


def test_who_lets_drafts_through() -> None:
    assert PDPO().gate is None
    by_verifier = PDPO(generator=GeneratorSettings(gate="verifier"), verdict="flexible")
    assert by_verifier.gate == GateSettings(source="verifier:flexible", at_least=1.0)
    judge = GateSettings(source="reward:folder")
    assert PDPO(generator=GeneratorSettings(gate="judge"), judge=judge).gate == judge


def test_an_algorithm_says_itself_what_it_does() -> None:
    with pytest.raises(TypeError, match="Algorithm has no rounds"):
        Algorithm().round(0, {})
    with pytest.raises(TypeError, match="AlgorithmSettings does not define how to build it"):
        AlgorithmSettings().build(SimpleNamespace())  # type: ignore[arg-type]  # nothing is asked of it
    assert (Algorithm().fixed_rows, Algorithm().observe({}, {})) == (None, None)


def recipe(objective: Any, **changes: Any) -> Any:
    made = SimpleNamespace(
        objective=objective, data=DataSettings(train="rows.jsonl"), reference=ReferenceSettings(), sampling=Sampling(),
        training=TrainingSettings(batch_size=4),
    )  # fmt: skip
    return SimpleNamespace(**{**vars(made), **changes})


PROBLEMS = DataSplit(file="problems.jsonl")
GENERATED = {"data": DataSettings(train="rows.jsonl", generator=PROBLEMS)}
HELD_OUT = {"data": DataSettings(train="rows.jsonl", heldout=PROBLEMS)}
MIXED = {"data": DataSettings(train=(DataSource(file="a", weight=1.0), DataSource(file="b", weight=2.0)))}
FITTED = {"reference": ReferenceSettings(fit="chosen")}
MISFITS: list[tuple[AlgorithmSettings, Any, str]] = [
    (Offline(), recipe(DPO()), ""),
    (Offline(), recipe(PPO()), "needs algorithm.kind=policy_gradient"),
    (PDPO(), recipe(DPO(), **GENERATED), ""),
    (PDPO(), recipe(DPO()), "needs data.generator"),
    (PDPO(), recipe(IPO(), **GENERATED), "needs objective dpo"),
    (PDPO(), recipe(DPO(reference_free=True), **GENERATED), "needs objective dpo"),
    (Online(), recipe(DPO()), ""),
    (Online(), recipe(KTO()), "needs an objective on pairs"),
    (Online(), recipe(BradleyTerry()), "needs an objective on pairs"),
    (Online(), recipe(PDPOGenerator()), "needs an objective on pairs"),
    (Online(), recipe(PPO()), "policy_gradient"),
    (Online(prompts=6), recipe(DPO()), "multiple of training.batch_size"),
    (Online(prompts="all"), recipe(DPO()), ""),
    (Online(), recipe(DPO(), sampling=Sampling(temperature=0.0)), "temperature 0 generates the same"),
    (Online(judge="truth", samples=1), recipe(DPO(), sampling=Sampling(temperature=0.0)), ""),
    (Online(), recipe(DPO(), sampling=Sampling(temperature=0.1)), ""),
    (
        Online(reference="fresh"),
        recipe(DPO(), reference=ReferenceSettings(kind="moving")),
        "moves the reference already",
    ),
    (Online(), recipe(DPO(), reference=ReferenceSettings(kind="moving")), ""),
    (Online(reference="fresh"), recipe(DPO()), ""),
    (Online(judge=SERVER), recipe(DPO(), **HELD_OUT), "data.heldout needs a judge that gives rewards"),
    (Online(), recipe(DPO(), **HELD_OUT), ""),
    (Online(), recipe(DPO(), **GENERATED), "data.generator is pdpo's: online answers"),
    (Online(), recipe(DPO(), **MIXED), "must have no weights"),
    (Online(), recipe(DPO(), **FITTED), "reference.fit needs chosen"),
    (PolicyGradient(), recipe(PPO()), ""),
    (PolicyGradient(), recipe(DPO()), "needs objective ppo, grpo"),
    (PolicyGradient(), recipe(PPO(), sampling=Sampling(temperature=0.9)), "draw from the policy itself"),
    (PolicyGradient(), recipe(PPO(), sampling=Sampling(top_p=0.9)), "draw from the policy itself"),
    (PolicyGradient(), recipe(PPO(), sampling=Sampling(top_k=9)), "draw from the policy itself"),
    (PolicyGradient(), recipe(PPO(), sampling=Sampling(use_generation_config=True)), "draw from the policy itself"),
    (PolicyGradient(), recipe(PPO(), **GENERATED), "policy_gradient answers the rows"),
    (PolicyGradient(), recipe(PPO(), **MIXED), "must have no weights"),
    (PolicyGradient(), recipe(PPO(), **FITTED), "reference.fit needs chosen"),
    (PolicyGradient(rollouts=6), recipe(PPO()), "multiple of training.batch_size"),
    (PolicyGradient(epochs=2), recipe(PPO()), ""),
    (PolicyGradient(epochs=2), recipe(Reinforce()), "serves one step only"),
    (PolicyGradient(rollouts=4), recipe(Reinforce()), ""),
    (PolicyGradient(epochs=2), recipe(RLOO(clip=0.2)), ""),
    (PolicyGradient(samples=1), recipe(PPO()), "samples must be ≥ 2"),
    (PolicyGradient(samples=1), recipe(PPO(baseline="group")), "samples must be ≥ 2"),
    (PolicyGradient(samples=1), recipe(PPO(baseline="leave_one_out")), "samples must be ≥ 2"),
    (PolicyGradient(samples=1), recipe(PPO(baseline="rollout", scale="group")), "samples must be ≥ 2"),
    (PolicyGradient(samples=1), recipe(PPO(baseline="rollout")), ""),
    (PolicyGradient(samples=1), recipe(Reinforce()), ""),
    (PolicyGradient(value=VALUED, samples=1), recipe(PPO()), ""),
    (PolicyGradient(value=VALUED), recipe(GRPO()), "needs objective ppo"),
    (PolicyGradient(value=VALUED), recipe(PPO(baseline="none")), "the value model is the baseline"),
    (PolicyGradient(value=VALUED), recipe(PPO(scale="group")), "choose rollout or none"),
    (PolicyGradient(value=VALUED), recipe(PPO(scale="none")), ""),
]


@pytest.mark.parametrize(("settings", "made", "message"), MISFITS)
def test_with_which_sections_each_fits(settings: AlgorithmSettings, made: Any, message: str) -> None:
    if message:
        with pytest.raises(ValueError, match=message):
            settings.refuse_misfit(made)
    else:
        settings.refuse_misfit(made)
