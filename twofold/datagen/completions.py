"""Completions of prompts as rows: samples of a model, the best samples by a reward model, or beam search's results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twofold.progress import Progress
from twofold.records import Demonstration, Prompt, Ranking, Record, Source, prompt_fields
from twofold.rewards.model import open_reward
from twofold.sampling.base import Sample, Sampling
from twofold.sampling.beam import Beams, BeamSearch
from twofold.sampling.best_of_n import best_of_n, kl_bound
from twofold.sampling.local import LocalSampler
from twofold.sampling.named_model import NamedModel, open_model

Row = dict[str, Any]


def samples_of(
    model: NamedModel, prompts: Sequence[Prompt], sampling: Sampling, samples: tuple[int, int], progress: Progress
) -> list[Row]:
    """A row for each sample; `samples` is the number of samples per prompt, and the seed."""
    number, seed = samples
    tokens = [model.encoder.prompt(p) for p in prompts]
    sampled = _sampler(model, sampling, progress).sample(tokens, samples=number, seed=(seed, 0))
    return [
        _row(p, one, i, model) for p, several in zip(prompts, sampled, strict=True) for i, one in enumerate(several)
    ]


def best_samples_of(
    model: NamedModel, prompts: Sequence[Prompt], sampling: Sampling, samples: tuple[int, int], *,
    reward: str, progress: Progress,
) -> list[Row]:  # fmt: skip
    """For each prompt, the sample with the highest score of a reward model, with the scores of all samples. `samples`
    is the number of samples per prompt, and the seed."""
    (number, seed), sampler, scorer = samples, _sampler(model, sampling, progress), open_reward(reward)

    def score(completions: Sequence[Sequence[Sample]]) -> list[list[float]]:
        rows = [_answers(p, some, model) for p, some in zip(prompts, completions, strict=True)]
        return scorer.score(rows, progress)

    progress.note(f"best of {number}: at most {kl_bound(number):.2f} nats from the model")
    found = best_of_n(sampler, [model.encoder.prompt(p) for p in prompts], score, n=number, seed=(seed, 0))
    return [
        {**_row(p, best.completion, best.index, model), "score": best.scores[best.index], "scores": list(best.scores)}
        for p, best in zip(prompts, found, strict=True)
    ]


def beams_of(model: NamedModel, prompts: Sequence[Prompt], beams: Beams, reference: str | None = None) -> list[Row]:
    """A row for each beam, the best of each prompt first: by log-probability, or by the log-ratio to a reference."""
    other = None if reference is None else open_model(reference).loaded.model
    search = BeamSearch(model.loaded.model, model.loaded.stop_tokens, beams, other)
    found = search.search([model.encoder.prompt(p) for p in prompts])
    return [
        {**_row(p, one.completion, i, model), "score": round(one.score, 6)}
        for p, several in zip(prompts, found, strict=True)
        for i, one in enumerate(several)
    ]


def _sampler(model: NamedModel, sampling: Sampling, progress: Progress) -> LocalSampler:
    sampler = model.sampler(sampling, progress.note)
    if sampler.note:
        progress.note(sampler.note)
    return sampler


def _answers(prompt: Prompt, completions: Sequence[Sample], model: NamedModel) -> Record:
    """The completions' texts as one row; their order has no meaning."""
    texts, nowhere = [model.encoder.text(d.tokens) for d in completions], Source("completions", 1)
    return Ranking(prompt, tuple(texts), nowhere) if len(texts) > 1 else Demonstration(prompt, texts[0], nowhere)


def _row(prompt: Prompt, completion: Sample, index: int, model: NamedModel) -> Row:
    return {
        **prompt_fields(prompt),
        "completion": model.encoder.text(completion.tokens),
        "sample": index,
        "truncated": completion.truncated,
        "tokens": len(completion.tokens),
        "logp": round(float(completion.logp.sum()), 6),
    }
