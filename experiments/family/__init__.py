"""How do all objectives that learn from preferences compare on one task? `python -m experiments.family` trains each on
the demo's pairs; `--only KIND --curves FOLDER` trains one and draws its curve beside the stored one of DPO.

Same base model, same pairs in the same order, same steps, same optimizer; each method with its paper's knobs and at the
best of the same learning rates, chosen on problems that no method trains on and no figure is taken from. What is done
stays under --out, so that a stopped comparison goes on.
"""
