"""Rewards, from completions to scores: verifiers, mathematics, code, reward models and functions."""
