"""Training a network: the loop, what survives a crash, several processes, results."""
