"""What does each of PDPO's options change? `python -m experiments.pdpo_options`: the demo task, by one protocol.

Base, DPO, PDPO and PDPO with one option each, from the demo's own recipes: the same pairs, steps, learning rate and γ,
eight drafts in each generator step, greedy answers to the same problems. Nothing is tuned. It writes the table that
stands in docs/pdpo.md. Runs that are there already are taken up, not repeated.
"""
