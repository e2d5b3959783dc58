"""Drafts for training from a server that holds a copy of the policy's weights, pushed to it as training goes on.

vLLM takes a LoRA adapter (/v1/load_lora_adapter), SGLang a checkpoint folder (/update_weights_from_disk). Every push
has a version, which a reply must carry: what older weights said is refused. The log-probabilities of a draft are
computed here, by the policy itself; how far the server's own are from them is told.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from twofold import disk
from twofold.batch import Branch, Group, Role
from twofold.client.http import HttpClient, RetryableError, RetrySettings, loads
from twofold.errors import RecipeError, ServerError
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.sampling.base import Draft, Sampling
from twofold.sampling.cache import max_positions, refuse_unfit
from twofold.sampling.logits_processor import as_bytes
from twofold.world import world


@dataclass(frozen=True)
class ServerDraft:
    """One reply: tokens [n] with the server's own log-probabilities [n], and the version that said them."""

    tokens: list[int]
    logp: list[float]
    truncated: bool
    version: str


class Dialect(Protocol):
    """What a server is asked, and what it answers."""

    def push(self, wire: HttpClient, folder: Path, version: str) -> None: ...

    def drop(self, wire: HttpClient, version: str) -> None: ...

    def request(self, prompt: Sequence[int], version: str, how: Mapping[str, Any]) -> tuple[str, dict[str, Any]]: ...

    def read(self, whole: Any) -> ServerDraft: ...


@dataclass(frozen=True)
class VLLM:
    """vLLM's OpenAI-compatible server: token ids in, token ids and log-probabilities out; adapters by name."""

    base: str

    def push(self, wire: HttpClient, folder: Path, version: str) -> None:
        remedy = "start vllm serve with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
        body = {"lora_name": version, "lora_path": str(disk.real(folder))}
        try:
            wire.post(f"{self.base}/v1/load_lora_adapter", body, {404: remedy, 405: remedy})
        except ServerError as error:
            # An attempt whose answer was lost has loaded it: names are used once.
            if "already been loaded" not in error.what:
                raise

    def drop(self, wire: HttpClient, version: str) -> None:
        wire.post(f"{self.base}/v1/unload_lora_adapter", {"lora_name": version})

    def request(self, prompt: Sequence[int], version: str, how: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        # Everything is said: the server would fill gaps from the model's generation_config.
        body = {
            "model": version, "prompt": list(prompt), "n": 1, "max_tokens": how["max_new_tokens"], "seed": how["seed"],
            "temperature": how["temperature"], "top_p": how["top_p"], "top_k": how["top_k"] or -1, "min_p": 0.0,
            "repetition_penalty": 1.0, "stop_token_ids": how["stop_tokens"], "stop": how["stop"] or None,
            "logprobs": 1, "return_tokens_as_token_ids": True, "skip_special_tokens": False,
        }  # fmt: skip
        return f"{self.base}/v1/completions", body

    def read(self, whole: Any) -> ServerDraft:
        choice = whole["choices"][0]
        tokens = [int(str(name).removeprefix("token_id:")) for name in choice["logprobs"]["tokens"]]
        logp = [float(value) for value in choice["logprobs"]["token_logprobs"]]
        return ServerDraft(tokens, logp, choice["finish_reason"] == "length", str(whole["model"]))


@dataclass(frozen=True)
class SGLang:
    """SGLang's native server: /generate, and weights from a folder."""

    base: str

    def push(self, wire: HttpClient, folder: Path, version: str) -> None:
        remedy = "start python -m sglang.launch_server, whose native interface this is"
        body = {"model_path": str(disk.real(folder)), "weight_version": version, "flush_cache": True}
        text = wire.post(f"{self.base}/update_weights_from_disk", body, {404: remedy, 405: remedy})
        said = _object(text)
        if said.get("success") is not True:
            raise ServerError(f"did not take the weights: {said.get('message', text)[:200]}", where=self.base)

    def drop(self, wire: HttpClient, version: str) -> None:
        """The next weights take the place of these."""

    def request(self, prompt: Sequence[int], version: str, how: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        parameters = {
            "max_new_tokens": how["max_new_tokens"], "temperature": how["temperature"], "top_p": how["top_p"],
            "top_k": how["top_k"] or -1, "min_p": 0.0, "repetition_penalty": 1.0, "stop": how["stop"] or None,
            "stop_token_ids": how["stop_tokens"], "sampling_seed": how["seed"], "skip_special_tokens": False,
        }  # fmt: skip
        body = {"input_ids": list(prompt), "sampling_params": parameters, "return_logprob": True}
        return f"{self.base}/generate", body

    def read(self, whole: Any) -> ServerDraft:
        meta = whole["meta_info"]
        logp = [float(entry[0]) for entry in meta["output_token_logprobs"]]
        tokens = [int(token) for token in whole["output_ids"]]
        return ServerDraft(tokens, logp, meta["finish_reason"]["type"] == "length", str(meta["weight_version"]))


class ServerSampler:
    """A `Sampler` whose drafts a server draws. The noise is the server's, seeded by (seed, step), prompt and sample."""

    def __init__(
        self,
        policy: Policy,
        stop_tokens: Collection[int],
        settings: Sampling,
        save: Callable[[Path], None],
        folder: Path,
    ) -> None:
        """`save` writes the policy's weights into a folder, which the server must see under the same path."""
        server = settings.server
        assert server is not None
        if server.push == "adapter" and policy.adapter is None:
            remedy = "set model.lora, or sampling.server.push=folder for an SGLang server"
            raise RecipeError("there is no adapter to push", where="sampling.server.push", remedy=remedy)
        if server.push == "folder" and policy.adapter is not None:
            remedy = "train all weights, or set sampling.server.push=adapter for a vLLM server"
            raise RecipeError("a folder holds a whole model", where="sampling.server.push", remedy=remedy)
        if settings.use_generation_config:
            raise RecipeError("a server is told every setting", where="sampling.use_generation_config")
        self.policy, self.settings, self.served = policy, settings, server
        self.stop_tokens, self.max_positions = sorted(stop_tokens), max_positions(policy.model)
        base, _, self.model = server.url.partition("#")
        base = base.rstrip("/").removesuffix("/v1")
        self.dialect: Dialect = SGLang(base) if server.push == "folder" else VLLM(base)
        self.wire = HttpClient(base, RetrySettings(timeout=server.timeout, attempts=server.attempts, pause=server.pause,
                                      parallel=server.parallel))  # fmt: skip
        self.save, self.folder = save, folder
        self.run = uuid.uuid4().hex[:8]
        self.pushes, self.pushed_at = 0, -1
        self.version = self.model
        self.metrics: dict[str, float] = {}
        """Of the last call: how far the server's log-probabilities are from ours, and how many steps it is behind."""

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Draft]]:
        """`samples` drafts for each of `prompts` [P]. Raises DataError for a prompt without room for a draft, and
        ServerError where the server does not draw, does not take the weights, or answers with others than the last."""
        if samples < 1:
            raise ValueError("samples must be ≥ 1")
        refuse_unfit(prompts, self.max_positions)
        self._push(seed[1])
        asked = [(prompt, index) for prompt in prompts for index in range(samples)]
        said = [ServerDraft(**reply) for reply in world().once(lambda: self._replies(asked, seed))]
        rows = [said[i : i + samples] for i in range(0, len(said), samples)]
        groups = [
            Group("drafts", prompt, tuple(Branch(torch.tensor(s.tokens), Role.DRAFT) for s in row))
            for prompt, row in zip(prompts, rows, strict=True)
        ]
        logps = self.policy.logps(groups, Packing())
        self._measure(said, [logp for row in logps for logp in row], seed[1])
        return [
            [Draft(b.tokens, logp, s.truncated) for b, logp, s in zip(g.branches, own, row, strict=True)]
            for g, own, row in zip(groups, logps, rows, strict=True)
        ]

    def _replies(self, asked: Sequence[tuple[Tensor, int]], seed: tuple[int, int]) -> list[dict[str, Any]]:
        """The fields of a draft for each prompt and index."""
        with ThreadPoolExecutor(self.served.parallel, thread_name_prefix="draft") as pool:
            return list(pool.map(lambda each: vars(self._one(each[0], each[1], seed)), asked))

    def _push(self, step: int) -> None:
        """Every so many steps, and before the first draft, the server gets the policy as it is."""
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
        self._again(lambda: self.dialect.push(self.wire, folder, version), "the weights were not taken")
        if self.pushes > 1:
            self._again(lambda: self.dialect.drop(self.wire, before), "the old weights were not dropped")
            shutil.rmtree(self.folder / before, ignore_errors=True)

    def _one(self, prompt: Tensor, index: int, seed: tuple[int, int]) -> ServerDraft:
        """One draft, asked for until it is whole."""
        room = min(self.settings.max_new_tokens, self.max_positions - len(prompt))
        how = {
            "max_new_tokens": room, "temperature": self.settings.temperature, "top_p": self.settings.top_p,
            "top_k": self.settings.top_k, "stop": list(self.settings.stop), "stop_tokens": self.stop_tokens,
            "seed": request_seed(seed, prompt, index),
        }  # fmt: skip
        url, body = self.dialect.request(prompt.tolist(), self.version, how)
        return self._again(lambda: self._checked(self.wire.post(url, body), room), "a draft was not drawn")

    def _checked(self, text: str, room: int) -> ServerDraft:
        try:
            said = self.dialect.read(_object(text))
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise RetryableError(
                f"the answer is no draft with tokens: {type(error).__name__} {error}", raw=text
            ) from None
        if self.served.push != "none" and said.version != self.version:
            what = f"answers with the weights {said.version!r}, {self.version!r} were pushed last"
            raise ServerError(what, where=self.served.url, remedy="let one run alone push weights to this server")
        vocabulary = self.policy.model.config.get_text_config().vocab_size
        whole = 0 < len(said.tokens) <= room and len(said.tokens) == len(said.logp)
        if (
            not whole
            or not all(0 <= token < vocabulary for token in said.tokens)
            or not all(map(math.isfinite, said.logp))
        ):
            raise RetryableError(
                f"a draft of {len(said.tokens)} tokens and {len(said.logp)} log-probabilities is none", raw=text
            )
        if not (said.truncated or self.settings.stop or said.tokens[-1] in self.stop_tokens):
            raise RetryableError("a draft ended without its stop token", raw=text)
        return said

    def _again(self, act: Callable[[], Any], fault: str) -> Any:
        try:
            for attempt in self.wire.retrying():
                with attempt:
                    return act()
        except RetryableError as error:
            what = f"{fault} in {self.served.attempts} attempts: {error}"
            raise ServerError(what, where=self.served.url, remedy="resume the run once the server is well") from None
        raise AssertionError("tenacity raises the last failure")

    def _measure(self, said: Sequence[ServerDraft], own: Sequence[Tensor], step: int) -> None:
        theirs = torch.cat([torch.tensor(s.logp, dtype=torch.float64) for s in said])
        off = theirs - torch.cat([logp.double() for logp in own])
        self.metrics = {
            "served/logp_off": off.abs().mean().item(),
            "served/logp_off_most": off.abs().max().item(),
            "served/kl": off.mean().item(),
            "served/behind": float(step - self.pushed_at),
            "served/pushes": float(self.pushes),
        }


def request_seed(seed: tuple[int, int], prompt: Tensor, index: int) -> int:
    """31 bits of (seed, step), the prompt's tokens and the sample's index."""
    text = f"{seed[0]}/{seed[1]}/{index}/".encode() + as_bytes(prompt)
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little") >> 1


def _object(text: str) -> dict[str, Any]:
    try:
        whole = loads(text)
    except ValueError:
        raise RetryableError("the answer is no JSON", raw=text[:2000]) from None
    if not isinstance(whole, dict):
        raise RetryableError("the answer is no JSON object", raw=text[:2000])
    return whole
