"""How often do the intervals of twofold's figures contain the true value? `python -m experiments.intervals` simulates
samples of known populations.
"""
