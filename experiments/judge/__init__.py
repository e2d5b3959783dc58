"""A pretrained model that learns to judge, behind a server: what are its verdicts worth?

The rows are those of `experiments.pretrained` (task `instructions`): of each training pair a program knows the right
answer. The model learns the verdict on it, in both orders, from the text that a judge behind a server gets.

Repeat: `python -m experiments.judge` makes the model in `--runs` and prints the commands that start a server with it
and measure its verdicts on held-out pairs.
"""
