"""Runs each model on the same problems, prompted as the settings require."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from twofold.data.turns import ChatChoice
from twofold.errors import RecipeError
from twofold.evaluation.parts import Part
from twofold.evaluation.player_answers import AnswerBook, Drawing, ledger_path, questions_for
from twofold.evaluation.players import Player, parse_players
from twofold.evaluation.prompting import Prompter, Prompting
from twofold.ledger import Ledger
from twofold.progress import Progress, Silent, counted
from twofold.records import Task
from twofold.sampling.base import Sampler, Sampling
from twofold.sampling.named_model import NamedModel, open_model

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """How models are prompted with problems, and how long an answer may be.

    `preset` names one of PRESETS, with templates that `template` overrides. `style` is data.chat of a recipe: each
    model reads text problems as in its training (auto), as bare text, or in its chat template. `shots` worked examples
    from the rows `examples` come before each problem, in an order from `seed`. `prompted` adds lines for the first
    model with these numbers of examples. `out` has ledger.jsonl with the answers of servers and searches. It is
    required with a server.
    """

    preset: str = "answers"
    template: str | None = None
    style: ChatChoice = "auto"
    shots: int = 0
    prompted: Sequence[int] = ()
    examples: str | None = None
    max_new_tokens: int = 256
    seed: int = 0
    out: Path | None = None
    progress: Progress = field(default_factory=Silent)


Work = Callable[[str, Sampler, NamedModel, Prompting], T]
Written = Callable[[str, Player, AnswerBook], T]


def each_model(
    models: Sequence[str], problems: Sequence[Task], how: PromptSettings, temperature: float, work: Work[T]
) -> dict[str, T]:
    """The result of `work` for each line of the table, by name, with a sampler at this temperature if the player has
    none. More lines of the first model follow its own. One model is in memory at a time."""
    players, prompter = parse_players(models), _prompter(how, problems)
    further = [k for k in how.prompted if k != how.shots]
    if further and not players[0].is_plain:
        what = f"{players[0].name} is no plain model, which --prompted repeats"
        raise RecipeError(what, where="--prompted", remedy="name a model first, or write MODEL@shots:0,4")
    if max([how.shots, *further, *(player.shots or 0 for player in players)]) > 0:
        _ = prompter.pool  # raises, before any model is loaded
    lines = {player.name: (player, _shots(player, how)) for player in players if is_drawn_by_sampler(player)}
    if further:
        first, *rest = lines.items()
        more = {f"{players[0].model}, {k or 'zero'}-shot": (players[0], k) for k in further}
        lines = {first[0]: first[1], **more, **dict(rest)}
    found, opened = dict[str, T](), None
    for name, (player, shots) in sorted(lines.items(), key=lambda line: _place(line[1][0], players)):
        if opened is None or opened.name != player.model:
            opened = None  # frees the model before it
            opened = open_model(player.model, chat=how.style)
        how.progress.note(f"{name}: {counted(len(problems), 'problem')}")
        prompting, heat = prompter.local(opened.encoder.turns, shots), player.at(temperature).temperature
        assert heat is not None, "a player that is drawn by a sampler has a temperature"
        sampling = Sampling(temperature=heat, max_new_tokens=how.max_new_tokens, stop=prompting.stop)
        found[name] = work(name, opened.sampler(sampling, how.progress.note), opened, prompting)
    return found


def is_drawn_by_sampler(player: Player) -> bool:
    """Whether its answers are single samples of a model in this process."""
    return player.kind == "model" and player.samples and player.best_of is None


def each_other(
    models: Sequence[str], problems: Sequence[Task], how: PromptSettings, drawn: tuple[float, int], written: Written[T],
    part: Part,
) -> dict[str, T]:  # fmt: skip
    """The result of `written` for each player whose answers are not single samples of a local model. `drawn` is the
    temperature of players without one, and the number of samples."""
    players = parse_players(models)
    others = [player for player in players if not is_drawn_by_sampler(player)]
    if not others:
        return {}
    temperature, samples = drawn
    drawing = Drawing(samples=samples, seed=how.seed, max_new_tokens=how.max_new_tokens, style=how.style,
                      shots=how.shots, templates=True, progress=how.progress)  # fmt: skip
    with ExitStack() as resources:
        names = [name for player in others for name in (player.name, player.reward)]
        ledger = part.ledger or resources.enter_context(Ledger(ledger_path(how.out, names, resources)))
        book = AnswerBook(questions_for(part.of(problems)), _prompter(how, problems), drawing, ledger, resources)
        book.draw([player.at(temperature) for player in others])
        return {player.name: written(player.name, player.at(temperature), book) for player in others}


def in_order(models: Sequence[str], lines: Mapping[str, T]) -> dict[str, T]:
    """Lines in the order of their players; further lines of a model follow its own."""
    names = [player.name for player in parse_players(models)]
    return dict(sorted(lines.items(), key=lambda line: names.index(line[0]) if line[0] in names else 0))


def _prompter(how: PromptSettings, problems: Sequence[Task]) -> Prompter:
    return Prompter(problems, how.preset, how.template, how.style, how.examples, how.seed)


def _shots(player: Player, how: PromptSettings) -> int:
    return how.shots if player.shots is None else player.shots


def _place(player: Player, players: Sequence[Player]) -> int:
    """Players of one model follow the first of them."""
    return next(i for i, other in enumerate(players) if other.model == player.model)
