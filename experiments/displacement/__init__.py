"""How far does chosen fall under DPO at a high learning rate, and why? `python -m experiments.displacement`.

After `twofold demo`, whose pairs and problems it takes: one run per method and seed into runs/displacement, then a
table of means over seeds with Student's t intervals.
"""
