"""Chat templates find what they have in transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from attnlib import models

from . import decoders

pytest.importorskip("jinja2")

MESSAGES = [
    {"role": "user", "content": 'Où <b>est</b> l\'"été" & {x}?'},
    {"role": "assistant", "content": "Là."},
    {"role": "user", "content": "Bien."},
]
TOKENS: dict[str, Any] = {
    "bos_token": "<b>",
    "eos_token": {"__type": "AddedToken", "content": "</s>"},
    "pad_token": "<pad>",
    "image_token": "<image>",
    "unk_token": None,
    "add_bos_token": True,
    "num_image_token": 256,
}

TEMPLATES = {
    "{{ messages[0] | tojson }}": json.dumps(MESSAGES[0], ensure_ascii=False),
    "{{ messages[0] | tojson(ensure_ascii=True) }}": json.dumps(MESSAGES[0]),
    "{{ messages | tojson(indent=2, separators=(',', ':'), sort_keys=true) }}": json.dumps(
        MESSAGES, ensure_ascii=False, indent=2, separators=(",", ":"), sort_keys=True
    ),
    "{% if tools is none and documents is none %}none{% endif %}": "none",
    "{{ bos_token + eos_token + pad_token + image_token }}": "<b></s><pad><image>",
    "{% if unk_token is defined or add_bos_token is defined or num_image_token is defined %}x{% endif %}": "",
    "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ loop.index }}{% endfor %}": "23",
    "{% for m in messages %}{{ loop.index }}{% if loop.index == 2 %}{% break %}{% endif %}{% endfor %}": "12",
    "{% set x = 1 %}{% for m in messages %}\n  {% generation %}\n{% set x = 2 %}<{{ m.content[:2] }}>\n"
    "  {% endgeneration %}\n{% endfor %}{{ x }}": "<Où>\n<Là>\n<Bi>\n1",
}


def write(folder: Path, **fields: Any) -> models.LanguageModel:
    decoders.write_folder(folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**TOKENS, **fields}))
    model = models.load(folder)
    assert isinstance(model, models.LanguageModel)
    return model


def chat(folder: Path, template: Any) -> str:
    tokenizer = write(folder, chat_template=template).tokenizer
    assert tokenizer is not None
    return tokenizer.chat(MESSAGES)


@pytest.mark.parametrize("template", TEMPLATES)
def test_what_a_template_finds(template: str, tmp_path: Path) -> None:
    assert chat(tmp_path / "model", template) == TEMPLATES[template]


def test_the_date(tmp_path: Path) -> None:
    before = datetime.now().astimezone()
    text = chat(tmp_path / "model", "{{ strftime_now('%Y-%m-%dT%H:%M:%S%z') }}")
    written = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")
    assert before.replace(microsecond=0) <= written <= datetime.now().astimezone()


def test_of_several_templates_the_default_is_taken(tmp_path: Path) -> None:
    several = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "{{ bos_token }}"}]
    assert chat(tmp_path / "model", several) == "<b>"
    with pytest.raises(ValueError, match="chat: the model has no chat template"):
        chat(tmp_path / "model", several[:1])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"chat_template": 5}, "chat_template must be a string or a list of objects"),
        ({"chat_template": ["x"]}, "chat_template must be a string or a list of objects"),
        ({"chat_template": [{"name": "default"}]}, "chat_template has a default template that is no string"),
        ({"eos_token": 5}, "eos_token must be a string, or an object with content, found 5"),
        ({"eos_token": "a\ud800"}, "eos_token holds lone surrogates"),
        ({"my_token": {"content": "\udfff"}}, "my_token holds lone surrogates"),
        ({"pad_token": {"text": "x"}}, "pad_token must be a string, or an object with content"),
    ],
)
def test_malformed_fields(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"tokenizer_config\.json: {message}"):
        write(tmp_path / "model", **fields)


PROGRAM = """if True:
    import json, sys, transformers
    folder, templates, messages = sys.argv[1:]
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    texts = [
        tokenizer.apply_chat_template(
            json.loads(messages), chat_template=template, tokenize=False, add_generation_prompt=True
        )
        for template in json.loads(templates)
    ]
    with open(folder + "/texts.json", "w") as file:
        json.dump(texts, file)
"""


@pytest.mark.real_model  # beside the other tests that want a peer's library; it fetches nothing
def test_transformers_writes_the_same(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    write(tmp_path / "model", tokenizer_class="PreTrainedTokenizerFast")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "model"), json.dumps([*TEMPLATES])]
    subprocess.run([*command, json.dumps(MESSAGES)], check=True, timeout=300, capture_output=True)
    assert json.loads((tmp_path / "model" / "texts.json").read_text()) == [*TEMPLATES.values()]
