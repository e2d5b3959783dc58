"""Parts of a sampler over servers: turns, pushes of weights, and what becomes of a server that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from support import tiny
from twofold.client.http import RetryableError
from twofold.errors import RecipeError, ServerError
from twofold.sampling import servers
from twofold.sampling.base import SampleRequest, Sampling, ServerSettings
from twofold.sampling.dialects import ServerCompletion
from twofold.sampling.servers import Drawn, LostServerError, SamplingServer, ServerSampler, _once, request_seed

URLS = ("http://a:1", "http://b:2/v1/", "http://c:3/")


def sampler(folder: Path, notes: list[str] | None = None, urls: Any = URLS, **how: Any) -> ServerSampler:
    settings = Sampling(max_new_tokens=9, server=ServerSettings(url=urls, **{"push": "folder", **how}))
    policy = tiny.policy(dtype=torch.float32)
    return ServerSampler(
        policy, {5, 2}, settings, lambda path: path.mkdir(), folder, ([] if notes is None else notes).append
    )


def test_servers_by_their_addresses(tmp_path: Path) -> None:
    made = sampler(tmp_path, timeout=7.0, attempts=3, pause=0.5, parallel=4)
    assert [server.dialect.base for server in made.servers] == ["http://a:1", "http://b:2", "http://c:3"]
    assert (made.stop_tokens, made.max_positions, made.model, made.version) == ([2, 5], 64, "", "")
    retry = made.servers[0].wire.retry
    assert (retry.timeout, retry.attempts, retry.pause, retry.parallel) == (7.0, 3, 0.5, 4)
    assert [made.servers[0].turns.acquire(blocking=False) for _ in range(5)] == [True] * 4 + [False]
    text = SamplingServer("http://a:1", ServerSettings(url="http://a:1", engine="transformers", push="folder"))
    assert [text.turns.acquire(blocking=False) for _ in range(2)] == [True, False]
    named = sampler(tmp_path, urls=("http://a:1#m", "http://b:2/v1#m"), push="none")
    assert (named.model, named.version, named.servers[1].dialect.base) == ("m", "m", "http://b:2")


def test_servers_take_turns_without_those_that_are_lost(tmp_path: Path) -> None:
    made = sampler(tmp_path)
    a, b, c = made.servers
    assert [made._from(place) for place in (0, 1, 5)] == [[a, b, c], [b, c, a], [c, a, b]]
    b.lost = True
    assert (made._from(0), made._from(1), made.lost) == ([a, c], [c, a], 1)
    a.lost = c.lost = True
    assert (made._from(4), made.lost) == ([], 3)
    with pytest.raises(LostServerError) as error:
        made._one(0, (torch.tensor([1]), 0), (0, 0))
    assert str(error.value) == (
        "http://a:1: every server is lost\n  → start one again: the same command resumes from the last checkpoint"
    )


def test_a_loss_is_noted_once_and_only_where_others_are_left(tmp_path: Path) -> None:
    notes: list[str] = []
    made, error = sampler(tmp_path, notes), LostServerError("is ill", where="http://b:2", remedy="")
    for _ in range(2):
        made._lose(made.servers[1], error)
    assert made.servers[1].lost
    assert notes == ["http://b:2 is lost: is ill; only the other servers sample until it takes weights again"]
    alone = sampler(tmp_path, notes, urls="http://b:2")
    alone._lose(alone.servers[0], error)
    assert (alone.lost, len(notes)) == (1, 1)


def test_weights_are_pushed_every_so_many_steps_under_a_new_name(tmp_path: Path) -> None:
    made = sampler(tmp_path, sync_every=3)
    sent: list[Any] = []
    made._send = lambda *arguments: sent.append(arguments)  # type: ignore[method-assign]  # records what is sent
    pushed: list[int] = []
    for step in (1, 2, 3, 5, 9):
        made._push(step)
        pushed.append(made.pushed_at)
    assert pushed == [1, 1, 3, 3, 9]
    names = [f"twofold-{made.run}-{n}" for n in (1, 2, 3)]
    assert len(made.run) == 8
    assert sent == [(tmp_path / name, name, before) for name, before in zip(names, ["", *names], strict=False)]
    assert (made.version, made.pushes) == (names[2], 3)
    own = sampler(tmp_path, urls="http://a:1#m", push="none")
    for step in (4, 7):
        own._push(step)
        assert (own.pushed_at, own.pushes) == (4, 0)


@pytest.mark.parametrize(("pushes", "left"), [(1, True), (2, False)])
def test_old_weights_are_removed_once_there_are_newer_ones(pushes: int, left: bool, tmp_path: Path) -> None:
    made = sampler(tmp_path)
    made.pushes = pushes
    (tmp_path / "old").mkdir()
    errors = {server.dialect.base: None for server in made.servers}
    asked: list[str] = []

    def takes(server: SamplingServer, *rest: Any) -> Any:
        asked.append(server.dialect.base)
        return errors[server.dialect.base]

    made._takes = takes  # type: ignore[method-assign]  # without a server
    made._send(tmp_path / "new", "new", "old")
    assert (asked, (tmp_path / "old").exists()) == (list(errors), left)
    one, other = (LostServerError(name, where="", remedy="") for name in ("one", "other"))
    errors |= {"http://a:1": one, "http://b:2": other}  # type: ignore[dict-item]
    made._send(tmp_path / "new", "new", "old")
    errors["http://c:3"] = other  # type: ignore[assignment]
    with pytest.raises(LostServerError, match=r"^one$"):
        made._send(tmp_path / "new", "new", "old")


class Dialect:
    """Records its calls; `fault` is raised by a push."""

    base = "http://a:1"

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault, self.calls = fault, list[Any]()

    def push(self, wire: Any, folder: Path, version: str) -> None:
        self.calls.append(("push", wire, folder, version))
        if self.fault is not None:
            raise self.fault

    def drop(self, wire: Any, version: str) -> None:
        self.calls.append(("drop", wire, version))


def server(dialect: Dialect, *, lost: bool) -> Any:
    def again(act: Callable[[], Any], fault: str) -> Any:
        dialect.calls.append(fault)
        return act()

    return SimpleNamespace(dialect=dialect, wire="wire", lost=lost, again=again)


def test_what_a_server_is_sent(tmp_path: Path) -> None:
    notes: list[str] = []
    made, new = sampler(tmp_path, notes), tmp_path / "new"
    push, drop = ("push", "wire", new, "new"), ("drop", "wire", "old")
    words = "the weights were not taken", "the old weights were not dropped"
    for pushes, lost, calls in (
        (1, False, [words[0], push]), (2, False, [words[0], push, words[1], drop]), (2, True, [push]),
    ):  # fmt: skip
        made.pushes, dialect = pushes, Dialect()
        one = server(dialect, lost=lost)
        assert made._takes(one, new, "new", "old") is None
        assert (dialect.calls, one.lost) == (calls, False)
    assert notes == ["http://a:1 is available again, and samples with the weights of this step"]
    for fault in (RetryableError("ill"), ServerError("ill", where="", remedy="")):
        one = server(Dialect(fault), lost=True)
        error = made._takes(one, new, "new", "old")
        assert (type(error), one.lost, len(notes)) == (LostServerError, True, 1)


def test_a_single_attempt_fails_for_any_reason() -> None:
    def fails(error: Exception) -> Callable[[], None]:
        def act() -> None:
            raise error

        return act

    _once(lambda: None, "here")
    for error in (RetryableError("ill"), ServerError("ill", where="there", remedy="")):
        with pytest.raises(LostServerError) as lost:
            _once(fails(error), "here")
        assert (lost.value.what, lost.value.where, lost.value.remedy) == (str(error), "here", "")
    with pytest.raises(KeyError):
        _once(fails(KeyError()), "here")


def test_attempts_are_counted_in_words(tmp_path: Path) -> None:
    made = sampler(tmp_path, attempts=2, pause=0.0)
    tries: list[int] = []

    def act() -> None:
        tries.append(1)
        raise RetryableError("ill")

    with pytest.raises(LostServerError) as error:
        made.servers[0].again(act, "no completion was received")
    assert len(tries) == 2
    assert error.value.what.startswith("no completion was received in 2 attempts: ill")
    assert (error.value.where, error.value.remedy) == ("http://a:1", "resume the run once the server is well")
    assert made.servers[0].again(lambda: 7, "") == 7


def test_a_request_leaves_room_for_what_the_model_can_read(tmp_path: Path) -> None:
    """64 positions: 9 tokens after a prompt of 55, 4 after one of 60."""
    made = sampler(tmp_path)
    asked: list[Any] = []

    def request(prompt: list[int], version: str, how: dict[str, Any]) -> Any:
        asked.append((len(prompt), version, how))
        raise LookupError

    for one in made.servers:
        one.dialect = SimpleNamespace(request=request, base="x", missing="m")  # type: ignore[assignment]
    for length in (55, 60):
        with pytest.raises(LookupError):
            made._one(0, (torch.ones(length, dtype=torch.int64), 3), (1, 2))
    assert [(length, version, how["max_new_tokens"]) for length, version, how in asked] == [(55, "", 9), (60, "", 4)]
    how = asked[0][2]
    assert {name: how[name] for name in ("temperature", "top_p", "top_k", "stop", "stop_tokens")} == {
        "temperature": 1.0, "top_p": 1.0, "top_k": 0, "stop": [], "stop_tokens": [2, 5],
    }  # fmt: skip
    assert how["seed"] == request_seed((1, 2), torch.ones(55, dtype=torch.int64), 3)


def test_replies_are_by_prompt_and_number(tmp_path: Path) -> None:
    made = sampler(tmp_path)
    made._one = lambda place, wanted, seed: ServerCompletion(  # type: ignore[method-assign]  # without a server
        [place, int(wanted[0]), wanted[1], *seed], None, False, "v"
    )
    found = made.replies(SampleRequest([torch.tensor([7]), torch.tensor([8])], 2, (3, 4)))
    assert [reply["tokens"] for reply in found] == [
        [0, 7, 0, 3, 4], [1, 7, 1, 3, 4], [2, 8, 0, 3, 4], [3, 8, 1, 3, 4],
    ]  # fmt: skip
    with pytest.raises(ValueError) as error:
        made.prepare(SampleRequest([torch.tensor([7])], 0, (0, 0)), 0)
    assert str(error.value) == "samples must be ≥ 1"


@pytest.mark.parametrize("cap", ["none", 2.0])
def test_figures_of_a_call_are_differences_age_and_losses(cap: Any, tmp_path: Path) -> None:
    made = sampler(tmp_path, importance_cap=cap)
    replies = [{"logp": [-1.0, -3.0]}, {"logp": [-2.0]}]
    drawn = Drawn((0, 9), 7, replies, 1)
    made._measure(drawn, [torch.tensor([-1.5, -2.0]), torch.tensor([-2.0])])
    plain = {"served/logp_off": 0.5, "served/logp_off_most": 1.0, "served/kl": -0.5 / 3, "served/behind": 2.0,
             "served/lost": 1.0}  # fmt: skip
    assert {name: made.metrics[name] for name in plain} == pytest.approx(plain)
    assert (made.metrics.keys() == plain.keys()) == (cap == "none")
    made._measure(Drawn((0, 9), 7, [*replies, {"logp": None}], 0), [])
    assert made.metrics == {"served/behind": 2.0, "served/lost": 0.0}


@pytest.mark.parametrize(("cap", "logp", "weighed"), [("none", [-1.0], False), (2.0, None, False), (2.0, [-1.0], True)])
def test_importance_weights_need_a_cap_and_log_probabilities(
    cap: Any, logp: Any, weighed: bool, tmp_path: Path
) -> None:
    made = sampler(tmp_path, importance_cap=cap)
    sample = made._completion(torch.tensor([3]), torch.tensor([-1.0]), ServerCompletion([3], logp, True, "v"))
    assert (sample.tokens.tolist(), sample.truncated, bool(sample.columns)) == ([3], True, weighed)


def test_refusals_in_words(tmp_path: Path) -> None:
    def refused(how: dict[str, Any], policy: Any = None, **sampling: Any) -> str:
        settings = Sampling(server=ServerSettings(url="http://a:1", **how), **sampling)
        with pytest.raises(RecipeError) as error:
            servers._refuse(policy or tiny.policy(), settings, settings.server)  # type: ignore[arg-type]
        return str(error.value)

    where = "sampling.server.push"
    assert refused({}) == f"{where}: there is no adapter to push\n  → set model.lora, or sampling.server.push=folder"
    adapted: Any = tiny.lora_policy()
    assert refused({"push": "folder"}, adapted) == (
        f"{where}: a folder holds a whole model\n  → train all weights, or set sampling.server.push=adapter"
    )
    assert refused({"push": "folder"}, use_generation_config=True) == (
        "sampling.use_generation_config: a server does not use the model's generation_config\n"
        "  → leave it out, and set temperature, top_p and top_k yourself"
    )
    assert refused({}, adapted, stop=tuple("abcde")) == "sampling.stop: vLLM takes 4 stop texts\n  → leave some out"
    known = adapted.adapter.peft_config["default"]
    for option, name, value in (("dora", "use_dora", True), ("modules_to_save", "modules_to_save", ["norm"])):
        setattr(known, name, value)
        assert refused({}, adapted) == (
            f"{where}: servers take no adapter with {option}\n"
            f"  → leave model.lora.{option} out, or sample in this process"
        )
        setattr(known, name, None)
    assert servers._unserved(adapted) == servers._unserved(tiny.policy()) == ""
    four = Sampling(server=ServerSettings(url="http://a:1"), stop=tuple("abcd"))
    servers._refuse(adapted, four, four.server)  # type: ignore[arg-type]
    other = Sampling(server=ServerSettings(url="http://a:1", engine="sglang"), stop=tuple("abcde"))
    servers._refuse(adapted, other, other.server)  # type: ignore[arg-type]
