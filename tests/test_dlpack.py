"""Tensors of other libraries in and out through DLPack."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from arrays import DTYPES, normal, same_bits
from dlpack_producer import READ_ONLY, Producer

import attnlib as al
from attnlib import nn
from attnlib.functional import AttentionCall, observe_attention

VERSIONS = [None, (1, 0), (1, 3)]


class TestIn:
    @pytest.mark.parametrize("version", VERSIONS, ids=str)
    @pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
    def test_any_layout_without_a_copy(self, dtype: Any, version: Any, rng: np.random.Generator) -> None:
        whole = normal(rng, (5, 6, 7), dtype)
        for x in (whole, whole[::2, ::-1, 1:4], whole.T, whole[0, 0, 0:0], whole[:, :0], whole[2, 3, 4, ...]):
            seen = al.from_dlpack(Producer(x, version=version))
            assert same_bits(seen, x)
            if x.size:
                assert seen.ctypes.data == x.ctypes.data
            if x.size > 1:
                assert seen.strides == x.strides
            if x.ndim:
                assert same_bits(al.softmax(Producer(x, version=version)), al.softmax(x))

    def test_strides_left_out_and_an_offset(self, rng: np.random.Generator) -> None:
        for dtype in (np.float64, ml_dtypes.bfloat16):
            x = normal(rng, (4, 5), dtype)
            assert same_bits(al.from_dlpack(Producer(x, strides=False)), x)
            assert same_bits(al.from_dlpack(Producer(x, byte_offset=24)), x)

    @pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=["float32", "bfloat16"])
    def test_what_may_be_written_to(self, dtype: Any) -> None:
        x = np.zeros(3, dtype)
        if np.lib.NumpyVersion(np.__version__) >= "2.1.0":  # before it asks for no version
            seen = al.from_dlpack(Producer(x))
            al.sigmoid(x, out=seen)
            assert (x == 0.5).all()
        assert not al.from_dlpack(Producer(x, flags=READ_ONLY)).flags.writeable
        assert not al.from_dlpack(Producer(x, version=None)).flags.writeable, "it cannot say so"

    @pytest.mark.parametrize("version", [None, (1, 0)], ids=str)
    @pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=["float32", "bfloat16"])
    def test_memory_is_given_back_once_and_not_before(self, dtype: Any, version: Any) -> None:
        producer = Producer(np.ones(3, dtype), version=version)
        seen = al.from_dlpack(producer)
        part = seen[1:]
        assert producer.capsule_name.startswith("used_dltensor")
        del seen
        gc.collect()
        assert producer.given_back == 0
        del part
        gc.collect()
        assert producer.given_back == 1
        producer.capsule = None
        assert producer.given_back == 1
        al.softmax(producer)
        gc.collect()
        assert producer.given_back == 2, "once for each capsule"

    def test_a_capsule_is_taken_once(self) -> None:
        for dtype in (np.float32, ml_dtypes.bfloat16):
            producer = Producer(np.ones(3, dtype))
            al.from_dlpack(producer)

            class Again:
                def __init__(self, capsule: Any) -> None:
                    self.capsule = capsule

                def __dlpack_device__(self) -> tuple[int, int]:
                    return 1, 0

                def __dlpack__(self, **_: Any) -> Any:
                    return self.capsule

            with pytest.raises(TypeError, match=r"softmax: x is a .*Again that NumPy cannot read"):
                al.softmax(Again(producer.capsule))
            gc.collect()
            assert producer.given_back == 1

    @pytest.mark.parametrize("device", [2, 4, 10, 13])
    def test_other_devices(self, device: int) -> None:
        producer = Producer(np.ones(3, np.float32), device=device)
        with pytest.raises(TypeError, match=rf"softmax: x is a .*Producer outside .*type {device}\).*cupy"):
            al.softmax(producer)
        assert producer.capsule is None, "nobody asked for its memory"

    def test_refusals(self) -> None:
        with pytest.raises(TypeError, match="from_dlpack: x must have __dlpack__, got list"):
            al.from_dlpack([1.0])
        with pytest.raises(TypeError, match=r"softmax: x must be float32.*int64"):
            al.softmax(Producer(np.arange(3)))
        with pytest.raises(TypeError, match=r"softmax: x must be float32.*complex128"):
            al.softmax(Producer(np.ones(3, complex)))
        with pytest.raises(TypeError, match=r"attention: mask must be bool"):
            al.attention(*[np.ones((2, 2), np.float32)] * 3, mask=Producer(np.ones((2, 2), np.int32)))
        with pytest.raises(TypeError, match=r"softmax: x is a .*Producer that NumPy cannot read"):
            al.softmax(Producer(np.ones(3, np.int8), code=10))  # a float of eight bits
        with pytest.raises(TypeError, match=r"softmax: x is a .*Producer that NumPy cannot read"):
            al.softmax(Producer(np.ones(3, ml_dtypes.bfloat16), version=(2, 0)))
        x = np.ones(3, np.float32)
        assert al.from_dlpack(x) is x


# Layers, and how they are called with (1, 3, 8).
LAYERS: dict[str, tuple[Any, Any]] = {
    "Linear": (nn.Linear(8, 8), lambda layer, x: layer(x)),
    "LayerNorm": (nn.LayerNorm(8), lambda layer, x: layer(x)),
    "RMSNorm": (nn.RMSNorm((3, 8)), lambda layer, x: layer(x)),
    "attention": (nn.MultiheadAttention(8, 2), lambda layer, x: layer(x)),
    "cross-attention": (nn.MultiheadAttention(8, 2), lambda layer, x: layer(x, x, x)),
    "encoder layer": (nn.TransformerEncoderLayer(8, 2, 16), lambda layer, x: layer(x, key_lengths=[2])),
    "encoder": (nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2), lambda layer, x: layer(x)),
    "no layer": (nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 0), lambda layer, x: layer(x)),
    "decoder layer": (nn.TransformerDecoderLayer(8, 2, 16), lambda layer, x: layer(x, x)),
    "decoder": (
        nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 2),
        lambda layer, x: layer(x, cache=layer.begin(x)),
    ),
    "Transformer": (nn.Transformer(8, 2, 1, 1, 16), lambda layer, x: layer(x, x)),
    "Conv1d": (nn.Conv1d(3, 4, 2), lambda layer, x: layer(x)),
    "GRU": (nn.GRU(8, 8), lambda layer, x: layer(x)[0]),
    "positions": (nn.PositionalEncoding(8, 16), lambda layer, x: layer(x)),
}


def test_what_python_looks_at_first(rng: np.random.Generator) -> None:
    """Lists of partial results, and what an observer is shown."""
    out = normal(rng, (2, 3, 8), ml_dtypes.bfloat16)
    lse = rng.standard_normal((2, 3)).astype(np.float32)
    given = [Producer(out)] * 2, [Producer(lse)] * 2
    for found, wanted in zip(
        al.merge_attention(*given), al.merge_attention([out] * 2, [lse] * 2), strict=True
    ):
        assert same_bits(found, wanted)
    calls: list[AttentionCall] = []
    with observe_attention(calls.append):
        al.attention(*[Producer(out)] * 3)
        al.attention_varlen(*[Producer(out)] * 3, np.array([0, 2]))
    assert [same_bits(call.query, x) for call, x in zip(calls, (out, out.swapaxes(0, 1)), strict=True)] == [
        True
    ] * 2


class TestLayers:
    @pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=["float32", "bfloat16"])
    @pytest.mark.parametrize("name", LAYERS)
    def test_they_take_tensors(self, name: str, dtype: Any, rng: np.random.Generator) -> None:
        layer, call = LAYERS[name]
        layer = copy.deepcopy(layer).to(dtype)
        x = normal(rng, (1, 3, 8), dtype)
        assert same_bits(call(layer, Producer(x)), call(layer, x))

    def test_a_cache(self, rng: np.random.Generator) -> None:
        cache = nn.KVCache(1, 1, 2, 4, dtype="bfloat16")
        key, value = (normal(rng, (1, 2, 3, 4), ml_dtypes.bfloat16) for _ in "kv")
        found = cache.append(0, Producer(key), Producer(value))
        assert same_bits(found[0], key)
        assert same_bits(found[1], value)

    @pytest.mark.parametrize("version", [None, (1, 0)], ids=str)
    def test_parameters_are_copied(self, version: Any, rng: np.random.Generator) -> None:
        """Whoever writes to the tensor later does not write to the layer, though NumPy says it cannot."""
        weight = normal(rng, (8,), ml_dtypes.bfloat16)
        before = weight.copy()
        layer = nn.RMSNorm(8)
        layer.load_state_dict({"weight": Producer(weight, version=version)})
        weight[:] = 0
        assert same_bits(layer.state_dict()["weight"], before)

    def test_other_devices(self) -> None:
        for call in (nn.LayerNorm(3), lambda x: nn.LayerNorm(3).load_state_dict({"weight": x, "bias": x})):
            with pytest.raises(TypeError, match=r"LayerNorm.*: \S+ is a .*Producer outside the CPU"):
                call(Producer(np.ones(3, np.float32), device=2))


class TestOut:
    @pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
    def test_there_and_back(self, dtype: Any, rng: np.random.Generator) -> None:
        whole = normal(rng, (5, 6, 7), dtype)
        for x in (whole, whole[::2, ::-1, 1:4], whole.T, whole[0, 0, 0:0], whole[2, 3, 4, ...]):
            seen = al.from_dlpack(al.to_dlpack(x))
            assert same_bits(seen, x)
            assert not x.size or np.shares_memory(seen, x)

    def test_lifetime(self) -> None:
        class Array(np.ndarray):  # type: ignore[type-arg]
            """Can be watched by a weak reference."""

        for dtype in (np.float32, ml_dtypes.bfloat16):
            x = np.ones(3, dtype).view(Array)
            watch = weakref.ref(x)
            unused = al.to_dlpack(x).__dlpack__()
            seen = al.from_dlpack(al.to_dlpack(x))
            del x
            gc.collect()
            assert watch() is not None
            assert (seen == 1).all()
            del unused, seen
            gc.collect()
            assert watch() is None

    def test_read_only_arrays(self) -> None:
        for dtype in (np.float32, ml_dtypes.bfloat16):
            x = np.ones(3, dtype)
            x.flags.writeable = False
            with pytest.raises(BufferError, match="read"):
                al.to_dlpack(x).__dlpack__()
            if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
                assert not al.from_dlpack(al.to_dlpack(x)).flags.writeable

    def test_refusals(self) -> None:
        with pytest.raises(TypeError, match=r"to_dlpack: x must be a numpy\.ndarray, got list"):
            al.to_dlpack([1.0])  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="to_dlpack: x is a masked array"):
            al.to_dlpack(np.ma.masked_array([1.0]))
        with pytest.raises(BufferError):
            al.to_dlpack(np.array(["text"])).__dlpack__()


class TestTorch:
    def test_all_dtypes_without_a_copy(self, rng: np.random.Generator) -> None:
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        for name, dtype in DTYPES.items():
            x = normal(rng, (4, 33), dtype)
            tensor = torch.from_dlpack(al.to_dlpack(x))
            assert str(tensor.dtype) == f"torch.{name}"
            assert tensor.data_ptr() == x.ctypes.data
            out = torch.zeros(4, 33, dtype=tensor.dtype)
            al.softmax(tensor, out=al.from_dlpack(out))
            assert same_bits(al.from_dlpack(out), al.softmax(x))
            assert same_bits(al.softmax(tensor.t()), al.softmax(x.T))
            assert same_bits(al.from_dlpack(tensor[1:, ::3]), x[1:, ::3])

    def test_attention_takes_tensors_throughout(self, rng: np.random.Generator) -> None:
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        query = normal(rng, (2, 4, 5, 8), ml_dtypes.bfloat16)
        mask, lengths = rng.random((5, 5)) < 0.8, np.array([3, 5])
        tensor = torch.from_dlpack(al.to_dlpack(query))
        options = {"mask": torch.from_numpy(mask), "key_lengths": torch.from_numpy(lengths)}
        result = al.attention(tensor, tensor, tensor, **options)
        assert same_bits(result, al.attention(query, query, query, mask=mask, key_lengths=lengths))
        result = al.compat.torch_like.scaled_dot_product_attention(tensor, tensor, tensor, is_causal=True)
        assert same_bits(result, al.attention(query, query, query, causal=True))

    def test_layers(self, rng: np.random.Generator) -> None:
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        oracle = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dtype=torch.bfloat16)
        layer = nn.TransformerEncoderLayer(8, 2, 16)
        layer.load_state_dict(oracle.state_dict())
        x = normal(rng, (2, 3, 8), ml_dtypes.bfloat16)
        assert same_bits(layer(torch.from_dlpack(al.to_dlpack(x))), layer(x))

    def test_what_cannot_be_read(self) -> None:
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        with pytest.raises(ValueError, match=r"softmax: x is a torch\.Tensor .*gradient.*detach\(\)"):
            al.softmax(torch.zeros(3, requires_grad=True))
        with pytest.raises(ValueError, match=r"softmax: x is a torch\.Tensor .*conj"):
            al.softmax(torch.zeros(3, dtype=torch.complex64).conj())
        with pytest.raises((TypeError, ValueError), match=r"softmax: x is a torch\.Tensor .*"):
            al.softmax(torch.zeros(3, device="meta"))


def test_jax(rng: np.random.Generator) -> None:
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    for dtype in (np.float32, np.float16, ml_dtypes.bfloat16):
        x = normal(rng, (4, 33), dtype)
        assert same_bits(al.softmax(jax.numpy.asarray(x)), al.softmax(x))
        assert same_bits(al.from_dlpack(jax.numpy.asarray(x)), x)
        assert same_bits(np.asarray(jax.dlpack.from_dlpack(al.to_dlpack(x))), x)
