"""The settings of `twofold tune`: recipes, the values to try, the rows that choose and confirm, and the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from twofold.settings import require, settings

Task = Literal["answers", "preference", "win-rate"]
METRICS: Mapping[Task, tuple[str, ...]] = {
    "answers": ("strict", "flexible", "math", "text"),
    "preference": ("reward", "logp", "logp_per_token"),
    "win-rate": ("wins",),
}
"""The figures of each task; the first one is the default."""
MOST_SEEDS, MOST_RUNGS = 100, 20


@settings
class Rows:
    """Rows that are measured on, and never trained on."""

    file: str
    split: str = "test"
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    skip: int = 0
    """Leave out the first rows, such as those that another split uses."""
    limit: int | None = None
    """Use this many rows."""

    def __post_init__(self) -> None:
        require(self.skip >= 0, "skip must be ≥ 0")
        require(self.limit is None or self.limit >= 1, "limit must be ≥ 1")


@settings
class Figure:
    """The figure that chooses and confirms: a task of `twofold evaluate`, and its settings."""

    task: Task = "answers"
    metric: str | None = None
    """answers: strict, flexible, math or text. preference: reward, logp or logp_per_token. By default the first one."""
    reference: str | None = None
    """The reference model of the metric reward and of `max_kl`. By default the initial model of the recipes."""
    judge: str | None = None
    """For win-rate: a judge, such as `reward:FOLDER`, `verifier` or `llm:URL#NAME`."""
    against: str | None = None
    """For win-rate: the opposing model. By default the answers of the rows."""
    temperature: float = 0.0
    """For win-rate: the temperature of sampling."""
    max_new_tokens: int = 256
    max_length: int = 4096
    """Tokens of a row's side at most."""
    max_kl: float | None = None
    """For answers and win-rate: a trial is out whose samples are more nats than this from the reference model. One
    sample at temperature 1 for each prompt; the mean of their sequence KL."""

    def __post_init__(self) -> None:
        known = METRICS[self.task]
        require(self.metric is None or self.metric in known, f"metric of {self.task} is one of {', '.join(known)}")
        judged = self.task == "win-rate"
        require(judged == (self.judge is not None), "judge is required by task: win-rate, and only there")
        require(judged or self.against is None, "against is a setting of task: win-rate")
        require(0 <= self.temperature < float("inf"), "temperature must be ≥ 0")
        require(judged or self.temperature == 0, "temperature is a setting of task: win-rate")
        require(self.task != "preference" or self.max_new_tokens == 256, "max_new_tokens is of tasks that sample")
        require(self.task != "answers" or self.max_length == 4096, "max_length is of pairs and of reward models")
        needless = self.reference is not None and not self.needs_reference
        require(not needless, "reference is a setting of metric: reward and of max_kl")
        require(self.max_kl is None or self.task != "preference", "max_kl is a setting of tasks that sample")
        require(self.max_kl is None or 0 < self.max_kl < float("inf"), "max_kl must be > 0")
        require(min(self.max_new_tokens, self.max_length) >= 1, "max_new_tokens and max_length must be ≥ 1")

    @property
    def name(self) -> str:
        """The metric."""
        return self.metric or METRICS[self.task][0]

    @property
    def needs_reference(self) -> bool:
        return self.name == "reward" or self.max_kl is not None


@settings
class Budget:
    """What each method may spend on the choice, over all its trials and seeds. By default the steps that the smallest
    whole grid takes. Of a grid that takes more, as many points are drawn as the budget allows."""

    steps: int | None = None
    tokens: int | None = None
    """Tokens trained on, samples among them, as in `timings.jsonl`."""

    def __post_init__(self) -> None:
        require(self.steps is None or self.tokens is None, "give steps or tokens, not both")
        require(all(n is None or n >= 1 for n in (self.steps, self.tokens)), "steps and tokens must be ≥ 1")


@settings
class Entry:
    """A recipe to tune, and what is different about it."""

    recipe: str
    """Path of a recipe, seen from the tune file."""
    name: str | None = None
    """In tables. By default the name of the file."""
    sweep: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Values to try by key: `{objective.beta: [0.05, 0.1]}`. They replace those of the shared sweep."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Settings over the recipe by key."""


@settings
class TuneSettings:
    """All settings of `twofold tune`, which reads them from a YAML file."""

    recipes: tuple[Entry | str, ...]
    """Recipes: paths, or sections with a sweep of their own."""
    sweep: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Values to try in every recipe."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Settings over every recipe by key, such as a common model."""
    development: Rows
    """Rows that choose among trials. They may be used again and again."""
    confirm: Rows
    """Fresh rows, on which the winner of each recipe is measured once."""
    evaluate: Figure = field(default_factory=Figure)
    budget: Budget = field(default_factory=Budget)
    rungs: int = 3
    """Measurements of a trial: the last one at the end of training, each earlier one at 1/eta of the next one's steps.
    With 1, every trial is trained to its end."""
    eta: int = 2
    """At each rung, one in eta trials continues."""
    seeds: tuple[int, ...] = (0,)
    """Every trial is run with each of these."""
    out: str = "runs/tune"
    """Folder of trials and results. The same command continues there."""

    def __post_init__(self) -> None:
        require(len(self.recipes) >= 1, "recipes must not be empty")
        require(1 <= self.rungs <= MOST_RUNGS, f"rungs must be in 1 … {MOST_RUNGS}")
        require(2 <= self.eta <= 1000, "eta must be in 2 … 1000")
        seeds = self.seeds
        require(0 < len(seeds) <= MOST_SEEDS and len(set(seeds)) == len(seeds), "seeds must be different, at least one")
        require(all(0 <= seed < 2**63 for seed in seeds), "seeds must be ≥ 0 and of 63 bits")

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All recipes as sections."""
        return tuple(Entry(recipe=each) if isinstance(each, str) else each for each in self.recipes)
