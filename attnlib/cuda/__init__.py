"""Attention, products and softmax on NVIDIA GPUs: optional, and never touched by ``import attnlib``.

Arrays on a GPU are taken through DLPack, without a copy, from PyTorch, CuPy, JAX and others; the result is a
`DeviceArray`, which these read in turn. NumPy arrays are copied to the current GPU, and the result back.
Built with ``-DATTNLIB_CUDA=ON``, for compute capability 8.0 and 9.0. Tensor cores multiply float16 and
bfloat16; float32 is not rounded to TF32.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

try:
    from attnlib.cuda import _cuda
    from attnlib.cuda._cuda import DeviceArray, device_count
except ImportError as error:
    raise ImportError(
        "attnlib.cuda: this build of attnlib has no CUDA kernels. Build it from source with CUDA 13: "
        "pip install --no-binary attnlib -C cmake.define.ATTNLIB_CUDA=ON attnlib"
    ) from error

__all__ = ["DeviceArray", "attention", "device_count", "matmul", "softmax"]

_LEGACY_DEFAULT_STREAM = 1


def matmul(a: ArrayLike | Any, b: ArrayLike | Any, /, *, stream: int = _LEGACY_DEFAULT_STREAM) -> Any:
    """Matrix product on a GPU, as `numpy.matmul`: batch axes broadcast, 1-D arguments are promoted.

    Parameters
    ----------
    a : array_like or DLPack array, shape (..., M, K)
        float32, float16 or bfloat16, any strides.
    b : array_like or DLPack array, shape (..., K, N)
        Likewise; both on one GPU, or both in the host's memory.
    stream : int, optional
        The CUDA stream to run on, as in DLPack: 1 (default) is the legacy default stream, 2 the one of the
        thread, anything else the address of a stream, such as ``torch.cuda.current_stream().cuda_stream``.

    Returns
    -------
    ndarray or DeviceArray, shape (..., M, N)
        In the dtype of the inputs; sums are float32. A `DeviceArray` for arrays on a GPU.

    Raises
    ------
    TypeError
        For another dtype, or two dtypes on a GPU.
    ValueError
        If shapes do not fit, or the arrays do not lie together.
    RuntimeError
        Without a GPU and its driver.
    """
    return _cuda.matmul(a, b, stream)


def softmax(x: ArrayLike | Any, axis: int = -1, *, stream: int = _LEGACY_DEFAULT_STREAM) -> Any:
    """Softmax along one axis on a GPU; rows that are all ``-inf`` give zeros.

    Parameters
    ----------
    x : array_like or DLPack array
        float32, float16 or bfloat16, any strides; computed in float32.
    axis : int, optional
        The axis that sums to one. Default: the last.
    stream : int, optional
        As in `matmul`.

    Returns
    -------
    ndarray or DeviceArray
        Shape and dtype of `x`.

    Raises
    ------
    TypeError
        For another dtype.
    ValueError
        If `axis` is out of range.
    RuntimeError
        Without a GPU and its driver.

    References
    ----------
    Milakov and Gimelshein, 2018, "Online normalizer calculation for softmax".
    """
    return _cuda.softmax(x, axis, stream)


def attention(
    query: ArrayLike | Any,
    key: ArrayLike | Any,
    value: ArrayLike | Any,
    *,
    causal: bool = False,
    key_lengths: ArrayLike | None = None,
    scale: float | None = None,
    stream: int = _LEGACY_DEFAULT_STREAM,
) -> Any:
    """Scaled dot-product attention on a GPU, tile by tile, in memory that does not grow with length.

    B batch axes (broadcast), H query heads, G key and value heads (H a multiple of G), Sq queries, Sk keys,
    D and Dv head sizes from 1 to 256; 2-D arrays are one head.

    Parameters
    ----------
    query : array_like or DLPack array, shape (..., H, Sq, D)
        float32, float16 or bfloat16, any strides.
    key : array_like or DLPack array, shape (..., G, Sk, D)
        Likewise.
    value : array_like or DLPack array, shape (..., G, Sk, Dv)
        Likewise.
    causal : bool, optional
        The last query sees the last valid key, each one before it one key less. Default: all see all.
    key_lengths : array_like of int, shape (B,), optional
        Only the first ``key_lengths[b]`` keys are valid; in the host's memory. Default: all.
    scale : float, optional
        Default ``D**-0.5``.
    stream : int, optional
        As in `matmul`.

    Returns
    -------
    ndarray or DeviceArray, shape (..., H, Sq, Dv)
        In the dtype of the inputs. A query that may attend to nothing gives zeros.

    Raises
    ------
    TypeError
        For another dtype, or several dtypes on a GPU.
    ValueError
        If shapes or lengths do not fit, or the arrays do not lie together.
    RuntimeError
        Without a GPU and its driver.

    Notes
    -----
    Scores, softmax and sums are float32. For the product with the values, weights are rounded to the dtype of
    the inputs, which tensor cores multiply.

    References
    ----------
    Dao et al., 2022, "FlashAttention"; Dao, 2023, "FlashAttention-2".
    """
    return _cuda.attention(query, key, value, causal, key_lengths, scale, stream)
