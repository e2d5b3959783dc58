"""Drafts from a server that is pushed the policy's weights; the server here draws with what it was pushed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tr
from peft import PeftModel
from torch import Tensor

from support import tiny
from support.openai_stub import GOOD, PUSHES, Engine
from twofold.errors import RecipeError, ServerError
from twofold.models.adapters import LoRA, attach_adapter
from twofold.models.attention import stock_attention
from twofold.models.load import ModelSettings, save_policy
from twofold.models.policy import Policy
from twofold.sampling.base import Sampling, ServerSettings, sampler_metrics
from twofold.sampling.local import LocalSampler
from twofold.sampling.servers import ServerSampler, request_seed

STOP = (4, 5, 6)
PROMPTS = [torch.tensor([7, 8, 9]), torch.tensor([10, 11]), torch.tensor([12])]
Fault = Callable[[str, int], str]


def adapted(folder: str | None) -> tr.PreTrainedModel:
    model = tiny.llama()
    return model if folder is None else PeftModel.from_pretrained(model, folder)  # type: ignore[return-value]  # has its forward


def whole(folder: str | None) -> tr.PreTrainedModel:
    return tiny.llama() if folder is None else tr.AutoModelForCausalLM.from_pretrained(folder)


def draw(model: Any, prompt: list[int], given: dict[str, Any]) -> tuple[list[int], list[float]]:
    model = model.base_model.model if isinstance(model, PeftModel) else model
    most = given.get("max_tokens") or given["max_new_tokens"]
    seed = given.get("seed", given.get("sampling_seed"))
    sampler = LocalSampler(model, tiny.tokenizer(), given["stop_token_ids"], Sampling(max_new_tokens=most))
    ((draft,),) = sampler.sample([torch.tensor(prompt)], seed=(seed, 0))
    return draft.tokens.tolist(), draft.logp.tolist()


@pytest.fixture
def engines() -> Iterator[Callable[..., Engine]]:
    made: list[Engine] = []

    def start(make: Callable[[str | None], Any], fault: Fault = lambda path, nth: GOOD) -> Engine:
        made.append(Engine(make, draw, fault))
        return made[-1]

    yield start
    for engine in made:
        engine.close()


def served(policy: Policy, url: str | tuple[str, ...], folder: Path, **changes: Any) -> ServerSampler:
    how = {"attempts": 3, "pause": 0.01, "timeout": 60.0, "parallel": 2, **changes}
    settings = Sampling(max_new_tokens=12, server=ServerSettings(url=url, **how))
    return ServerSampler(policy, STOP, settings, lambda f: save_policy(policy, tiny.tokenizer(), f), folder)


def moved(policy: Policy) -> None:
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.mul_(1.5)


Side = tuple[dict[str, str], Policy, Callable[[str | None], Any]]
SIDES = [("vllm", "adapter"), ("sglang", "folder"), ("vllm", "folder"), ("sglang", "adapter")]


@pytest.fixture(params=SIDES, ids=[" ".join(side) for side in SIDES])
def every_side(request: pytest.FixtureRequest) -> Side:
    return side_of(*request.param)


@pytest.fixture(params=SIDES[:2], ids=[" ".join(side) for side in SIDES[:2]])
def side(request: pytest.FixtureRequest) -> Side:
    return side_of(*request.param)


def side_of(engine: str, push: str) -> Side:
    how = {"engine": engine, "push": push}
    if push == "adapter":
        return how, tiny.lora_policy(dtype=torch.float32, moved=True), adapted
    return how, tiny.policy(dtype=torch.float32), whole


def test_drafts_come_from_the_weights_of_this_step(
    every_side: Side, engines: Callable[..., Engine], tmp_path: Path
) -> None:
    """The server's log-probabilities are the policy's, before and after the policy has moved: so are its weights."""
    how, policy, make = every_side
    engine = engines(make)
    sampler = served(policy, engine.url, tmp_path, **how)
    for step in range(2):
        drafts = sampler.sample(PROMPTS, samples=4, seed=(0, step))
        assert sampler_metrics(sampler)["served/logp_off_most"] < 1e-4
        assert sampler_metrics(sampler)["served/behind"] == 0
        local = LocalSampler(policy.model, tiny.tokenizer(), STOP, Sampling(max_new_tokens=12))
        for prompt, row in zip(PROMPTS, drafts, strict=True):
            for index, draft in enumerate(row):
                ((same,),) = local.sample([prompt], seed=(request_seed((0, step), prompt, index), 0))
                assert draft.tokens.tolist() == same.tokens.tolist()
                assert draft.truncated == same.truncated
                torch.testing.assert_close(draft.logp, same.logp, atol=1e-4, rtol=0)
        moved(policy)
    assert sampler.pushes == 2
    assert len(list(tmp_path.iterdir())) == 1
    if how["push"] == "adapter":
        assert set(engine.models) == {"base", sampler.version}


def test_pushes_come_every_so_many_steps_and_the_difference_is_told(
    side: Side, engines: Callable[..., Engine], tmp_path: Path
) -> None:
    how, policy, make = side
    sampler = served(policy, engines(make).url, tmp_path, **how, sync_every=2)
    behind, off = [], []
    for step in range(4):
        (draft, *_), *_ = sampler.sample(PROMPTS, seed=(0, step))
        behind.append(sampler.metrics["served/behind"])
        off.append(sampler.metrics["served/logp_off"])
        torch.testing.assert_close(draft.logp, own(policy, PROMPTS[0], draft.tokens), atol=1e-5, rtol=0)
        moved(policy)
    assert behind == [0, 1, 0, 1]
    assert max(off[0], off[2]) < 1e-4 < 0.01 < min(off[1], off[3])


def own(policy: Policy, prompt: Tensor, tokens: Tensor) -> Tensor:
    with torch.no_grad(), stock_attention(policy.model):
        logits = policy.model(torch.cat([prompt, tokens])[None]).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(1, tokens[:, None]).squeeze(1)


@pytest.mark.parametrize("kind", ["500", "silent", "lost", "cut"])
def test_what_fails_once_is_asked_again(kind: str, side: Side, engines: Callable[..., Engine], tmp_path: Path) -> None:
    how, policy, make = side
    engine = engines(make, lambda path, nth: kind if nth == 1 else GOOD)
    short = {"timeout": 2.0} if kind in ("silent", "lost") else {}
    found = served(policy, engine.url, tmp_path / "a", **how, parallel=1, **short).sample(PROMPTS, samples=3)
    well = served(policy, engines(make).url, tmp_path / "b", **how).sample(PROMPTS, samples=3)
    assert [d.tokens.tolist() for row in found for d in row] == [d.tokens.tolist() for row in well for d in row]


@pytest.mark.parametrize(
    ("kind", "where", "message"),
    [
        ("404", "load", "enable-lora|sglang.launch_server|VLLM_SERVER_DEV_MODE=1"),
        ("500", "load", "the weights were not taken in 3 attempts: HTTP 500: .*out of memory"),
        ("silent", "load", "the weights were not taken in 3 attempts: timed out|no whole answer"),
        ("500", "draw", "no completion was received in 3 attempts: HTTP 500"),
        ("silent", "draw", "no completion was received in 3 attempts"),
        ("cut", "draw", "no completion was received in 3 attempts: a completion ended without its stop token"),
        ("abort", "draw", "no completion was received in 3 attempts: a completion has the finish reason 'abort'"),
        ("404", "draw", "HTTP 404"),
        ("stale", "draw", "replies with the weights 'older', but 'twofold-.*-1' were pushed last"),
    ],
)
def test_what_keeps_failing_ends_the_run_in_words(
    kind: str, where: str, message: str, side: Side, engines: Callable[..., Engine], tmp_path: Path
) -> None:
    how, policy, make = side
    engine = engines(make, lambda path, nth: kind if (path in PUSHES) == (where == "load") else GOOD)
    sampler = served(policy, engine.url, tmp_path, **how, timeout=0.3 if kind == "silent" else 60.0)
    with pytest.raises(ServerError, match=message) as caught:
        sampler.sample(PROMPTS, samples=4)
    assert engine.url in str(caught.value)
    if (kind, where) == ("404", "draw"):
        assert caught.value.remedy == sampler.servers[0].dialect.missing


def test_a_server_without_pushes_answers_for_its_own_model(engines: Callable[..., Engine], tmp_path: Path) -> None:
    engine, policy = engines(whole), tiny.policy(dtype=torch.float32)
    sampler = served(policy, f"{engine.url}/v1#base", tmp_path, push="none")
    sampler.sample(PROMPTS)
    assert sampler.metrics["served/logp_off_most"] < 1e-4
    assert not any("load" in path for path, _ in engine.requests)
    body = engine.requests[0][1]
    assert (body["temperature"], body["top_p"], body["top_k"], body["repetition_penalty"]) == (1.0, 1.0, -1, 1.0)


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no adapter to push"):
        served(tiny.policy(), "http://127.0.0.1:9", tmp_path)
    with pytest.raises(RecipeError, match="a folder holds a whole model"):
        served(tiny.lora_policy(), "http://127.0.0.1:9", tmp_path, push="folder")
    for option in ({"dora": True}, {"modules_to_save": ("lm_head",)}):
        model = tiny.llama()
        adapter = attach_adapter(model, ModelSettings(path="here", lora=LoRA(rank=2, **option)), seed=0)  # type: ignore[arg-type]  # a table of settings
        with pytest.raises(RecipeError, match=f"servers take no adapter with {next(iter(option))}"):
            served(Policy(model, adapter=adapter), "http://127.0.0.1:9", tmp_path)
    two: Any = ("http://h#m", "http://i#n")
    wrong: tuple[tuple[Any, Any], ...] = (
        ("127.0.0.1", "adapter"), ("http://h#m", "adapter"), ("http://h", "none"), ((), "adapter"), (two, "none"),
    )  # fmt: skip
    for url, push in wrong:
        with pytest.raises(ValueError, match="url"):
            ServerSettings(url=url, push=push)
    with pytest.raises(ValueError, match="push none is for vllm"):
        ServerSettings(url="http://h#m", push="none", engine="sglang")
    with pytest.raises(RecipeError, match="sampled in this process"):
        LocalSampler(tiny.llama(), tiny.tokenizer(), STOP, Sampling(server=ServerSettings(url="http://h")))
    shutil.rmtree(tmp_path, ignore_errors=True)


def tokens_of(drafts: list[list[Any]]) -> list[list[int]]:
    return [draft.tokens.tolist() for row in drafts for draft in row]


def drawn_by(engine: Engine) -> int:
    return sum(path not in PUSHES for path, _ in engine.requests)


def test_several_servers_draw_what_one_would(engines: Callable[..., Engine], tmp_path: Path) -> None:
    """Each a share; which of them draws changes nothing."""
    how, policy, make = side_of("vllm", "adapter")
    alone = served(policy, engines(make).url, tmp_path / "a", **how).sample(PROMPTS, samples=4)
    both = engines(make), engines(make)
    sampler = served(policy, tuple(engine.url for engine in both), tmp_path / "b", **how)
    assert tokens_of(sampler.sample(PROMPTS, samples=4)) == tokens_of(alone)
    assert [drawn_by(engine) for engine in both] == [6, 6]
    assert sampler.metrics["served/lost"] == 0


@pytest.mark.parametrize("when", ["load", "draw"])
def test_one_lost_server_does_not_lose_the_run(when: str, engines: Callable[..., Engine], tmp_path: Path) -> None:
    """The other draws its share, and it draws again once it takes weights."""
    how, policy, make = side_of("sglang", "folder")
    ill = [True]
    well, lost = engines(make), engines(make, lambda path, nth: "500" if ill[0] and sick(path, when) else GOOD)
    notes: list[str] = []
    sampler = served(policy, (well.url, lost.url), tmp_path, **how)
    sampler.note = notes.append
    first = tokens_of(sampler.sample(PROMPTS, samples=2, seed=(0, 0)))
    assert first == tokens_of(served(policy, engines(make).url, tmp_path / "one", **how).sample(PROMPTS, samples=2))
    assert sampler.metrics["served/lost"] == 1
    assert len(notes) == 1
    assert f"{lost.url} is lost: " in notes[0]
    ill[0], before = False, drawn_by(lost)
    sampler.sample(PROMPTS, samples=2, seed=(0, 1))
    assert drawn_by(lost) == before + 3
    assert sampler.metrics["served/lost"] == 0
    assert notes[1:] == [f"{lost.url} is available again, and samples with the weights of this step"]


def sick(path: str, when: str) -> bool:
    return (path in PUSHES) == (when == "load")


@pytest.mark.parametrize("when", ["load", "draw"])
def test_a_run_ends_where_all_servers_are_lost(when: str, engines: Callable[..., Engine], tmp_path: Path) -> None:
    how, policy, make = side_of("sglang", "folder")
    urls = tuple(engines(make, lambda path, nth: "500" if sick(path, when) else GOOD).url for _ in range(2))
    with pytest.raises(ServerError, match=r"in 3 attempts: HTTP 500|every server is lost"):
        served(policy, urls, tmp_path, **how).sample(PROMPTS)
