"""llama.cpp, through llama-cpp-python: language models from the GGUF file, multiplied as they lie there.

The package index has its source alone, which takes minutes to compile: install it yourself to compare.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import llama_cpp
import numpy as np

from attnlib.benchmark.engines.engine import Array, Call, Engine

__all__ = ["ENGINE"]


class LlamaCpp(Engine):
    """Weights of 4 bits, and what its own kernels make of them; keys and values in float16, its default."""

    name: ClassVar[str] = "llama.cpp"

    @property
    def version(self) -> str:
        return str(llama_cpp.__version__)

    def prompt(self, precision: str, file: Path, tokens: Array) -> list[Call]:
        """The logits after a prompt that is read at once."""
        return self._calls(precision, file, len(tokens), lambda model: _read(model, tokens.tolist()))

    def writing(self, precision: str, file: Path, tokens: Array, beginning: int) -> list[Call]:
        """The logits after tokens that come one by one, the likeliest looked for each time."""

        def run(model: Any) -> Array:
            logits = _read(model, tokens[:beginning].tolist())
            for token in tokens[beginning:].tolist():
                logits.argmax()
                model.eval([token])
                logits = _logits(model)
            return logits

        return self._calls(precision, file, len(tokens), run)

    def _calls(self, precision: str, file: Path, tokens: int, run: Callable[[Any], Array]) -> list[Call]:
        if precision != "int4":
            return []
        model = llama_cpp.Llama(
            str(file),
            n_ctx=tokens,
            n_batch=tokens,
            n_ubatch=tokens,
            n_threads=self.threads,
            n_threads_batch=self.threads,
            verbose=False,
        )
        return [Call("Llama.eval", lambda: run(model), np.array)]


def _read(model: Any, tokens: list[int]) -> Array:
    model.reset()
    model.eval(tokens)
    return _logits(model)


def _logits(model: Any) -> Array:
    """The logits of the last token, where llama.cpp has them."""
    address = llama_cpp.llama_get_logits_ith(model.ctx, -1)
    logits: Array = np.ctypeslib.as_array(address, (model.n_vocab(),))
    return logits


ENGINE = LlamaCpp
