"""Arrays of other libraries in and out, without a copy: DLPack, with the bfloat16 that NumPy's lacks.

NumPy reads and offers DLPack's tensors, all but those of bfloat16. It is shown these as uint16, of the same
bits: all that changes is what a capsule calls its elements.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from attnlib import _core

__all__ = ["DLPackArray", "from_dlpack", "to_dlpack"]

# DLPack's numbers. Pinned memory of CUDA and ROCm is the CPU's, too.
_CPU, _CUDA_HOST, _ROCM_HOST = 1, 3, 11
_UINT, _BFLOAT = 1, 4


class DLPackArray:
    """An array as all libraries take it that read DLPack; made by `to_dlpack`.

    Attributes
    ----------
    array : ndarray
        The array itself.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return DLPack's device: the CPU."""
        return _CPU, 0

    def __dlpack__(self, **options: Any) -> Any:
        """Return a capsule on the array's memory.

        Parameters
        ----------
        **options
            Those of the protocol that the installed NumPy knows.

        Raises
        ------
        BufferError
            As from NumPy: for another device, for dtypes other than floats, integers, complex and bool, and
            for a read-only array if the consumer's DLPack cannot say so.
        """
        if self.array.dtype != ml_dtypes.bfloat16:
            return self.array.__dlpack__(**options)
        return _core.relabel_dlpack(self.array.view(np.uint16).__dlpack__(**options), _UINT, _BFLOAT)


class _Bfloat16AsUint16:
    """A tensor of another library, as NumPy can read it."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor
        self.exported = self.is_bfloat16 = False

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        given = self.tensor.__dlpack__(**options)
        self.exported = True
        capsule = _core.relabel_dlpack(given, _BFLOAT, _UINT)
        self.is_bfloat16 = capsule is not given
        return capsule


def read_tensor(tensor: Any, name: str) -> NDArray[Any]:
    """Return an array on the memory of `tensor`, which errors call `name`; called by ndarray.cpp, too."""
    kind = f"{type(tensor).__module__}.{type(tensor).__qualname__}"
    exporter = _Bfloat16AsUint16(tensor)
    try:
        device = int(tensor.__dlpack_device__()[0])
        if device in (_CPU, _CUDA_HOST, _ROCM_HOST):
            array: NDArray[Any] = np.from_dlpack(exporter)
            return array.view(ml_dtypes.bfloat16) if exporter.is_bfloat16 else array
    except Exception as error:
        if exporter.exported:
            raise TypeError(f"{name} is a {kind} that NumPy cannot read: {error}") from error
        raise ValueError(f"{name} is a {kind} that cannot be read through DLPack: {error}") from error
    raise TypeError(
        f"{name} is a {kind} outside the CPU's memory (DLPack's device type {device}); copy it first, "
        "as with tensor.cpu() or cupy.asnumpy(array)"
    )


def from_dlpack(x: Any) -> NDArray[Any]:
    """See a tensor of another library as an array, on the same memory.

    The functions of attnlib take such tensors as they are; this is for ``out`` and for what is kept.

    Parameters
    ----------
    x : object with ``__dlpack__``
        In the CPU's memory: a tensor of PyTorch, an array of JAX, and so on. An ndarray comes back as it is.

    Returns
    -------
    ndarray
        Of the same shape, strides and dtype; bfloat16 is ``ml_dtypes.bfloat16``. Who writes to it writes to
        ``x``; it is read-only if ``x`` is, or cannot say that it is not (DLPack before version 1).

    Raises
    ------
    TypeError
        If ``x`` has no ``__dlpack__``, lies on another device, or has a dtype that arrays have not.
    ValueError
        If ``x`` does not let itself be read, such as a tensor that requires gradients.

    Examples
    --------
    >>> import numpy as np, attnlib as al
    >>> x = np.ones(3, np.float32)
    >>> np.shares_memory(al.from_dlpack(al.to_dlpack(x)), x)
    True
    """
    if isinstance(x, np.ndarray):
        return x
    if not hasattr(x, "__dlpack__"):
        raise TypeError(f"from_dlpack: x must have __dlpack__, got {type(x).__name__}")
    return read_tensor(x, "from_dlpack: x")


def to_dlpack(x: NDArray[Any]) -> DLPackArray:
    """Offer an array to other libraries: ``torch.from_dlpack(to_dlpack(x))`` is a tensor on the same memory.

    ndarrays have ``__dlpack__`` themselves, but NumPy refuses bfloat16; this takes that, too.

    Parameters
    ----------
    x : ndarray
        Of any strides that are multiples of its element size.

    Returns
    -------
    DLPackArray
        Has ``__dlpack__`` and ``__dlpack_device__``.

    Raises
    ------
    TypeError
        If ``x`` is no array, or a masked one.

    Examples
    --------
    >>> import ml_dtypes, numpy as np, attnlib as al
    >>> al.from_dlpack(al.to_dlpack(np.ones(2, ml_dtypes.bfloat16)))
    array([1, 1], dtype=bfloat16)
    """
    if not isinstance(x, np.ndarray):
        raise TypeError(f"to_dlpack: x must be a numpy.ndarray, got {type(x).__name__}")
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError("to_dlpack: x is a masked array, whose mask would be lost; pass array.filled(value)")
    return DLPackArray(x)
