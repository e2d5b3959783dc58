"""Who plays in the arena: each method as the sections of a recipe that make it that method.

A method joins with one entry. What is not said here is the same for all (`arena_cells.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from twofold.objectives.pdpo import GeneratorSettings

Sections: TypeAlias = Mapping[str, Mapping[str, Any]]
Reads: TypeAlias = Literal["pairs", "problems"]

REWARD = "reward model"
"""Stands for the folder of the arena's own: a reward model of the pairs, trained with the cell's seed."""

GAMMA = 0.3
"""The generator's weight for every PDPO entry but those that are about it: at 0.1 no option moves this model."""


@dataclass(frozen=True)
class Method:
    """A name, and the sections that differ from the protocol's.

    `reads` says what `data.train` is: pairs, or problems with their truths. `data_kind` is what a reader must know to
    compare fairly.
    """

    name: str
    sections: Sections
    reads: Reads = "pairs"
    data_kind: str = "pairs"
    note: str = ""
    tuned_as: str = ""
    """The method whose learning rate it takes; by default it is given its own."""


def offline(name: str, kind: str, note: str = "", **settings: Any) -> Method:
    """An objective on the pairs."""
    return Method(name, {"objective": {"kind": kind, **settings}}, note=note)


def rolled(name: str, objective: Mapping[str, Any], algorithm: Mapping[str, Any], **how: Any) -> Method:
    """A policy gradient on the problems of the pairs and of PDPO's generator, rated by the verifier."""
    how = {"reads": "problems", "data_kind": "reference answers", "training": {"batch_size": 8}, **how}
    sections: dict[str, Mapping[str, Any]] = {
        "objective": objective,
        "algorithm": {"kind": "policy_gradient", "reward": "verifier", "samples": 8, **algorithm},
        "training": how.pop("training"),
    }
    return Method(name, sections, **how)


def online(
    name: str, note: str, /, *, judge: str, batch: int, learns: str = "reference answers", **options: Any
) -> Method:
    """DPO on pairs of the policy's own drafts for those problems."""
    sections: dict[str, Mapping[str, Any]] = {
        "objective": {"kind": "dpo"},
        "algorithm": {"kind": "online", "judge": judge, **options},
        "training": {"batch_size": batch},
    }
    return Method(name, sections, reads="problems", data_kind=learns, note=note)


def pdpo(name: str, note: str = "", /, *, verifier: bool = False, nll: float = 0.0, **options: Any) -> Method:
    """PDPO with some of its options and its generator's; `reference` among them is the section of that name."""
    sections: dict[str, Mapping[str, Any]] = {"objective": {"kind": "dpo", "nll": nll}}
    if "reference" in options:
        sections["reference"] = options.pop("reference")
    generator = {f.name: options.pop(f.name) for f in fields(GeneratorSettings) if f.name in options}
    nested = {"generator": generator} if generator else {}
    sections["algorithm"] = {"kind": "pdpo", "gamma": GAMMA, **nested, **options}
    learns = "pairs, reference answers, verifier" if verifier else "pairs, reference answers"
    return Method(f"PDPO{name}", sections, data_kind=learns, note=note, tuned_as="PDPO" if name else "")


PPO: Mapping[str, Any] = {"samples": 4, "rollouts": 32, "epochs": 2}
"""As InstructGPT and TRL had it: one rollout serves several steps."""

OFFLINE = (
    offline("preferred-FT", "sft", "only the chosen side"),
    offline("unlikelihood", "unlikelihood"),
    offline("DPO", "dpo"),
    offline("DPO + NLL", "dpo", nll=1.0),
    offline("IPO", "ipo"),
    offline("KTO", "kto", "64 labeled answers per step"),
    offline("SimPO", "simpo"),
)

ON_POLICY = (
    rolled(
        "PPO",
        {"kind": "ppo"},
        {**PPO, "reward": f"reward:{REWARD}", "kl": {"coefficient": 0.05}},
        data_kind="pairs",
        training={"batch_size": 16},
        note="a reward model of the pairs; per-prompt baseline",
    ),
    rolled(
        "PPO-GT",
        {"kind": "ppo"},
        {**PPO, "kl": {"coefficient": 0.05}},
        training={"batch_size": 16},
        note="verifier; per-prompt baseline",
    ),
    rolled(
        "PPO-GT, value model",
        {"kind": "ppo"},
        {**PPO, "kl": {"coefficient": 0.05}, "value": {"start": "policy", "learning_rate": 1e-4}},
        training={"batch_size": 16},
        note="verifier; GAE",
    ),
    rolled("GRPO", {"kind": "grpo"}, {}),
    rolled("RLOO", {"kind": "rloo"}, {"kl": {"coefficient": 0.05}}),
    online("online DPO", "best against worst of 8, by the verifier", judge="verifier", samples=8, batch=8),
    online(
        "online DPO, reward model",
        "the same by a reward model",
        judge=f"reward:{REWARD}",
        samples=8,
        batch=8,
        learns="pairs",
    ),
    online(
        "SPIN",
        "two rounds, a fresh reference in each",
        judge="truth",
        samples=1,
        batch=32,
        prompts=320,
        epochs=2,
        reference="fresh",
    ),
)

SEVERAL: Mapping[str, Any] = {"prompts": 2, "samples": 4}

PDPO_OPTIONS = (
    pdpo("", "verbatim: hinge, one sample for each of 8 problems"),
    pdpo(", γ 0.1", gamma=0.1),
    pdpo(", γ 1", gamma=1.0),
    pdpo(", un-hinged", "the source's first form", form="unhinged"),
    pdpo(", softplus", form="softplus"),
    pdpo(", square", form="square"),
    pdpo(", margin 0.1", margin=0.1),
    pdpo(", per token", "γ times the mean length", per_token=True, gamma=GAMMA * 20),
    pdpo(", verifier gate", verifier=True, gate="verifier"),
    pdpo(", gate, mean of passed", verifier=True, gate="verifier", gate_average="passed"),
    pdpo(", 2 × 4 samples", **SEVERAL),
    pdpo(", leave-one-out", "2 × 4 samples", baseline="leave_one_out", **SEVERAL),
    pdpo(", gate, leave-one-out", "2 × 4 samples", verifier=True, gate="verifier", baseline="leave_one_out", **SEVERAL),
    pdpo(", stale samples", "used 4 times, no clip", reuse_steps=4),
    pdpo(", clip 0.2", "samples used 4 times", reuse_steps=4, clip=0.2),
    pdpo(", sign down", direction="down"),
    pdpo(", γ ramp", gamma=0.0, ramp={"gamma": {"to": GAMMA, "over": 0.5, "shape": "linear"}}),
    pdpo(", in turn", schedule="alternate"),
    pdpo(
        ", moving reference",
        "a tenth of the policy every 5 steps",
        reference={"kind": "moving", "alpha": 0.1, "sync_every": 5},
    ),
    pdpo(", + NLL", nll=1.0),
    pdpo(
        ", judge gate",
        "a reward model of the pairs; the bar is the reference answer's score",
        gate="judge",
        judge={"source": f"reward:{REWARD}"},
    ),
    pdpo(", KL 0.05", kl=0.05),
    pdpo(", reference-answer side", "the reference answer is pulled up to the samples", gradient_to="truth"),
    pdpo(", both sides", gradient_to="both"),
    pdpo(", SPIN's form", "both sides, sign down, softplus", gradient_to="both", direction="down", form="softplus"),
)

METHODS: Mapping[str, Method] = {m.name: m for m in (*OFFLINE, *ON_POLICY, *PDPO_OPTIONS)}
BASELINE = "DPO"
