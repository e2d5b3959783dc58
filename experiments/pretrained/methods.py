"""The methods of the comparison as sections of recipes, and the four points that each is tuned over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal, TypeAlias

Sections: TypeAlias = Mapping[str, Mapping[str, Any]]
Point: TypeAlias = Mapping[str, float]
"""Values by their key in a recipe."""
JUDGE = "the judge"
"""Replaced by the judge of the task."""
DRAFTED = "the drafted prompts"
"""Replaced by the file of prompts that gated forms draft for."""
RATE = "optimizer.learning_rate"
RATES = (3e-4, 1e-3)
GAMMA = 0.3


@dataclass(frozen=True)
class Method:
    """Sections that differ from the protocol's, and what `data.train` is: pairs, problems, one good answer for each
    prompt, or the pairs whose prompts are not drafted for. `values` are those of `setting` that are tried with each
    learning rate. `drafts` names the model that is sampled from. A method that is not tuned runs at the point of
    `tuned_as`."""

    name: str
    sections: Sections
    setting: str = "objective.beta"
    values: tuple[float, ...] = (0.05, 0.2)
    reads: Literal["pairs", "problems", "truths", "rest"] = "pairs"
    rates: tuple[float, ...] = RATES
    drafts: Literal["policy", "reference"] = "policy"
    tuned_as: str = ""

    @property
    def grid(self) -> Sequence[Point]:
        """Four points. The first one is used where nothing was tuned."""
        return [dict(zip(self.sweep, point, strict=True)) for point in product(*self.sweep.values())]

    @property
    def sweep(self) -> Mapping[str, Sequence[float]]:
        """The values by key, as a tune file has them."""
        return {RATE: self.rates, **({self.setting: self.values} if self.values else {})}


def _offline(name: str, kind: str, setting: str = "objective.beta", **settings: Any) -> Method:
    return Method(name, {"objective": {"kind": kind, **settings}}, setting)


def _pdpo(name: str, nll: float = 0.0, **generator: Any) -> Method:
    """Four drafts a step, from a fifth of the prompts. γ is that of the arena: the source gives none."""
    algorithm = {"kind": "pdpo", "gamma": GAMMA, "prompts": 4, "warmup": 2}
    sections = {
        "objective": {"kind": "dpo", "nll": nll},
        "algorithm": {**algorithm, **({"generator": generator} if generator else {})},
        "data": {"generator": {"fraction": 0.2}},
    }
    return Method(f"PDPO{name}", sections)


def _form(name: str, *, prompts: int = 4, samples: int = 1, gamma: float = 1.0, **generator: Any) -> Method:
    """A form of docs/pdpo-theory.md: drafts pass the task's judge if it rates them as high as the reference answer."""
    algorithm = {"kind": "pdpo", "gamma": gamma, "prompts": prompts, "samples": samples, "warmup": 2}
    gated = {"generator": {"gate": "judge", **generator}, "judge": {"source": JUDGE}}
    data = {"generator": {"file": DRAFTED}}
    return Method(
        f"PDPO, {name}",
        {"objective": {"kind": "dpo"}, "algorithm": {**algorithm, **gated}, "data": data},
        reads="rest",
    )


def _rolled(
    name: str, objective: Mapping[str, Any], setting: str, values: tuple[float, ...], **algorithm: Any
) -> Method:
    """Four prompts a step with four samples each, rated by the task's judge."""
    rolled = {"kind": "policy_gradient", "reward": JUDGE, "samples": 4, **algorithm}
    sections = {"objective": objective, "algorithm": rolled, "training": {"batch_size": 4}}
    return Method(name, sections, setting, values, "problems")


def _ppo(name: str, **objective: Any) -> Method:
    """Two passes over each rollout, the KL in the reward."""
    kl = "algorithm.kl.coefficient"
    return _rolled(name, {"kind": "ppo", **objective}, kl, (0.02, 0.1), rollouts=8, epochs=2)


def _online(name: str, judge: str, reads: Literal["problems", "truths"], **algorithm: Any) -> Method:
    """DPO on pairs of the policy's own samples, or of an answer and a sample."""
    rolled = {"kind": "online", "judge": judge, **algorithm}
    sections = {"objective": {"kind": "dpo"}, "algorithm": rolled, "training": {"batch_size": 4}}
    return Method(name, sections, reads=reads)


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("preferred-FT", {"objective": {"kind": "sft"}}, values=(), rates=(1e-4, 3e-4, 1e-3, 3e-3)),
        _offline("DPO", "dpo"),
        _offline("DPO + NLL", "dpo", nll=1.0),
        _offline("IPO", "ipo", "objective.tau"),
        Method("SimPO", {"objective": {"kind": "simpo"}}, values=(2.0, 10.0)),
        _offline("KTO", "kto"),
        _pdpo(""),
        _pdpo(" + NLL", nll=1.0),
        _pdpo(", reference-answer side", gradient_to="truth"),
        _online("online DPO", JUDGE, "problems", samples=4),
        _online("SPIN", "truth", "truths", samples=1),
        _rolled("GRPO", {"kind": "grpo"}, "objective.beta", (0.01, 0.04)),
        _ppo("PPO"),
        _ppo("PPO + entropy", entropy=0.01),
        _form("verified", prompts=2, samples=4, baseline="leave_one_out"),
        _form("gated answer", gradient_to="truth"),
        _form("anchored pair", gradient_to="both", direction="down", form="softplus", kl=0.03),
    )
}


def _changed(name: str, drafts: Literal["policy", "reference"] = "policy", **algorithm: Any) -> Method:
    """PDPO in the source's form with another setting of its generator, at the point of PDPO."""
    pdpo = METHODS["PDPO"]
    sections = {**pdpo.sections, "algorithm": {**pdpo.sections["algorithm"], **algorithm}}
    return Method(f"PDPO, {name}", sections, drafts=drafts, tuned_as=pdpo.name)


INTERVENTIONS: Mapping[str, Method] = {
    method.name: method
    for method in (
        _changed("γ 0", gamma=0.0),
        replace(_form("gate", gamma=GAMMA), tuned_as="PDPO"),
        _changed("sign down", generator={"direction": "down"}),
        _changed("anchor", generator={"form": "square"}),
        _changed("reference samples", drafts="reference"),
        _changed("stale samples", reuse_steps=4),
    )
}
"""What the generator's gain or loss comes from: one part of PDPO changed at a time. They are no candidates."""
ALL: Mapping[str, Method] = {**METHODS, **INTERVENTIONS}
