"""What the sampler says it drew is what the policy says of it: on-policy claims can be checked."""

from __future__ import annotations

from importlib.resources import as_file, files

import pytest
import torch

from twofold.batch import Branch, Group, Role
from twofold.data.tokenize import Encoder
from twofold.demo.task import tasks
from twofold.models.adapters import LoRA
from twofold.models.load import ModelSettings, load_policy
from twofold.sampling.base import Sampling
from twofold.sampling.local import LocalSampler


@pytest.mark.parametrize("lora", [None, LoRA(rank=2)], ids=["full", "lora"])
def test_sampled_logps_equal_the_policys(lora: LoRA | None) -> None:
    with as_file(files("twofold.demo") / "base") as base:
        policy, loaded = load_policy(ModelSettings(path=str(base), precision="float32", lora=lora))
    if lora is not None:
        with torch.no_grad():
            for name, parameter in policy.trainable().items():
                if "lora_B" in name:
                    parameter.normal_(0, 0.02, generator=torch.Generator().manual_seed(1))
    encoder = Encoder(loaded.tokenizer, loaded.stop_tokens)
    prompts = [encoder.prompt(task.prompt) for task in tasks("test", 12)]
    sampler = LocalSampler(policy.model, loaded.tokenizer, loaded.stop_tokens, Sampling(max_new_tokens=40))
    drafts = sampler.sample(prompts, samples=3, seed=(7, 0))
    groups = [
        Group(f"task {i}", prompt, tuple(Branch(d.tokens, Role.DRAFT) for d in several))
        for i, (prompt, several) in enumerate(zip(prompts, drafts, strict=True))
    ]
    found = policy.logps(groups)
    worst = max(
        (d.logp - logp).abs().max().item()
        for several, row in zip(drafts, found, strict=True)
        for d, logp in zip(several, row, strict=True)
    )
    assert worst < 1e-4
    assert len({tuple(d.tokens.tolist()) for d in drafts[0]}) > 1 or len(drafts[0][0].tokens) < 12
