"""What the layer tests share: random layers of PyTorch as oracles, and how close is close enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from attnlib import nn

Array = NDArray[Any]


@pytest.fixture
def twins() -> Callable[..., Any]:
    """Give a layer the parameters of a PyTorch layer; the latter then computes in float64."""

    torch = pytest.importorskip("torch")

    def share(layer: nn.Module, oracle: Any, dtype: str = "float32") -> Any:
        torch.manual_seed(11)
        with torch.no_grad():
            for parameter in oracle.parameters():
                # Biases and norms too, which begin as constants and would hide what they are added to.
                parameter.copy_(torch.randn_like(parameter) * 0.3)
        layer.load_state_dict({k: v.numpy().astype(dtype) for k, v in oracle.state_dict().items()})
        return oracle.double().eval()

    return share


@pytest.fixture
def assert_close() -> Callable[..., None]:
    """Largest difference relative to the largest value of the oracle."""

    def check(found: Array, oracle: Any, tolerance: float = 5e-6) -> None:
        wanted = np.asarray(oracle.detach() if hasattr(oracle, "detach") else oracle)
        assert found.shape == wanted.shape
        assert np.isfinite(found.astype(np.float64)).all()
        if wanted.size:
            error = np.abs(found.astype(np.float64) - wanted).max()
            assert error <= tolerance * max(np.abs(wanted).max(), 1e-30), f"error {error}"

    return check
