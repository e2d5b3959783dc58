"""What twofold does on this machine's accelerator, in some minutes and without a network: `make gpu`.

Every check computes a value that is known beforehand, or a speed beside the limit of the device. It needs torch,
transformers, PEFT and safetensors alone. `--tiny` runs the same lines on small shapes, on a CPU too. A failed check
does not stop the others; the exit status is 1 where one failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")

import torch
import transformers
from torch import Tensor

from benchmarks.gpu_bench import HUGE, LARGE, SMALL, TINY, Bench, Shape, attention_calls, pairs
from benchmarks.reporting import print_facts, versions, write_json
from benchmarks.sampler import Roofline
from benchmarks.turns import ROOT
from twofold.batch import Group
from twofold.models import attention
from twofold.models.adapters import LoRA, attach_adapter
from twofold.models.load import ModelSettings
from twofold.models.logprob import token_logps
from twofold.models.packing import Packing, pack
from twofold.models.policy import Policy
from twofold.models.reference import live_reference, with_reference
from twofold.models.tiled_attention import Scores
from twofold.objectives.dpo import DPO
from twofold.sampling.base import Sampling
from twofold.sampling.local import LocalSampler
from twofold.training.column_providers import providers
from twofold.training.optim import AdamW, make_optimizer
from twofold.training.step import Part, Round, Step
from twofold.training.trainable import POLICY, Trainable

Facts = dict[str, Any]
PACK = 16384
"""Tokens of a pack: a step is one pack, as it is one batch for TRL. A GPU waits for its CPU between small kernels."""


class Skipped(Exception):
    """A check that this machine cannot do, and why."""


def environment(bench: Bench) -> Facts:
    """What this is."""
    name = torch.cuda.get_device_name(bench.device) if bench.cuda else "cpu"
    memory = round(torch.cuda.get_device_properties(bench.device).total_memory / 2**30) if bench.cuda else None
    return {"device": name, "GiB": memory, "torch": torch.__version__, "transformers": transformers.__version__}


def attention_is_exact(bench: Bench) -> Facts:
    """Variable-length attention and its gradients in bfloat16 against plain attention in float64: within 3%."""
    if not bench.cuda:
        raise Skipped("variable-length attention needs CUDA")
    worst = {}
    for size in (64, 80, 128, 256):
        for heads, key_heads, window in ((8, 8, None), (8, 2, None), (8, 2, 48)):
            packed = pack(pairs(SMALL), bench.device)
            length = packed.token_T.shape[1]
            inputs = [
                torch.randn(length, n, size, device=bench.device, dtype=torch.bfloat16, requires_grad=True)
                for n in (heads, key_heads, key_heads)
            ]
            (q, k, v), exact = inputs, [x.detach().double().requires_grad_() for x in inputs]
            ours = attention._varlen(q, k, v, packed.layout, size**-0.5, window)
            q, k, v = exact
            plain = attention._bucketed(q, k, v, packed.layout, Scores(size**-0.5, None, window))
            gradient = torch.randn_like(plain)
            ours.backward(gradient.bfloat16())
            plain.backward(gradient)
            compared = [(ours, plain), *((x.grad, y.grad) for x, y in zip(inputs, exact, strict=True))]
            error = max(((a.double() - b).abs().max() / b.abs().max()).item() for a, b in compared)
            worst[f"{size} wide, {heads}:{key_heads} heads, window {window}"] = round(error, 4)
    assert max(worst.values()) < 0.03, worst
    return {"largest relative error": max(worst.values()), "of": len(worst)}


def attention_that_runs(bench: Bench) -> Facts:
    """On CUDA every bfloat16 model takes shared packs and one variable-length call, never the loop over buckets."""
    facts = {}
    for name, dtype in (("float32 weights", torch.float32), ("bfloat16 weights", torch.bfloat16)):
        for how in ("autocast", "cast"):
            policy = Policy(bench.model(SMALL, dtype), **{how: torch.bfloat16})  # type: ignore[arg-type]
            with attention_calls() as ran:
                policy(pairs(SMALL))
            facts[f"{name}, {how}"] = ", ".join(sorted(ran)) if policy.shared else f"rows: {policy.sharing_note}"
    expected = "varlen" if bench.cuda else "tiled_attention"
    assert set(facts.values()) == {expected}, facts
    return facts


def head(bench: Bench) -> Facts:
    """Log-probabilities of the scored tokens and their gradients: time, share of the device's peak, memory."""
    shape, rows = bench.shape, 64 if bench.shape is TINY else 4096
    hidden = (torch.randn(rows, shape.hidden, device=bench.device) / math.sqrt(shape.hidden)).requires_grad_()
    weight = torch.randn(shape.vocabulary, shape.hidden, device=bench.device, requires_grad=True)
    target = torch.randint(shape.vocabulary, (rows,), device=bench.device)

    def run() -> Tensor:
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=bench.cuda):
            logps = token_logps(hidden, weight, target)
        logps.sum().backward()
        return logps

    seconds = bench.seconds(run)
    exact = (hidden.double()[:16] @ weight.double().T).log_softmax(-1).gather(1, target[:16, None])[:, 0]
    error = (run()[:16].double() - exact).abs().max().item()
    assert error < (0.1 if bench.cuda else 1e-4), error
    operations = 8 * rows * shape.vocabulary * shape.hidden  # two products forward (one repeated), two backward
    return {"ms": round(seconds * 1e3, 2), "of peak": bench.of_peak(operations, seconds), "GiB": bench.peak_gib(),
            "largest error (nats)": error}  # fmt: skip


def _step(policy: Policy, groups: list[Group], *, live: bool) -> Callable[[int], Facts]:
    packing = Packing(tokens=PACK)
    known = providers(policy, live_reference(policy), packing) if live else {}
    groups = groups if live else list(with_reference(groups, policy.logps(groups, packing)))
    optimizer = make_optimizer(AdamW(learning_rate=1e-5), policy.trainable())
    step = Step([Trainable(POLICY, policy, optimizer, None)], providers=known, packing=packing)
    return lambda number: step(Round(number, [Part(groups, DPO())]))


def _timed_step(bench: Bench, shape: Shape, policy: Policy, *, live: bool) -> Facts:
    """The first loss is ln 2, the third is lower, and how many pairs a second a step makes."""
    groups = pairs(shape)
    step = _step(policy, groups, live=live)
    first = step(0)["loss"]
    assert abs(first - math.log(2)) < 1e-6, f"the first loss is {first}, not ln 2"
    seconds = bench.seconds(lambda: step(1))
    last = step(2)["loss"]
    assert last < first, f"the loss does not fall: {first} → {last}"
    tokens = sum(g.num_tokens for g in groups)
    scored = sum(len(b.tokens) for g in groups for b in g.branches)
    # Forward and two backward products; a frozen base needs one backward product, and the live reference one forward.
    passes = (2 if policy.adapter else 3) + (1 if live else 0)
    operations = 2 * passes * (shape.products * tokens + shape.vocabulary * shape.hidden * scored)
    return {"pairs/s": round(len(groups) / seconds, 1), "tokens/s": round(tokens / seconds),
            "MFU": bench.of_peak(operations, seconds), "GiB": bench.peak_gib(),
            "loss": [round(first, 8), round(last, 5)]}  # fmt: skip


def dpo_step(bench: Bench) -> Facts:
    """DPO of all weights in bfloat16, with a cached and with a live reference."""
    facts: Facts = {}
    for name in ("cached", "live"):
        policy = Policy(bench.model(bench.shape), cast=bench.cast)
        facts[name] = _timed_step(bench, bench.shape, policy, live=name == "live")
    return facts


def lora_step(bench: Bench) -> Facts:
    """DPO of an adapter on a bfloat16 base of 7 billion weights, with a live reference: the same base without it."""
    model = bench.model(bench.adapted, bench.cast or torch.float32)
    adapter = attach_adapter(model, ModelSettings(path="random", lora=LoRA(rank=16)), seed=0)
    return _timed_step(bench, bench.adapted, Policy(model, adapter=adapter, cast=bench.cast), live=True)


def beside_trl(bench: Bench) -> Facts:
    """The pairs of both steps through TRL's trainer at its fastest settings, where TRL is installed."""
    if importlib.util.find_spec("trl") is None:
        raise Skipped("TRL is not installed")
    from benchmarks.trl_on_device import seconds_per_step

    facts: Facts = {}
    for name, shape, rank in (("all weights", bench.shape, None), ("LoRA", bench.adapted, 16)):
        bench.forget_peak()
        rows = [
            {"prompt_ids": g.prompt.tolist(), "chosen_ids": g.branches[0].tokens.tolist(),
             "rejected_ids": g.branches[1].tokens.tolist()}
            for g in pairs(shape)
        ]  # fmt: skip
        model = bench.model(shape, torch.float32 if rank is None or bench.cast is None else bench.cast)
        with tempfile.TemporaryDirectory() as folder:
            seconds = seconds_per_step(model, rows, Path(folder), steps=bench.repeats, rank=rank)
        facts[name] = {"pairs/s": round(len(rows) / seconds, 1), "GiB": bench.peak_gib()}
    return facts


def decoding(bench: Bench) -> Facts:
    """Drafts a second with both caches, equal drafts, and the share of the memory bandwidth that decoding reaches."""
    shape = bench.shape
    model = bench.model(shape, torch.bfloat16 if bench.cuda else torch.float32)
    prompts = [torch.arange(5, 45) + i for i in range(shape.drafts)]
    facts: Facts = {}
    drafts = {}
    for cache in ("growing", "static"):
        settings = Sampling(max_new_tokens=shape.new_tokens, batch_size=len(prompts), cache=cache)
        sampler = LocalSampler(model, None, [1], settings)  # type: ignore[arg-type]  # no stop texts
        sampler.sample(prompts, seed=(0, 0))
        bench.wait()
        steps, began = sampler.steps, time.perf_counter()
        drafts[cache] = [d[0].tokens for d in sampler.sample(prompts, seed=(0, 1))]
        seconds = time.perf_counter() - began
        lengths = [[len(d)] for d in drafts[cache]]
        share = Roofline.of(model).share([len(p) for p in prompts], lengths, sampler.steps - steps, seconds)
        facts[cache] = {"tokens/s": round(sum(map(sum, lengths)) / seconds), "of bandwidth": round(share, 3)}
        facts["graphs"] = len(sampler._static.graphs) if sampler._static else 0
    same = sum(torch.equal(a, b) for a, b in zip(*drafts.values(), strict=True))
    facts["equal drafts"] = f"{same} of {len(prompts)}"
    if bench.cuda:
        assert facts["graphs"] > 0, "no CUDA graph was captured"
    else:
        assert same == len(prompts), facts
    return facts


def fsdp_of_one(bench: Bench) -> Facts:
    """FSDP2 in a world of one process: the log-probabilities and the gradient's norm are those of the plain model."""
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    policy, groups = Policy(bench.model(SMALL)), pairs(SMALL)
    plain = policy(groups)[0].logp_S
    plain.sum().backward()
    norms = [_gradient_norm(policy)]
    policy.zero_grad()
    with tempfile.TemporaryDirectory() as folder:
        backend, place = "nccl" if bench.cuda else "gloo", f"file://{folder}/store"
        distributed.init_process_group(backend, init_method=place, rank=0, world_size=1)
        try:
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")  # never written to
            mesh = init_device_mesh(bench.device.type, (1,))
            for layer in policy.model.model.layers:
                fully_shard(layer, mesh=mesh)
            fully_shard(policy, mesh=mesh)
            sharded = policy(groups)[0].logp_S
            sharded.sum().backward()
            norms.append(_gradient_norm(policy))
            difference = (sharded.detach() - plain.detach()).abs().max().item()
        finally:
            distributed.destroy_process_group()
    assert difference < 1e-4, difference
    assert abs(norms[0] - norms[1]) < 1e-4 * norms[0], norms
    return {"largest difference (nats)": difference, "gradient norms": [round(n, 4) for n in norms]}


def _gradient_norm(policy: Policy) -> float:
    grads = [p.grad for p in policy.parameters() if p.grad is not None]
    whole = [g.full_tensor() if hasattr(g, "full_tensor") else g for g in grads]  # type: ignore[operator]  # a DTensor
    return torch.stack([g.norm() for g in whole]).norm().item()


def marked_tests(bench: Bench) -> Facts:
    """The tests that need CUDA, where pytest and hypothesis are installed."""
    missing = [name for name in ("pytest", "hypothesis") if importlib.util.find_spec(name) is None]
    if missing or not bench.cuda:
        raise Skipped(f"needs {', '.join(missing) or 'CUDA'}")
    files = ["models/test_on_gpu.py", "sampling/test_static.py", "training/test_resume_on_gpu.py"]
    line = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *(f"tests/{file}" for file in files)]
    line += ["-n", str(min(8, os.cpu_count() or 1))] if importlib.util.find_spec("xdist") else []
    run = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-600:]
    return {"pytest": run.stdout.strip().splitlines()[-1]}


CHECKS: tuple[Callable[[Bench], Facts], ...] = (
    environment, attention_is_exact, attention_that_runs, head, dpo_step, lora_step, beside_trl, decoding, fsdp_of_one,
    marked_tests,
)  # fmt: skip


def attempt(check: Callable[[Bench], Facts], bench: Bench) -> Facts:
    """What a check came to: passed, skipped or failed, its facts, its seconds."""
    bench.forget_peak()
    began = time.perf_counter()
    try:
        outcome, facts = "passed", check(bench)
    except Skipped as reason:
        outcome, facts = "skipped", {"why": str(reason)}
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        why = f"{type(error).__name__}: {str(error)[:500]} ({last.filename}:{last.lineno})"
        outcome, facts = "failed", {"why": why}
    return {"outcome": outcome, **facts, "seconds": round(time.perf_counter() - began, 1)}


def main(arguments: list[str] | None = None) -> int:
    """Run every check; print each as it ends, and write all to --json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="small shapes, for a CPU too")
    parser.add_argument("--only", nargs="+", default=[""], help="checks that have one of these in their names")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args(arguments)
    if not (torch.cuda.is_available() or options.tiny):
        parser.error("there is no CUDA device here: --tiny runs the same checks on small shapes, on the CPU")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = Bench(device, TINY if options.tiny else LARGE, TINY if options.tiny else HUGE, 2 if options.tiny else 8)
    results: dict[str, Facts] = {}
    for check in CHECKS:
        if any(part in check.__name__ for part in options.only):
            results[check.__name__] = attempt(check, bench)
            print_facts(check.__name__, results[check.__name__])
    if options.json:
        write_json(options.json, {"versions": versions(sys.executable), "checks": results})
    outcomes = Counter(facts["outcome"] for facts in results.values())
    print(", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()) or "no check has that name")
    return int(outcomes["failed"] > 0 or not results)


if __name__ == "__main__":
    sys.exit(main())
