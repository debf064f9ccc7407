"""simd-ml-kernels: products, softmax, layer norm and activations, on one thread.

Its int8 product takes activations that are quantised already, with one scale for the whole array: quantising
them is NumPy's work here, and is part of the time, as it is for everybody else. Its bfloat16 gives float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
import simd_ml_kernels as kernels

from attnlib.benchmark.engines.engine import Array, Call, Engine

__all__ = ["ENGINE"]


class SimdMlKernels(Engine):
    """On the fastest of its kernel tables for this CPU; it packs nothing beforehand."""

    name: ClassVar[str] = "simd-ml-kernels"
    most_threads: ClassVar[int | None] = 1

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.simple = {
            "softmax": kernels.softmax,
            "layer_norm": kernels.layer_norm,
            "relu": kernels.relu,
            "gelu": kernels.gelu,
            "gelu_tanh": partial(kernels.gelu, approximate="tanh"),
            "silu": kernels.silu,
        }

    @property
    def version(self) -> str:
        return f"{kernels.__version__} ({kernels.detected_isa()})"

    def matmul(self, precision: str, a: Array, b: Array) -> list[Call]:
        """Of two matrices; it has no batches."""
        if precision != "float32" or a.ndim != 2:
            return []
        return [Call("sgemm", lambda: kernels.sgemm(a, b))]

    def linear(
        self, precision: str, x: Array, weight: Array, bias: Array, activation: str | None
    ) -> list[Call]:
        """The product by its kernel with the weight as it is and transposed, the bias by NumPy."""
        if activation:
            return []
        transposed = np.ascontiguousarray(weight.T)
        ways: dict[str, Callable[[], Array]] = {}
        if precision == "float32":
            ways = {
                "sgemm, trans_b": lambda: kernels.sgemm(x, weight, trans_b=True),
                "sgemm": lambda: kernels.sgemm(x, transposed),
            }
        elif precision == "bfloat16":
            rows, columns, turned = (_bits(array) for array in (x, weight, transposed))
            ways = {
                "sgemm_bf16, trans_b": lambda: kernels.sgemm_bf16(rows, columns, trans_b=True),
                "sgemm_bf16": lambda: kernels.sgemm_bf16(rows, turned),
            }
        elif precision == "int8":
            scales = np.abs(weight).max(axis=1) / np.float32(127)
            whole = np.rint(weight / scales[:, None]).astype(np.int8)
            other = np.ascontiguousarray(whole.T)
            ways = {
                "sgemm_u8s8, trans_b": lambda: kernels.sgemm_u8s8(
                    *_quantised(x, whole), scales, trans_b=True
                ),
                "sgemm_u8s8": lambda: kernels.sgemm_u8s8(*_quantised(x, other), scales),
            }

        def with_bias(product: Callable[[], Array]) -> Array:
            result = product()
            result += bias
            return result

        return [Call(way, partial(with_bias, product)) for way, product in ways.items()]


def _bits(array: Array) -> Array:
    result: Array = array.astype(ml_dtypes.bfloat16).view(np.uint16)
    return result


def _quantised(x: Array, weight: Array) -> tuple[Any, ...]:
    """Activations as bytes, the weight, scale and zero point: what the kernel takes first."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = (high - low) / 255 or 1.0
    zero = round(-low / scale)
    shifted = x * np.float32(1 / scale)
    shifted += np.float32(zero + 0.5)
    return shifted.astype(np.uint8), weight, scale, zero


ENGINE = SimdMlKernels
