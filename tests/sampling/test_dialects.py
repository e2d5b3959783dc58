"""What servers that draw are asked and what of their answers is taken, by value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from support import tiny
from support.openai_stub import Engine
from twofold.client.http import HttpClient, RetryableError, RetrySettings
from twofold.errors import DataError, RecipeError, ServerError
from twofold.sampling.base import Sampling, ServerSettings
from twofold.sampling.dialects import VLLM, AdapterSGLang, ServerCompletion, SGLang, WholeVLLM, read_object
from twofold.sampling.servers import Drawn, ServerSampler, request_seed

HOW: dict[str, Any] = {
    "max_new_tokens": 9, "temperature": 0.7, "top_p": 0.9, "top_k": 5, "stop": ["END"], "stop_tokens": [4, 5],
    "seed": 77,
}  # fmt: skip
PLAIN = {**HOW, "top_k": 0, "stop": []}


def test_vllm_is_asked_for_everything() -> None:
    """It would fill a gap from the model's generation_config."""
    url, body = VLLM("http://h").request((7, 8), "v1", HOW)
    assert url == "http://h/v1/completions"
    assert body == {
        "model": "v1", "prompt": [7, 8], "n": 1, "max_tokens": 9, "seed": 77, "temperature": 0.7, "top_p": 0.9,
        "top_k": 5, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
        "stop_token_ids": [4, 5], "stop": ["END"], "logprobs": 1, "return_token_ids": True,
        "return_tokens_as_token_ids": True, "skip_special_tokens": False,
    }  # fmt: skip
    plain = VLLM("http://h").request((7, 8), "v1", PLAIN)[1]
    assert (plain["top_k"], plain["stop"]) == (-1, None)
    whole = WholeVLLM("http://h").request((7, 8), "v1", HOW)[1]
    assert whole == {**{k: v for k, v in body.items() if k != "model"}, "return_weight_versions": True}


def test_sglang_is_asked_for_everything() -> None:
    url, body = SGLang("http://h").request((7, 8), "v1", HOW)
    assert url == "http://h/generate"
    assert body == {
        "input_ids": [7, 8], "return_logprob": True,
        "sampling_params": {
            "max_new_tokens": 9, "temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.0, "repetition_penalty": 1.0,
            "presence_penalty": 0.0, "frequency_penalty": 0.0, "stop": ["END"], "stop_token_ids": [4, 5],
            "sampling_seed": 77, "skip_special_tokens": False,
        },
    }  # fmt: skip
    assert AdapterSGLang("http://h").request((7, 8), "v1", HOW) == (url, {**body, "lora_path": "v1"})
    plain = SGLang("http://h").request((7, 8), "v1", PLAIN)[1]["sampling_params"]
    assert (plain["top_k"], plain["stop"]) == (-1, None)


def vllm(tokens: list[Any], logp: list[float], reason: str = "stop", model: str = "m") -> dict[str, Any]:
    logprobs = {"tokens": tokens, "token_logprobs": logp}
    return {"model": model, "choices": [{"finish_reason": reason, "logprobs": logprobs}]}


def sglang(reason: str = "stop") -> dict[str, Any]:
    meta = {"output_token_logprobs": [[-1, 7, None], [-0.5, 5, None]], "weight_version": 3}
    return {"output_ids": [7, 5], "meta_info": {**meta, "finish_reason": {"type": reason}}}


@pytest.mark.parametrize(("letter", "what"), [("<", "is not JSON"), ("1", "is not a JSON object")])
def test_of_an_unreadable_reply_the_first_2000_characters_are_stored(letter: str, what: str) -> None:
    with pytest.raises(RetryableError, match=what) as refused:
        read_object(letter * 2_500)
    assert refused.value.raw == letter * 2_000


def test_what_each_says_is_read() -> None:
    draft = ServerCompletion([7, 5], [-1.0, -0.5], truncated=False, version="m")
    named = vllm(["token_id:7", 5], [-1, -0.5])
    assert VLLM("http://h").read(named, "v2") == draft
    by_id = vllm(["seven", "five"], [-1, -0.5])
    by_id["choices"][0]["token_ids"] = [7, 5]
    assert VLLM("http://h").read(by_id, "v2") == draft
    for spans, version in ((["v2"], "v2"), (["v1", "v2", "v2"], "v1+v2")):
        by_id["choices"][0]["weight_versions"] = [{"version": v, "start": 0, "end": 1} for v in spans]
        assert WholeVLLM("http://h").read(by_id, "v2") == replace(draft, version=version)
    assert VLLM("http://h").read(vllm(["token_id:7"], [-1.0], "length"), "v2").truncated
    for reason, truncated in (("length", True), ("stop", False)):
        drawn = replace(draft, truncated=truncated, version="3")
        assert SGLang("http://h").read(sglang(reason), "v2") == drawn
        assert AdapterSGLang("http://h").read(sglang(reason), "v2") == replace(drawn, version="v2")


def test_an_aborted_draft_is_none() -> None:
    """Also where stop texts are set, so that a draft may end without a stop token."""
    with pytest.raises(RetryableError, match="a completion has the finish reason 'abort'"):
        VLLM("http://h").read(vllm(["token_id:7"], [-1.0], "abort"), "v2")
    with pytest.raises(RetryableError, match="a completion has the finish reason 'abort'"):
        SGLang("http://h").read(sglang("abort"), "v2")


class Listening(Engine):
    """Takes whatever is pushed; answers `said` where it has something to say."""

    def __init__(self, said: tuple[int, dict[str, Any]] | None = None) -> None:
        self.said = said
        super().__init__(lambda folder: folder, lambda model, prompt, body: ([], []))

    def answer(self, path: str, body: dict[str, Any], kind: str) -> tuple[int, dict[str, Any]]:
        return self.said or super().answer(path, body, kind)


@contextmanager
def listening(said: tuple[int, dict[str, Any]] | None = None) -> Iterator[tuple[Listening, HttpClient]]:
    engine = Listening(said)
    wire = HttpClient(engine.url, RetrySettings(attempts=1))
    try:
        yield engine, wire
    finally:
        wire.close()
        engine.close()


def test_adapters_are_pushed_and_dropped_by_name(tmp_path: Path) -> None:
    """One that is there already, or is not, was pushed or dropped by an attempt whose answer was lost: names are used
    once."""
    with listening() as (engine, wire):
        for _ in range(2):
            VLLM(engine.url).push(wire, tmp_path, "v2")
        for _ in range(2):
            VLLM(engine.url).drop(wire, "v2")
        load = ("/v1/load_lora_adapter", {"lora_name": "v2", "lora_path": str(tmp_path.resolve())})
        drop = "/v1/unload_lora_adapter", {"lora_name": "v2"}
        assert engine.requests == [load, load, drop, drop]
        assert set(engine.models) == {"base"}
    missing = 400, {"error": {"message": "no such file"}}
    with listening(missing) as (engine, wire), pytest.raises(ServerError, match="no such file") as caught:
        VLLM(engine.url).push(wire, tmp_path, "v2")
    assert caught.value.remedy == "the server must see the run's folder under the same path"
    forbidden = 403, {"error": {"message": "no"}}
    with listening(forbidden) as (engine, wire), pytest.raises(ServerError, match="HTTP 403"):
        VLLM(engine.url).drop(wire, "v2")


def test_sglang_takes_adapters_by_name(tmp_path: Path) -> None:
    server = AdapterSGLang
    with listening() as (engine, wire):
        for _ in range(2):
            server(engine.url).push(wire, tmp_path, "v2")
        for _ in range(2):
            server(engine.url).drop(wire, "v2")
        load = ("/load_lora_adapter", {"lora_name": "v2", "lora_path": str(tmp_path.resolve())})
        drop = ("/unload_lora_adapter", {"lora_name": "v2"})
        assert engine.requests == [load, load, drop, drop]
    refusal = 400, {"success": False, "message": "rank 64"}
    with listening(refusal) as (engine, wire), pytest.raises(ServerError, match="HTTP 400: rank 64"):
        server(engine.url).push(wire, tmp_path, "v2")


def test_vllm_loads_a_folder_and_its_version(tmp_path: Path) -> None:
    with listening() as (engine, wire):
        WholeVLLM(engine.url).push(wire, tmp_path, "v2")
        WholeVLLM(engine.url).drop(wire, "v1")
        load = {"method": "reload_weights", "kwargs": {"weights_path": str(tmp_path.resolve())}}
        assert engine.requests == [
            ("/collective_rpc", load), ("/reset_prefix_cache", {}), ("/update_weight_version", {"new_version": "v2"}),
        ]  # fmt: skip
        assert (engine.version, engine.models["base"]) == ("v2", str(tmp_path.resolve()))


def test_a_folder_is_taken_only_where_the_server_says_so(tmp_path: Path) -> None:
    with listening() as (engine, wire):
        SGLang(engine.url).push(wire, tmp_path, "v2")
        SGLang(engine.url).drop(wire, "v1")
        body = {"model_path": str(tmp_path.resolve()), "weight_version": "v2", "flush_cache": True}
        assert engine.requests == [("/update_weights_from_disk", body)]
        assert (engine.version, engine.models["base"]) == ("v2", str(tmp_path.resolve()))
    for said, told in (({"success": False, "message": "too large"}, "too large"), ({"ok": 1}, '{"ok": 1}')):
        with listening((200, said)) as (engine, wire):
            with pytest.raises(ServerError, match="did not take the weights: ") as caught:
                SGLang(engine.url).push(wire, tmp_path, "v2")
            assert (caught.value.what.endswith(told), caught.value.where) == (True, engine.url)
    listed: Any = (200, [1])
    with listening(listed) as (engine, wire), pytest.raises(RetryableError, match="not a JSON object"):
        SGLang(engine.url).push(wire, tmp_path, "v2")


@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize(("dialect", "remedy"), [
    (VLLM, "--enable-lora"), (WholeVLLM, "VLLM_SERVER_DEV_MODE=1"), (SGLang, "sglang.launch_server"),
    (AdapterSGLang, "--enable-lora"),
])  # fmt: skip
def test_a_server_that_takes_no_weights_is_the_wrong_one(
    dialect: type[VLLM | SGLang], remedy: str, status: int, tmp_path: Path
) -> None:
    with listening((status, {})) as (engine, wire):
        with pytest.raises(ServerError) as caught:
            dialect(engine.url).push(wire, tmp_path, "v2")
        assert remedy in (caught.value.remedy or "")


STOPS = {5, 4}


def served(push: str = "none", engine: str = "vllm", **settings: Any) -> ServerSampler:
    policy = tiny.lora_policy() if push == "adapter" else tiny.policy()
    url = "http://h:1/v1#m" if push == "none" else "http://h:1/v1/"
    how: Any = {"engine": engine, "push": push}
    server = ServerSettings(url=url, timeout=3.0, attempts=2, pause=0.5, parallel=7, **how)
    return ServerSampler(policy, STOPS, Sampling(server=server, **settings), lambda folder: None, Path("unused"))


def dialect(sampler: ServerSampler) -> Any:
    return sampler.servers[0].dialect


def checked(sampler: ServerSampler, text: str) -> ServerCompletion:
    return sampler._checked(sampler.servers[0], text, 4)


def test_a_url_with_or_without_v1_is_one_server() -> None:
    sampler, base = served(), "http://h:1"
    assert (dialect(sampler), sampler.model, sampler.version) == (VLLM(base), "m", "m")
    assert dialect(served("adapter")) == VLLM(base)
    assert dialect(served("folder")) == WholeVLLM(base)
    assert dialect(served("adapter", "sglang")) == AdapterSGLang(base)
    assert dialect(served("folder", "sglang")) == SGLang(base)
    assert sampler.stop_tokens == [4, 5]
    assert sampler.max_positions == 64
    assert sampler.servers[0].wire.retry == RetrySettings(timeout=3.0, attempts=2, pause=0.5, parallel=7)
    assert (sampler.pushes, sampler.pushed_at, sampler.metrics) == (0, -1, {})


def text(tokens: list[int], logp: list[float] | None = None, **changes: Any) -> str:
    return json.dumps(vllm([f"token_id:{t}" for t in tokens], logp or [-1.0] * len(tokens), **changes))


@pytest.mark.parametrize("tokens", [[7, 4], [5], [0, 60, 5], [4, 4, 4, 4]])
def test_a_whole_draft_is_taken(tokens: list[int]) -> None:
    """Of one to four tokens among 61, the last of them a stop token."""
    assert checked(served(), text(tokens)) == ServerCompletion(tokens, [-1.0] * len(tokens), False, "m")


NO_DRAFTS: list[tuple[str, str]] = [
    ("<html>", "not JSON"),
    ("[]", "not a JSON object"),
    ("{}", "not a completion with tokens: KeyError"),
    ('{"choices": []}', "not a completion with tokens: IndexError"),
    ('{"choices": [3]}', "not a completion with tokens: AttributeError"),
    (json.dumps(vllm(["seven"], [-1.0])), "not a completion with tokens: ValueError"),
    (text([]), "a completion of 0 tokens and 0 log-probabilities is not valid"),
    (text([7, 7, 7, 7, 4]), "a completion of 5 tokens"),
    (text([7, 4], [-1.0]), "a completion of 2 tokens and 1 log-probabilities"),
    (text([61, 4]), "a completion of 2 tokens"),
    (text([-1, 4]), "a completion of 2 tokens"),
    (text([7, 4], [-1.0, float("nan")]), "a completion of 2 tokens|not JSON"),
    (text([7, 4], [-1.0, float("-inf")]), "a completion of 2 tokens|not JSON"),
    (text([4, 7]), "a completion ended without its stop token"),
]


@pytest.mark.parametrize(("answer", "message"), NO_DRAFTS)
def test_what_is_no_draft_is_asked_for_again(answer: str, message: str) -> None:
    with pytest.raises(RetryableError, match=message) as caught:
        checked(served(), answer)
    assert caught.value.raw == answer


def test_a_draft_may_end_without_a_stop_token_where_it_was_cut_or_has_a_stop_text() -> None:
    assert checked(served(), text([4, 7], reason="length")).truncated
    assert checked(served(stop=("END",)), text([4, 7])).tokens == [4, 7]


def test_weights_that_were_not_pushed_last_are_not_asked_again() -> None:
    """Without pushes any name is right: a server may know the model by another."""
    assert checked(served(), text([4], model="other")).version == "other"
    pushing = served("adapter")
    pushing.version = "v2"
    assert checked(pushing, text([4], model="v2")).version == "v2"
    with pytest.raises(ServerError, match="replies with the weights 'v1', but 'v2' were pushed last") as caught:
        checked(pushing, text([4], model="v1"))
    assert caught.value.where == "http://h:1"
    assert "let only one run push" in caught.value.remedy


def test_what_is_told_of_a_call() -> None:
    """Off by 0.5, −0.1 and 0 of log-probabilities: mean size 0.2, most 0.5, the mean 0.4/3 estimates a KL."""
    sampler = served()
    said = [ServerCompletion([1, 2], [-1.0, -2.0], False, "m"), ServerCompletion([3], [-3.0], False, "m")]
    drawn = Drawn((0, 7), 4, [vars(draft) for draft in said], 0)
    sampler._measure(drawn, [torch.tensor([-1.5, -1.9]), torch.tensor([-3.0])])
    assert sampler.metrics == pytest.approx(
        {"served/logp_off": 0.2, "served/logp_off_most": 0.5, "served/kl": 0.4 / 3, "served/behind": 3.0,
         "served/lost": 0.0}, abs=1e-6,
    )  # fmt: skip


def test_a_billionth_of_a_nat_is_told() -> None:
    sampler = served()
    drawn = Drawn((0, 0), 0, [vars(ServerCompletion([1], [-1.0 - 1e-9], False, "m"))], 0)
    sampler._measure(drawn, [torch.tensor([-1.0], dtype=torch.float64)])
    assert sampler.metrics["served/logp_off"] == pytest.approx(1e-9, rel=1e-4)


def test_a_seed_is_31_bits_of_what_a_draft_depends_on() -> None:
    prompt = torch.tensor([7, 300])
    digest = hashlib.blake2b(b"1/2/3/" + prompt.numpy().astype("<i8").tobytes(), digest_size=4).digest()
    assert request_seed((1, 2), prompt, 3) == int.from_bytes(digest, "little") // 2
    assert all(0 <= request_seed((s, 0), prompt, 0) < 2**31 for s in range(200))
    assert len({request_seed((s, t), prompt, i) for s in range(4) for t in range(4) for i in range(4)}) == 64


def test_what_cannot_be_drawn_is_refused_before_a_server_is_asked() -> None:
    sampler = served()
    with pytest.raises(ValueError, match="samples must be ≥ 1"):
        sampler.sample([torch.tensor([1])], samples=0)
    with pytest.raises(DataError, match="64 prompt tokens"):
        sampler.sample([torch.ones(64, dtype=torch.int64)])
    with pytest.raises(RecipeError, match="a server does not use the model's generation_config") as caught:
        served(use_generation_config=True)
    assert caught.value.where == "sampling.use_generation_config"
    with pytest.raises(RecipeError, match="vLLM takes 4 stop texts"):
        served(stop=("a", "b", "c", "d", "e"))
    assert served(stop=("a", "b", "c", "d")).settings.stop == ("a", "b", "c", "d")
    assert len(served("folder", "sglang", stop=("a", "b", "c", "d", "e")).settings.stop) == 5


@pytest.mark.parametrize("dialect", [AdapterSGLang, SGLang, VLLM, WholeVLLM])
def test_weights_that_a_server_cannot_read_are_not_under_its_path(dialect: type[VLLM | SGLang], tmp_path: Path) -> None:
    with listening((400, {"message": "no such folder"})) as (engine, wire):
        with pytest.raises(ServerError) as caught:
            dialect(engine.url).push(wire, tmp_path, "v2")
        assert caught.value.remedy == "the server must see the run's folder under the same path"
