"""Do prompts alone make a better model, offline? `python -m experiments.build_demo`, a few minutes on one core.

The demo's base answers problems, a judge makes pairs of the answers (`twofold data build`), DPO learns from the pairs
(the demo's recipe), and base and policy are examined on the same problems. What was broken off is taken up again.
"""
