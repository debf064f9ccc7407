"""Conversations, cut short and taken up again, and what models attend to: any text and options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from models import encoder_decoders
from models.test_conversation import expected, make

from attnlib import models, viz

from ..calls import Draw
from ..finding import Finding
from ..spoiling import spoil
from .base import Target

__all__ = ["Conversations"]

_TEXTS = ("Hello", "Why?", "x", "", "é 語\n", "<a>", "\x00", "\ud800", "abc " * 30)


class Conversations(Target):
    """Talks for a few turns, or looks at a text."""

    def start(self, scratch: Path) -> None:
        """Make small random models."""
        self._decoder = make(scratch / "decoder")
        self._translator = models.load(encoder_decoders.write_folder(scratch / "translator", "t5"))

    def case(self, rng: np.random.Generator) -> None:
        """Have one conversation, or look at one text; wrong arguments may be refused, and change nothing."""
        draw = Draw(rng)
        self._notes: list[str] = []
        try:
            if draw.chance(0.6):
                self._talk(draw)
            else:
                self._look(draw)
        finally:
            self.description = "; ".join(self._notes)

    def _talk(self, draw: Draw) -> None:
        system = draw.pick((None, "Be brief."))
        conversation = models.Conversation(self._decoder, system=system)
        said = [] if system is None else [{"role": "system", "content": system}]
        begun = list(said)
        for _ in range(int(draw.rng.integers(1, 5))):
            if draw.chance(0.1):
                conversation.reset()
                said = list(begun)
                self._notes.append("reset")
            text, options, spoilt = draw.pick(_TEXTS), _options(draw), None
            if draw.chance(0.2):
                spoilt = draw.pick(list(options))
                options[spoilt] = spoil(draw.rng, options[spoilt])
            if draw.chance(0.05):
                text, spoilt = spoil(draw.rng, text), "text"
            most = draw.pick((None, None, 0, 1, 3))
            self._notes.append(f"answer({text!r}, **{options}), of which {most} pieces are read")
            try:
                stream = conversation.answer(text, **options)
                read = "".join(piece for _, piece in zip(_numbers(most), stream, strict=False))
            except (TypeError, ValueError) as error:
                self._notes.append(f"refused: {error}"[:100])
                if conversation.messages != said:
                    raise Finding(f"{error}: {conversation.messages} instead of {said}") from error
                if spoilt is None and text.isprintable() and "context" not in str(error):
                    raise
                continue
            if read != stream.result.text:
                raise Finding(f"{read!r} was read of {stream.result.text!r}")
            asked = [*said, {"role": "user", "content": text}]
            if most is None and spoilt is None:
                wanted = expected(self._decoder, asked, options)
                if (wanted.text, wanted.tokens) != (read, stream.result.tokens):
                    raise Finding(f"the answer {read!r} is not that to the whole, {wanted.text!r}")
            said = [*asked, {"role": "assistant", "content": read}] if read else said
            if conversation.messages != said:
                raise Finding(f"{conversation.messages} instead of {said}")

    def _look(self, draw: Draw) -> None:
        translates = draw.chance(0.4)
        model: Any = self._translator if translates else self._decoder
        arguments: dict[str, Any] = {
            "text": draw.pick((*_TEXTS, "bak bal bem", (3, 4, 1))),
            "layers": draw.pick((None, 0, 1, (1, 0))),
        }
        if translates:
            arguments["target"] = draw.pick((None, (), (4, 5, 6)))
        spoilt = draw.chance(0.3)
        if spoilt:
            name = draw.pick(list(arguments))
            arguments[name] = spoil(draw.rng, arguments[name])
        self._notes.append(f"attention_weights({type(model).__name__}, {arguments})")
        try:
            found = viz.attention_weights(model, **arguments)
        except (TypeError, ValueError) as error:
            if not spoilt and arguments["text"] in ("Hello", "Why?", "x", "bak bal bem", (3, 4, 1)):
                raise Finding(f"valid call refused: {error}") from error
            return
        for maps in found if translates else (found,):
            sums = maps.weights.sum(-1)
            if np.abs(sums - 1).max(initial=0.0) > 1e-5:
                raise Finding(f"weights of {maps} add up to {sums}")
        if translates and not spoilt:
            self._look_again(found, arguments["layers"])

    def _look_again(self, found: Any, layers: Any) -> None:
        """Give the network the numbers that the model made of a text."""
        network = self._translator.encoder_decoder
        words = {word: number for number, word in enumerate(encoder_decoders.WORDS)}
        source, target = ([words.get(token, 2) for token in maps.queries] for maps in found[:2])
        again = viz.encoder_decoder_weights(network, np.array([source]), np.array([target]), layers=layers)
        for one, other in zip(found, again, strict=True):
            if one.weights.tobytes() != other.weights.tobytes():
                raise Finding(f"{one} has other weights than {other}")


def _numbers(most: int | None) -> range:
    """Count up to some number, or on and on."""
    return range(1 << 30 if most is None else most)


def _options(draw: Draw) -> dict[str, Any]:
    return {
        "max_new_tokens": int(draw.rng.integers(1, 10)),
        "temperature": draw.pick((0.0, 1.0, 0.5)),
        "top_k": draw.pick((None, 1, 5)),
        "top_p": draw.pick((1.0, 0.5)),
        "min_p": draw.pick((0.0, 0.1)),
        "repetition_penalty": draw.pick((None, 1.2)),
        "stop": draw.pick((None, "a", ("b", "c"))),
        "seed": int(draw.rng.integers(9)),
    }
