"""Searches guided by rewards next to a DPO policy's own: do they reach the same (arXiv:2404.12358, section 4)?

On the demo's task the base model answers training problems. Its first answers make the pairs of a DPO policy and of a
reward model, and all of them, whose lines are compared with the true calculation, a process reward model. Then the base
is searched with either as a guide, or the best of its samples is chosen, and all are compared on the same problems.

Repeat: `python -m experiments.search` (it makes its models in `--runs`).
"""
