"""Does credit land on the wrong token? `python -m experiments.credit`, after `twofold demo`, whose DPO run it takes.

The corrupted-fact test of "From r to Q*" (arXiv:2404.12358), and its beam search, guided by the DPO policy.

In the worked answer of each of 500 unseen problems one digit is changed and the rest left as it was. Within each answer
the changed token is ranked by its credit β·log π/π_ref, and for comparison by log π and log π_ref alone: an AUC of 1
means that it is always the lowest, ½ is chance. The control ranks the same token in the answer as it was. Two
policies are read: the demo's, whose pairs prefer worked answers to what the base says, and one trained here by the same
recipe on pairs that differ in nothing but such a digit. Then the demo's policy answers the problems, greedy, sampled
and by beams, judged on the same problems by McNemar's test.
"""
