"""Dask arrays: attnlib on each block of an array that need not fit in memory.

    pip install attnlib "dask[array]"
    python dask_blocks.py

A function of attnlib takes arrays and gives arrays, so `map_blocks` takes it as it is. Blocks may
be cut along any axis but those that the function works along: the last for softmax, tokens and
features for attention. Since bits do not depend on the batch, the result is that of one call on the
whole array, bit for bit.
"""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np

import attnlib as al


def main() -> None:
    """Run both on blocks, and compare with one call."""
    rng = np.random.default_rng(0)
    # Dask's threads and the library's are not both wanted: each block is computed by one thread.
    with al.num_threads(1), dask.config.set(scheduler="threads"):
        scores = rng.standard_normal((1000, 513), dtype=np.float32)
        rows = da.from_array(scores, chunks=(128, -1))
        soft = rows.map_blocks(al.softmax, dtype=rows.dtype).compute()
        print(
            "softmax", soft.shape, "equal" if soft.tobytes() == al.softmax(scores).tobytes() else "DIFFERENT"
        )

        # (batch, heads, tokens, features), cut into blocks of sequences and heads.
        query, key, value = rng.standard_normal((3, 6, 8, 65, 32), dtype=np.float32)
        blocks = [da.from_array(array, chunks=(2, 4, -1, -1)) for array in (query, key, value)]
        out = da.map_blocks(al.attention, *blocks, causal=True, dtype=np.float32).compute()
        whole = al.attention(query, key, value, causal=True)
        print("attention", out.shape, "equal" if out.tobytes() == whole.tobytes() else "DIFFERENT")


if __name__ == "__main__":
    main()
