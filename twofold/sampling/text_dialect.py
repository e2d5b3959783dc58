"""`transformers serve`: a server with text input and output, which loads the folder in a request as its model.

It accepts no token ids and reports no log-probabilities. A prompt is sent as text, which must be tokenized to the same
tokens again. A sample has the tokens of its text. These may differ from the sampled tokens if the text has several
tokenizations. It samples one completion at a time, since its noise is global to the process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from twofold import disk
from twofold.client.http import HttpClient
from twofold.errors import DataError, ServerError
from twofold.sampling.dialects import SAME_PATH, ServerCompletion, truncated


class Transformers:
    """Weights by the name of their folder; its tokenizer converts between tokens and text."""

    missing: ClassVar[str] = "start transformers serve, without a model of its own"
    serial: ClassVar[bool] = True

    def __init__(self, base: str) -> None:
        self.base = base
        self._folders: dict[str, str] = {}
        self._tokenizer: Any = None
        self._stop_token = -1

    def push(self, wire: HttpClient, folder: Path, version: str) -> None:
        from transformers import AutoTokenizer

        name = str(disk.real(folder))
        if self._tokenizer is None:
            self._tokenizer = AutoTokenizer.from_pretrained(name)
        remedies = {404: self.missing, 405: self.missing}
        wire.post(f"{self.base}/reset", {}, remedies)  # otherwise it would keep every model that it has loaded
        events = wire.post(f"{self.base}/load_model", {"model": name}, remedies)
        if '"status": "ready"' not in events:
            what = f"did not take the weights: {events.strip()[-200:]}"
            raise ServerError(what, where=self.base, remedy=SAME_PATH)
        self._folders = {version: name}

    def drop(self, wire: HttpClient, version: str) -> None:
        """Does nothing: the push dropped the old weights."""

    def request(self, prompt: Sequence[int], version: str, how: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        text = self._tokenizer.decode(prompt, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if self._tokenizer(text)["input_ids"] != list(prompt):
            what = "the server would read this prompt as other tokens than training does"
            raise DataError(what, where=text[:80], remedy="sample in this process, or with vllm or sglang")
        ends = self._tokenizer.eos_token_id
        self._stop_token = ends if ends in how["stop_tokens"] else how["stop_tokens"][0]
        # All parameters are set: the server would take missing ones from the model's generation_config.
        config = {
            "do_sample": how["temperature"] > 0, "top_k": how["top_k"], "eos_token_id": how["stop_tokens"],
            "pad_token_id": self._stop_token, "max_new_tokens": how["max_new_tokens"], "repetition_penalty": 1.0,
        }  # fmt: skip
        stops = {"stop": how["stop"]} if how["stop"] else {}
        body = {
            "model": self._folders[version], "prompt": text, "max_tokens": how["max_new_tokens"], "seed": how["seed"],
            "temperature": how["temperature"], "top_p": how["top_p"], "generation_config": json.dumps(config), **stops,
        }  # fmt: skip
        return f"{self.base}/v1/completions", body

    def read(self, whole: Any, version: str) -> ServerCompletion:
        choice = whole["choices"][0]
        tokens = self._tokenizer(choice["text"], add_special_tokens=False)["input_ids"]
        cut = truncated(choice["finish_reason"])
        answered = str(whole["model"]).removesuffix("@main")
        drawn_by = version if answered == self._folders[version] else answered
        return ServerCompletion(tokens if cut else [*tokens, self._stop_token], None, cut, drawn_by)
