"""Byte-level BPE tokenizers, made on the spot, so that nothing has to be downloaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers


def byte_level(
    texts: Iterable[str], size: int, special: Sequence[str], *, digits: bool = False, prefix_space: bool = False
) -> Tokenizer:
    """A tokenizer of `texts` whose first tokens are `special`; with `digits` each of them stays apart."""
    bpe = Tokenizer(models.BPE())
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    parts = [pre_tokenizers.Digits(individual_digits=True), bytes_]
    bpe.pre_tokenizer = pre_tokenizers.Sequence(parts) if digits else bytes_  # type: ignore[assignment]  # binding's setter
    bpe.decoder = decoders.ByteLevel()  # type: ignore[assignment]  # likewise
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    return bpe
