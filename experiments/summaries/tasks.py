"""Posts with facts that matter and facts that do not, in a small language, and how good a summary of one is.

A post tells in any order who did what where, with asides that a summary should leave out. Its gold summary names the
facts that matter, once each. Quality is known exactly: F1 of the facts told, less what the words cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

WORD_COST = 0.01
"""Of quality, for each word."""
TOPICS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "home": (
        ("anna", "ben", "carl", "dora", "emil", "fay"),
        ("lost", "found", "sold", "broke", "hid"),
        ("the key", "the lamp", "a coat", "the car", "a ring"),
        ("in the hall", "at the lake", "in the attic", "at the station"),
        ("it was raining", "the radio was on", "nobody had slept", "tea was ready", "the dog barked"),
    ),
    "news": (
        ("the mayor", "a miner", "the coach", "one nurse", "the pilot"),
        ("closed", "praised", "repaired", "bought", "left"),
        ("the bridge", "the old mill", "a ship", "the bank"),
        ("near the border", "on the coast", "in the capital"),
        ("prices were high", "snow had fallen", "few people came", "it was a monday"),
    ),
}
"""Who, did, what, where, asides. `news` is never trained on."""
KINDS = ("who", "did", "what", "where")
Fact = tuple[str, str]


@dataclass(frozen=True)
class Post:
    """`salient` are the facts that matter, as (kind, words); `asides` those that do not."""

    text: str
    salient: tuple[Fact, ...]
    asides: tuple[str, ...]

    @property
    def prompt(self) -> str:
        return f"{self.text}\ntl;dr:"

    @property
    def gold(self) -> str:
        (_, who), (_, did), (_, what), (_, where) = self.salient
        return f" {who} {did} {what} {where}."


def post(topic: str, random: Random) -> Post:
    """A post of `topic`: one event told in two sentences, between two or three asides, in a shuffled order."""
    who, did, what, where, asides = TOPICS[topic]
    salient = tuple((kind, random.choice(words)) for kind, words in zip(KINDS, (who, did, what, where), strict=True))
    (_, a), (_, b), (_, c), (_, d) = salient
    said = random.sample(asides, random.choice((2, 3)))
    lines = [f"{a} {b} {c}", f"that was {d}", *said]
    random.shuffle(lines)
    return Post(". ".join(lines) + ".", salient, tuple(said))


def quality(post: Post, summary: str) -> float:
    """F1 of the facts that matter against all facts told, less WORD_COST a word; a fact of the topic that is not the
    post's own counts as told wrongly."""
    topic = next(t for t in TOPICS.values() if post.salient[0][1] in t[0])
    told = {phrase for words in topic for phrase in words if phrase in summary}
    right = sum(words in told for _, words in post.salient)
    cost = WORD_COST * len(summary.split())
    return (2 * right / (len(told) + len(post.salient)) if told else 0.0) - cost


def oracle(better: bool, flip: float, random: Random) -> bool:
    """What a noisy judge says of a comparison whose first side is `better`: the truth, but for a share of `flip`."""
    return better != (random.random() < flip)


def draft(post: Post, random: Random) -> str:
    """A summary as people write them, none too good: facts left out, asides told, rarely a wrong fact."""
    topic = next(t for t in TOPICS.values() if post.salient[0][1] in t[0])
    words: list[str] = []
    for place, (_, fact) in enumerate(post.salient):
        if random.random() < 0.8:
            words.append(random.choice(topic[place]) if random.random() < 0.1 else fact)
    if random.random() < 0.5 or not words:
        words.append(random.choice(post.asides))
    return f" {' '.join(words)}."
