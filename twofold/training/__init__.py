"""The step and the loop around it: optimizers, checkpoints, metrics and diagnostics."""
