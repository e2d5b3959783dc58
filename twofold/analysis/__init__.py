"""Analysis of what a trained policy has learned, token by token, from the same tensors as training."""
