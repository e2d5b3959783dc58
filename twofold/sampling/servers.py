"""Drafts for training from servers that hold copies of the policy's weights, pushed to them as training goes on.

Drafts are dealt to the servers in turn, and those of a server that is lost go to the others. Every push has a version,
which a reply must carry: what older weights drew is refused. The log-probabilities of a draft are computed here, by the
policy itself; how far the server's own are from them is reported.
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
from twofold.sampling.base import Draft, DraftRequest, Sampling, ServerSettings
from twofold.sampling.cache import max_positions, refuse_unfit
from twofold.sampling.dialects import (
    MOST_STOPS,
    VLLM,
    AdapterSGLang,
    Dialect,
    ServerDraft,
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
"""By `engine` and `push` of the settings."""


class LostServerError(ServerError):
    """A server that did not do one thing in all attempts."""


class DraftServer:
    """One server: its dialect, and requests repeated until they are answered."""

    def __init__(self, base: str, settings: ServerSettings) -> None:
        self.dialect: Dialect = DIALECTS[settings.engine, settings.push](base)
        self.wire = HttpClient(base, RetrySettings(timeout=settings.timeout, attempts=settings.attempts,
                                      pause=settings.pause, parallel=settings.parallel))  # fmt: skip
        self.turns = BoundedSemaphore(1 if self.dialect.serial else settings.parallel)
        self.lost = False

    def again(self, act: Callable[[], Any], fault: str) -> Any:
        """`act()` until it is done. Raises LostServerError once all attempts failed, and what refuses the request."""
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
    """What servers drew for a step, before the policy has seen it; all of it JSON."""

    seed: tuple[int, int]
    pushed_at: int
    """The step at whose begin the policy had the weights that drew."""
    replies: list[dict[str, Any]]
    lost: int


class ServerSampler:
    """A `Sampler` whose drafts servers draw. The noise is theirs, seeded by (seed, step), prompt and sample, whichever
    of them draws."""

    def __init__(
        self,
        policy: Policy,
        stop_tokens: Collection[int],
        settings: Sampling,
        save: Callable[[Path], None],
        folder: Path,
        note: Notes = lambda message: None,
    ) -> None:
        """`save` writes the policy's weights into a folder, which the servers must see under the same path; `note`
        hears of servers that are lost and found."""
        server = settings.server
        assert server is not None
        _refuse(policy, settings, server)
        self.policy, self.settings, self.served, self.note = policy, settings, server, note
        self.stop_tokens, self.max_positions = sorted(stop_tokens), max_positions(policy.model)
        addresses = [url.partition("#") for url in server.urls()]
        self.model = addresses[0][2]
        self.servers = [DraftServer(base.rstrip("/").removesuffix("/v1"), server) for base, _, _ in addresses]
        self.save, self.folder = save, folder
        self.run = uuid.uuid4().hex[:8]
        self.pushes, self.pushed_at = 0, -1
        self.version = self.model
        self.metrics: dict[str, float] = {}
        """Of the last call: how far the servers' log-probabilities are from ours, how many steps they are behind."""

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Draft]]:
        """`samples` drafts for each of `prompts` [P]. Raises DataError for a prompt without room for a draft, and
        ServerError where no server draws, takes the weights, or one answers with others than the last."""
        request = DraftRequest(prompts, samples, seed)
        self.prepare(request, seed[1])
        drawn = self.arrived(request, lambda: self.replies(request))
        return self.scored(request, drawn)

    def prepare(self, request: DraftRequest, step: int) -> None:
        """Let the servers have the weights that draw `request`: those of `step`, or of the last push before it."""
        if request.samples < 1:
            raise ValueError("samples must be ≥ 1")
        refuse_unfit(request.prompts, self.max_positions)
        self._push(step)

    def arrived(self, request: DraftRequest, replies: Callable[[], list[dict[str, Any]]]) -> Drawn:
        """On all processes what the first one has of `replies`."""
        return Drawn(request.seed, self.pushed_at, world().once(replies), self.lost)

    @property
    def lost(self) -> int:
        """Servers that draw nothing until they take weights again."""
        return sum(server.lost for server in self.servers)

    def close(self) -> None:
        """End what is under way."""
        for server in self.servers:
            server.wire.close()

    def scored(self, request: DraftRequest, drawn: Drawn) -> list[list[Draft]]:
        """The drafts with the log-probabilities that the policy, as it is now, gives them."""
        said = [ServerDraft(**reply) for reply in drawn.replies]
        rows = [said[i : i + request.samples] for i in range(0, len(said), request.samples)]
        groups = [
            Group("drafts", prompt, tuple(Branch(torch.tensor(s.tokens), Role.DRAFT) for s in row))
            for prompt, row in zip(request.prompts, rows, strict=True)
        ]
        logps = self.policy.logps(groups, Packing())
        self._measure(drawn, [logp for row in logps for logp in row])
        return [
            [self._draft(b.tokens, logp, s) for b, logp, s in zip(g.branches, own, row, strict=True)]
            for g, own, row in zip(groups, logps, rows, strict=True)
        ]

    def _draft(self, tokens: Tensor, logp: Tensor, reply: ServerDraft) -> Draft:
        if reply.logp is None or self.served.cap is None:
            return Draft(tokens, logp, reply.truncated)
        theirs = torch.tensor(reply.logp, dtype=torch.float64)
        return Draft(tokens, logp, reply.truncated, importance_columns(logp, theirs, self.served.cap))

    def replies(self, request: DraftRequest) -> list[dict[str, Any]]:
        """The fields of a draft for each prompt and index."""
        wanted = [(prompt, index) for prompt in request.prompts for index in range(request.samples)]
        with ThreadPoolExecutor(self.served.parallel * len(self.servers), thread_name_prefix="draft") as pool:
            return list(pool.map(lambda place: vars(self._one(place, wanted[place], request.seed)), range(len(wanted))))

    def _push(self, step: int) -> None:
        """Every so many steps, and before the first draft, all servers get the policy as it is; also those that were
        lost."""
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
                self._hand_over(folder, version, before)
        self.version, self.pushed_at = version, step

    def _hand_over(self, folder: Path, version: str, before: str) -> None:
        """Let every server take `version`. Raises LostServerError where none does."""
        taken = [self._takes(server, folder, version, before) for server in self.servers]
        failed = [error for error in taken if error is not None]
        if len(failed) == len(self.servers):
            raise failed[0]
        if self.pushes > 1:
            shutil.rmtree(self.folder / before, ignore_errors=True)

    def _takes(self, server: DraftServer, folder: Path, version: str, before: str) -> LostServerError | None:
        """Let one server take `version`. The error of one that is lost."""
        dialect, wire = server.dialect, server.wire
        try:
            if server.lost:
                _once(lambda: dialect.push(wire, folder, version), dialect.base)
                self.note(f"{dialect.base} is back, and draws with the weights of this step")
            else:
                server.again(lambda: dialect.push(wire, folder, version), "the weights were not taken")
                if self.pushes > 1:
                    server.again(lambda: dialect.drop(wire, before), "the old weights were not dropped")
            server.lost = False
        except LostServerError as error:
            self._lose(server, error)
            return error
        return None

    def _lose(self, server: DraftServer, error: LostServerError) -> None:
        if not server.lost and len(self.servers) > 1:
            self.note(f"{error.where} is lost: {error.what}; the other servers draw until it takes weights again")
        server.lost = True

    def _one(self, place: int, wanted: tuple[Tensor, int], seed: tuple[int, int]) -> ServerDraft:
        """One draft, requested until it is whole: of the server whose turn `place` is, or of one that is left."""
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

            def draw(server: DraftServer = server, url: str = url, body: dict[str, Any] = body) -> ServerDraft:
                with server.turns:
                    text = server.wire.post(url, body, {404: server.dialect.missing})
                return self._checked(server, text, room)

            try:
                return server.again(draw, "a draft was not drawn")
            except LostServerError as error:
                self._lose(server, error)
                last = error
        where, remedy = (
            self.servers[0].dialect.base,
            "start one again: the same command goes on from the last checkpoint",
        )
        raise last or LostServerError("every server is lost", where=where, remedy=remedy)

    def _from(self, place: int) -> list[DraftServer]:
        """Those that are there, beginning with the one whose turn it is."""
        alive = [server for server in self.servers if not server.lost]
        first = place % len(alive) if alive else 0
        return alive[first:] + alive[:first]

    def _checked(self, server: DraftServer, text: str, room: int) -> ServerDraft:
        try:
            draft = server.dialect.read(read_object(text), self.version)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise RetryableError(
                f"the answer is no draft with tokens: {type(error).__name__} {error}", raw=text
            ) from None
        if self.served.push != "none" and draft.version != self.version:
            what = f"answers with the weights {draft.version!r}, {self.version!r} were pushed last"
            remedy = "let one run alone push weights to this server"
            raise ServerError(what, where=server.dialect.base, remedy=remedy)
        if draft.logp is None and len(draft.tokens) > room:  # a text may be more tokens than were drawn
            draft = replace(draft, tokens=draft.tokens[:room], truncated=True)
        vocabulary = self.policy.model.config.get_text_config().vocab_size
        logp = [0.0] * len(draft.tokens) if draft.logp is None else draft.logp
        whole = 0 < len(draft.tokens) <= room and len(draft.tokens) == len(logp)
        if not (whole and all(0 <= t < vocabulary for t in draft.tokens) and all(map(math.isfinite, logp))):
            what = f"a draft of {len(draft.tokens)} tokens and {len(logp)} log-probabilities is none"
            raise RetryableError(what, raw=text)
        if not (draft.truncated or self.settings.stop or draft.tokens[-1] in self.stop_tokens):
            raise RetryableError("a draft ended without its stop token", raw=text)
        return draft

    def _measure(self, drawn: Drawn, own: Sequence[Tensor]) -> None:
        behind = {"behind": float(drawn.seed[1] - drawn.pushed_at), "lost": float(drawn.lost)}
        self.metrics = {f"served/{name}": value for name, value in (self._distance(drawn, own) | behind).items()}

    def _distance(self, drawn: Drawn, own: Sequence[Tensor]) -> dict[str, float]:
        """How far the servers' log-probabilities are from those of the policy, where they report any."""
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
    """`act()`, without patience. Raises LostServerError where it fails in any way."""
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
        remedy = f"leave model.lora.{option} out, or draw the drafts here"
        raise RecipeError(f"servers take no adapter with {option}", where="sampling.server.push", remedy=remedy)
    if server.push == "folder" and policy.adapter is not None:
        remedy = "train all weights, or set sampling.server.push=adapter"
        raise RecipeError("a folder holds a whole model", where="sampling.server.push", remedy=remedy)
    if settings.use_generation_config:
        where, remedy = "sampling.use_generation_config", "leave it out, and set temperature, top_p and top_k yourself"
        raise RecipeError("a server is told every setting", where=where, remedy=remedy)
    if server.engine == "vllm" and len(settings.stop) > MOST_STOPS:
        raise RecipeError(f"vLLM takes {MOST_STOPS} stop texts", where="sampling.stop", remedy="leave some out")


def _unserved(policy: Policy) -> str:
    """The option of an adapter that vLLM and SGLang refuse; empty where there is none."""
    config: Any = policy.adapter.peft_config["default"] if policy.adapter is not None else None
    named = {"dora": "use_dora", "modules_to_save": "modules_to_save"}
    return next((option for option, name in named.items() if getattr(config, name, None)), "")
