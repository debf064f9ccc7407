"""The families of models, one a file, and the base classes of those that write tokens."""
