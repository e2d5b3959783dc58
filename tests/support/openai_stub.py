"""A small OpenAI-compatible server that misbehaves as it is told, and remembers every request that it got."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

Body = dict[str, Any]
Behaviour = Callable[[Body, int], str]
GOOD = "good"
PUSHES = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/load_lora_adapter", "/unload_lora_adapter",
          "/update_weights_from_disk", "/collective_rpc", "/reset_prefix_cache", "/update_weight_version")  # fmt: skip
ODD = {"garbage": b"<html>so sorry</html>", "brackets": b"[" * 200_000}


class Stub:
    """`behave(body, nth)` names what becomes of a request (the nth with this body, seed apart): `good`, `429`, `500`,
    `garbage`, `brackets`, `empty`, `half`, `cut`, `silent`, `drip`, `400 MESSAGE` or `422 BODY`; `say(body)` is
    the text of a good answer, or its whole message. `logprobs(body)` are its choice's, `usage` its counts of tokens."""

    def __init__(self, say: Callable[[Body], str | Body], behave: Behaviour = lambda body, nth: GOOD) -> None:
        self.say, self.behave = say, behave
        self.requests: list[Body] = []
        self.good: list[str] = []
        self.authorizations: list[str | None] = []
        self.pause = 0.0
        self.logprobs: Callable[[Body], Body | None] = lambda body: None
        self.usage: Body | None = {"prompt_tokens": 3, "completion_tokens": 2}
        self._seen: dict[str, int] = {}
        self._lock = Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.answer(self, body)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that left are the point
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, body: Body) -> None:
        name = identity(body)
        with self._lock:
            self.requests.append(body)
            self.authorizations.append(handler.headers["Authorization"])
            self._seen[name] = nth = self._seen.get(name, 0) + 1
        time.sleep(self.pause)
        kind = self.behave(body, nth)
        handler.close_connection = True
        if kind == "silent":
            time.sleep(6)
        elif kind == "drip":
            _send(handler, 200, b"", length=100)
            for _ in range(60):
                handler.wfile.write(b" ")
                handler.wfile.flush()
                time.sleep(0.1)
        elif kind in ("429", "500", "401"):
            _send(handler, int(kind), b'{"error": {"message": "not now"}}', retry="0.02" if kind == "429" else None)
        elif kind.startswith("400 "):
            _send(handler, 400, json.dumps({"error": {"message": kind.removeprefix("400 ")}}).encode())
        elif kind.startswith("422 "):
            _send(handler, 422, kind.removeprefix("422 ").encode())
        elif kind in ODD:
            _send(handler, 200, ODD[kind])
        elif kind == "empty":
            _send(handler, 200, b'{"choices": []}')
        else:
            whole = _completion(self.say(body), "length" if kind == "cut" else "stop", self.logprobs(body), self.usage)
            _send(handler, 200, whole[: len(whole) // 2] if kind == "half" else whole, length=len(whole))
            if kind == GOOD:
                with self._lock:
                    self.good.append(name)


class Engine:
    """A server that draws with the weights pushed to it, as vLLM (adapters) and SGLang (folders) do.

    `fault(path, nth)` names what becomes of the nth request to a path: `good`, `404`, `500`, `silent` (longer than
    tests wait), `lost` (done, then silent), `stale` (another version's weights), `cut` (without its stop token) or
    `abort`.
    """

    def __init__(
        self, make: Callable[[str | None], Any], draw: Callable[[Any, list[int], Body], tuple[list[int], list[float]]],
        fault: Callable[[str, int], str] = lambda path, nth: GOOD,
    ) -> None:  # fmt: skip
        """`make(folder)` is a model with the weights of a folder; `draw(model, prompt, body)` says tokens and logps."""
        self.make, self.draw, self.fault = make, draw, fault
        self.models: dict[str, Any] = {"base": make(None)}
        self.version, self.requests = "base", list[tuple[str, Body]]()
        self._lock, engine = Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with engine._lock:
                    engine.requests.append((self.path, body))
                    kind = engine.fault(self.path, sum(path == self.path for path, _ in engine.requests))
                    self.close_connection = True
                    status, said = engine.answer(self.path, body, kind)
                if kind in ("silent", "lost"):
                    time.sleep(2.5)
                _send(self, status, json.dumps(said).encode())

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that left are the point
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, body: Body, kind: str) -> tuple[int, Body]:
        if kind in ("404", "500"):
            return int(kind), {"detail": "Not Found" if kind == "404" else "out of memory"}
        if kind == "silent":
            return 200, {}
        if path in PUSHES:
            return self._pushed(path, body)
        native = path == "/generate"
        name = body.get("lora_path", "base") if native else body.get("model", "base")
        if name not in self.models:
            return 404, {"error": {"message": f"The model `{name}` does not exist."}}
        given = body["sampling_params"] if native else body
        tokens, logp = self.draw(self.models[name], body["input_ids" if native else "prompt"], given)
        ended = tokens[-1] in given["stop_token_ids"]
        if kind == "cut" and ended and len(tokens) > 1:
            tokens, logp = tokens[:-1], logp[:-1]
        told = "abort" if kind == "abort" else "stop" if ended else "length"
        if native:
            version = "older" if kind == "stale" else self.version
            entries = [[value, token, None] for value, token in zip(logp, tokens, strict=True)]
            meta = {"finish_reason": {"type": told}, "weight_version": version, "output_token_logprobs": entries}
            return 200, {"output_ids": tokens, "meta_info": meta}
        logprobs = {"tokens": [f"token_id:{t}" for t in tokens], "token_logprobs": logp}
        choice = {"index": 0, "text": "", "finish_reason": told, "logprobs": logprobs}
        if body.get("return_token_ids"):
            choice["token_ids"] = tokens
        if body.get("return_weight_versions"):
            version = "older" if kind == "stale" else self.version
            choice["weight_versions"] = [{"version": version, "start": 0, "end": len(tokens)}]
        return 200, {"model": "older" if kind == "stale" else name, "choices": [choice]}

    def _pushed(self, path: str, body: Body) -> tuple[int, Body]:
        """What becomes of new weights, and the answer."""
        native = not path.startswith("/v1")
        name = body.get("lora_name", "base")
        if path.endswith("/load_lora_adapter"):
            if name in self.models:
                what = f"The lora adapter '{name}' has already been loaded."
                return 400, {"success": False, "message": what} if native else {"error": {"message": what}}
            self.models[name] = self.make(body["lora_path"])
        elif path.endswith("/unload_lora_adapter"):
            if self.models.pop(name, None) is None:
                return (400, {"success": False, "message": "none"}) if native else (404, {"error": "no such adapter"})
        elif path == "/update_weights_from_disk":
            self.models, self.version = {"base": self.make(body["model_path"])}, body["weight_version"]
        elif path == "/collective_rpc":
            self.models["base"] = self.make(body["kwargs"]["weights_path"])
        elif path == "/update_weight_version":
            self.version = body["new_version"]
        return 200, {"success": True, "message": "Succeeded to update model weights."} if native else {}


def identity(body: Body) -> str:
    """What a request asks, whatever seed an attempt was sent with."""
    return json.dumps({k: v for k, v in body.items() if k != "seed"}, sort_keys=True) if "Verdict" in str(body) else (
        json.dumps(body, sort_keys=True)
    )  # fmt: skip


def said(body: Body) -> str:
    """The text that a request brings."""
    return body["prompt"] if "prompt" in body else body["messages"][-1]["content"]


def _completion(told: str | Body, reason: str, logprobs: Body | None, usage: Body | None) -> bytes:
    message = {"content": told} if isinstance(told, str) else told
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    choice |= {} if logprobs is None else {"logprobs": logprobs}
    return json.dumps({"choices": [choice], **({} if usage is None else {"usage": usage})}).encode()


def _send(
    handler: BaseHTTPRequestHandler, status: int, data: bytes, *, length: int = 0, retry: str | None = None
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(length or len(data)))
    handler.send_header("Connection", "close")
    if retry:
        handler.send_header("Retry-After", retry)
    handler.end_headers()
    handler.wfile.write(data)
