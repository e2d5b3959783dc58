"""Requests to inference servers and their replies: vLLM and SGLang, for adapters and whole models.

Every push has a version, which each reply must contain. A version is used only once, so a push can be repeated safely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from twofold import disk
from twofold.client.http import HttpClient, RetryableError, loads
from twofold.errors import ServerError

MOST_STOPS = 4
"""The maximum number of stop strings in vLLM."""
SAME_PATH = "the server must see the run's folder under the same path"
FINISHED = ("stop", "length")
"""The finish reasons of a complete reply, on both servers. With another reason (`abort`) the reply is incomplete."""


@dataclass(frozen=True)
class ServerCompletion:
    """One reply: tokens [n] with the server's own log-probabilities [n], and the version of its weights. A server that
    returns only text has no log-probabilities; `tokens` are then those of its text."""

    tokens: list[int]
    logp: list[float] | None
    truncated: bool
    version: str


class Dialect(Protocol):
    """The interface of one kind of server. Raises ServerError for a refusal, RetryableError for a temporary fault."""

    missing: ClassVar[str]
    serial: ClassVar[bool]
    """Whether the server samples one completion at a time."""

    @property
    def base(self) -> str: ...

    def push(self, wire: HttpClient, folder: Path, version: str) -> None: ...

    def drop(self, wire: HttpClient, version: str) -> None: ...

    def request(self, prompt: Sequence[int], version: str, how: Mapping[str, Any]) -> tuple[str, dict[str, Any]]: ...

    def read(self, whole: Any, version: str) -> ServerCompletion:
        """The completion in a reply to a request for `version`."""
        ...


@dataclass(frozen=True)
class VLLM:
    """vLLM's OpenAI-compatible server: token ids in, token ids and log-probabilities out; adapters by name."""

    base: str
    serial: ClassVar[bool] = False
    missing: ClassVar[str] = "only one API server gets the weights: start vllm serve with --api-server-count 1"
    """The remedy for a reply of 404 to a completion request."""

    def push(self, wire: HttpClient, folder: Path, version: str) -> None:
        remedy = "start vllm serve with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
        body = {"lora_name": version, "lora_path": str(disk.real(folder))}
        try:
            wire.post(f"{self.base}/v1/load_lora_adapter", body, {400: SAME_PATH, 404: remedy, 405: remedy})
        except ServerError as error:
            # An earlier attempt whose reply was lost has loaded it: names are used only once.
            if "already been loaded" not in error.what:
                raise

    def drop(self, wire: HttpClient, version: str) -> None:
        _unload(wire, f"{self.base}/v1/unload_lora_adapter", version)

    def request(self, prompt: Sequence[int], version: str, how: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        # All parameters are set: the server would take missing ones from the model's generation_config.
        body = {
            "model": version, "prompt": list(prompt), "n": 1, "max_tokens": how["max_new_tokens"], "seed": how["seed"],
            "temperature": how["temperature"], "top_p": how["top_p"], "top_k": how["top_k"] or -1, "min_p": 0.0,
            "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
            "stop_token_ids": how["stop_tokens"], "stop": how["stop"] or None, "logprobs": 1, "return_token_ids": True,
            "return_tokens_as_token_ids": True, "skip_special_tokens": False,
        }  # fmt: skip
        return f"{self.base}/v1/completions", body

    def read(self, whole: Any, version: str) -> ServerCompletion:
        choice = whole["choices"][0]
        tokens = choice.get("token_ids")
        if tokens is None:  # a server without `return_token_ids`
            tokens = [str(name).removeprefix("token_id:") for name in choice["logprobs"]["tokens"]]
        logp = [float(value) for value in choice["logprobs"]["token_logprobs"]]
        cut = truncated(choice["finish_reason"])
        return ServerCompletion([int(token) for token in tokens], logp, cut, self._version(whole, choice))

    def _version(self, whole: Any, choice: Any) -> str:
        return str(whole["model"])


@dataclass(frozen=True)
class WholeVLLM(VLLM):
    """vLLM in development mode, which can load a folder into the running model."""

    def push(self, wire: HttpClient, folder: Path, version: str) -> None:
        remedy = "start vllm serve with VLLM_SERVER_DEV_MODE=1, on an address that nobody else reaches"
        remedies = {400: SAME_PATH, 404: remedy, 405: remedy}
        load = {"method": "reload_weights", "kwargs": {"weights_path": str(disk.real(folder))}}
        wire.post(f"{self.base}/collective_rpc", load, remedies)
        wire.post(f"{self.base}/reset_prefix_cache", {}, remedies)
        older = "update vLLM: this one gives its weights no version (/update_weight_version)"
        wire.post(f"{self.base}/update_weight_version", {"new_version": version}, {404: older, 405: older})

    def drop(self, wire: HttpClient, version: str) -> None:
        """The next weights replace these."""

    def request(self, prompt: Sequence[int], version: str, how: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        url, body = super().request(prompt, version, how)
        del body["model"]  # the server has only one
        return url, {**body, "return_weight_versions": True}

    def _version(self, whole: Any, choice: Any) -> str:
        return "+".join(dict.fromkeys(str(span["version"]) for span in choice["weight_versions"]))


@dataclass(frozen=True)
class SGLang:
    """SGLang's native server: /generate, and weights from a folder."""

    base: str
    serial: ClassVar[bool] = False
    missing: ClassVar[str] = "start python -m sglang.launch_server, whose native interface this is"

    def push(self, wire: HttpClient, folder: Path, version: str) -> None:
        body = {"model_path": str(disk.real(folder)), "weight_version": version, "flush_cache": True}
        self._push(wire, "update_weights_from_disk", body)

    def _push(self, wire: HttpClient, verb: str, body: Mapping[str, Any]) -> None:
        remedies = {400: SAME_PATH, 404: self.missing, 405: self.missing}
        text = wire.post(f"{self.base}/{verb}", body, remedies)
        answer = read_object(text)
        if answer.get("success") is not True:
            what, remedy = (
                f"did not take the weights: {answer.get('message', text)[:200]}",
                "look at the server's own log",
            )
            raise ServerError(what, where=self.base, remedy=remedy)

    def drop(self, wire: HttpClient, version: str) -> None:
        """The next weights replace these."""

    def request(self, prompt: Sequence[int], version: str, how: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        parameters = {
            "max_new_tokens": how["max_new_tokens"], "temperature": how["temperature"], "top_p": how["top_p"],
            "top_k": how["top_k"] or -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
            "frequency_penalty": 0.0, "stop": how["stop"] or None, "stop_token_ids": how["stop_tokens"],
            "sampling_seed": how["seed"], "skip_special_tokens": False,
        }  # fmt: skip
        body = {"input_ids": list(prompt), "sampling_params": parameters, "return_logprob": True}
        return f"{self.base}/generate", body

    def read(self, whole: Any, version: str) -> ServerCompletion:
        meta = whole["meta_info"]
        logp = [float(entry[0]) for entry in meta["output_token_logprobs"]]
        tokens = [int(token) for token in whole["output_ids"]]
        return ServerCompletion(tokens, logp, truncated(meta["finish_reason"]["type"]), self._version(meta, version))

    def _version(self, meta: Any, version: str) -> str:
        return str(meta["weight_version"])


@dataclass(frozen=True)
class AdapterSGLang(SGLang):
    """SGLang's native server with LoRA adapters by name. It refuses an unknown name; its replies contain no name."""

    missing: ClassVar[str] = "start python -m sglang.launch_server with --enable-lora"

    def push(self, wire: HttpClient, folder: Path, version: str) -> None:
        try:
            self._push(wire, "load_lora_adapter", {"lora_name": version, "lora_path": str(disk.real(folder))})
        except ServerError as error:
            if "already" not in error.what:  # an earlier attempt whose reply was lost has loaded it
                raise

    def drop(self, wire: HttpClient, version: str) -> None:
        _unload(wire, f"{self.base}/unload_lora_adapter", version)

    def request(self, prompt: Sequence[int], version: str, how: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        url, body = super().request(prompt, version, how)
        return url, {**body, "lora_path": version}

    def _version(self, meta: Any, version: str) -> str:
        return version


def read_object(text: str) -> dict[str, Any]:
    """The JSON object in a server's reply. Raises RetryableError for anything else."""
    try:
        whole = loads(text)
    except ValueError:
        raise RetryableError("the reply is not JSON", raw=text[:2000]) from None
    if not isinstance(whole, dict):
        raise RetryableError("the reply is not a JSON object", raw=text[:2000])
    return whole


def truncated(reason: object) -> bool:
    """Whether a completion with this finish `reason` reached the token limit. Raises RetryableError if it is
    incomplete."""
    if reason not in FINISHED:
        raise RetryableError(f"a completion has the finish reason {reason!r}")
    return reason == "length"


def _unload(wire: HttpClient, url: str, version: str) -> None:
    """Drop an adapter. If it does not exist, an earlier attempt whose reply was lost has dropped it."""
    try:
        wire.post(url, {"lora_name": version})
    except ServerError as error:
        if not error.what.startswith(("HTTP 404", "HTTP 400")):
            raise
