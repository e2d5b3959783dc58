"""Who compares or rates completions: verifiers, reward models, language models, people, functions."""
