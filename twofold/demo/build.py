"""Trains the embedded base model: `python -m twofold.demo.build --out twofold/demo/base`.

The base model learns correct answers in two styles, worked and terse. It can compute the worked ones, but mostly not
the terse ones, which leave no room for intermediate steps. Most answers in its corpus are terse, so the base model
mostly answers tersely. Alignment therefore has a real effect.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from string import ascii_letters, digits, punctuation

import torch
from tokenizers import Tokenizer, decoders, models, processors
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from twofold.demo.task import Problem, problems
from twofold.progress import Progress, Silent
from twofold.settings import settings

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, _ = range(len(SPECIAL))


@settings
class BaseSettings:
    """How the embedded base model is trained."""

    steps: int = 1400
    rows: int = 32
    """Problems per step, each with both of its answers, weighted by their frequency."""
    learning_rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    bucket: int = 8
    """Number of batches from one sorted stretch of rows, so that the rows of a batch have similar lengths."""
    seed: int = 0


def character_tokenizer() -> PreTrainedTokenizerFast:
    """One token per printable ASCII character and newline. `<bos>` starts every text, so that no prompt is empty."""
    alphabet = (*SPECIAL, "\n", " ", *digits, *ascii_letters, *punctuation)
    tokens = {token: number for number, token in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=tokens, merges=[], unk_token="<unk>"))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", BOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )


def untrained_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A Llama of about 0.8 million parameters with the weights of `seed`."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        initializer_range=0.04,
    )
    return LlamaForCausalLM(config)


@dataclass(frozen=True)
class _Shared:
    """Rows of prompt | worked | terse: both answers continue their prompt and do not see each other."""

    token_BT: Tensor
    position_BT: Tensor
    mask_B1TT: Tensor
    scored_S: Tensor
    """Flat index of the token that predicts `target_S`; the last token of a prompt predicts twice."""
    target_S: Tensor
    weight_S: Tensor


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    settings: BaseSettings,
    progress: Progress | None = None,
    rows: list[Problem] | None = None,
) -> None:
    """Teach `model` both styles in place, on completions only; `rows` are the demo's problems by default."""
    progress = progress or Silent()
    rows = problems("base", settings.steps * settings.rows, seed=settings.seed) if rows is None else rows
    optimizer = _optimizer(model, settings)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, settings))
    model.train()
    progress.begin("base", settings.steps)
    for batch in _batches(rows, tokenizer, settings):
        hidden_BTH = model.model(
            input_ids=batch.token_BT, position_ids=batch.position_BT, attention_mask=batch.mask_B1TT, use_cache=False
        ).last_hidden_state
        logits_SV = model.lm_head(hidden_BTH.flatten(0, 1)[batch.scored_S])
        loss_S = cross_entropy(logits_SV, batch.target_S, reduction="none")
        loss = (loss_S * batch.weight_S).sum() / batch.weight_S.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        progress.advance("base", loss=loss.item())
    progress.end("base")
    model.eval()


def _optimizer(model: LlamaForCausalLM, settings: BaseSettings) -> torch.optim.Optimizer:
    """AdamW that leaves the norms' gains undecayed."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    gains = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": gains, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        betas=settings.betas,
    )


def _rate(step: int, settings: BaseSettings) -> float:
    """Linear warmup, then a cosine decay to a fiftieth."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def _batches(rows: list[Problem], tokenizer: PreTrainedTokenizerFast, settings: BaseSettings) -> Iterator[_Shared]:
    """Batches of rows of about one length, each cut from a sorted stretch whose batches are then shuffled."""
    random = Random(settings.seed)
    stretch = settings.bucket * settings.rows
    for start in range(0, len(rows), stretch):
        ordered = sorted(rows[start : start + stretch], key=lambda row: len(row.prompt) + len(row.worked))
        batches = [ordered[first : first + settings.rows] for first in range(0, len(ordered), settings.rows)]
        random.shuffle(batches)
        yield from (_share(batch, tokenizer) for batch in batches)


def _share(rows: list[Problem], tokenizer: PreTrainedTokenizerFast) -> _Shared:
    encoded = [_encode(row, tokenizer) for row in rows]
    length = max(sum(map(len, parts)) for parts in encoded)
    token_BT = torch.full((len(rows), length), PAD)
    position_BT = torch.zeros(len(rows), length, dtype=torch.long)
    branch_BT = torch.full((len(rows), length), -1)
    scored: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    for row, (problem, parts) in enumerate(zip(rows, encoded, strict=True)):
        prompt, end = len(parts[0]), 0
        for branch, (tokens, weight) in enumerate(
            zip(parts, (0.0, problem.worked_share, 1 - problem.worked_share), strict=True)
        ):
            start, end = end, end + len(tokens)
            token_BT[row, start:end] = torch.tensor(tokens)
            position_BT[row, start:end] = torch.arange(len(tokens)) + (prompt if branch else 0)
            branch_BT[row, start:end] = branch
            if branch:
                scored += [row * length + place for place in (prompt - 1, *range(start, end))]
                targets += [*tokens, EOS]
                weights += [weight] * (len(tokens) + 1)
    seen_BTT = (branch_BT[:, None, :] == 0) | (branch_BT[:, None, :] == branch_BT[:, :, None])
    mask_B1TT = (seen_BTT & torch.ones(length, length, dtype=torch.bool).tril())[:, None]
    return _Shared(token_BT, position_BT, mask_B1TT, torch.tensor(scored), torch.tensor(targets), torch.tensor(weights))


def _encode(problem: Problem, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int], list[int]]:
    """Tokens of prompt, worked and terse answer; the end token is a target only."""
    return (
        tokenizer.encode(problem.prompt),
        tokenizer.encode(problem.worked, add_special_tokens=False),
        tokenizer.encode(problem.terse, add_special_tokens=False),
    )


class _Log:
    """Logs the loss every hundred steps."""

    def __init__(self) -> None:
        self.log, self.step = logging.getLogger("twofold.demo"), 0

    def begin(self, task: str, total: int | None = None) -> None:
        self.log.info("%s: %s steps", task, total)

    def advance(self, task: str, steps: int = 1, **figures: float) -> None:
        self.step += steps
        if self.step % 100 == 0:
            self.log.info("%s: step %d, loss %.4f", task, self.step, figures["loss"])

    def end(self, task: str) -> None: ...

    def note(self, message: str) -> None:
        self.log.info(message)

    def warn(self, message: str) -> None:
        self.log.warning(message)


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description="Train the embedded base model.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model and its tokenizer")
    parser.add_argument("--steps", type=int, default=BaseSettings.steps)
    parser.add_argument("--seed", type=int, default=BaseSettings.seed)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    settings = BaseSettings(steps=arguments.steps, seed=arguments.seed)
    tokenizer = character_tokenizer()
    model = untrained_model(tokenizer, settings.seed)
    train(model, tokenizer, settings, _Log())
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
