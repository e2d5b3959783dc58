"""Science: each folder is one experiment, `python -m experiments.NAME`, and says in its docstring what it answers."""
