"""What tests share: tiny models, golden vectors, scenes of log-probabilities, stand-in servers and files made up."""
