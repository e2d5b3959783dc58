"""How well do reward models order real preferences? `python -m experiments.reward_models --data FOLDER`, ten minutes.

Bradley–Terry and Plackett–Luce on GSM8K solutions of four models (correct above wrong, a problem's solutions a group),
Bradley–Terry on the harmless test of HH, each over five folds that share no prompt. No pretrained weights: a small
transformer is trained from nothing in every fold, beside two baselines that read no order: length, and a bag of words.
"""
