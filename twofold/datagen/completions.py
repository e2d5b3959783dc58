"""Completions of prompts as rows: a model's samples, the best of N by a reward model, or the most probable ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twofold.progress import Progress
from twofold.records import Demonstration, Prompt, Ranking, Record, Source, shown
from twofold.rewards.model import open_reward
from twofold.sampling.base import Draft, Sampling
from twofold.sampling.beam import Beams, BeamSearch
from twofold.sampling.best_of_n import best_of_n, kl_bound
from twofold.sampling.local import LocalSampler
from twofold.sampling.named_model import NamedModel, open_model

Row = dict[str, Any]


def drafts_of(
    model: NamedModel, prompts: Sequence[Prompt], sampling: Sampling, samples: tuple[int, int], progress: Progress
) -> list[Row]:
    """A row for each sample. `samples` is the number per prompt, and the seed."""
    number, seed = samples
    tokens = [model.encoder.prompt(p) for p in prompts]
    drafts = _sampler(model, sampling, progress).sample(tokens, samples=number, seed=(seed, 0))
    return [_row(p, d, i, model) for p, several in zip(prompts, drafts, strict=True) for i, d in enumerate(several)]


def best_drafts_of(
    model: NamedModel, prompts: Sequence[Prompt], sampling: Sampling, samples: tuple[int, int], *,
    reward: str, progress: Progress,
) -> list[Row]:  # fmt: skip
    """For each prompt, the sample with the highest score of a reward model, with all scores. `samples` as above."""
    (number, seed), sampler, scorer = samples, _sampler(model, sampling, progress), open_reward(reward)

    def score(drafts: Sequence[Sequence[Draft]]) -> list[list[float]]:
        rows = [_answers(p, some, model) for p, some in zip(prompts, drafts, strict=True)]
        return scorer.score(rows, progress)

    progress.note(f"best of {number}: at most {kl_bound(number):.2f} nats from the model")
    found = best_of_n(sampler, [model.encoder.prompt(p) for p in prompts], score, n=number, seed=(seed, 0))
    return [
        {**_row(p, best.draft, best.index, model), "score": best.scores[best.index], "scores": list(best.scores)}
        for p, best in zip(prompts, found, strict=True)
    ]


def beams_of(model: NamedModel, prompts: Sequence[Prompt], beams: Beams, reference: str | None = None) -> list[Row]:
    """A row for each beam, each prompt's best first: by log-probability, or by the log-ratio to a reference."""
    other = None if reference is None else open_model(reference).loaded.model
    search = BeamSearch(model.loaded.model, model.loaded.stop_tokens, beams, other)
    found = search.search([model.encoder.prompt(p) for p in prompts])
    return [
        {**_row(p, one.draft, i, model), "score": round(one.score, 6)}
        for p, several in zip(prompts, found, strict=True)
        for i, one in enumerate(several)
    ]


def _sampler(model: NamedModel, sampling: Sampling, progress: Progress) -> LocalSampler:
    sampler = model.sampler(sampling, progress.note)
    if sampler.note:
        progress.note(sampler.note)
    return sampler


def _answers(prompt: Prompt, drafts: Sequence[Draft], model: NamedModel) -> Record:
    """The texts of the samples as one row, in no particular order."""
    texts, nowhere = [model.encoder.text(d.tokens) for d in drafts], Source("drafts", 1)
    return Ranking(prompt, tuple(texts), nowhere) if len(texts) > 1 else Demonstration(prompt, texts[0], nowhere)


def _row(prompt: Prompt, draft: Draft, index: int, model: NamedModel) -> Row:
    return {
        "prompt": shown(prompt),
        "completion": model.encoder.text(draft.tokens),
        "sample": index,
        "truncated": draft.truncated,
        "tokens": len(draft.tokens),
        "logp": round(float(draft.logp.sum()), 6),
    }
