"""What a trained policy has learnt, token by token, from the same tensors as training."""
