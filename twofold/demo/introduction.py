"""Explanations for newcomers on the demo's page: terms, limits, and next steps."""

from __future__ import annotations

from twofold.reports.html import Introduction

INTRODUCTION = Introduction(
    about="A small language model learns from preferences, in two ways, and solves problems that it has not seen.",
    terms=(
        (
            "the task",
            "Stories with a sum of two steps, such as “Ann has 12 pens, gets 7, then 5 more. How many in all?”. An "
            "answer can be worked out in two lines or blurted out in one. It must end in “#### N”.",
        ),
        (
            "base",
            "The model before training: 0.8 million parameters, part of the package. It has learned both kinds of "
            "answer, mostly blurts out the number, and is then often wrong.",
        ),
        (
            "preferences",
            "Pairs of answers to one problem. The worked answer is chosen; the base model's own answer is rejected.",
        ),
        (
            "DPO",
            "Direct Preference Optimization (Rafailov et al. 2023): make the chosen answer more likely and the "
            "rejected one less, each compared with the base. The model only reads; it never answers while it learns.",
        ),
        (
            "PDPO",
            "Proximal DPO (Hepan 2024): the same, and the model also answers further problems itself. Its own samples "
            "are pulled up to how much the right answer has gained.",
        ),
        (
            "p, and the interval",
            "How often chance would do as well, on the same problems; and the range of the true share, 95 times of "
            "100. Small p: not chance.",
        ),
    ),
    caveat="Nearly all of the gain is working a problem out instead of guessing its answer, and the base can already "
    "do that: searched with five beams, it solves 89.6% [86.6, 92.0] of these problems untrained. Preferences teach it "
    "which of its own ways of answering to take. The task does not separate the methods; where they differ is in "
    "docs/arena.md.",
    steps=(
        ("twofold demo --seeds 5", "how much the luck of the seed matters"),
        (
            "twofold data check preferences.jsonl",
            "what is wrong with preferences of your own (prompt, chosen, rejected)",
        ),
        ("twofold train recipe.yaml", "align a model of yours; README.md has a first recipe"),
        ("twofold compare RUN RUN", "two runs on a page like this one"),
        ("twofold sample RUN --prompt “…”", "ask what came out"),
    ),
)

REAL_INTRODUCTION = Introduction(
    about="A pretrained chat model learns from preferences among its own answers to obey instructions, in two ways, "
    "and is examined on topics that it has not seen.",
    terms=(
        (
            "the task",
            "An everyday question with an instruction that a program can check: at most 15 words, an answer that ends "
            "with a question, or one without the word “the”. “Solved” means obeyed; whether the answer is also a "
            "good one, nobody judges.",
        ),
        (
            "base",
            "SmolLM2-135M-Instruct before training: 135 million parameters, made by others. It knows the instructions "
            "and mostly forgets them.",
        ),
        (
            "preferences",
            "The base answers each question eight times. An answer that obeys is chosen, one that does not is "
            "rejected. No person and no other model wrote any of them.",
        ),
        (
            "DPO+NLL",
            "Direct Preference Optimization (Rafailov et al. 2023): make the chosen answer more likely and the "
            "rejected one less, each compared with the base. NLL, the usual loss of fine-tuning, keeps the chosen "
            "answer from becoming less likely. This is the recipe to begin with (docs/pdpo.md).",
        ),
        (
            "PDPO",
            "Proximal DPO (Hepan 2024): DPO, and the model also answers further prompts itself. Its own samples are "
            "pulled up to how much a good answer has gained.",
        ),
        *(term for term in INTRODUCTION.terms if term[0] == "p, and the interval"),
    ),
    caveat="The instructions of the examination are those of the training, on other topics: that an instruction of "
    "another kind is obeyed too does not follow. The checker sees only the form; read the answers below before you "
    "believe in the figures.",
    steps=(
        ("twofold sample runs/demo-real/PDPO --prompt “…”", "ask what came out"),
        ("twofold explain runs/demo-real/DPO runs/demo-real/data/pairs.jsonl", "what it has learned, token by token"),
        ("twofold demo --real --seeds 3", "how much the luck of the seed matters"),
        (
            "twofold data build prompts.jsonl --model MODEL --judge verifier:instructions --out pairs.jsonl",
            "the same with prompts of yours",
        ),
        ("twofold train recipe.yaml", "align a model of yours; README.md has a first recipe"),
    ),
)
