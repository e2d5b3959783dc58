"""A server that draws with the weights of folders that are pushed to it, in SGLang's words: `python -m
benchmarks.drawing_server PORT`. One thread, one sample at a time, so that it takes one core and no more."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from twofold.sampling.base import Sampling
from twofold.sampling.local import LocalSampler


class Weights:
    """What was pushed last."""

    model: PreTrainedModel
    tokenizer: Any
    version = "none"
    lock = Lock()

    def push(self, body: dict[str, Any]) -> dict[str, Any]:
        self.model = AutoModelForCausalLM.from_pretrained(body["model_path"])
        self.tokenizer = AutoTokenizer.from_pretrained(body["model_path"])
        self.version = body["weight_version"]
        return {"success": True, "message": "Succeeded to update model weights."}

    def draw(self, body: dict[str, Any]) -> dict[str, Any]:
        how = body["sampling_params"]
        settings = Sampling(max_new_tokens=how["max_new_tokens"])
        sampler = LocalSampler(self.model, self.tokenizer, how["stop_token_ids"], settings)
        ((draft,),) = sampler.sample([torch.tensor(body["input_ids"])], seed=(how["sampling_seed"], 0))
        entries = [[logp, token, None] for logp, token in zip(draft.logp.tolist(), draft.tokens.tolist(), strict=True)]
        meta = {
            "finish_reason": {"type": "length" if draft.truncated else "stop"},
            "weight_version": self.version,
            "output_token_logprobs": entries,
        }
        return {"output_ids": draft.tokens.tolist(), "meta_info": meta}


def main(port: int) -> None:
    """Serve until the process is ended."""
    torch.set_num_threads(1)
    weights = Weights()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with weights.lock:
                answer = weights.push(body) if self.path == "/update_weights_from_disk" else weights.draw(body)
            data = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
