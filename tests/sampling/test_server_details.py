"""Details of sampling from servers: remedies of each request, threads, ages of weights, and completions of text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from support import tiny
from twofold.client.http import RetryableError
from twofold.errors import ServerError
from twofold.sampling import servers
from twofold.sampling.ahead import SamplesAhead
from twofold.sampling.base import SampleRequest, Sampling, ServerSettings
from twofold.sampling.dialects import VLLM, AdapterSGLang, ServerCompletion, SGLang, WholeVLLM
from twofold.sampling.servers import Drawn, ServerSampler
from twofold.sampling.text_dialect import Transformers

PATH = "the server must see the run's folder under the same path"
ADAPTERS = "start vllm serve with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
DEV = "start vllm serve with VLLM_SERVER_DEV_MODE=1, on an address that nobody else reaches"
OLDER = "update vLLM: this one gives its weights no version (/update_weight_version)"
NATIVE = "start python -m sglang.launch_server, whose native interface this is"
LORA = "start python -m sglang.launch_server with --enable-lora"


class Wire:
    """Answers success to whatever is sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def post(self, url: str, body: Any, remedies: Mapping[int, str] | None = None) -> str:
        self.sent.append((url.removeprefix("http://h/"), remedies))
        return '{"success": true}'


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        (VLLM, [("v1/load_lora_adapter", {400: PATH, 404: ADAPTERS, 405: ADAPTERS}),
                ("v1/unload_lora_adapter", None)]),
        (WholeVLLM, [("collective_rpc", {400: PATH, 404: DEV, 405: DEV}),
                     ("reset_prefix_cache", {400: PATH, 404: DEV, 405: DEV}),
                     ("update_weight_version", {404: OLDER, 405: OLDER})]),
        (SGLang, [("update_weights_from_disk", {400: PATH, 404: NATIVE, 405: NATIVE})]),
        (AdapterSGLang, [("load_lora_adapter", {400: PATH, 404: LORA, 405: LORA}), ("unload_lora_adapter", None)]),
    ],
)  # fmt: skip
def test_each_request_has_its_remedies(kind: Any, sent: list[Any], tmp_path: Path) -> None:
    wire: Any = Wire()
    kind("http://h").push(wire, tmp_path, "v2")
    kind("http://h").drop(wire, "v1")
    assert wire.sent == sent


def test_only_transformers_samples_one_at_a_time() -> None:
    kinds: dict[Any, bool] = {VLLM: False, WholeVLLM: False, SGLang: False, AdapterSGLang: False, Transformers: True}
    assert {kind: kind.serial for kind in kinds} == kinds
    assert VLLM.missing == "only one API server gets the weights: start vllm serve with --api-server-count 1"


class Spelling:
    """A tokenizer of one letter a token that records how it is called."""

    eos_token_id = 3

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def decode(self, tokens: Any, **how: Any) -> str:
        self.calls.append(how)
        return "".join(chr(97 + token) for token in tokens)

    def __call__(self, text: str, **how: Any) -> dict[str, list[int]]:
        self.calls.append(how)
        return {"input_ids": [ord(letter) - 97 for letter in text]}


def test_texts_are_read_without_special_tokens() -> None:
    dialect, spelling = Transformers("http://h"), Spelling()
    assert (dialect._stop_token, dialect._folders, dialect._tokenizer) == (-1, {}, None)
    dialect._tokenizer, dialect._folders = spelling, {"v1": "here"}
    how = {"max_new_tokens": 4, "temperature": 0.5, "top_p": 0.9, "top_k": 7, "stop": [], "stop_tokens": [3], "seed": 1}
    _, body = dialect.request([0, 1], "v1", how)
    assert json.loads(body["generation_config"])["top_k"] == 7
    dialect.read({"model": "here", "choices": [{"text": "ab", "finish_reason": "stop"}]}, "v1")
    plain = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    assert spelling.calls == [plain, {}, {"add_special_tokens": False}]


URLS = ("http://a:1", "http://b:2", "http://c:3")


def sampler(folder: Path, notes: list[str] | None = None, stop: tuple[str, ...] = (), **how: Any) -> ServerSampler:
    server = ServerSettings(**{"url": URLS, "push": "folder", **how})
    settings = Sampling(max_new_tokens=9, server=server, stop=stop)
    policy = tiny.policy(dtype=torch.float32)
    heard = [] if notes is None else notes
    return ServerSampler(policy, {5, 2}, settings, lambda path: path.mkdir(), folder, heard.append)


def test_as_many_threads_as_all_servers_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[Any] = []
    pool = servers.ThreadPoolExecutor
    monkeypatch.setattr(
        servers, "ThreadPoolExecutor", lambda *most, **how: pools.append((most, how)) or pool(*most, **how)
    )
    made = sampler(tmp_path, parallel=4)
    assert made.replies(SampleRequest([], 2, (0, 0))) == []
    assert pools == [((12,), {"thread_name_prefix": "completion"})]


def test_a_servers_own_weights_are_of_the_first_step(tmp_path: Path) -> None:
    made = sampler(tmp_path, url="http://a:1#m", push="none")
    for step in (0, 7):
        made._push(step)
        assert made.pushed_at == 0


def test_a_call_is_prepared_drawn_and_scored_for_its_step(tmp_path: Path) -> None:
    made, calls = sampler(tmp_path), list[Any]()
    reply = vars(ServerCompletion([4, 5], [-1.0, -2.0], False, "v"))
    made._push = lambda step: calls.append(step)  # type: ignore[method-assign]
    made.replies = lambda request: calls.append(request) or [reply] * 4  # type: ignore[method-assign]
    made.servers[1].lost = True
    made.pushed_at = 6
    prompts = [torch.tensor([7, 8]), torch.tensor([9])]
    drawn = made.sample(prompts, samples=2, seed=(3, 8))
    assert [(call if isinstance(call, int) else call.seed) for call in calls] == [8, (3, 8)]
    assert [[(s.tokens.tolist(), s.truncated, s.columns) for s in row] for row in drawn] == [
        [([4, 5], False, {})] * 2
    ] * 2
    assert (made.metrics["served/behind"], made.metrics["served/lost"]) == (2.0, 1.0)
    assert made.arrived(SampleRequest(prompts, 2, (3, 8)), lambda: [reply]) == Drawn((3, 8), 6, [reply], 1)


class Texts:
    """A dialect whose replies are tokens without log-probabilities."""

    base = "http://a:1"

    def read(self, whole: Any, version: str) -> ServerCompletion:
        return ServerCompletion(whole["tokens"], None, whole["cut"], version)


@pytest.mark.parametrize(
    ("tokens", "cut", "read"),
    [
        ([7, 7, 5], False, ([7, 7, 5], False)), ([7, 7, 7, 5], False, ([7, 7, 7, 5], False)),
        ([7, 7, 7, 7, 5], False, ([7, 7, 7, 7], True)), ([7, 7, 7, 7], True, ([7, 7, 7, 7], True)),
    ],
)  # fmt: skip
def test_a_text_of_more_tokens_than_there_is_room_for_is_cut(
    tokens: list[int], cut: bool, read: tuple[list[int], bool], tmp_path: Path
) -> None:
    made = sampler(tmp_path)
    server: Any = SimpleNamespace(dialect=Texts())
    checked = made._checked(server, json.dumps({"tokens": tokens, "cut": cut}), 4)
    assert ((checked.tokens, checked.truncated), checked.logp) == (read, None)


@pytest.mark.parametrize(
    ("tokens", "logp", "message"),
    [
        ([], [], "a completion of 0 tokens and 0 log-probabilities is not valid"),
        ([1] * 5, [0.0] * 5, "a completion of 5 tokens and 5 log-probabilities is not valid"),
        ([1, 5], [0.0], "a completion of 2 tokens and 1 log-probabilities is not valid"),
        ([61, 5], [0.0] * 2, "a completion of 2 tokens and 2 log-probabilities is not valid"),
        ([5, 1], [0.0] * 2, "a completion ended without its stop token"),
    ],
)
def test_what_is_no_completion_is_requested_again(
    tokens: list[int], logp: list[float], message: str, tmp_path: Path
) -> None:
    read = ServerCompletion(tokens, logp, False, "")
    server: Any = SimpleNamespace(dialect=SimpleNamespace(read=lambda whole, version: read, base="http://a:1"))
    with pytest.raises(RetryableError) as refused:
        sampler(tmp_path)._checked(server, '{"a": 1}', 4)
    assert (str(refused.value), refused.value.raw) == (message, '{"a": 1}')
    if "stop token" in message:
        assert sampler(tmp_path, stop=("END",))._checked(server, '{"a": 1}', 4) is read


def test_a_reply_of_other_weights_in_words(tmp_path: Path) -> None:
    made = sampler(tmp_path)
    made.version = "v2"
    read = ServerCompletion([5], [0.0], False, "v1")
    server: Any = SimpleNamespace(dialect=SimpleNamespace(read=lambda whole, version: read, base="http://a:1"))
    with pytest.raises(ServerError) as refused:
        made._checked(server, "{}", 4)
    assert str(refused.value) == (
        "http://a:1: replies with the weights 'v1', but 'v2' were pushed last\n"
        "  → let only one run push weights to this server"
    )


def test_completions_are_capped_at_the_setting(tmp_path: Path) -> None:
    """A weight of e^1.5 = 4.48 is cut to 2: the policy finds a token that much likelier than the server."""
    made = sampler(tmp_path, importance_cap=2.0)
    reply = ServerCompletion([3], [-2.0], True, "v")
    columns = made._completion(torch.tensor([3]), torch.tensor([-0.5]), reply).columns
    free = sampler(tmp_path / "b", importance_cap=100.0)._completion(torch.tensor([3]), torch.tensor([-0.5]), reply)
    weights = [float(cast(Any, some["importance"])) for some in (columns, free.columns)]
    assert weights == pytest.approx([2.0, 4.4816891])
    assert cast(Any, columns["sampler_logp"]).tolist() == [-2.0]
    assert cast(Any, columns["sampler_logp"]).dtype == torch.float64


def test_samples_ahead_wait_in_one_thread_of_their_name() -> None:
    made = SamplesAhead(cast(Any, SimpleNamespace(metrics={"a": 1.0}, close=lambda: None)))
    assert (made._background._max_workers, made._background._thread_name_prefix) == (1, "samples-ahead")
    assert (made.name, made.metrics, made._ready, made._following) == ("drafts-ahead", {"a": 1.0}, None, None)
    with pytest.raises(ValueError) as refused:
        made.sample([torch.tensor([1])], seed=(2, 3))
    assert str(refused.value) == "no completions were requested for seed and step (2, 3)"
    made.close()
