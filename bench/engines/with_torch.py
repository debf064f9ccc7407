"""PyTorch in inference mode, and sentence-transformers on top of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.utils import mkldnn

from engines.engine import Call, Engine

Array = NDArray[Any]
Tensor = torch.Tensor

# Small batches waste less on padding, large ones less on overhead; 32 is sentence-transformers' default.
_BATCH_SIZES = (8, 32, 128)


class PyTorch(Engine):
    """Eager PyTorch on tensors that share the arrays' memory."""

    name = "PyTorch"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        torch.set_num_threads(threads)
        # For the whole process, so that no call pays for entering it; kept, since it ends with the object.
        self._mode = torch.inference_mode()
        self._mode.__enter__()
        self.simple = {
            "matmul": torch.matmul,
            "softmax": partial(torch.softmax, dim=-1),
            "log_softmax": partial(torch.log_softmax, dim=-1),
            "layer_norm": lambda x, weight, bias: functional.layer_norm(x, x.shape[-1:], weight, bias),
            "rms_norm": lambda x, weight: functional.rms_norm(x, x.shape[-1:], weight, 1e-5),
            "relu": torch.relu,
            "gelu": functional.gelu,
            "gelu_tanh": partial(functional.gelu, approximate="tanh"),
            "silu": functional.silu,
            "tanh": torch.tanh,
            "sigmoid": torch.sigmoid,
            "swiglu": lambda gate, up: functional.silu(gate).mul_(up),
            "rotary_embedding": _rotary_embedding,
            "merge_attention": _merge_attention,
        }

    @property
    def version(self) -> str:
        return str(torch.__version__)

    def own(self, value: Any) -> Any:
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else value

    def attention(self, query: Array, key: Array, value: Array, causal: bool) -> list[Call]:
        q, k, v = (self.own(array) for array in (query, key, value))
        attend = functional.scaled_dot_product_attention
        return [Call("scaled_dot_product_attention", lambda: attend(q, k, v, is_causal=causal))]

    def attention_varlen(self, query: Array, key: Array, value: Array, cu_seqlens: Array) -> list[Call]:
        """One call for each sequence, or one for all of them, padded and masked."""
        attend = functional.scaled_dot_product_attention
        lengths = np.diff(cu_seqlens)
        valid = torch.arange(int(lengths.max())) < torch.from_numpy(lengths)[:, None]
        mask = valid[:, None, None, :]
        packed, padded = [], []
        for array in (query, key, value):
            tensor = self.own(array)
            batch = tensor.new_zeros(*valid.shape, *tensor.shape[1:])
            batch[valid] = tensor
            padded.append(batch.transpose(1, 2).contiguous())
            packed.append([part.transpose(0, 1)[None] for part in tensor.split(lengths.tolist())])
        sequences = list(zip(*packed, strict=True))
        q, k, v = padded
        return [
            Call(
                "one call a sequence",
                lambda: [attend(*one) for one in sequences],
                lambda parts: torch.cat([part[0].transpose(0, 1) for part in parts]).numpy(),
            ),
            Call(
                "padded, with a mask",
                lambda: attend(q, k, v, attn_mask=mask),
                lambda result: result.transpose(1, 2)[valid].numpy(),
            ),
        ]

    def linear(self, x: Array, weight: Array, bias: Array, activation: str | None) -> list[Call]:
        """Weights as they are, and packed by oneDNN (``torch.utils.mkldnn``)."""
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": self.own(weight), "bias": self.own(bias)})
        packed = _packed(layer.eval())
        tensor = self.own(x)
        act: Callable[[Tensor], Tensor] = getattr(functional, activation) if activation else lambda y: y
        return [
            Call("nn.Linear", lambda: act(layer(tensor))),
            Call("nn.Linear packed by oneDNN", lambda: act(packed(tensor))),
        ]

    def encoder_layer(self, x: Array, state: dict[str, Array], heads: int) -> list[Call]:
        """With the fused fast path of inference, without it, and that with the network packed by oneDNN."""
        inner, size = state["linear1.weight"].shape
        layer = torch.nn.TransformerEncoderLayer(
            size, heads, inner, dropout=0.0, activation="gelu", batch_first=True
        )
        layer.load_state_dict({name: self.own(array) for name, array in state.items()})
        layer.eval()
        packed = copy.deepcopy(layer)
        packed.linear1, packed.linear2 = _packed(packed.linear1), _packed(packed.linear2)
        tensor = self.own(x)

        def run(chosen: torch.nn.Module, fast: bool) -> Tensor:
            torch.backends.mha.set_fastpath_enabled(fast)
            result: Tensor = chosen(tensor)
            return result

        name = "nn.TransformerEncoderLayer"
        return [
            Call(f"{name}, fast path", lambda: run(layer, True)),
            Call(f"{name}, plain path", lambda: run(layer, False)),
            Call(f"{name}, plain path, network packed by oneDNN", lambda: run(packed, False)),
        ]

    def encode(self, folder: Path, texts: list[str]) -> list[Call]:
        """By sentence-transformers, in its default batch size and two others."""
        try:
            import sentence_transformers
            import transformers
        except ImportError:
            return []
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")

        def encode(size: int) -> Any:
            return model.encode(texts, batch_size=size, show_progress_bar=False)

        name = f"sentence-transformers {sentence_transformers.__version__}, batch size"
        return [Call(f"{name} {size}", partial(encode, size)) for size in _BATCH_SIZES]


def _packed(layer: torch.nn.Linear) -> Any:
    """Lay out a weight for oneDNN, which on some CPUs is faster than the BLAS of ordinary layers."""
    return mkldnn.to_mkldnn(layer)  # type: ignore[no-untyped-call]


def _rotary_embedding(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    result = torch.empty_like(x)
    half = first.shape[-1]
    torch.sub(first * cos, second * sin, out=result[..., :half])
    torch.add(second * cos, first * sin, out=result[..., half:])
    return result


def _merge_attention(outs: Tensor, lses: Tensor) -> Tensor:
    return (outs * torch.softmax(lses, dim=0)[..., None]).sum(dim=0)


ENGINE = PyTorch
