"""Judges that compare or rate completions: verifiers, reward models, language models, people, functions."""
