"""Checkpoints and their configuration: one reader for each kind of file."""
