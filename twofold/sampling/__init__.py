"""From prompts to completions: local models and servers, best-of-N and beam search."""
