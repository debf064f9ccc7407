"""Conversations: the answers are those to the whole prompt, of which only what is new is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnlib import models, nn
from attnlib.models.conversation import _rewind

from . import decoders

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'][0] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)
# Greedy answers of the random model would soon repeat themselves. Drawn ones go everywhere, to bytes that are
# no UTF-8 too, which a prompt cannot bring back.
DRAWN: dict[str, Any] = {"max_new_tokens": 9, "temperature": 1.0, "seed": 5}


def make(folder: Path, template: str | None = TEMPLATE, **config: Any) -> models.LanguageModel:
    # A context in which several turns fit.
    decoders.write_folder(folder, max_position_embeddings=400, **config)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    model = models.load(folder)
    assert isinstance(model, models.LanguageModel)
    return model


@pytest.fixture
def model(tmp_path: Path) -> models.LanguageModel:
    pytest.importorskip("jinja2")
    return make(tmp_path / "model")


def watch(model: models.LanguageModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the tokens of each pass."""
    seen: list[int] = []
    hidden = model.decoder.hidden

    def count(ids: Any, cache: Any = None) -> Any:
        seen.append(ids.size)
        return hidden(ids, cache)

    monkeypatch.setattr(model.decoder, "hidden", count)
    return seen


def expected(model: models.LanguageModel, messages: list[dict[str, str]], options: Any) -> models.Generation:
    assert model.tokenizer is not None
    return model.generate(model.tokenizer.encode_chat(messages), **options)


@pytest.mark.parametrize("options", [DRAWN, {"max_new_tokens": 9}, {**DRAWN, "stop": "a"}])
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_answers_are_those_to_the_whole(
    model: models.LanguageModel, system: str | None, options: dict[str, Any]
) -> None:
    conversation = models.Conversation(model, system=system)
    messages = [] if system is None else [{"role": "system", "content": system}]
    for text in ("Hello", "Why?", "Tell me more.", "x"):
        messages.append({"role": "user", "content": text})
        wanted = expected(model, messages, options)
        stream = conversation.answer(text, **options)
        assert "".join(stream) == wanted.text == stream.result.text
        assert stream.result.tokens == wanted.tokens
        assert stream.result.finish_reason == wanted.finish_reason
        if wanted.text:
            messages.append({"role": "assistant", "content": wanted.text})
        else:
            messages.pop()
        assert conversation.messages == messages


def letters(tokens: Any, logits: Any) -> Any:
    """Leave only letters and blanks to be chosen: texts that a prompt brings back as they are."""
    kept = [number for number, letter in enumerate(decoders.ALPHABET) if letter.isascii() or letter == "Ġ"]
    masked = np.full_like(logits, -np.inf)
    masked[kept] = logits[kept]
    return masked


def test_only_what_is_new_is_run(model: models.LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = models.Conversation(model)
    options: dict[str, Any] = {"max_new_tokens": 6, "logits_callback": letters}
    passes = watch(model, monkeypatch)
    assert "".join(conversation.answer("Hello", **options))
    assert passes == [len("<u>Hello\n<a>"), 1, 1, 1, 1, 1]
    passes.clear()
    assert "".join(conversation.answer("Why?", **options))
    # The last token of an answer was chosen, but not run.
    assert passes == [1 + len("\n<u>Why?\n<a>"), 1, 1, 1, 1, 1]
    assert conversation.new_tokens == passes[0]


def test_a_template_that_changes_the_past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier answers are left out, as some templates do with what a model has thought."""
    pytest.importorskip("jinja2")
    template = TEMPLATE.replace("{{ m['content'] }}", "{{ m['content'] if m['role'] == 'user' else '' }}")
    model = make(tmp_path / "model", template)
    conversation = models.Conversation(model)
    messages = []
    passes: list[int] = []
    for text in ("Hello", "Why?", "More."):
        messages.append({"role": "user", "content": text})
        wanted = expected(model, messages, {"max_new_tokens": 6, "logits_callback": letters})
        passes = watch(model, monkeypatch)
        answer = "".join(conversation.answer(text, max_new_tokens=6, logits_callback=letters))
        monkeypatch.undo()
        assert answer == wanted.text
        messages.append({"role": "assistant", "content": answer})
    assert passes == [len("\n<u>More.\n<a>"), 1, 1, 1, 1, 1]


def test_an_answer_that_is_cut_short(model: models.LanguageModel) -> None:
    conversation = models.Conversation(model)
    options: dict[str, Any] = {"max_new_tokens": 20, "logits_callback": letters}
    stream = conversation.answer("Hello", **options)
    begun = next(stream) + next(stream)
    assert conversation.messages[-1] == {"role": "assistant", "content": begun}
    # A question that nothing was read of an answer to.
    conversation.answer("Forget this", **options)
    messages = [*conversation.messages, {"role": "user", "content": "Why?"}]
    assert len(messages) == 3
    assert "".join(conversation.answer("Why?", **options)) == expected(model, messages, options).text


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_an_exception_in_the_midst_of_a_token(
    at: int, model: models.LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while layer 1 runs: what the cache holds is not believed any more."""
    conversation = models.Conversation(model)
    options: dict[str, Any] = {"max_new_tokens": 8, "logits_callback": letters}
    extend = nn.KVCache.extend
    count = 0

    def interrupted(cache: nn.KVCache, layer: int, *tokens: Any, **options: Any) -> Any:
        nonlocal count
        count += layer
        if count == at:
            raise KeyboardInterrupt
        return extend(cache, layer, *tokens, **options)

    monkeypatch.setattr(nn.KVCache, "extend", interrupted)
    stream = conversation.answer("Hello", **options)
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    monkeypatch.undo()
    messages = [*conversation.messages, {"role": "user", "content": "Why?"}]
    assert len(messages) == (1 if at == 1 else 3)
    assert "".join(conversation.answer("Why?", **options)) == expected(model, messages, options).text


def test_looking_at_what_was_said_changes_nothing(model: models.LanguageModel) -> None:
    conversation = models.Conversation(model)
    options: dict[str, Any] = {"max_new_tokens": 8, "logits_callback": letters}
    stream = conversation.answer("Hello", **options)
    assert conversation.messages == []
    text = next(stream)
    assert conversation.messages[-1] == {"role": "assistant", "content": text}
    text += "".join(stream)
    assert conversation.messages == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": text},
    ]


def test_an_answer_ends_with_the_next_question(model: models.LanguageModel) -> None:
    conversation = models.Conversation(model)
    options: dict[str, Any] = {"max_new_tokens": 8, "logits_callback": letters}
    first = conversation.answer("Hello", **options)
    next(first)
    second = conversation.answer("Why?", **options)
    messages = [*conversation.messages, {"role": "user", "content": "Why?"}]
    text = next(second)
    assert next(first, None) is None
    assert text + "".join(second) == expected(model, messages, options).text


def test_reset(model: models.LanguageModel) -> None:
    conversation = models.Conversation(model, system="Be brief.")
    first = "".join(conversation.answer("Hello", **DRAWN))
    conversation.reset()
    assert conversation.messages == [{"role": "system", "content": "Be brief."}]
    assert "".join(conversation.answer("Hello", **DRAWN)) == first


def test_the_context_is_full(model: models.LanguageModel) -> None:
    conversation = models.Conversation(model)
    with pytest.raises(ValueError, match="prompt 0 has 407 tokens, which leaves no room in a context of 400"):
        conversation.answer("x" * 400)
    assert conversation.messages == []
    assert "".join(conversation.answer("Hello", max_new_tokens=3, logits_callback=letters))


def test_without_a_template_or_a_tokenizer(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    model = make(tmp_path / "model", None)
    with pytest.raises(ValueError, match="the model has no chat template"):
        models.Conversation(model)
    model.tokenizer = None
    with pytest.raises(ValueError, match=r"Conversation: the model has no tokenizer\.json"):
        models.Conversation(model)


@pytest.mark.parametrize("window", [None, 4])
def test_rewinding_a_cache(window: int | None) -> None:
    tokens = np.zeros((1, 1, 1, 2), np.float32)
    for length in range(13):
        cache = nn.KVCache(1, 1, 1, 2, capacity=8, window=window)
        for _ in range(12):
            cache.append(0, tokens, tokens)
        evicted = 12 - int(cache.lengths[0])
        assert evicted == (0 if window is None else 5)
        # What the next token reads, the window but itself, must still be there.
        possible = evicted <= max(length - 3, 0) or not evicted
        assert _rewind(cache, length) == possible
        assert cache.positions[0] == (length if possible else 12)


@pytest.mark.parametrize(
    ("prompts", "held", "message"),
    [
        ([[1, 2]], 2, "past holds .2. tokens of prompts of .2.: at least one of each must be left"),
        ([[1, 2]], 3, "past holds .3. tokens of prompts of .2."),
        ([[1, 2, 3], [4, 5, 6]], 1, "past holds 1 sequences for 2 prompts"),
    ],
)
def test_a_past_that_does_not_fit(
    prompts: list[list[int]], held: int, message: str, model: models.LanguageModel
) -> None:
    from attnlib.models.generation.decoding import decode
    from attnlib.models.generation.sampling import Sampling

    past = model.decoder.cache(1, 8)
    model.decoder.hidden(np.ones((1, held), np.intp), past)
    steps = decode(
        model.decoder, prompts, max_new_tokens=2, sampling=Sampling(), finished=lambda step: False, past=past
    )
    with pytest.raises(ValueError, match=message):
        next(steps)
