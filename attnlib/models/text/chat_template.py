"""Chat templates: what a checkpoint says how a conversation is written as one text.

A template is a program in Jinja that was written for transformers, so it finds here what it has there: the
same extensions, functions and variables.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from attnlib.models.extras import require
from attnlib.models.files.config import Fields

__all__ = ["read_chat_template", "render_chat"]


def render_chat(
    template: str,
    messages: Sequence[Mapping[str, str]],
    *,
    add_generation_prompt: bool,
    special: Mapping[str, str],
) -> str:
    """Write a conversation as a template wants it.

    Parameters
    ----------
    template
        In Jinja.
    messages, add_generation_prompt
        As in `TextTokenizer.chat`.
    special
        Special tokens by their names, such as ``bos_token``.

    Raises
    ------
    ValueError
        If the template refuses the messages, or is none.
    ImportError
        If jinja2 is not installed.
    """
    environment = _environment()
    try:
        text: str = environment.from_string(template).render(
            messages=list(messages),
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **special,
        )
    except Exception as error:  # a template is a program: it raises what its expressions raise
        raise ValueError(f"chat: the chat template failed: {type(error).__name__}: {error}") from None
    return text


@cache
def _environment() -> Any:
    """Make what templates run in: programs that came with the weights get a sandbox."""
    jinja2 = require("jinja2")
    sandbox, extensions = (importlib.import_module(f"jinja2.{name}") for name in ("sandbox", "ext"))

    def parse(_: Any, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)

    # The tag that marks in training what the model says: its body is written as it is.
    members = {"tags": frozenset({"generation"}), "parse": parse, "__module__": __name__}
    generation = type("Generation", (extensions.Extension,), members)

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[generation, extensions.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda layout: datetime.now().astimezone().strftime(layout)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own writes letters beyond ASCII, and those that mean something in HTML, as escapes.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def read_chat_template(file: Fields) -> str | None:
    """Read the template in a ``tokenizer_config.json``: of several the one that is called default.

    Raises
    ------
    ValueError
        If the field is malformed.
    """
    if "chat_template" not in file:
        return None
    found = file.get("chat_template")
    if isinstance(found, str):
        return found
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise file.error("chat_template", "must be a string or a list of objects with name and template")
    named = [entry.get("template") for entry in found if entry.get("name") == "default"]
    if not named:
        return None
    if not isinstance(named[0], str):
        raise file.error("chat_template", f"has a default template that is no string: {named[0]!r:.60}")
    return named[0]
