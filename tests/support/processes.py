"""Runs of every kind in several processes: one start for all, since importing torch takes longer than they do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import CPUOffloadPolicy
from torch.distributed.tensor import DTensor
from transformers import MixtralConfig, MixtralForCausalLM

from support.resumable_runs import STEPS, assembly, loop, stop_after
from twofold.errors import NonFiniteError, RecipeError
from twofold.models.heads import value_model_of
from twofold.models.load import weights_digest
from twofold.models.parts import in_parts, reading_parts
from twofold.models.reference import FrozenReference, MovingReference
from twofold.models.sharding import layers, shard_model
from twofold.runs.shares import whole_because
from twofold.training.checkpoint import Checkpoint
from twofold.training.trainable import Trainable
from twofold.world import WorldSettings, join, part_here, whole_tensor, world

ROOT = Path(__file__).resolve().parents[2]
ROUNDED = "bfloat16-lora", "stream-lora"
"""Kinds whose base is rounded when it is loaded: every run of them loads it."""


def start(processes: int, *arguments: str, code: str = "from support.processes import main; main()",
          **environment: str) -> list[subprocess.Popen[str]]:  # fmt: skip
    """Processes as torchrun starts them, on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    known = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "HF_HUB_OFFLINE": "1", **environment,
    }  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, "-c", code, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **known, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(processes)
    ]  # fmt: skip


def finish(running: list[subprocess.Popen[str]], seconds: float = 900) -> list[str]:
    """What each process wrote; all of them must end well."""
    until = time.monotonic() + seconds
    try:
        while any(p.poll() is None for p in running) and not any(p.poll() for p in running):
            assert time.monotonic() < until, "the processes wait for each other"
            time.sleep(0.1)
        time.sleep(0.5 if any(p.poll() for p in running) else 0)
    finally:
        for p in running:
            p.kill()
    written = [p.communicate() for p in running]
    assert [p.returncode for p in running] == [0] * len(running), "\n".join(err[-4000:] for _, err in written)
    return [out for out, _ in written]


def play(folder: Path, kind: str, sharing: str = "auto", precision: str = "float64", steps: int = STEPS) -> None:
    """One run of `kind` to its end, or to the stop after `steps`. Processes that share the model read their parts of
    it, if they can."""
    stored = kind in ROUNDED or (world().size > 1 and sharing in ("shard", "hybrid"))
    loop(folder, kind, sharing=sharing, precision=precision, stored=stored).train(
        stop=stop_after(steps) if steps < STEPS else never
    )


def never() -> bool:
    return False


def check_captured(folder: Path) -> None:
    """A reference that was made before its policy was sharded moves with what the optimizer moves."""
    trainer = loop(folder, "moving", sharing="shard", precision="float64")
    (reference,) = trainer.stateful
    assert isinstance(reference, MovingReference)
    mine = trainer.step.policy.optimizer.param_groups
    trained = {id(p) for group in mine for p in group["params"]}
    assert {id(policy) for _, policy in reference.moves().values()} == trained


def check_gathered(folder: Path) -> None:
    """An optimizer that is made right after a forward pass holds the parts that last."""
    context = assembly(folder, "offline", sharing="shard", precision="float64")
    shard_model(context.policy, "shard")
    context.language_model.logps(context.groups["heldout"])
    trainable = Trainable.of("policy", context.policy, context.recipe.optimizer, 1)
    for group in trainable.optimizer.param_groups:
        assert all(isinstance(p, DTensor) for p in group["params"])
    assert all(isinstance(p, DTensor) for p in context.policy.weights().values())


def check_stop(folder: Path) -> None:
    """A stop that one process hears ends all of them after the same step."""
    trainer = loop(folder, "offline", sharing="shard")
    outcome = trainer.train(stop=stop_after(2) if world().rank == 1 else never)
    assert (outcome.stopped, outcome.step) == (True, 2)


def check_non_finite(folder: Path) -> None:
    """All processes end with the same words, and nothing of the step is saved."""
    trainer = loop(folder, "diverging", sharing="shard")
    with pytest.raises(NonFiniteError) as error:
        trainer.train()
    assert len({*world().gather(str(error.value))}) == 1


def check_differences(folder: Path) -> None:
    """Processes that would compute different runs are refused, by the name of what differs."""
    with pytest.raises(RecipeError) as error:
        loop(folder, "offline", batch_size=3 + world().rank)
    assert error.value.where == "training.batch_size"
    assert error.value.what == "differs between processes: process 0: 3; process 1: 4"


def check_parts(folder: Path) -> None:
    """What is read in parts is what is read as a whole, and half as large: tied and experts' weights, heads, adapters,
    copies."""
    for kind in ("moving", "reward-model-lora", "experts", "ppo-value"):
        context = assembly(folder / kind / "run", kind, sharing="shard", precision="float64", stored=True)
        whole = assembly(folder / kind / "whole", kind, sharing="shard", precision="float64")
        models = [context.policy.model, whole.policy.model]
        if kind == "ppo-value":
            models = [value_model_of(c.language_model, c.loaded, c.recipe.model)[0].model for c in (context, whole)]
        elif kind == "moving":
            models[0] = FrozenReference(context.language_model).policy.model
        mine, all_of_it = (sum(part_here(p.detach()).numel() for p in m.parameters()) for m in models)
        assert in_parts(context.policy.model)
        assert mine < (0.7 if kind == "reward-model-lora" else 0.51) * all_of_it, kind
        assert weights_digest(models[0]) == weights_digest(models[1]), kind
        shard_model(context.policy, "shard")
        assert not in_parts(context.policy.model)
        assert weights_digest(context.policy.model) == weights_digest(whole.policy.model), kind


def check_copies(folder: Path) -> None:
    """An adapter of a base in parts has the shapes of the whole base, also where there are several copies of it."""
    mine = assembly(folder / "run", "offline-lora", sharing="hybrid", stored=True).policy
    whole = assembly(folder / "whole", "offline-lora").policy
    assert in_parts(mine.model)
    assert {n: p.shape for n, p in mine.trainable().items()} == {n: p.shape for n, p in whole.trainable().items()}


def check_none(folder: Path) -> None:
    """A process reads its parts of a model that has fewer experts than there are processes."""
    config = MixtralConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=1, num_experts_per_tok=1,
    )  # fmt: skip
    torch.manual_seed(0)
    whole = MixtralForCausalLM(config)
    world().once(lambda: whole.save_pretrained(folder))
    with reading_parts("shard", "cpu"):
        mine = MixtralForCausalLM.from_pretrained(folder)
    assert part_here(mine.model.layers[0].mlp.experts.down_proj).numel() == (64, 0)[world().rank]
    assert weights_digest(mine) == weights_digest(whole)


def check_unread(folder: Path) -> None:
    """What cannot be read in parts is read as a whole, and a line says why."""
    context = assembly(folder / "run", "moving-dora", sharing="shard", stored=True)
    assert not in_parts(context.policy.model)
    assert whole_because(context.recipe) == "DoRA takes the norms of their rows"


def check_rounding(folder: Path) -> None:
    """Parts of masters are rounded to the bits of the whole."""
    whole, parts = (assembly(folder, "bfloat16", sharing=sharing).policy for sharing in ("replicate", "shard"))
    shard_model(parts, "shard")
    assert whole.masters is not None
    assert parts.masters is not None
    for name, weight in whole.trainable().items():
        master = whole.masters.of(name)
        assert torch.equal(whole_tensor(parts.trainable()[name].detach()), weight)
        assert torch.equal(whole_tensor(parts.masters.of(name)), master)
        assert weight.dim() == 1 or not torch.equal(weight, master)


def check_collectives(folder: Path) -> None:
    """Of two packs a process gradients are summed once, or after each; weights of a layer come twice a pack, or once,
    and all others, which the root holds, once in both cases. Docs have the bytes by the same formula."""
    counted, numbers = Counter[str](), Counter[str]()
    sum_of, gather = "reduce_scatter_single", "all_gather_single"
    if not hasattr(dist, sum_of):  # before torch 2.13
        sum_of, gather = "reduce_scatter_tensor", "all_gather_into_tensor"

    def counting(name: str) -> Callable[..., Any]:
        call = getattr(dist, name)

        def count(*args: Any, **named: Any) -> Any:
            counted[name] += 1
            numbers[name] += max(each.numel() for each in (*args, *named.values()) if isinstance(each, torch.Tensor))
            return call(*args, **named)

        return count

    for kind, sums, weights in (("packs", 2, 6), ("reduce", 4, 4)):
        trainer = loop(folder / kind, kind, sharing="shard", precision="float64", batch_size=8)
        made = trainer.algorithm.round(0, {})
        held = trainer.step.policy.model
        inside = sum(_travels(p) for layer in layers(held.model) for p in layer.parameters())
        outside = sum(_travels(p) for p in held.parameters()) - inside
        counted.clear()
        numbers.clear()
        with pytest.MonkeyPatch.context() as patch:
            for name in (sum_of, gather):
                patch.setattr(dist, name, counting(name))
            trainer.step(made)
        assert counted == {sum_of: sums, gather: weights}, kind
        a_layer, a_sum = (2, 1) if kind == "packs" else (1, 2)
        gathered, summed = 2 * (a_layer * inside + outside), a_sum * (inside + outside)
        assert numbers == {sum_of: summed, gather: gathered}, kind


def _travels(weight: torch.Tensor) -> int:
    """Numbers of a weight whose rows are filled up to equal shares."""
    return -(-weight.shape[0] // world().size) * world().size * weight[0].numel()


def check_settings(folder: Path) -> None:
    """What FSDP2 is asked for: layers ahead, where parts wait, and the dtype of what travels and what is summed."""
    context = assembly(folder, "seq2seq", sharing="shard")
    shard_model(context.policy, "shard", WorldSettings(prefetch=2, offload=True))
    states: list[Any] = [layer._get_fsdp_state() for layer in layers(context.policy.model)]  # type: ignore[operator]
    assert [len(s._states_to_forward_prefetch) for s in states] == [2, 2, 1, 0]
    assert states[3]._states_to_backward_prefetch == [states[2], states[1]]
    assert all(isinstance(s._fsdp_param_group.offload_policy, CPUOffloadPolicy) for s in states)
    reward = assembly(folder, "stream-reward", sharing="shard").policy
    shard_model(reward, "shard")
    (layer,), score = layers(reward.model), reward.model.score
    for module, narrow, summed in ((layer, torch.bfloat16, torch.float32), (score, None, None)):
        policy = module._get_fsdp_state()._mp_policy  # type: ignore[operator]
        assert (policy.param_dtype, policy.reduce_dtype) == (narrow, summed)


def main() -> None:
    """`folder precision CASE …`: the runs that the command line names, one after the other. A case is `sharing:kind`,
    `sharing:kind:steps` for one that is stopped, or the name of a function here with its folder."""
    torch.set_num_threads(1)
    join()
    folder, precision, *cases = sys.argv[1:]
    for case in cases:
        name, _, rest = case.partition(":")
        if name.startswith("check_"):
            globals()[name](Path(folder) / name)
            continue
        kind, _, steps = rest.partition(":")
        play(Path(folder) / f"{name}-{kind}", kind, name, precision, int(steps or STEPS))


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def distance(run: Path, alone: Path, *, without: Sequence[str] = ()) -> tuple[float, float]:
    """The largest relative difference of a figure, but for those `without`, and the largest one of a weight or of what
    else is saved."""
    rows, others = lines(run), lines(alone)
    assert [list(line) for line in rows] == [list(line) for line in others]
    figures = [
        abs(a[name] - b[name]) / max(1.0, abs(b[name]))
        for a, b in zip(rows, others, strict=True)
        for name in b
        if name not in ("kind", *without)
    ]
    weights = [0.0]
    mine, theirs = (Checkpoint.open(folder / f"checkpoints/step-{STEPS}") for folder in (run, alone))
    for file in sorted({path.name.split(".")[0] for path in theirs.path.glob("*.safetensors")}):
        a, b = mine.tensors(file), theirs.tensors(file)
        assert a.keys() == b.keys()
        if "optimizer" not in file:
            weights += [float((a[name] - b[name]).abs().max()) for name in b]
    return max(figures), max(weights)
