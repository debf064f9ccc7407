"""The commands of ``attnlib`` that are more than a few lines, one a file."""
