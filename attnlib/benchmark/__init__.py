"""``attnlib bench``: attnlib beside its peers on the same arrays, with the ceilings of the same run.

Nothing of this is imported by ``import attnlib``. From the outside in: `process` starts a process whose
thread counts are set before NumPy is loaded, `run` goes through the `workloads` in it, `contest` times one of
them, `report` and `plots` tell what came of it. `engines` has a module for each library.
"""
