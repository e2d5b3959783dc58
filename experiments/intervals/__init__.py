"""How often the intervals of twofold's figures contain the true value: simulated samples of known populations."""
