"""DPO side by side with TRL's DPOTrainer: pairs per processor second, peak memory, and what a larger vocabulary costs.

Same model (Qwen2, 6 layers of 256, random weights), same pairs in the same order, same batches, same AdamW, float32,
one thread each, no activation checkpointing. Both must compute the same losses, or the comparison is refused.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import pairs
from benchmarks.commands import command_line
from benchmarks.real_steps import compare
from benchmarks.reporting import Median, machine, median_interval, print_facts, print_table, versions, write_json
from benchmarks.turns import ROOT, Job, Worker

TARGETS = {"live": 3.5, "cached": 3.3, "lower end": 3.0, "peak memory": 0.4, "vocab marginal": 1.3}
WARM_UP = 1  # turns that are run and not counted
MODEL = {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class Setting:
    """One comparison. The headline ratios are those of real pairs at the smaller vocabulary, where TRL fares best."""

    data: str
    vocabulary: int
    reference: str

    @property
    def name(self) -> str:
        return f"{self.data}, {self.vocabulary // 1000}k, {self.reference}"


SETTINGS = tuple(
    Setting(data, vocabulary, reference)
    for data, vocabulary in (("GSM8K", 16_000), ("mixed", 16_000), ("GSM8K", 64_000))
    for reference in ("live", "cached")
)
VOCABULARY = {"vocabulary, live": "live", "vocabulary, cached": "cached"}


@dataclass(frozen=True)
class Comparison:
    """What one setting came to. `ratio` is TRL's processor seconds over ours, neighbouring turns paired."""

    name: str
    ratio: Median
    pairs_per_cpu_second: float
    pairs_per_cpu_second_trl: float
    cpu_seconds: tuple[float, ...]
    cpu_seconds_trl: tuple[float, ...]
    peak_memory_ratio: float
    peak_mib: float
    peak_mib_trl: float
    losses: tuple[float, ...]
    losses_trl: tuple[float, ...]
    settings: dict[str, Any]
    settings_trl: dict[str, Any]

    def row(self) -> dict[str, object]:
        return {
            "setting": self.name,
            "pairs/cpu-s": self.pairs_per_cpu_second,
            "TRL": self.pairs_per_cpu_second_trl,
            "ratio [interval]": self.ratio,
            "peak MiB": round(self.peak_mib),
            "TRL MiB": round(self.peak_mib_trl),
            "peak ratio": self.peak_memory_ratio,
            "losses differ": max(abs(a - b) for a, b in zip(self.losses, self.losses_trl, strict=True)),
        }


def main() -> None:
    """Read the command line, measure, print, write."""
    parser = command_line("benchmarks.dpo_vs_trl", __doc__)
    parser.add_argument("--runs", type=int, default=9, help="paired runs that count (9 give a 96.1%% interval)")
    parser.add_argument("--trl-python", type=Path, help="a Python with TRL 1.16; by default .venv-trl is made")
    parser.add_argument("--steps", type=int, default=1, help="optimizer steps per run")
    parser.add_argument(
        "--only", default="", help="measure what has this in its name, as in `GSM8K, 16k, live` or `vocabulary`"
    )
    parser.add_argument("--model", type=Path, help="measure a pretrained model of this folder on real HH pairs instead")
    parser.add_argument("--alone", action="store_true", help="with --model: our precisions beside each other, no TRL")
    asked = parser.parse_args()
    if asked.model is not None:
        real(asked)
        return
    if not any(asked.only in name for name in (*(s.name for s in SETTINGS), *VOCABULARY)):
        parser.error(f"nothing is called {asked.only!r}: {'; '.join((*(s.name for s in SETTINGS), *VOCABULARY))}")
    peer = asked.trl_python or peer_environment(ROOT / ".venv-trl")
    facts = {"machine": machine(), "versions": versions(sys.executable), "versions_trl": versions(peer)}
    for title, values in facts.items():
        print_facts(title, values)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), peer, asked)
        headline = "GSM8K" if bench.has("GSM8K") else "mixed"
        margins = {r: bench.vocabulary(headline, r) for name, r in VOCABULARY.items() if asked.only in name}
        compared: list[Comparison] = []
        for setting in SETTINGS:
            if asked.only in setting.name and bench.has(setting.data):
                compared.append(bench.compare(setting))
                print_facts("\nmeasured", compared[-1].row())
    if not compared and not margins:
        raise SystemExit("nothing was measured: that needs GSM8K")
    result = {
        **summary(compared, margins, headline),
        **facts,
        "data": bench.lengths,
        "model": MODEL,
        "compared": compared,
    }
    if compared:
        print_table(f"DPO, {asked.runs} paired runs, one thread each", [c.row() for c in compared])
    report(result, margins)
    if asked.json:
        write_json(asked.json, result)


def real(asked: argparse.Namespace) -> None:
    """The pretrained model of `--model`."""
    peer = None if asked.alone else asked.trl_python or peer_environment(ROOT / ".venv-trl")
    facts = {"machine": machine(), "versions": versions(sys.executable)}
    for title, values in facts.items():
        print_facts(title, values)
    result = {**facts, **compare(asked, peer)}
    if asked.json:
        write_json(asked.json, result)


def summary(compared: Sequence[Comparison], margins: dict[str, Median], headline: str) -> dict[str, Any]:
    """The headline figures. Peak memory and the cost of vocabulary are the worst over what was measured."""
    first = {c.name.rpartition(" ")[2]: c for c in compared if c.name.startswith(f"{headline}, 16k")}
    return {
        "pairs_per_cpu_second_ratio": {k: c.ratio.value for k, c in first.items()},
        "pairs_per_cpu_second_interval": {k: [c.ratio.low, c.ratio.high] for k, c in first.items()},
        "peak_memory_ratio": max((c.peak_memory_ratio for c in compared), default=None),
        "vocab_marginal": max((m.value for m in margins.values()), default=None),
        "vocab_marginal_by_reference": margins,
        "headline_data": headline,
        "targets": TARGETS,
    }


def report(result: dict[str, Any], margins: dict[str, Median]) -> None:
    """The figures beside their targets."""
    intervals = result["pairs_per_cpu_second_interval"]
    rows = [
        {
            "figure": f"pairs per CPU second, {k}",
            "value": f"{v:.2f}",
            "from": f"{intervals[k][0]:.2f}",
            "target": f"≥ {TARGETS[k]}",
        }
        for k, v in result["pairs_per_cpu_second_ratio"].items()
    ]
    if (peak := result["peak_memory_ratio"]) is not None:
        rows.append({"figure": "peak memory, worst", "value": f"{peak:.2f}", "from": "", "target": "≤ 0.4"})
    rows += [
        {
            "figure": f"time per further vocabulary, {k}",
            "value": f"{m.value:.2f}",
            "from": f"{m.low:.2f}",
            "target": "≤ 1.3",
        }
        for k, m in margins.items()
    ]
    print_table("Ratios to TRL, and to the bare matrix products ('from': lower end of the interval)", rows)


class Bench:
    """Models and pairs in a scratch folder, made once, and the comparisons on them."""

    def __init__(self, folder: Path, peer: Path, asked: argparse.Namespace) -> None:
        self.folder, self.peer, self.steps, self.turns = folder, peer, asked.steps, asked.runs + WARM_UP
        num = Job.batch_size * self.steps * self.turns
        made = {"mixed": pairs.mixed(num)}
        source = pairs.gsm8k_folder()
        if source is None:
            print(
                "\n!!! NO GSM8K HERE (set TWOFOLD_SHARED, or put it in ../shared): only the synthetic mix is measured\n"
            )
        else:
            made["GSM8K"] = pairs.gsm8k(source, num)
        self.lengths = {name: pairs.mean_lengths(found) for name, found in made.items()}
        for name, found in made.items():
            pairs.save(found, folder / f"{name}.json")
            print_facts(f"{name}, mean tokens of {len(found)} pairs", self.lengths[name])

    def has(self, data: str) -> bool:
        return data in self.lengths

    def job(self, setting: Setting) -> Job:
        """What both workers are told."""
        return Job(
            model=str(self._model(setting.vocabulary)),
            pairs=str(self.folder / f"{setting.data}.json"),
            scratch=str(self.folder / setting.name.replace(", ", "-")),
            reference=setting.reference,
            turns=self.turns,
            steps=self.steps,
        )

    def compare(self, setting: Setting) -> Comparison:
        """Turn by turn, ours and TRL's, each time the other way round."""
        job = self.job(setting)
        ours: list[dict[str, Any]] = []
        theirs: list[dict[str, Any]] = []
        with Worker(sys.executable, "twofold_worker", job) as a, Worker(self.peer, "trl_worker", job) as b:
            for turn in range(job.turns):
                order = [(a, ours), (b, theirs)]
                for worker, answers in order if turn % 2 else reversed(order):
                    answers.append(worker.turn())
        losses, losses_trl = ([x for t in side for x in t["losses"]] for side in (ours, theirs))
        refuse_other_losses(setting.name, losses, losses_trl)
        cpu, cpu_trl = (tuple(t["cpu"] for t in side[WARM_UP:]) for side in (ours, theirs))
        peak, peak_trl = (side[-1]["peak_bytes"] / 2**20 for side in (ours, theirs))
        num = job.steps * job.batch_size
        return Comparison(
            name=setting.name,
            ratio=median_interval([y / x for x, y in zip(cpu, cpu_trl, strict=True)]),
            pairs_per_cpu_second=num * len(cpu) / sum(cpu),
            pairs_per_cpu_second_trl=num * len(cpu_trl) / sum(cpu_trl),
            cpu_seconds=cpu,
            cpu_seconds_trl=cpu_trl,
            peak_memory_ratio=peak / peak_trl,
            peak_mib=peak,
            peak_mib_trl=peak_trl,
            losses=tuple(losses),
            losses_trl=tuple(losses_trl),
            settings=a.settings,
            settings_trl=b.settings,
        )

    def vocabulary(self, data: str, reference: str) -> Median:
        """Our further seconds from 16k to 64k tokens, over those of the bare matrix products."""
        job = self.job(Setting(data, 16_000, reference))
        job = replace(job, model=f"{self._model(16_000)}\n{self._model(64_000)}", scratch=f"{job.scratch}-vocabulary")
        with Worker(sys.executable, "vocabulary_worker", job) as worker:
            found = [worker.turn() for _ in range(job.turns)][WARM_UP:]
        return median_interval([(t["seconds"][1] - t["seconds"][0]) / (t["bare"][1] - t["bare"][0]) for t in found])

    def _model(self, vocabulary: int) -> Path:
        """A folder with random weights; its tokenizer of two tokens is for TRL, which wants to know the padding."""
        folder = self.folder / f"qwen2-{vocabulary}"
        if not folder.exists():
            import torch
            from tokenizers import Tokenizer, models
            from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
            from transformers.utils.logging import disable_progress_bar

            disable_progress_bar()
            torch.manual_seed(0)
            special = {"pad_token_id": pairs.PAD, "eos_token_id": pairs.STOP, "bos_token_id": None}
            Qwen2ForCausalLM(Qwen2Config(vocab_size=vocabulary, **MODEL, **special)).save_pretrained(folder)
            words = Tokenizer(models.WordLevel({"<pad>": pairs.PAD, "<stop>": pairs.STOP}, unk_token="<stop>"))
            PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<stop>").save_pretrained(
                folder
            )
        return folder


def refuse_other_losses(name: str, ours: Sequence[float], theirs: Sequence[float]) -> None:
    """The first loss is ln 2 on both sides, the second is the same; otherwise the two do not do the same work."""
    first = max(abs(side[0] - math.log(2)) for side in (ours, theirs))
    if first > 1e-4:
        raise SystemExit(f"{name}: the first loss is off ln 2 by {first:.2g}: {ours[0]}, {theirs[0]}")
    if abs(ours[1] - theirs[1]) > 1e-3:
        raise SystemExit(f"{name}: after one step the losses differ: {ours[1]} here, {theirs[1]} for TRL")


def peer_environment(folder: Path) -> Path:
    """The Python of TRL's own environment in `folder`, which is made where it is missing."""
    python, done = folder / "bin" / "python", folder / ".done"
    if not done.exists():
        print(f"making {folder} for TRL …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
        needs = ROOT / "benchmarks" / "requirements-trl.txt"
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", str(needs)], check=True)
        done.touch()
    return python


if __name__ == "__main__":
    main()
