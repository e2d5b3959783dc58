"""What a process of several takes at most while it loads, saves, resumes and writes a model that they share."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from twofold.demo.build import character_tokenizer
from twofold.models.fsdp import shard
from twofold.models.load import LoadedModel, ModelSettings, load_policy, save_policy
from twofold.models.parts import parts_for_shards, reading_parts
from twofold.models.policy import Policy
from twofold.models.sharding import layers, shard_model
from twofold.training.checkpoint import newest
from twofold.training.optim import AdamW
from twofold.training.saving import Saver
from twofold.training.trainable import POLICY, Trainable
from twofold.world import join, world


def store(folder: Path, layers: int, hidden: int) -> int:
    """A model of so many layers; its bytes."""
    torch.manual_seed(0)
    tokenizer = character_tokenizer()
    config = LlamaConfig(
        vocab_size=1024, hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers,
        num_attention_heads=2, max_position_embeddings=128, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sum(p.numel() * p.element_size() for p in model.parameters())


def own_memory() -> int:
    """Bytes of this process that are no pages of files."""
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@contextmanager
def peak() -> Iterator[Callable[[], int]]:
    """The most bytes that were taken within it, over those at its beginning."""
    began, most, ended = own_memory(), [0], threading.Event()

    def watch() -> None:
        while not ended.is_set():
            most[0] = max(most[0], own_memory() - began)
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: most[0]
    finally:
        ended.set()
        watcher.join()


def read(path: str) -> tuple[Policy, LoadedModel]:
    with reading_parts("shard", "cpu"):
        return load_policy(ModelSettings(path=path, device="cpu", precision="float32"))


def step(trainable: Trainable) -> None:
    """One with gradients of ones, so that there are moments."""
    for parameter in trainable.parameters.values():
        parameter.grad = nn.Parameter(torch.ones_like(parameter)).detach()
    trainable.update()
    trainable.optimizer.zero_grad(set_to_none=True)


def main() -> None:
    """`warm base folder`: prints the peaks, by what was done with the model in `base`, after all was done with another,
    so that everything has been imported."""
    torch.set_num_threads(1)
    join()
    warm, base, folder = sys.argv[1:]
    peaks_of(warm, Path(folder) / "warm")
    print(json.dumps(peaks_of(base, Path(folder) / "run")))


def peaks_of(base: str, folder: Path) -> dict[str, int]:
    peaks: dict[str, int] = {}
    with peak() as most:
        policy, _ = read(base)
        with parts_for_shards(policy):
            shard(policy, layers(policy.model), ("shard", "cpu"))
        peaks["load"] = most()
    del policy
    policy, loaded = read(base)
    shard_model(policy, "shard")
    trainable = Trainable.of(POLICY, policy, AdamW(learning_rate=1e-5), 4)
    step(trainable)
    saver = Saver(folder / "checkpoints", 1, trainable.model.device)
    with peak() as most:
        saver.save(1, {"policy": trainable.weights(), "moments": trainable.moments()}, {})
        saver.wait()
        peaks["save"] = most()
    with peak() as most:
        found = newest(folder / "checkpoints", world())
        assert found is not None
        trainable.restore(found.tensors("policy", trainable.like), found.tensors("moments", trainable.like), 1)
        peaks["resume"] = most()
    with peak() as most:
        save_policy(policy, loaded.tokenizer, folder / "model")
        peaks["model"] = most()
    return peaks
