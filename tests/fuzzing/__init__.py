"""Fuzzing: random calls and mutated files, each in a process that may die of them.

`hunt` starts worker processes, `worker` makes one case after the other, `targets` says what a case is.
`python tools/fuzz.py` is the command; `tests/test_fuzzing.py` makes a few cases and repeats what once failed.
"""
