"""Writing tokens: the one loop, how a token is chosen, beams, and the rules of a checkpoint."""
