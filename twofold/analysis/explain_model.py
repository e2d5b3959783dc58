"""`explain_model`: what a model has learned from preferences, token by token, against its reference model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from twofold.analysis import credit
from twofold.analysis.drift import Drift, drift
from twofold.analysis.explanation import Decode, Explanation, explain
from twofold.batch import Branch, Group, Role
from twofold.data.encode import encode
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.errors import DataError, ModelError
from twofold.models.policy import Policy
from twofold.progress import Progress, Silent, counted
from twofold.records import Record
from twofold.sampling.base import Sampling
from twofold.sampling.named_model import NamedModel, open_model
from twofold.settings import with_keywords


@dataclass(frozen=True, kw_only=True)
class ExplainSettings:
    """`reference` is the model that it was trained from, `beta` the unit of reward. `fewest` is the minimum number of
    rows of a token or phrase. Both models answer `drift` of the prompts, in at most `max_new_tokens`."""

    reference: str
    beta: float = 0.1
    fewest: int = 10
    drift: int = 0
    max_new_tokens: int = 256
    max_length: int = 1024
    progress: Progress = field(default_factory=Silent)


@with_keywords(ExplainSettings)
def explain_model(model: str, data: Sequence[Record], how: ExplainSettings) -> tuple[Explanation, Decode]:
    """Read a folder's, run's or hub model on rows of any shape; with what turns its tokens to text.

    Rows longer than `max_length` are left out. Raises ModelError for a reference with another vocabulary, DataError for
    prompts without an answer.
    """
    tokenize = TokenizeSettings(max_length=how.max_length)
    own, other = open_model(model, tokenize), open_model(how.reference, tokenize)
    policy, reference = own.policy, other.policy
    if own.loaded.tokenizer.get_vocab() != other.loaded.tokenizer.get_vocab():
        what = "has another vocabulary than the model: their tokens cannot be compared"
        raise ModelError(what, where=how.reference, remedy="name the model that it was trained from")
    groups = _groups(data, own.encoder, how.progress)
    how.progress.note(f"{counted(len(groups), 'row')}: {model} against {how.reference}, β {how.beta:g}")
    rows = credit.token_rewards(policy, groups, beta=how.beta, reference=reference)
    drifted = _drift(((own, policy), (other, reference)), groups, how) if how.drift else None
    decode = own.encoder.decode
    return explain(rows, groups, decode, beta=how.beta, fewest=how.fewest, drift=drifted), decode


def _groups(records: Sequence[Record], encoder: Encoder, progress: Progress) -> list[Group]:
    """The rows as groups; a problem's answer counts as a completion."""
    groups: list[Group] = []
    for group in encode(records, encoder, progress).groups:
        truth = () if group.truth is None else (Branch(group.truth, Role.TRUTH),)
        groups.append(group if group.branches else replace(group, branches=truth))
    if not all(g.branches for g in groups):
        raise DataError(
            "contains only prompts", where=records[0].source.file, remedy="rows need an answer to the prompt"
        )
    return groups


def _drift(
    sides: tuple[tuple[NamedModel, Policy], tuple[NamedModel, Policy]], groups: Sequence[Group], how: ExplainSettings
) -> Drift:
    prompts = list({tuple(g.prompt.tolist()): g.prompt for g in groups}.values())[: how.drift]
    completions = []
    for model, _ in sides:
        how.progress.note(f"{counted(len(prompts), 'prompt')} answered at temperature 1")
        completions.append(model.sampler(Sampling(max_new_tokens=how.max_new_tokens)).sample(prompts))
    (_, policy), (_, reference) = sides
    return drift(policy, reference, prompts, *completions)
