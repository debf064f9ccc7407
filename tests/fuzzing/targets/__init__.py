"""What is fuzzed: one kind of call or file a module."""

from __future__ import annotations

import importlib

from .base import Target

__all__ = ["TARGETS", "make_target"]

# By name: the module here, and its class. Imported when asked for, since readers want packages of extras.
TARGETS = {
    "calls": ("operations", "Operations"),
    "layers": ("layers", "Layers"),
    "conversation": ("conversations", "Conversations"),
    "safetensors": ("safetensors_files", "SafetensorsFiles"),
    "gguf": ("gguf_files", "GgufFiles"),
    "config": ("config_files", "ConfigFiles"),
    "tokenizer": ("tokenizer_files", "TokenizerFiles"),
    "audio": ("audio_files", "AudioFiles"),
    "ctranslate2": ("ctranslate2_files", "CTranslate2Files"),
    "saved": ("saved_files", "SavedFiles"),
}


def make_target(name: str) -> Target:
    """Make a target of `TARGETS`."""
    module, kind = TARGETS[name]
    target: Target = getattr(importlib.import_module(f"{__name__}.{module}"), kind)()
    return target
