"""From a recipe to a finished run: rows, rewards, algorithm, trainer and results."""
