"""The command `twofold`: one file per verb, with its options and its tables."""
