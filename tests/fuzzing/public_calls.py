"""Which public names the fuzzer's files speak of, so that none is forgotten."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import attnlib
from attnlib import compat, functional, models, nn, viz
from attnlib.models import audio

__all__ = ["NOT_CALLED", "unnamed_calls"]

# What is no call of its own, or has nothing to be wrong about.
NOT_CALLED = {
    "Alignment": "a result of Translator",
    "AttentionStatistics": "a result of attention_statistics",
    "DecoderPast": "a protocol",
    "Dispatch": "a result of last_dispatch",
    "Generation": "a result of generate",
    "HeadView": "a result of head_view",
    "Module": "the base of layers, which are called",
    "SAMPLE_RATE": "a number",
    "Segment": "a result of transcribe",
    "Transcription": "a result of transcribe",
    "Translator": "made by load_translator; a TextToTextModel, which `conversation` looks into",
    "available_isas": "takes nothing",
    "isa": "takes nothing",
    "last_dispatch": "takes nothing",
    "load_sentence_encoder": "load, and a check of the kind",
    "load_translator": "reads a file that comes with attnlib",
    "show_config": "takes nothing",
    "trim": "takes nothing",
}

_MODULES = (
    attnlib,
    functional,
    nn,
    viz,
    models,
    audio,
    compat.jax_like,
    compat.onnx_like,
    compat.torch_like,
)


def unnamed_calls() -> dict[str, list[str]]:
    """Return the public names, by module, that no file of the fuzzer names and `NOT_CALLED` does not excuse.

    And, of a module "nothing", the excuses that excuse nothing.
    """
    public = {
        module.__name__: [name for name in module.__all__ if _is_call(module, name)] for module in _MODULES
    }
    named = {name for path in Path(__file__).parent.rglob("*.py") for name in _names(path)}
    missing = {
        module: [name for name in names if name not in named and name not in NOT_CALLED]
        for module, names in public.items()
    }
    everything = {name for names in public.values() for name in names}
    missing["nothing"] = [name for name in NOT_CALLED if name in named or name not in everything]
    return {module: names for module, names in missing.items() if names}


def _is_call(module: object, name: str) -> bool:
    """Leave out modules, which have names of their own."""
    return not hasattr(getattr(module, name), "__all__")


def _names(path: Path) -> Iterator[str]:
    """Read attributes of anything, what is imported, and strings, which getattr may be given."""
    if path.name == Path(__file__).name:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Attribute(attr=name) | ast.alias(name=name) | ast.Constant(value=str(name)):
                yield name
