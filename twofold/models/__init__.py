"""Models that score groups of completions: loading, packing, log-probabilities, references and heads."""
