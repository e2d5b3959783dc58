"""What a run would do, without running it: settings, rows, parameters, steps, and the expected memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from twofold.algorithms.schedules import refuse_bad_ramps
from twofold.config.load import dump, plain
from twofold.config.schema import Recipe
from twofold.data.dataset import encode_rows
from twofold.data.encode import described_in_all
from twofold.data.tokenize import Encoder
from twofold.models.adapters import refuse_classifier
from twofold.models.load import resolve_device, training_precision
from twofold.models.machine import memory_bytes
from twofold.models.model_size import model_size
from twofold.models.planned import planned_memory
from twofold.models.tokenizer_files import load_stop_tokens, load_tokenizer
from twofold.models.tokenizers import prepare
from twofold.progress import Progress, Silent
from twofold.reports.rates import unusual_rate
from twofold.runs.context import total_steps
from twofold.runs.dataset import data_cache, read_dataset
from twofold.runs.fitting import what_fits, with_fitting_packs
from twofold.runs.forecast import GIB, Forecast, largest_pack
from twofold.runs.shares import SHARE, Shares, chosen, ways
from twofold.runs.unused_settings import unused_settings
from twofold.training.track import refuse_missing
from twofold.world import World


@dataclass(frozen=True)
class DryRun:
    """A run as it would be."""

    resolved: str
    rows: dict[str, int]
    prompts: str
    used: int
    """Training rows that fit; the number of steps depends on them."""
    tokens: dict[str, Any]
    parameters: int
    trainable: int
    steps: int
    device: str
    precision: str
    shares: Sequence[Shares]
    """The ways in which processes may share its models. The one in use comes first."""
    processes: int
    pack_tokens: int
    """Tokens of the largest pack of the first steps."""

    @property
    def memory(self) -> Forecast:
        """Memory of each process."""
        return self.shares[0].memory

    def lines(self) -> list[str]:
        """The figures as text, which is printed after the resolved settings."""
        counts = ", ".join(f"{k} {v}{self._share(k)}" for k, v in self.rows.items() if v)
        return [
            f"rows        {counts}",
            f"prompts     {self.prompts}",
            f"parameters  {self.parameters:,} ({self.trainable:,} trainable)",
            f"steps       {self.steps}",
            f"device      {self.device}, {self.precision}",
            f"packs       of {self.pack_tokens} tokens at most",
            *self._memory(),
        ]

    def _memory(self) -> list[str]:
        if self.processes == 1:
            return [f"memory      {self.memory.line()}"]
        taken, *others = [f"each {way.line()}" for way in self.shares]
        return [f"processes   {self.processes}, {taken}", *(f"            or {other}" for other in others)]

    def _share(self, name: str) -> str:
        return f" ({self.used} used, the others do not fit)" if name == "train" and self.used < self.rows[name] else ""


def dry_run(recipe: Recipe, progress: Progress | None = None, processes: int = 1) -> DryRun:
    """Read and tokenize the data and count, for this number of processes on this machine. No weights are loaded.
    Raises the TwofoldError that the run would raise."""
    here = World(0, processes, processes)
    refuse_missing(recipe.training.track)
    refuse_bad_ramps(recipe.objective, recipe.algorithm.ramp)
    progress = progress or Silent()
    records = read_dataset(recipe, recipe.objective, progress=progress)
    tokenizer = load_tokenizer(recipe.model.path, recipe.model.revision, recipe.model.gguf_file)
    prepare(tokenizer, recipe.model.add_tokens, recipe.model.template_arguments or {})
    if recipe.objective.reads == "logps":
        refuse_classifier(recipe.model.path, recipe.model.revision)
    stops = load_stop_tokens(recipe.model.path, tokenizer, recipe.model.revision)
    encoder = Encoder(tokenizer, stops, recipe.data.tokenize, recipe.data.chat)
    trained = encode_rows(records.train, encoder, data_cache(recipe), progress, recipe.data.workers)
    recipe = with_fitting_packs(recipe, trained.groups, here)
    sizes = model_size(recipe.model)
    device = resolve_device(recipe.model.device)
    packs = largest_pack(recipe, trained.groups, processes)
    shares = ways(recipe, sizes, packs, here)
    there = memory_bytes(device)
    if there is not None:
        there = there if device == "cuda" else there // processes
    taken = chosen(shares, None if there is None else SHARE * there)
    if there is not None and taken.memory.total > there:
        each = f" for each of {processes} processes" if processes > 1 else ""
        needed = f"about {taken.memory.total / GIB:.1f} GiB are needed{each} and {device} has {there / GIB:.1f}"
        remedy = what_fits(recipe, sizes, trained.groups, there, here)
        progress.warn(f"{needed}: training would run out of memory. {remedy}")
    steps = total_steps(recipe, len(trained.groups))
    for message in (*unused_settings(recipe, steps, len(records.generator)), *_unusual(recipe, sizes.parameters)):
        progress.warn(message)
    also = [] if recipe.data.also is None else ["also"]
    return DryRun(
        resolved=dump(recipe),
        rows={name: len(getattr(records, name)) for name in ("generator", "heldout", "tasks", *also)}
        | {"train": trained.rows},
        prompts=described_in_all([trained], encoder),
        used=trained.num_groups,
        tokens=trained.counts(),
        parameters=sizes.parameters,
        trainable=sizes.trainable,
        steps=steps,
        device=_named(device),
        precision=training_precision(recipe.model, sizes.hidden),
        shares=[taken, *(way for way in shares if way is not taken)],
        processes=processes,
        pack_tokens=packs.tokens,
    )


def _named(device: str) -> str:
    planned = planned_memory()
    return device if planned is None else f"{device} of {planned / GIB:g} GiB, as planned"


def _unusual(recipe: Recipe, parameters: int) -> Iterator[str]:
    """A warning for a learning rate far from the usual ones."""
    way, words = unusual_rate(plain(recipe), parameters) or ("", "")
    if way:
        yield f"optimizer.learning_rate is {way}, {words} → left out, it is {_usual_rate(recipe):g}"


def _usual_rate(recipe: Recipe) -> float:
    """The default rate of this optimizer for this kind of tuning."""
    adapter = recipe.model.lora is not None or recipe.model.adapter is not None
    return recipe.optimizer.rates[adapter]
