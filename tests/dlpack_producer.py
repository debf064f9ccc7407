"""DLPack tensors made by hand, byte for byte as the protocol lays them out: an independent producer."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
BFLOAT = 4
READ_ONLY = 1


class Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Managed(ctypes.Structure):
    """DLManagedTensor, of versions before 1.0."""

    _fields_ = [("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", DELETER)]


class ManagedVersioned(ctypes.Structure):
    """DLManagedTensorVersioned."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", DELETER),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    ]


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_name_of = ctypes.pythonapi.PyCapsule_GetName
_name_of.restype = ctypes.c_char_p
_name_of.argtypes = [ctypes.py_object]


# Consumers have no reference to a producer, only to memory in it.
_kept: list[Producer] = []


class Producer:
    """An array's memory as somebody else's tensor; counts how often it is given back.

    `version` None is the protocol before 1.0, whose `__dlpack__` knows no keywords. `strides` False leaves
    them out, as a C-contiguous tensor may. `byte_offset` is how far before the array `data` points.
    """

    def __init__(
        self,
        array: np.ndarray[Any, Any],
        *,
        version: tuple[int, int] | None = (1, 0),
        device: int = 1,
        code: int | None = None,
        flags: int = 0,
        strides: bool = True,
        byte_offset: int = 0,
    ) -> None:
        _kept.append(self)
        self.array, self.version, self.device = array, version, device
        self.given_back = 0
        self.capsule: Any = None
        rank = array.ndim
        bfloat16 = array.dtype.name == "bfloat16"
        self.tensor = Tensor(
            data=array.ctypes.data - byte_offset,
            device_type=device,
            ndim=rank,
            code=(BFLOAT if bfloat16 else CODES[array.dtype.kind]) if code is None else code,
            bits=8 * array.itemsize,
            lanes=1,
            shape=(ctypes.c_int64 * rank)(*array.shape),
            strides=(ctypes.c_int64 * rank)(*(step // array.itemsize for step in array.strides))
            if strides
            else None,
            byte_offset=byte_offset,
        )
        self.deleter = DELETER(self._give_back)
        if version is None:
            self.managed: Any = Managed(tensor=self.tensor, deleter=self.deleter)
        else:
            self.managed = ManagedVersioned(
                major=version[0], minor=version[1], flags=flags, tensor=self.tensor, deleter=self.deleter
            )

    def _give_back(self, _: int | None) -> None:
        self.given_back += 1

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def __dlpack__(self, **options: Any) -> Any:
        if self.version is None and options:
            raise TypeError(f"unexpected keywords {sorted(options)}")
        name = b"dltensor" if self.version is None else b"dltensor_versioned"
        self.capsule = _new_capsule(ctypes.addressof(self.managed), name, None)
        return self.capsule

    @property
    def capsule_name(self) -> str:
        """What the last capsule is called now; a consumer changes it."""
        return str(_name_of(self.capsule).decode())
