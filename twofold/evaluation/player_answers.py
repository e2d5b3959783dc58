"""Answers of players to the same questions. Each answer is sampled once, whatever the number of its matches."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twofold import disk
from twofold.data.reasoning import without_reasoning
from twofold.data.split import prompt_key
from twofold.data.turns import ChatChoice
from twofold.errors import DataError, RecipeError, ServerError
from twofold.evaluation.players import REFERENCE, Player
from twofold.evaluation.prompting import Prompter, Prompting
from twofold.judges.base import Judge, JudgeResources
from twofold.judges.questions import Question, questions_of
from twofold.judges.registry import BEST_OF, parse_judge
from twofold.ledger import Ledger
from twofold.progress import Progress, Silent, counted
from twofold.records import Candidate, Prompt, Record, Task, completion_fields
from twofold.rewards.model import open_reward
from twofold.sampling.answers import Answerer, Draw, LocalAnswerer, ServerAnswerer, open_answerer
from twofold.sampling.base import Sampling
from twofold.sampling.beam import Beams
from twofold.sampling.best_of_n import best_index

Answers = list[list[Candidate]]
"""One or more answers to every question."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How answers are drawn: `samples` of each prompt (one where they would be the same), with `seed`. Without `shots`
    of its own a player has these. With `templates` every prompt is put into its template, else only worked examples
    change a prompt."""

    samples: int = 1
    seed: int = 0
    max_new_tokens: int = 256
    max_length: int = 4096
    style: ChatChoice = "auto"
    shots: int = 0
    templates: bool = False
    progress: Progress = field(default_factory=Silent)


class AnswerBook:
    """The answers of players to `questions`, drawn when they are first required. One local model is in memory at a
    time."""

    def __init__(
        self, questions: Sequence[Question], prompter: Prompter, how: Drawing, ledger: Ledger, resources: ExitStack
    ) -> None:
        self.questions, self.how = questions, how
        self._prompter, self._ledger, self._resources = prompter, ledger, resources
        self._pages: dict[Player, Answers] = {}
        self._prompted: dict[Player, tuple[list[Prompt], Prompting]] = {}
        self._judges: dict[str, Judge] = {}
        self._open: dict[str, Answerer] = {}

    def on(self, questions: Sequence[Question]) -> AnswerBook:
        """The same for other questions, with the model that is in memory."""
        other = AnswerBook(questions, self._prompter, self.how, self._ledger, self._resources)
        other._open, other._judges = self._open, self._judges
        return other

    def put(self, player: Player, answers: Answers) -> None:
        """Answers of a player that were read elsewhere, for every question."""
        self._pages[player] = answers

    def check(self, players: Sequence[Player]) -> None:
        """Raise for players that cannot answer, before anything is sampled."""
        for player in players:
            if player.shots or (player.shots is None and self.how.shots):
                _ = self._prompter.pool
            if player.kind in (REFERENCE, "file"):
                self.of(player)
            elif player.reward is not None:
                kind = parse_judge(player.reward, BEST_OF)
                kind.check(self._for_judges())
                for question in self.questions:
                    kind.refuse(question.answer, str(question.source))

    def draw(self, players: Sequence[Player]) -> None:
        """The answers of all players, so that each model is loaded once."""
        self.check(players)
        models = list(dict.fromkeys(player.model for player in players))
        for player in sorted(players, key=lambda player: models.index(player.model)):
            self.of(player)

    def of(self, player: Player) -> Answers:
        """A player's answers to every question. ServerError if one is missing."""
        if player not in self._pages:
            self._pages[player] = self._drawn(player)
        return self._pages[player]

    def prompts(self, player: Player) -> list[Prompt]:
        """What the player was prompted with."""
        return self._prompted[player][0] if player in self._prompted else [q.prompt for q in self.questions]

    def about(self, player: Player) -> dict[str, Any]:
        """Its prompting, as it is stored in results."""
        return self._prompted[player][1].as_dict() if player in self._prompted else {"style": player.kind}

    def weights(self, player: Player) -> str:
        """A digest of what the player's answers come from; empty for the rows' own."""
        return str(self.of(player)[0][0].origin.get("weights", ""))

    def _drawn(self, player: Player) -> Answers:
        if player.kind == REFERENCE:
            return [[_own(question)] for question in self.questions]
        if player.kind == "file":
            return self._of_file(player.model)
        answerer, number = self._answerer(player.model), counted(len(self.questions), "prompt")
        prompting = self._prompting(player, answerer)
        prompts = [question.prompt for question in self.questions]
        if prompting is not None:
            prompts = [prompting.of(Task(q.prompt, "", q.source)).prompt for q in self.questions]
            self._prompted[player] = prompts, prompting
        if player.beams is not None:
            assert isinstance(answerer, LocalAnswerer), "checked when the player was parsed"
            self.how.progress.note(f"{player.label}: {number}")
            beams = Beams(width=player.beams, max_new_tokens=self.how.max_new_tokens)
            guide = None if player.guide is None else parse_judge(player.guide, BEST_OF).guide(answerer.tokenizer)
            answers = answerer.best_beams(prompts, beams, self._ledger, self.how.progress, guide)
        else:
            assert player.temperature is not None, "tasks choose a temperature"
            self.how.progress.note(f"{player.label}: {number} at temperature {player.temperature:g}")
            draw = self._draw(player, prompting)
            answers = answerer.answers(prompts, draw, self._ledger, self.how.progress)
        whole = self._whole(player, answers)
        if prompting is not None and prompting.stop:
            whole = [[_cut(prompting, c) for c in several] for several in whole]
        return whole if player.best_of is None else self._best(player, whole)

    def _draw(self, player: Player, prompting: Prompting | None) -> Draw:
        """The best of N has samples of its own, which are not those of the model without it."""
        assert player.temperature is not None
        stop = () if prompting is None else prompting.stop
        sampling = Sampling(temperature=player.temperature, max_new_tokens=self.how.max_new_tokens, stop=stop)
        samples, seed = 1 if player.temperature == 0 else self.how.samples, self.how.seed
        if player.best_of is not None:
            noise = hashlib.sha256(f"{seed}/best-of:{player.best_of}".encode()).digest()
            return Draw(sampling, samples * player.best_of, int.from_bytes(noise[:4], "little"))
        return Draw(sampling, samples, seed)

    def _whole(self, player: Player, answers: Sequence[list[Candidate] | None]) -> Answers:
        whole = [several for several in answers if several is not None]
        if missing := len(self.questions) - len(whole):
            remedy = "run the same command again: only what is missing is asked for"
            what = f"answers to {counted(missing, 'prompt')} are missing"
            raise ServerError(what, where=player.model, remedy=remedy)
        return whole

    def _best(self, player: Player, answers: Answers) -> Answers:
        assert player.best_of is not None
        assert player.reward is not None
        n, samples = player.best_of, range(len(answers[0]) // player.best_of)
        with_reasoning = parse_judge(player.reward, BEST_OF).with_reasoning
        groups = [several[n * i : n * (i + 1)] for several in answers for i in samples]
        asked = [
            replace(question, candidates=tuple(group if with_reasoning else map(_answer_only, group)))
            for question, group in zip([q for q in self.questions for _ in samples], groups, strict=True)
        ]
        scores = self._judge(player.reward).scores(asked, self.how.progress)
        if missing := sum(each is None for each in scores):
            what, remedy = f"scores of {counted(missing, 'prompt')} are missing", "run the same command again"
            raise ServerError(what, where=player.reward, remedy=remedy)
        best = [
            group[best_index(each or (), n, str(question.source))]
            for question, group, each in zip(asked, groups, scores, strict=True)
        ]
        return [best[start : start + len(samples)] for start in range(0, len(best), len(samples))]

    def _judge(self, reward: str) -> Judge:
        if reward not in self._judges:
            self._judges[reward] = parse_judge(reward, BEST_OF).open(self._for_judges(), self._resources)
        return self._judges[reward]

    def _for_judges(self) -> JudgeResources:
        reward = partial(open_reward, max_length=self.how.max_length)
        return JudgeResources(BEST_OF, lambda: self._ledger, reward)

    def _answerer(self, model: str) -> Answerer:
        if model not in self._open:
            self._open.clear()  # frees the model before it
            self._open[model] = open_answerer(model, self._resources, chat=self.how.style, apart=True)
        return self._open[model]

    def _prompting(self, player: Player, answerer: Answerer) -> Prompting | None:
        shots = self.how.shots if player.shots is None else player.shots
        if not shots and not self.how.templates:
            return None
        if isinstance(answerer, ServerAnswerer):
            return self._prompter.server(answerer.raw, shots)
        assert isinstance(answerer, LocalAnswerer)
        return self._prompter.local(answerer.turns, shots)

    def _of_file(self, path: str) -> Answers:
        """The first answer of each row, matched by prompt; several rows of a prompt are several samples."""
        digest = hashlib.sha256(Path(disk.real(Path(path))).read_bytes()).hexdigest()[:12]
        rows: dict[str, list[Candidate]] = {}
        for q in questions_of(path, whole=True):
            told = q.candidates[0].completion if q.candidates else q.answer
            if told is not None:
                origin: Mapping[str, Any] = {"file": path, "row": q.source.row, "weights": digest}
                rows.setdefault(prompt_key(q.prompt), []).append(Candidate(told, dict(origin)))
        found = [rows.get(prompt_key(q.prompt), [])[: self.how.samples] for q in self.questions]
        missing = [q for q, several in zip(self.questions, found, strict=True) if not several]
        if missing:
            what = f"has no answer to {counted(len(missing), 'prompt')}, the first of {missing[0].source}"
            raise DataError(what, where=path, remedy="add rows with these prompts and a completion, or use --limit")
        return found


def questions_for(records: Sequence[Record]) -> list[Question]:
    """Rows as questions: the reference answer of a problem, and the best answer of a row as its candidate."""
    questions: list[Question] = []
    for record in records:
        known = completion_fields(record)
        own = (Candidate(known[0][1], {}),) if known else ()
        questions.append(
            Question(record.prompt, record.source, record.answer if isinstance(record, Task) else None, own)
        )
    return questions


def ledger_path(out: Path | None, names: Sequence[str | None], resources: ExitStack) -> Path:
    """The ledger of samples and verdicts. It is in `out`, which is required if one of `names` is a server."""
    if out is not None:
        return out / "ledger.jsonl"
    if any("://" in str(name) for name in names):
        remedy = "add --out FOLDER: the same command then resumes an interrupted evaluation"
        raise RecipeError("no folder for a server's answers", where="twofold evaluate", remedy=remedy)
    return Path(resources.enter_context(TemporaryDirectory())) / "ledger.jsonl"


def _cut(prompting: Prompting, answer: Candidate) -> Candidate:
    """The answer up to a stop of the prompting, which only texts have."""
    told = answer.completion
    return replace(answer, completion=prompting.cut(told)) if isinstance(told, str) else answer


def _answer_only(candidate: Candidate) -> Candidate:
    return replace(candidate, completion=without_reasoning(candidate.completion))


def _own(question: Question) -> Candidate:
    if not question.candidates:
        remedy = "rows need an answer to win against; or name a model: --against MODEL"
        raise DataError("has no answer to compare with", where=str(question.source), remedy=remedy)
    return question.candidates[0]
