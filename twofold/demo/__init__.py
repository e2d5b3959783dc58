"""The embedded task, base model and recipes of `twofold demo`."""
