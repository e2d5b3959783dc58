"""Folds of real preferences, reward models and baselines on them, and the tables."""

from __future__ import annotations

import gzip
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.utils import logging as transformers_logging

from benchmarks.commands import command_line, shared_data
from benchmarks.reporting import machine, print_table, write_json
from experiments import reward_models
from experiments.gsm8k import files
from experiments.gsm8k.small import byte_tokenizer
from twofold.batch import Group
from twofold.data.encode import encode
from twofold.data.kinds import rows_of_kind
from twofold.data.order import permutation
from twofold.data.split import prompt_key, refuse_overlap
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.evaluation.reward import Scored, judge, scored
from twofold.models.heads import RewardModel
from twofold.objectives import BradleyTerry, RewardPlackettLuce
from twofold.records import Pair, Ranking, Record, Source, text_of
from twofold.runs.dataset import row_needs
from twofold.runs.train import train

MODULE = "experiments.reward_models"
FOLDS = 5
EPOCHS = 2
TOKENIZE = TokenizeSettings(max_length=320, truncation="cut_prompt")
HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
Rewards = dict[str, list[Scored]]


@dataclass(frozen=True)
class Task:
    """Records with the objectives to train on them; `text` is what the tokenizer is made of, the folds' own if None."""

    name: str
    records: list[Record]
    objectives: dict[str, BradleyTerry | RewardPlackettLuce]
    text: list[str] | None = None


def gsm8k_task(folder: Path) -> Task:
    """Rankings of model solutions; the tokenizer is made of the training split, none of whose problems is here."""
    rows = files.rankings(folder / "example_model_solutions.jsonl")
    records: list[Record] = [
        Ranking(r["prompt"], tuple(r["completions"]), Source("solutions", i), tuple(r["scores"]))
        for i, r in enumerate(rows, 1)
    ]
    objectives = {"Bradley–Terry": BradleyTerry(), "Plackett–Luce": RewardPlackettLuce()}
    text = [row["prompt"] + row["answer"] for row in files.problems(folder / "train.jsonl")]
    return Task("GSM8K solutions", records, objectives, text)


def hh_task(file: Path) -> Task:
    """Preferences between two last turns of one dialogue; rows whose dialogues part earlier, or do not at all, are
    left out."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    records: list[Record] = []
    for number, row in enumerate(rows, 1):
        (asked, chosen), (also, rejected) = (_last_turn(row[side]) for side in ("chosen", "rejected"))
        if asked == also and chosen.strip() and rejected.strip() and chosen != rejected:
            records.append(Pair(asked, chosen, rejected, Source("hh", number)))
    return Task("HH harmless test", records, {"Bradley–Terry": BradleyTerry()})


def _last_turn(dialogue: str) -> tuple[str, str]:
    asked, mark, answer = dialogue.rpartition(ASSISTANT)
    return asked + mark, answer


def folds(records: Sequence[Record], seed: int) -> list[tuple[list[Record], list[Record]]]:
    """(training, held out), every prompt held out once and on one side only."""
    prompts = list(dict.fromkeys(prompt_key(r.prompt) for r in records))
    fold = {prompts[i]: place % FOLDS for place, i in enumerate(permutation(len(prompts), seed, 0))}
    found: list[tuple[list[Record], list[Record]]] = []
    for k in range(FOLDS):
        sides = ([r for r in records if (fold[prompt_key(r.prompt)] == k) is held] for held in (False, True))
        training, heldout = sides
        refuse_overlap(training, heldout)
        found.append((training, heldout))
    return found


def run(task: Task, seed: int) -> Rewards:
    """Held-out scores of every method, over all folds."""
    found: Rewards = {}
    for k, (training, heldout) in enumerate(folds(rows_of_kind(task.records, row_needs(RewardPlackettLuce())), seed)):
        tokenizer = byte_tokenizer(task.text or [text for r in training for text in _texts(r)])
        encoder = Encoder(tokenizer, frozenset({0}), TOKENIZE)
        groups, unseen = (encode(rows, encoder).groups for rows in (training, heldout))
        known: dict[str, list[list[float]]] = {
            "longer wins": [[float(len(b.tokens)) for b in g.branches] for g in unseen],
            "bag of words": bag_of_words(groups, unseen),
        }
        for name, objective in task.objectives.items():
            began = time.perf_counter()
            known[name] = learned(tokenizer, training, unseen, objective, seed + k)
            print(f"{task.name}, fold {k + 1} of {FOLDS}, {name}: {time.perf_counter() - began:.0f} s", flush=True)
        for name, scores in known.items():
            found.setdefault(name, []).extend(scored(unseen, scores))
    return found


def learned(
    tokenizer: PreTrainedTokenizerFast,
    training: list[Record],
    unseen: Sequence[Group],
    objective: BradleyTerry | RewardPlackettLuce,
    seed: int,
) -> list[list[float]]:
    """Scores of `unseen` by a small transformer trained from nothing."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=176, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=512, tie_word_embeddings=True,
        eos_token_id=0, bos_token_id=None, pad_token_id=1,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trained = train(
            (Qwen2ForCausalLM(config), tokenizer),
            training,
            objective=objective,
            run=folder,
            seed=seed,
            model={"precision": "float32", "device": "cpu"},
            data={"tokenize": TOKENIZE},
            training={"epochs": EPOCHS, "batch_size": 32, "checkpoint_every": 10_000},
            optimizer={"learning_rate": 2e-3, "weight_decay": 0.1, "schedule": "linear", "warmup": 0.1},
        )
    assert isinstance(trained.policy, RewardModel)
    return trained.policy.scores(unseen)


def bag_of_words(training: Sequence[Group], unseen: Sequence[Group], penalty: float = 1e-3) -> list[list[float]]:
    """Bradley–Terry over counts of tokens, a square-root of each, without their order."""
    size = 1 + max(int(b.tokens.max()) for g in (*training, *unseen) for b in g.branches)
    rows = [_counts(g, size) for g in training]
    levels = [torch.tensor([b.columns["level"] for b in g.branches]) for g in training]
    lead_CV = torch.cat(
        [
            row[i][None] - row[j][None]
            for row, level in zip(rows, levels, strict=True)
            for i in range(len(level))
            for j in range(len(level))
            if level[i] < level[j]
        ]
    )
    weight_V = torch.zeros(size, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight_V], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.softplus(-lead_CV @ weight_V).mean() + penalty * weight_V.square().sum()
        value.backward()
        return value

    optimizer.step(loss)  # type: ignore[arg-type]  # a closure that returns a tensor, as LBFGS wants
    return [(_counts(g, size) @ weight_V.detach()).tolist() for g in unseen]


def _counts(group: Group, size: int) -> Tensor:
    return torch.stack([torch.bincount(b.tokens, minlength=size).sqrt() for b in group.branches])


def _texts(record: Record) -> list[str]:
    assert isinstance(record, Ranking)
    assert isinstance(record.prompt, str)
    return [record.prompt, *map(text_of, record.completions)]


def main() -> None:
    parser = command_line(MODULE, reward_models.__doc__)
    parser.add_argument("--data", type=Path, default=shared_data(""), help="folder with gsm8k/ and hh/")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    result: dict[str, Any] = {"machine": machine(), "seed": options.seed, "folds": FOLDS, "epochs": EPOCHS}
    for task in (gsm8k_task(options.data / "gsm8k"), hh_task(options.data / "hh" / "harmless-base-test.jsonl.gz")):
        began = time.perf_counter()
        reports = {name: judge(found) for name, found in run(task, options.seed).items()}
        first = next(iter(reports.values()))
        title = (
            f"{task.name}: {len(task.records)} rows, {first.prompts} prompts, {first.accuracy.n} comparisons held out"
        )
        print_table(title, [_row(name, report) for name, report in reports.items()])
        result[task.name] = {name: report.as_dict() for name, report in reports.items()}
        result[task.name]["seconds"] = round(time.perf_counter() - began)
    if options.json:
        write_json(options.json, result)


def _row(name: str, report: Any) -> dict[str, object]:
    a = report.accuracy
    return {
        "method": name,
        "accuracy": f"{a.value:.3f}",
        "95% interval": f"{a.low:.3f} … {a.high:.3f}",
        "prompts right : wrong": f"{report.test.only_b} : {report.test.only_a}",
        "p": f"{report.test.p_value:.2g}",
        "calibration error": f"{report.calibration_error:.3f}",
    }


if __name__ == "__main__":
    main()
