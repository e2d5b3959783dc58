"""What a policy can do: exact match, pass@k, likelihood, reward, win rates and frontiers, with intervals."""
