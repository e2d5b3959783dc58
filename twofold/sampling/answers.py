"""Answers to prompts: n completions for each, from a local model or a server. Each is sampled, and paid for, once."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from twofold.client.server import CompletionRequest, Endpoint, Reply, RetrySettings, Server, UnparsableReply, is_url
from twofold.data.chat import as_request, parse
from twofold.data.keys import harmless
from twofold.data.message_keys import ANSWERED, REASONING, Malformed
from twofold.data.reasoning import Parted
from twofold.data.transcripts import split
from twofold.data.turns import ChatChoice
from twofold.errors import RecipeError
from twofold.ledger import Ledger, Row
from twofold.progress import Progress
from twofold.records import Candidate, Completion, Prompt, unshown

if TYPE_CHECKING:
    from torch import Tensor

    from twofold.sampling.base import Sample, Sampling
    from twofold.sampling.beam import Beams, Guide
    from twofold.sampling.named_model import NamedModel

CHUNK, AT_ONCE = 64, 256
"""Maximum number of prompts, and of their answers, that are sampled before they are recorded."""
MOST_ATTEMPTS = 64  # the distance of two samples' seeds, so that a later attempt never has the seed of another sample
STEP = 0  # the second part of a sampler's seed: there are no steps here


@dataclass(frozen=True)
class Draw:
    """How answers are sampled: `samples` for each prompt."""

    sampling: Sampling
    samples: int
    seed: int

    def rule(self) -> dict[str, Any]:
        """The settings that affect the answers, for their provenance."""
        kept = {k: v for k, v in asdict(self.sampling).items() if k != "batch_size"}
        return {**kept, "stop": list(self.sampling.stop)}


class Answerer(Protocol):
    """A model that answers prompts: the candidates of every prompt, or None if an answer of the prompt is missing."""

    name: str

    def answers(
        self, prompts: Sequence[Prompt], draw: Draw, ledger: Ledger, progress: Progress
    ) -> list[list[Candidate] | None]: ...


class LocalAnswerer:
    """A model in this process. Weights, tokens, settings and seed determine its answers and identify their record. The
    ledger has the reasoning of an answer apart; with `apart` the candidate has, too, as a server's answers do."""

    def __init__(self, model: NamedModel, *, apart: bool = False) -> None:
        from twofold.models.load import weights_digest

        self.name, self._model, self._apart = model.name, model, apart
        self.turns, self.tokenizer = model.encoder.turns, model.loaded.tokenizer
        self._weights = weights_digest(model.loaded.model)

    def answers(
        self, prompts: Sequence[Prompt], draw: Draw, ledger: Ledger, progress: Progress
    ) -> list[list[Candidate] | None]:
        """The candidates of every prompt. Answers are recorded after each chunk."""
        encoder, sampler = self._model.encoder, self._model.sampler(draw.sampling, progress.note)
        tokens = [encoder.prompt(prompt) for prompt in prompts]
        requests = [[self._request(t, draw, i) for i in range(draw.samples)] for t in tokens]
        size = min(CHUNK, max(1, AT_ONCE // draw.samples))

        def make(part: Sequence[Tensor]) -> list[list[Sample]]:
            return sampler.sample(part, samples=draw.samples, seed=(draw.seed, STEP))

        replies = self._recorded((prompts, tokens, requests), make, size, (ledger, progress))
        origin = {"sampling": draw.rule(), "seed": draw.seed}
        return [[self._candidate(reply, origin, i) for i, reply in enumerate(several)] for several in replies]

    def best_beams(
        self,
        prompts: Sequence[Prompt],
        beams: Beams,
        ledger: Ledger,
        progress: Progress,
        guide: tuple[str, Guide] | None = None,
    ) -> list[list[Candidate] | None]:
        """The best sequence of a beam search for every prompt, each recorded; a `guide` with its digest."""
        from twofold.sampling.beam import BeamSearch

        loaded, about = self._model.loaded, asdict(beams) | ({} if guide is None else {"guide": guide[0]})
        search = BeamSearch(loaded.model, loaded.stop_tokens, beams, guide=None if guide is None else guide[1])
        tokens = [self._model.encoder.prompt(prompt) for prompt in prompts]
        requests = [[{"weights": self._weights, "tokens": _digest(t), "beams": about}] for t in tokens]

        def make(part: Sequence[Tensor]) -> list[list[Sample]]:
            return [[several[0].completion] for several in search.search(part)]

        replies = self._recorded((prompts, tokens, requests), make, 1, (ledger, progress))
        return [[self._candidate(reply, {"beams": about}, 0) for reply in several] for several in replies]

    def _recorded(
        self, asked: tuple[Sequence[Prompt], Sequence[Tensor], Sequence[Sequence[Row]]],
        make: Callable[[Sequence[Tensor]], Sequence[Sequence[Sample]]], size: int,
        where: tuple[Ledger, Progress],
    ) -> list[list[Any]]:  # fmt: skip
        """The replies to every prompt's requests. `make` samples those of `size` prompts that are not in the ledger."""
        (prompts, tokens, requests), (ledger, progress) = asked, where
        missing = [i for i, several in enumerate(requests) if any(ledger.get(r) is None for r in several)]
        task = f"answers of {self.name}"
        progress.begin(task, len(tokens))
        progress.advance(task, len(tokens) - len(missing))
        for start in range(0, len(missing), size):
            part = missing[start : start + size]
            ledger.add(
                (request, self._reply(prompts[i], completion))
                for i, completions in zip(part, make([tokens[i] for i in part]), strict=True)
                for request, completion in zip(requests[i], completions, strict=True)
                if ledger.get(request) is None
            )
            progress.advance(task, len(part))
        progress.end(task)
        return [[ledger.get(request) for request in several] for several in requests]

    def _reply(self, prompt: Prompt, sample: Sample) -> dict[str, Any]:
        reply = {"text": self._model.encoder.text(sample.tokens), "truncated": sample.truncated}
        parts = self._model.encoder.parted(prompt, sample.tokens)
        return reply | ({} if parts.answer == reply["text"] else parts._asdict())

    def _request(self, tokens: Tensor, draw: Draw, sample: int) -> dict[str, Any]:
        return {
            "weights": self._weights,
            "tokens": _digest(tokens),
            "sampling": draw.rule(),
            "seed": draw.seed,
            "sample": sample,
        }

    def _candidate(self, reply: Any, how: Row, sample: int) -> Candidate:
        origin = {"model": self.name, "weights": self._weights[:12], **how, "sample": sample}
        parts = Parted(reply.get("answer", reply["text"]), reply.get("reasoning", ""))
        return Candidate(parts.completion if self._apart else reply["text"], origin, reply["truncated"])


class ServerAnswerer:
    """A model behind a server: one request per answer, so that an interrupted run pays for none of them twice."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.name, self.raw = server.endpoint.model, server.endpoint.raw

    def answers(
        self, prompts: Sequence[Prompt], draw: Draw, ledger: Ledger, progress: Progress
    ) -> list[list[Candidate] | None]:
        """The candidates of every prompt; None if an answer of the prompt is missing."""
        bodies = [self._body(prompt, draw, i) for prompt in prompts for i in range(draw.samples)]
        task = f"answers of {self.name}"
        progress.begin(task, len(bodies))
        received: dict[int, Any] = {}
        self._server.optional, self._server.note = _optional(draw.sampling), progress.note
        for place, reply in self._server.ask([CompletionRequest(body, _whole) for body in bodies], ledger):
            received[place] = reply
            progress.advance(task)
        progress.end(task)
        for note in (*self._server.take_notes(), *_lost(received.values())):
            progress.warn(note)
        return [
            self._candidates([received[n * draw.samples + i] for i in range(draw.samples)], draw)
            for n in range(len(prompts))
        ]

    def _body(self, prompt: Prompt, draw: Draw, sample: int) -> dict[str, Any]:
        rule = draw.sampling
        if rule.top_k or rule.use_generation_config:
            what, remedy = "an OpenAI-compatible server knows neither", "leave them out for a server"
            raise RecipeError(what, where="top_k and use_generation_config", remedy=remedy)
        texts: dict[str, Any] = {"stop": list(rule.stop)} if rule.stop else {}
        noise = hashlib.sha256(f"{draw.seed}/{sample}".encode()).digest()
        seed = MOST_ATTEMPTS * int.from_bytes(noise[:3], "little")
        messages, tools = as_request(prompt if self._server.endpoint.raw else split(prompt))
        return self._server.body(
            messages,
            temperature=rule.temperature,
            top_p=rule.top_p,
            max_tokens=rule.max_new_tokens,
            seed=seed,
            **texts,
            **tools,
        )

    def _candidates(self, replies: Sequence[Any], draw: Draw) -> list[Candidate] | None:
        if any(reply is None for reply in replies):
            return None
        server, refused = self._server.endpoint, self._server.refused
        origin = {"model": self.name, "server": server.url, "sampling": draw.rule(), "seed": draw.seed}
        origin |= {"fields": dict(server.fields)} if server.fields else {}
        origin |= {"not taken": refused} if refused else {}
        return [
            Candidate(completion(reply), {**origin, "sample": i}, reply["truncated"]) for i, reply in enumerate(replies)
        ]


def open_answerer(
    model: str,
    resources: ExitStack,
    retry: RetrySettings | None = None,
    chat: ChatChoice = "auto",
    *,
    apart: bool = False,
) -> Answerer:
    """The answerer for a folder, a Hub name or https://host/v1#name; `resources` closes it. `chat` selects whether text
    prompts become chats for a local model, and `apart` whether its reasoning is apart from its answers. A server always
    gets turns and applies its own template."""
    if is_url(model):
        return ServerAnswerer(resources.enter_context(Server(Endpoint.of(model), retry or RetrySettings())))
    from twofold.sampling.named_model import open_model

    return LocalAnswerer(open_model(model, chat=chat), apart=apart)


def _optional(sampling: Sampling) -> list[str]:
    """Fields without which a server samples from the same distribution: a seed, and values that are everyone's
    default."""
    neutral = {"top_p": sampling.top_p, "temperature": sampling.temperature}
    return ["seed", *(name for name, value in neutral.items() if value == 1)]


def _digest(tokens: Tensor) -> str:
    return hashlib.sha256(tokens.numpy().tobytes()).hexdigest()


def completion(reply: Mapping[str, Any]) -> Completion:
    """The answer in what `_whole` made."""
    return unshown([reply["turn"]]) if "turn" in reply else reply["text"]


def _whole(reply: Reply) -> dict[str, Any]:
    """An answer as the ledger stores it: its text, and its whole turn where that has calls or reasoning. `lost` names
    the keys that no message has. Raises UnparsableReply for a malformed call, unless the answer was cut off there."""
    told = {"text": reply.text, "truncated": reply.truncated}
    read = {key: reply.more[key] for key in ANSWERED if key in reply.more}
    for key in REASONING:  # servers repeat it under its older name
        if read.get(key) in [read.get(other) for other in REASONING[: REASONING.index(key)] if other in read]:
            del read[key]
    lost = sorted(key for key in reply.more if key not in ANSWERED and not harmless(key))
    try:
        (turn,) = parse([{"role": "assistant", "content": reply.text, **read}])
    except Malformed as error:
        if not reply.truncated:
            raise UnparsableReply(f"the answer cannot be read: {error.reason}") from None
        return {**told, "lost": sorted({*lost, *read})}
    return told | ({"turn": turn.as_dict()} if turn.more else {}) | ({"lost": lost} if lost else {})


def _lost(replies: Iterable[Any]) -> list[str]:
    """A note on the keys of answers that are not stored."""
    count = Counter(key for reply in replies if reply is not None for key in reply.get("lost", ()))
    return [f"the answers' key `{key}` is not read ({number} of them have it)" for key, number in count.items()]
