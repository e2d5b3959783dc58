"""Which method makes most of the same data, and when does PDPO beat DPO? `python -m experiments.arena` trains each with
several seeds and compares it with DPO; `python -m experiments.arena.questions` answers the second.

Same base, data, steps, optimizer and sampler; every method at the best of the same learning rates, chosen with a seed
and problems that no figure is taken from. Cells that are done stay in --out, so that a stopped run goes on.
"""
