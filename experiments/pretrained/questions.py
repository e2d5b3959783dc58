"""Questions and instructions of the task `instructions`: those of `twofold demo --real`, and more of both."""

from __future__ import annotations

from collections.abc import Mapping

from twofold.demo.topics import INSTRUCTIONS, QUESTIONS

SEEN = (
    *INSTRUCTIONS,
    ("Answer with exactly three bullet points.", "exactly 3 bullets"),
    ("Write in lowercase letters only.", "lowercase"),
    ('Begin your answer with the word "Well".', 'starts with "Well"'),
)
"""The kinds that are trained on, each with the rule that checks it."""
UNSEEN = (
    ("Answer in at most 8 words.", "at most 8 words"),
    ("Answer with exactly two bullet points.", "exactly 2 bullets"),
    ('Do not use the word "is".', 'without "is"'),
    ("Write in capital letters only.", "uppercase"),
    ("Do not use any commas.", '[{"kind": "punctuation:no_comma"}]'),
    ("Wrap your whole answer in double quotation marks.", '[{"kind": "startend:quotation"}]'),
)
"""The kinds that are only tested: three are other parameters of a seen one, three are new, two of these IFEval's."""
MORE = (
    "Why do we yawn?",
    "What is a glacier?",
    "How does soap clean?",
    "What should I pack for a hike?",
    "Why do stars twinkle?",
    "How do I learn a new word?",
    "What is a library for?",
    "Why do some things float?",
    "How does a bicycle stay upright?",
    "What makes a day feel long?",
    "Why do dogs bark?",
    "How do I save water at home?",
    "What is a river delta?",
    "Why do we need sleep?",
    "How is paper made?",
    "What is a good gift?",
    "Why do flowers smell?",
)
QUESTIONS_OF: Mapping[str, tuple[str, ...]] = {
    "train": (*QUESTIONS["train"], *MORE),
    "development": (
        "Why is snow white?",
        "What is a lighthouse?",
        "How do plants drink?",
        "What should I read next?",
        "Why do we sneeze?",
        "How do I apologize?",
        "What is a shadow?",
        "Why do people sing?",
        "How does a key open a lock?",
        "What makes a room cozy?",
        "Why does metal rust?",
        "How can I wake up early?",
    ),
    "test": QUESTIONS["test"],
}
