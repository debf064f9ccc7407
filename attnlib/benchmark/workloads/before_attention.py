"""Layers that came before attention: a recurrent one, and the convolutions in front of a speech encoder."""

from __future__ import annotations

import numpy as np

from attnlib.benchmark.workload import Array, Inputs, Target, Workload
from attnlib.benchmark.workloads.arrays import normal

__all__ = ["CONVOLUTION", "RECURRENT"]


def lstm(batch: int, steps: int, inputs: int, units: int) -> Workload:
    """One layer, one direction. The parameters have the names of ``torch.nn``."""

    def make(rng: np.random.Generator) -> Inputs:
        scale = np.float32(units**-0.5)
        state: dict[str, Array] = {
            "weight_ih_l0": normal(rng, 4 * units, inputs) * scale,
            "weight_hh_l0": normal(rng, 4 * units, units) * scale,
            "bias_ih_l0": normal(rng, 4 * units) * scale,
            "bias_hh_l0": normal(rng, 4 * units) * scale,
        }
        return normal(rng, batch, steps, inputs), state

    return Workload(
        case=f"LSTM B{batch} S{steps} {inputs}->{units}",
        precision="float32",
        family="before attention",
        operation="lstm",
        make=make,
        ceiling="float32",
        amount=float(2 * batch * steps * 4 * units * (inputs + units)),
        targets=(Target("ratio", 1.0, "PyTorch", "float32"),),
    )


def speech_front_end(mels: int, size: int, frames: int) -> Workload:
    """Two convolutions over 3 frames with exact GELU, the second one with stride 2, as in Whisper."""

    def make(rng: np.random.Generator) -> Inputs:
        state: dict[str, Array] = {
            "conv1.weight": normal(rng, size, mels, 3) * np.float32((3 * mels) ** -0.5),
            "conv1.bias": normal(rng, size),
            "conv2.weight": normal(rng, size, size, 3) * np.float32((3 * size) ** -0.5),
            "conv2.bias": normal(rng, size),
        }
        return normal(rng, 1, mels, frames), state

    return Workload(
        case=f"Conv1d front end B1 {mels}->{size} S{frames}",
        precision="float32",
        family="before attention",
        operation="speech_front_end",
        make=make,
        ceiling="float32",
        amount=float(2 * 3 * size * (frames * mels + frames // 2 * size)),
        targets=(Target("ratio", 1.0, "PyTorch", "float32"),),
    )


RECURRENT = [lstm(8, 256, 512, 512)]
CONVOLUTION = [speech_front_end(80, 384, 3000)]
