"""A synchronous grammar: French sentences with the one English translation that it has for each."""
