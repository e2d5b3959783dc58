"""Does DPO summarize better where the judge is exactly as good as we say? `python -m experiments.summaries`.

The DPO paper's section 6.2 on generated posts: a model of 0.9M parameters learns to summarize as people do, none too
well; a noisy oracle, wrong on `--flip` of what it is shown, prefers among its own samples; DPO and Preferred-FT learn
from that, a reward model too. The oracle then compares each with the gold summaries in both orders at five
temperatures, on new posts and on a topic never trained on; true quality stands beside it. Learning rates are the best
of several: a policy's by the oracle on posts of their own, the reward model's by unseen pairs.
"""
