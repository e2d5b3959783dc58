"""The task of `twofold demo --real`: everyday questions, each with an instruction that a program can check.

A question belongs to one split, so that nothing is examined on a topic that was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

Split: TypeAlias = Literal["train", "test"]

INSTRUCTIONS = (
    ("Answer in at most 15 words.", "at most 15 words"),
    ("End your answer with a question.", 'ends with "?"'),
    ('Do not use the word "the".', 'without "the"'),
)
"""The instructions, each with the rule that checks it."""

QUESTIONS: dict[Split, tuple[str, ...]] = {
    "train": (
        "Why do leaves fall in autumn?",
        "What makes bread rise?",
        "How do birds find their way?",
        "What is a good breakfast?",
        "Why is the sea salty?",
        "How can I sleep better?",
        "What does a heart do?",
        "Why do we have seasons?",
        "How does a candle burn?",
        "What is a desert?",
        "How should I greet a new neighbor?",
        "Why do cats purr?",
        "What is a budget?",
        "How do I keep a plant alive?",
        "Why do people travel?",
        "What is an island?",
        "How do bees make honey?",
        "What makes a good friend?",
        "Why does ice float?",
    ),
    "test": (
        "Why is the sky blue?",
        "What is a volcano?",
        "How do fish breathe?",
        "What should I cook tonight?",
        "Why do we dream?",
        "How do I write a letter?",
        "What is the moon made of?",
        "Why is exercise healthy?",
        "How does rain form?",
        "What is a bridge for?",
        "Why do onions make us cry?",
        "How do I stay calm?",
        "What is a museum?",
        "Why do we laugh?",
        "How do magnets work?",
        "What makes a garden beautiful?",
        "Why do trees have roots?",
        "How can I make a friend?",
        "What is a clock?",
        "Why is honey sweet?",
        "How do boats float?",
        "What is a good hobby?",
        "Why does the wind blow?",
        "How do I fix a flat tire?",
    ),
}


def rows(split: Split) -> Iterator[dict[str, str]]:
    """Each question of `split` with each instruction; the rule is the answer."""
    for question in QUESTIONS[split]:
        for words, rule in INSTRUCTIONS:
            yield {"prompt": f"{question} {words}", "answer": rule}
