"""Does DPO answer single-turn dialogues better than Preferred-FT? `python -m experiments.dialogue --data FILE`.

A trial of the procedure at the size of a toy, on Anthropic's harmless test set. The DPO paper's section 6.3 with a
model of 1.4M parameters made from the dialogues themselves: Preferred-FT is the reference, DPO starts from it, and both
answer dialogues of prompts that neither has seen at several temperatures. A reward model, trained on pairs of its own,
judges them against the chosen answers. It is right on little more than half of unseen pairs, which is printed first:
what it says is about itself more than about harm. Every stage is stored.
"""
