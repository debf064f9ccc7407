"""PyTorch in inference mode, and transformers and sentence-transformers on top of it.

bfloat16 is what its layers do on tensors of that dtype. int8 is its dynamic quantisation (``torch.ao``),
whose kernels are oneDNN's or FBGEMM's, and for a few rows the product with a weight of int8 that torchao
calls; int4 is torchao's product likewise.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional
from torch.utils import mkldnn

from attnlib.benchmark.engines.engine import Array, Call, Engine

__all__ = ["ENGINE"]

Tensor = Any

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_QUANTISERS = ("onednn", "x86", "fbgemm")
# Small batches waste less on padding, large ones less on overhead; 32 is sentence-transformers' default.
# Which is best, some of the texts tell.
_BATCH_SIZES = (8, 32, 128)
_SAMPLE = 128
# Products with weights of integers are made for these; and how many of those share a scale in int4.
_FEW_ROWS = 16
_GROUP = 128


class PyTorch(Engine):
    """Eager PyTorch on tensors that share the arrays' memory."""

    name: ClassVar[str] = "PyTorch"
    simple_precisions = ("float32", "bfloat16")

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

    def own(self, value: Any, precision: str) -> Any:
        return torch.from_numpy(value).to(_DTYPES[precision]) if isinstance(value, np.ndarray) else value

    def array(self, value: Any) -> Array:
        result: Array = value.float().numpy()
        return result

    def attention(self, precision: str, query: Array, key: Array, value: Array, causal: bool) -> list[Call]:
        """The fused operator, with keys shared by heads or repeated; for one query, two products as well."""
        if precision not in _DTYPES:
            return []
        q, k, v = (self.own(array, precision) for array in (query, key, value))
        attend = functional.scaled_dot_product_attention
        name = "scaled_dot_product_attention"
        if q.shape == k.shape:
            return [Call(name, lambda: attend(q, k, v, is_causal=causal), self.array)]
        repeats = q.shape[1] // k.shape[1]
        calls = [
            Call(
                f"{name}, enable_gqa", lambda: attend(q, k, v, is_causal=causal, enable_gqa=True), self.array
            ),
            Call(
                f"{name} of repeated keys",
                lambda: attend(
                    q, k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1), is_causal=causal
                ),
                self.array,
            ),
        ]
        if q.shape[2] == 1:
            grouped, scale = q.reshape(q.shape[0], k.shape[1], repeats, -1), q.shape[-1] ** -0.5
            calls += [
                Call(
                    "two products",
                    lambda: torch.softmax((grouped * scale) @ k.mT, dim=-1) @ v,
                    lambda result: self.array(result).reshape(query.shape),
                ),
                Call(
                    f"{name} of heads as queries",
                    lambda: attend(grouped, k, v),
                    lambda result: self.array(result).reshape(query.shape),
                ),
            ]
        return calls

    def attention_varlen(
        self, precision: str, query: Array, key: Array, value: Array, cu_seqlens: Array
    ) -> list[Call]:
        """One call for each sequence, or one for all of them, padded and masked."""
        if precision not in _DTYPES:
            return []
        attend = functional.scaled_dot_product_attention
        lengths = np.diff(cu_seqlens)
        valid = torch.arange(int(lengths.max())) < torch.from_numpy(lengths)[:, None]
        mask = valid[:, None, None, :]
        packed, padded = [], []
        for array in (query, key, value):
            tensor = self.own(array, precision)
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
                lambda parts: self.array(torch.cat([part[0].transpose(0, 1) for part in parts])),
            ),
            Call(
                "padded, with a mask",
                lambda: attend(q, k, v, attn_mask=mask),
                lambda result: self.array(result.transpose(1, 2)[valid]),
            ),
        ]

    def linear(
        self, precision: str, x: Array, weight: Array, bias: Array, activation: str | None
    ) -> list[Call]:
        """Weights as they are, and packed by oneDNN (``torch.utils.mkldnn``); or quantised."""
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
        act: Callable[[Tensor], Tensor] = getattr(functional, activation) if activation else lambda y: y
        calls = []
        for way, made in _layers(layer.eval(), precision):
            tensor = self.own(x, precision if precision in _DTYPES else "float32")
            calls.append(Call(f"nn.Linear{way}", partial(lambda f, t: act(f(t)), made, tensor), self.array))
        if precision in ("int8", "int4") and len(x) <= _FEW_ROWS:
            kernel, arguments = _weight_only(torch.from_numpy(weight), precision)
            for activations in _DTYPES:
                # Scales are of the dtype of the activations.
                tensor, addend, *last = (
                    part.to(_DTYPES[activations])
                    for part in (self.own(x, "float32"), layer.bias, arguments[-1])
                )
                call = partial(kernel, tensor, *arguments[:-1], *last)
                calls.append(
                    Call(
                        f"{precision} weight, {activations} activations",
                        partial(lambda c, b: act(c().add_(b)), call, addend),
                        self.array,
                    )
                )
        return calls

    def encoder_layer(self, precision: str, x: Array, state: dict[str, Array], heads: int) -> list[Call]:
        """With the fused fast path of inference, without it, and that with the network packed by oneDNN."""
        if precision not in _DTYPES:
            return []
        inner, size = state["linear1.weight"].shape
        layer = torch.nn.TransformerEncoderLayer(
            size, heads, inner, dropout=0.0, activation="gelu", batch_first=True
        )
        layer.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
        layer.eval()
        packed = copy.deepcopy(layer).to(_DTYPES[precision])
        for part in ("linear1", "linear2"):
            setattr(packed, part, _packed(getattr(layer, part), precision))
        layer.to(_DTYPES[precision])
        tensor = self.own(x, precision)

        def run(chosen: torch.nn.Module, fast: bool) -> Tensor:
            torch.backends.mha.set_fastpath_enabled(fast)
            return chosen(tensor)

        name = "nn.TransformerEncoderLayer"
        return [
            Call(f"{name}, fast path", lambda: run(layer, True), self.array),
            Call(f"{name}, plain path", lambda: run(layer, False), self.array),
            Call(f"{name}, plain path, network packed by oneDNN", lambda: run(packed, False), self.array),
        ]

    def lstm(self, precision: str, x: Array, state: dict[str, Array]) -> list[Call]:
        """With batches first, and with steps first, as its kernels have them."""
        if precision != "float32":
            return []
        calls = []
        for batch_first in (True, False):
            layer = torch.nn.LSTM(x.shape[-1], state["weight_hh_l0"].shape[1], batch_first=batch_first)
            layer.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
            layer.eval()
            tensor = torch.from_numpy(x if batch_first else np.ascontiguousarray(x.swapaxes(0, 1)))
            calls.append(
                Call(
                    f"nn.LSTM, {'batches' if batch_first else 'steps'} first",
                    partial(lambda f, t: f(t)[0], layer, tensor),
                    self.array if batch_first else lambda found: self.array(found.transpose(0, 1)),
                )
            )
        return calls

    def speech_front_end(self, precision: str, x: Array, state: dict[str, Array]) -> list[Call]:
        if precision != "float32":
            return []
        size, mels, _ = state["conv1.weight"].shape
        layers = torch.nn.Module()
        layers.conv1 = torch.nn.Conv1d(mels, size, 3, padding=1)
        layers.conv2 = torch.nn.Conv1d(size, size, 3, stride=2, padding=1)
        layers.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
        tensor = torch.from_numpy(x)

        def run() -> Tensor:
            return functional.gelu(layers.conv2(functional.gelu(layers.conv1(tensor))))

        return [Call("nn.Conv1d", run, self.array)]

    def model(self, precision: str, folder: Path, ids: Array) -> list[Call]:
        """By transformers; its linear layers also packed by oneDNN, or quantised."""
        tokens = torch.from_numpy(ids)

        def vectors(hidden: Tensor) -> Array:
            return self.array(functional.normalize(hidden.float().mean(dim=1), dim=-1))

        return [
            Call(f"transformers' BertModel{way}", partial(_last_hidden, made, tokens), vectors)
            for way, made in _bert(folder, precision)
        ]

    def encode(self, precision: str, folder: Path, texts: list[str]) -> list[Call]:
        """By sentence-transformers, in its default batch size and two others."""
        if precision not in _DTYPES:
            return []
        model, version = _sentence_transformer(folder, precision)

        def encode(size: int, some: list[str]) -> Any:
            return model.encode(some, batch_size=size, show_progress_bar=False)

        def sample(size: int) -> float:
            start = time.perf_counter()
            encode(size, texts[:_SAMPLE])
            return time.perf_counter() - start

        best = min(_BATCH_SIZES, key=sample)
        return [
            Call(
                f"sentence-transformers {version}, batch size {best}",
                lambda: encode(best, texts),
                lambda found: np.asarray(found, np.float32),
            )
        ]


def _layers(layer: torch.nn.Module, precision: str) -> list[tuple[str, Any]]:
    """The ways to run a linear layer in a precision: what to add to its name, and the module."""
    if precision in _DTYPES:
        plain = copy.deepcopy(layer).to(_DTYPES[precision])
        return [("", plain), (" packed by oneDNN", _packed(layer, precision))]
    return _quantised(layer) if precision == "int8" else []


def _packed(layer: torch.nn.Module, precision: str) -> Any:
    """Lay out a weight for oneDNN, which on some CPUs is faster than the BLAS of ordinary layers."""
    return mkldnn.to_mkldnn(copy.deepcopy(layer), _DTYPES[precision])


def _quantised(module: torch.nn.Module) -> list[tuple[str, Any]]:
    """Quantise all linear layers, by each of the libraries that this build has for it."""
    found = []
    for engine in _QUANTISERS:
        if engine in torch.backends.quantized.supported_engines:
            torch.backends.quantized.engine = engine
            holder = torch.nn.Sequential(copy.deepcopy(module))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it is deprecated, for what is a package of its own
                made = torch.ao.quantization.quantize_dynamic(holder, {torch.nn.Linear}, torch.qint8)
            found.append((f" quantised for {engine}", made[0]))
    return found


def _weight_only(weight: Tensor, precision: str) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
    """Return a product with a weight of integers, and what it takes after the rows: the scales last."""
    if precision == "int8":
        scales = weight.abs().amax(dim=1) / 127
        whole = (weight / scales[:, None]).round().to(torch.int8)
        return torch._weight_int8pack_mm, (whole, scales)
    groups = weight.reshape(len(weight), -1, _GROUP)
    scales = groups.abs().amax(dim=-1) / 7
    whole = ((groups / scales[..., None]).round() + 8).to(torch.int32).reshape(weight.shape)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(whole, 1)
    # Beside each scale the value that its middle stands for.
    pairs = torch.stack([scales.T, torch.zeros_like(scales.T)], dim=-1).contiguous()
    return torch.ops.aten._weight_int4pack_mm_for_cpu, (packed, _GROUP, pairs)


@cache
def _bert(folder: Path, precision: str) -> list[tuple[str, Any]]:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    plain = transformers.AutoModel.from_pretrained(folder).eval()
    if precision == "int8":
        return _quantised(plain)
    if precision not in _DTYPES:
        return []
    packed = copy.deepcopy(plain).to(_DTYPES[precision])
    for module, original in zip(packed.modules(), plain.modules(), strict=True):
        for name, child in original.named_children():
            if isinstance(child, torch.nn.Linear):
                setattr(module, name, _packed(child, precision))
    return [("", plain.to(_DTYPES[precision])), (" packed by oneDNN", packed)]


@cache
def _sentence_transformer(folder: Path, precision: str) -> tuple[Any, str]:
    import sentence_transformers
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    dtype = {"dtype": _DTYPES[precision]}
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu", model_kwargs=dtype)
    return model, str(sentence_transformers.__version__)


def _last_hidden(model: Any, tokens: Tensor) -> Tensor:
    return model(tokens)[0]


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
