"""Sampling for training from inference servers, to which the run pushes the policy's weights.

Requests go to the servers in turn; those of a lost server go to the others. Every push has a version, which each reply
must contain, so completions from older weights are refused. The log-probabilities of a completion are computed here, by
the policy itself. Their difference from the server's own is a metric.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import torch
from torch import Tensor

from twofold.batch import Branch, Group, Role
from twofold.client.http import HttpClient, RetryableError, RetrySettings
from twofold.errors import RecipeError, ServerError
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.objectives.importance import importance_columns, importance_figures
from twofold.sampling.base import Sample, SampleRequest, Sampling, ServerSettings
from twofold.sampling.cache import max_positions, refuse_unfit
from twofold.sampling.dialects import (
    MOST_STOPS,
    VLLM,
    AdapterSGLang,
    Dialect,
    ServerCompletion,
    SGLang,
    WholeVLLM,
    read_object,
)
from twofold.sampling.logits_processor import as_bytes
from twofold.sampling.text_dialect import Transformers
from twofold.world import world

Notes = Callable[[str], None]
DIALECTS: Mapping[tuple[str, str], Callable[[str], Dialect]] = {
    ("vllm", "adapter"): VLLM,
    ("vllm", "folder"): WholeVLLM,
    ("vllm", "none"): VLLM,
    ("sglang", "adapter"): AdapterSGLang,
    ("sglang", "folder"): SGLang,
    ("transformers", "folder"): Transformers,
}
"""The dialect for `engine` and `push` of the settings."""


class LostServerError(ServerError):
    """A server failed in all attempts of a request."""


class SamplingServer:
    """One server: its dialect, and its connection with repeated requests."""

    def __init__(self, base: str, settings: ServerSettings) -> None:
        self.dialect: Dialect = DIALECTS[settings.engine, settings.push](base)
        self.wire = HttpClient(base, RetrySettings(timeout=settings.timeout, attempts=settings.attempts,
                                      pause=settings.pause, parallel=settings.parallel))  # fmt: skip
        self.turns = BoundedSemaphore(1 if self.dialect.serial else settings.parallel)
        self.lost = False

    def again(self, act: Callable[[], Any], fault: str) -> Any:
        """Repeat `act()` until it succeeds. Raises LostServerError after the last attempt; a refusal is raised at
        once."""
        try:
            for attempt in self.wire.retrying():
                with attempt:
                    return act()
        except RetryableError as error:
            what = f"{fault} in {self.wire.retry.attempts} attempts: {error}"
            remedy = "resume the run once the server is well"
            raise LostServerError(what, where=self.dialect.base, remedy=remedy) from None
        raise AssertionError("tenacity raises the last failure")


@dataclass(frozen=True)
class Drawn:
    """The servers' completions for a step, before the policy computes their log-probabilities; all of it JSON."""

    seed: tuple[int, int]
    pushed_at: int
    """The step whose initial weights sampled the completions."""
    replies: list[dict[str, Any]]
    lost: int


class ServerSampler:
    """A `Sampler` that requests completions from servers. The noise is the server's own; its seed depends on (seed,
    step), prompt and sample index, not on which server samples."""

    def __init__(
        self,
        policy: Policy,
        stop_tokens: Collection[int],
        settings: Sampling,
        save: Callable[[Path], None],
        folder: Path,
        note: Notes = lambda message: None,
    ) -> None:
        """`save` writes the policy's weights to a folder, which the servers must see under the same path. `note` gets
        messages about lost servers."""
        server = settings.server
        assert server is not None
        _refuse(policy, settings, server)
        self.policy, self.settings, self.served, self.note = policy, settings, server, note
        self.stop_tokens, self.max_positions = sorted(stop_tokens), max_positions(policy.model)
        addresses = [url.partition("#") for url in server.urls()]
        self.model = addresses[0][2]
        self.servers = [SamplingServer(base.rstrip("/").removesuffix("/v1"), server) for base, _, _ in addresses]
        self.save, self.folder = save, folder
        self.run = uuid.uuid4().hex[:8]
        self.pushes, self.pushed_at = 0, -1
        self.version = self.model
        self.metrics: dict[str, float] = {}
        """Metrics of the last call: the difference of the servers' log-probabilities from the policy's, the age of the
        weights in steps, and the number of lost servers."""

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Sample]]:
        """`samples` completions for each of `prompts` [P]. Raises DataError for a prompt that is too long. Raises
        ServerError if no server samples or takes the weights, or if a reply comes from other weights than the last
        pushed."""
        request = SampleRequest(prompts, samples, seed)
        self.prepare(request, seed[1])
        drawn = self.arrived(request, lambda: self.replies(request))
        return self.scored(request, drawn)

    def prepare(self, request: SampleRequest, step: int) -> None:
        """Push the weights for `request` to the servers, if a push is due at `step`."""
        if request.samples < 1:
            raise ValueError("samples must be ≥ 1")
        refuse_unfit(request.prompts, self.max_positions)
        self._push(step)

    def arrived(self, request: SampleRequest, replies: Callable[[], list[dict[str, Any]]]) -> Drawn:
        """The replies, which the first process receives and all processes get."""
        return Drawn(request.seed, self.pushed_at, world().once(replies), self.lost)

    @property
    def lost(self) -> int:
        """The number of servers that are lost until they take weights again."""
        return sum(server.lost for server in self.servers)

    def close(self) -> None:
        """Stop all requests in progress."""
        for server in self.servers:
            server.wire.close()

    def scored(self, request: SampleRequest, drawn: Drawn) -> list[list[Sample]]:
        """The completions with their log-probabilities under the current policy."""
        replies = [ServerCompletion(**reply) for reply in drawn.replies]
        rows = [replies[i : i + request.samples] for i in range(0, len(replies), request.samples)]
        groups = [
            Group("samples", prompt, tuple(Branch(torch.tensor(s.tokens), Role.DRAFT) for s in row))
            for prompt, row in zip(request.prompts, rows, strict=True)
        ]
        logps = self.policy.logps(groups, Packing())
        self._measure(drawn, [logp for row in logps for logp in row])
        return [
            [self._completion(b.tokens, logp, s) for b, logp, s in zip(g.branches, own, row, strict=True)]
            for g, own, row in zip(groups, logps, rows, strict=True)
        ]

    def _completion(self, tokens: Tensor, logp: Tensor, reply: ServerCompletion) -> Sample:
        if reply.logp is None or self.served.cap is None:
            return Sample(tokens, logp, reply.truncated)
        theirs = torch.tensor(reply.logp, dtype=torch.float64)
        return Sample(tokens, logp, reply.truncated, importance_columns(logp, theirs, self.served.cap))

    def replies(self, request: SampleRequest) -> list[dict[str, Any]]:
        """The fields of a completion for each prompt and sample index."""
        wanted = [(prompt, index) for prompt in request.prompts for index in range(request.samples)]
        with ThreadPoolExecutor(self.served.parallel * len(self.servers), thread_name_prefix="completion") as pool:
            return list(pool.map(lambda place: vars(self._one(place, wanted[place], request.seed)), range(len(wanted))))

    def _push(self, step: int) -> None:
        """Push the current policy to all servers, including lost ones: before the first request, and then every
        `sync_every` steps."""
        if self.served.push == "none":
            self.pushed_at = step if self.pushed_at < 0 else self.pushed_at
            return
        if self.pushes and step // self.served.sync_every == self.pushed_at // self.served.sync_every:
            return
        before, self.pushes = self.version, self.pushes + 1
        version = f"twofold-{self.run}-{self.pushes}"
        folder = self.folder / version
        self.save(folder)
        with world().agreed():
            if world().first:
                self._send(folder, version, before)
        self.version, self.pushed_at = version, step

    def _send(self, folder: Path, version: str, before: str) -> None:
        """Send `version` to every server. Raises LostServerError if none takes it."""
        taken = [self._takes(server, folder, version, before) for server in self.servers]
        failed = [error for error in taken if error is not None]
        if len(failed) == len(self.servers):
            raise failed[0]
        if self.pushes > 1:
            shutil.rmtree(self.folder / before, ignore_errors=True)

    def _takes(self, server: SamplingServer, folder: Path, version: str, before: str) -> LostServerError | None:
        """Send `version` to one server. The error if that server is lost."""
        dialect, wire = server.dialect, server.wire
        try:
            if server.lost:
                _once(lambda: dialect.push(wire, folder, version), dialect.base)
                self.note(f"{dialect.base} is available again, and samples with the weights of this step")
            else:
                server.again(lambda: dialect.push(wire, folder, version), "the weights were not taken")
                if self.pushes > 1:
                    server.again(lambda: dialect.drop(wire, before), "the old weights were not dropped")
            server.lost = False
        except LostServerError as error:
            self._lose(server, error)
            return error
        return None

    def _lose(self, server: SamplingServer, error: LostServerError) -> None:
        if not server.lost and len(self.servers) > 1:
            self.note(
                f"{error.where} is lost: {error.what}; only the other servers sample until it takes weights again"
            )
        server.lost = True

    def _one(self, place: int, wanted: tuple[Tensor, int], seed: tuple[int, int]) -> ServerCompletion:
        """One completion, from the server whose turn it is at `place`; if that one is lost, from another."""
        prompt, index = wanted
        room = min(self.settings.max_new_tokens, self.max_positions - len(prompt))
        how = {
            "max_new_tokens": room, "temperature": self.settings.temperature, "top_p": self.settings.top_p,
            "top_k": self.settings.top_k, "stop": list(self.settings.stop), "stop_tokens": self.stop_tokens,
            "seed": request_seed(seed, prompt, index),
        }  # fmt: skip
        last: LostServerError | None = None
        for server in self._from(place):
            url, body = server.dialect.request(prompt.tolist(), self.version, how)

            def draw(server: SamplingServer = server, url: str = url, body: dict[str, Any] = body) -> ServerCompletion:
                with server.turns:
                    text = server.wire.post(url, body, {404: server.dialect.missing})
                return self._checked(server, text, room)

            try:
                return server.again(draw, "no completion was received")
            except LostServerError as error:
                self._lose(server, error)
                last = error
        where, remedy = (
            self.servers[0].dialect.base,
            "start one again: the same command resumes from the last checkpoint",
        )
        raise last or LostServerError("every server is lost", where=where, remedy=remedy)

    def _from(self, place: int) -> list[SamplingServer]:
        """The servers that are not lost, beginning with the one whose turn it is."""
        alive = [server for server in self.servers if not server.lost]
        first = place % len(alive) if alive else 0
        return alive[first:] + alive[:first]

    def _checked(self, server: SamplingServer, text: str, room: int) -> ServerCompletion:
        try:
            completion = server.dialect.read(read_object(text), self.version)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise RetryableError(
                f"the reply is not a completion with tokens: {type(error).__name__} {error}", raw=text
            ) from None
        if self.served.push != "none" and completion.version != self.version:
            what = f"replies with the weights {completion.version!r}, but {self.version!r} were pushed last"
            remedy = "let only one run push weights to this server"
            raise ServerError(what, where=server.dialect.base, remedy=remedy)
        if completion.logp is None and len(completion.tokens) > room:  # its text may have more tokens than were sampled
            completion = replace(completion, tokens=completion.tokens[:room], truncated=True)
        vocabulary = self.policy.model.config.get_text_config().vocab_size
        logp = [0.0] * len(completion.tokens) if completion.logp is None else completion.logp
        whole = 0 < len(completion.tokens) <= room and len(completion.tokens) == len(logp)
        if not (whole and all(0 <= t < vocabulary for t in completion.tokens) and all(map(math.isfinite, logp))):
            what = f"a completion of {len(completion.tokens)} tokens and {len(logp)} log-probabilities is not valid"
            raise RetryableError(what, raw=text)
        if not (completion.truncated or self.settings.stop or completion.tokens[-1] in self.stop_tokens):
            raise RetryableError("a completion ended without its stop token", raw=text)
        return completion

    def _measure(self, drawn: Drawn, own: Sequence[Tensor]) -> None:
        behind = {"behind": float(drawn.seed[1] - drawn.pushed_at), "lost": float(drawn.lost)}
        self.metrics = {f"served/{name}": value for name, value in (self._distance(drawn, own) | behind).items()}

    def _distance(self, drawn: Drawn, own: Sequence[Tensor]) -> dict[str, float]:
        """The difference of the servers' log-probabilities from the policy's, if the servers report any."""
        if any(reply["logp"] is None for reply in drawn.replies):
            return {}
        theirs = [torch.tensor(reply["logp"], dtype=torch.float64) for reply in drawn.replies]
        off = torch.cat(theirs) - torch.cat([logp.double() for logp in own])
        figures = {
            "logp_off": off.abs().mean().item(),
            "logp_off_most": off.abs().max().item(),
            "kl": off.mean().item(),
        }
        return figures if self.served.cap is None else figures | importance_figures(own, theirs, self.served.cap)


def request_seed(seed: tuple[int, int], prompt: Tensor, index: int) -> int:
    """31 bits of (seed, step), the prompt's tokens and the sample's index."""
    text = f"{seed[0]}/{seed[1]}/{index}/".encode() + as_bytes(prompt)
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little") >> 1


def _once(act: Callable[[], None], base: str) -> None:
    """`act()`, without a second attempt. Raises LostServerError if it fails for any reason."""
    try:
        act()
    except (RetryableError, ServerError) as error:
        raise LostServerError(str(error), where=base, remedy="") from None


def _refuse(policy: Policy, settings: Sampling, server: ServerSettings) -> None:
    """Raise RecipeError for what cannot be pushed or requested."""
    if server.push == "adapter" and policy.adapter is None:
        remedy = "set model.lora, or sampling.server.push=folder"
        raise RecipeError("there is no adapter to push", where="sampling.server.push", remedy=remedy)
    if server.push == "adapter" and (option := _unserved(policy)):
        remedy = f"leave model.lora.{option} out, or sample in this process"
        raise RecipeError(f"servers take no adapter with {option}", where="sampling.server.push", remedy=remedy)
    if server.push == "folder" and policy.adapter is not None:
        remedy = "train all weights, or set sampling.server.push=adapter"
        raise RecipeError("a folder holds a whole model", where="sampling.server.push", remedy=remedy)
    if settings.use_generation_config:
        where, remedy = "sampling.use_generation_config", "leave it out, and set temperature, top_p and top_k yourself"
        raise RecipeError("a server does not use the model's generation_config", where=where, remedy=remedy)
    if server.engine == "vllm" and len(settings.stop) > MOST_STOPS:
        raise RecipeError(f"vLLM takes {MOST_STOPS} stop texts", where="sampling.stop", remedy="leave some out")


def _unserved(policy: Policy) -> str:
    """The option of an adapter that vLLM and SGLang do not support; empty if there is none."""
    config: Any = policy.adapter.peft_config["default"] if policy.adapter is not None else None
    named = {"dora": "use_dora", "modules_to_save": "modules_to_save"}
    return next((option for option, name in named.items() if getattr(config, name, None)), "")
