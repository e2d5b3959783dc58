"""Text classifiers as rewards, each with its own tokenizer: the log-odds of one of its labels.

So DPO's controlled task has its reward, the log-odds of a positive sentiment (Rafailov et al. 2023, arXiv:2305.18290,
section 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from twofold.errors import ModelError
from twofold.models.adapters import is_classifier
from twofold.models.load import ModelSettings, load_weights
from twofold.models.locate import model_path, refuse_missing
from twofold.models.tokenizer_files import config_at, load_tokenizer

Reads = Literal["completion", "whole", "pair"]
"""Only the completion, the prompt followed by it, or both as the two texts of a pair."""
READS: tuple[Reads, ...] = get_args(Reads)
AT_ONCE = 32
LONGEST = 10**6
"""A tokenizer with a larger limit than this has none."""


@dataclass(frozen=True)
class Classifier:
    """A sequence classifier and the label whose log-odds are the reward. A classifier of one label, or of independent
    labels, gives the label's logit, which is its log-odds."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    label: int
    reads: Reads = "completion"

    @classmethod
    def load(cls, name: str, label: str = "", reads: Reads = "completion") -> Classifier:
        """From a folder or hub name, with a label by name or index. Raises ModelError for a model that is no
        classifier, and for a label that it does not have."""
        refuse_missing(name)
        path = model_path(name)
        if not is_classifier(path):
            remedy = "name a text-classification model; a language model as judge is written llm:URL#NAME"
            raise ModelError("is no classifier", where=name, remedy=remedy)
        chosen = _label(config_at(path), label, name)
        model = load_weights(ModelSettings(path=path), path, AutoModelForSequenceClassification)
        return cls(model.eval().requires_grad_(False), load_tokenizer(path), chosen, reads)

    @property
    def limit(self) -> int:
        """The longest text in tokens; the rest is not read."""
        own, positions = self.tokenizer.model_max_length, getattr(self.model.config, "max_position_embeddings", None)
        return own if own < LONGEST else positions or LONGEST

    def scores(self, texts: Sequence[tuple[str, str]]) -> list[float]:
        """The reward of each (prompt, completion)."""
        size = AT_ONCE if self.tokenizer.pad_token_id is not None else 1
        parts = [self._scores(texts[start : start + size]) for start in range(0, len(texts), size)]
        return [score for part in parts for score in part.tolist()]

    def too_long(self, texts: Sequence[tuple[str, str]]) -> int:
        """The number of texts whose end is not read."""
        rows = self._encoded(texts, truncation=False) if texts else {"input_ids": []}
        return sum(len(row) > self.limit for row in rows["input_ids"])

    def _encoded(self, texts: Sequence[tuple[str, str]], **how: Any) -> Any:
        prompts, completions = ([text[side] for text in texts] for side in (0, 1))
        if self.reads == "pair":
            return self.tokenizer(prompts, completions, **how)
        return self.tokenizer(completions if self.reads == "completion" else [a + b for a, b in texts], **how)

    @torch.no_grad()
    def _scores(self, texts: Sequence[tuple[str, str]]) -> Tensor:
        several = len(texts) > 1
        rows = self._encoded(texts, truncation=True, max_length=self.limit, padding=several, return_tensors="pt")
        logits_BL = self.model(**rows.to(self.model.device)).logits.double()
        own_B = logits_BL[:, self.label]
        if logits_BL.shape[1] == 1 or self.model.config.problem_type == "multi_label_classification":
            return own_B
        others_BL = torch.cat([logits_BL[:, : self.label], logits_BL[:, self.label + 1 :]], dim=1)
        return own_B - others_BL.logsumexp(1)


def _label(config: Any, label: str, where: str) -> int:
    """The index of a label by its name or index; without one, that of a classifier with a single label."""
    names = {int(index): str(name) for index, name in config.id2label.items()}
    if label == "" and len(names) == 1:
        return 0
    found = [index for index, name in names.items() if name == label]
    found += [index for index, name in names.items() if name.casefold() == label.casefold()]
    found += [index for index in names if str(index) == label]
    if not found:
        known = ", ".join(f"#{name}" for name in names.values())
        what = f"has {len(names)} labels" if label == "" else f"has no label {label!r}"
        raise ModelError(what, where=where, remedy=f"name the label that is rewarded: {known}")
    return found[0]
