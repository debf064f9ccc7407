"""The attention of other libraries, by their names and with their meanings, on attnlib's kernels.

`torch_like`, `jax_like` and `onnx_like` need none of the libraries that they stand for. They take arrays, or
tensors in the CPU's memory that have ``__dlpack__``, and return NumPy arrays.
"""

from attnlib.compat import jax_like, onnx_like, torch_like

__all__ = ["jax_like", "onnx_like", "torch_like"]
