"""What docs/migration.md shows runs, beside what it replaces where that is installed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attnlib as al

PAGE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text(encoding="utf-8")


def code(section: str) -> str:
    """The Python of a section."""
    (text,) = re.findall(
        rf"^## {re.escape(section)}\n.*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
    )
    return text


def after(section: str) -> str:
    return code(section).partition("# after")[2].partition("\n")[2]


def run(text: str, **names: Any) -> dict[str, Any]:
    exec(text, names)
    return names


def test_scaled_dot_product_attention() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((2, heads, 9, 16), dtype=np.float32) for heads in (4, 2, 2))
    tensors = dict(
        zip(
            ("query", "key", "value"), (torch.from_numpy(array) for array in (query, key, value)), strict=True
        )
    )
    wanted = run(
        code("PyTorch's scaled_dot_product_attention").partition("# after")[0], torch=torch, **tensors
    )
    found = run(after("PyTorch's scaled_dot_product_attention"), al=al, query=query, key=key, value=value)
    np.testing.assert_allclose(found["out"], wanted["out"].numpy(), rtol=1e-5, atol=1e-6)


def test_bfloat16_tensors() -> None:
    """The ways that the page tells, there and back."""
    torch = pytest.importorskip("torch")
    tensor = torch.randn(4, 5).to(torch.bfloat16)
    (there,) = re.findall(r"`(al\.from_dlpack\(tensor\))`", PAGE)
    (back,) = re.findall(r"`(torch\.from_dlpack\(al\.to_dlpack\(array\)\))`", PAGE)
    array = eval(there, {"al": al, "tensor": tensor})
    np.testing.assert_array_equal(array.astype(np.float32), tensor.to(torch.float32).numpy())
    returned = eval(back, {"al": al, "torch": torch, "array": array})
    assert returned.dtype == torch.bfloat16
    assert returned.data_ptr() == tensor.data_ptr()
    # Without any of it, too.
    np.testing.assert_array_equal(al.relu(tensor), al.relu(array))


def test_layers() -> None:
    torch = pytest.importorskip("torch")
    torch_layer = torch.nn.TransformerEncoderLayer(768, 12, 3072, activation="gelu", batch_first=True).eval()
    x = np.random.default_rng(0).standard_normal((2, 128, 768), dtype=np.float32)
    text, _, last = code("torch.nn layers").partition('layer.to("int8")')
    names = run(text, al=al, torch_layer=torch_layer)
    padding = torch.arange(128) >= torch.tensor([[128], [90]])
    with torch.no_grad():
        wanted = torch_layer(torch.from_numpy(x), src_key_padding_mask=padding).numpy()
    found = names["layer"](x, key_lengths=[128, 90])
    assert np.abs(found - wanted)[0].max() < 1e-5
    assert np.abs(found - wanted)[1, :90].max() < 1e-5
    (mask,) = re.findall(r"`mask=(~src_key_padding_mask[^`]*)`", PAGE)
    masked = names["layer"](x, mask=eval(mask, {"src_key_padding_mask": padding.numpy()}))
    np.testing.assert_allclose(masked[1, :90], found[1, :90], rtol=1e-5, atol=1e-5)
    quantised = run('layer.to("int8")' + last, layer=names["layer"], x=x)["out"]
    assert np.abs(quantised - found)[0].max() < 0.2


def test_onnx_weights() -> None:
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((384, 1536), dtype=np.float32), np.ones(1536, np.float32)
    tensors = [
        onnx.numpy_helper.from_array(array, name)
        for name, array in (("dense.weight", weight), ("dense.bias", bias))
    ]
    model = onnx.helper.make_model(onnx.helper.make_graph([], "graph", [], [], initializer=tensors))
    names = run(code("ONNX Runtime"), al=al, onnx=onnx, model=model)
    x = rng.standard_normal((3, 384), dtype=np.float32)
    np.testing.assert_allclose(names["layer"](x), x @ weight + bias, rtol=1e-5, atol=1e-4)


@pytest.mark.real_model
def test_sentences(minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(minilm.parent)
    texts = ["A cat sat on the mat.", "Ein Hund."]
    found = run(after("sentence-transformers"), al=al, texts=texts)
    np.testing.assert_allclose(np.linalg.norm(found["vectors"], axis=1), 1, rtol=1e-5)


@pytest.mark.real_model
def test_generation(smollm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(smollm.parent)
    found = run(after("transformers"), al=al, folder=smollm, prompt="The capital of France is")
    assert "Paris" in found["text"]


@pytest.mark.real_model
def test_streaming(smollm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(smollm.parent)
    run(code("llama.cpp"), al=al)
    assert len(capsys.readouterr().out.split()) > 20
