"""Between texts and token numbers."""
