"""Text generation step by step: what `LanguageModel.generate` does, in the open.

    pip install "attnlib[models]"
    python greedy_generation.py "The capital of France is" --model SmolLM2-135M-Instruct.Q4_1.gguf

The prompt goes through the decoder once, and its keys and values stay in the cache. Each step then
runs one token, which attends to all that the cache holds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import attnlib.models


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Go on with a text, greedily.")
    parser.add_argument("prompt")
    parser.add_argument("--model", type=Path, required=True, help="a GGUF file or a folder")
    parser.add_argument("--tokens", type=int, default=20, help="how many at most (default: 20)")
    options = parser.parse_args()
    model = attnlib.models.load(options.model)
    if not isinstance(model, attnlib.models.LanguageModel) or model.tokenizer is None:
        parser.error(f"{options.model}: not a language model with a tokenizer")
    decoder, tokenizer = model.decoder, model.tokenizer

    prompt = tokenizer.encode(options.prompt)
    cache = decoder.cache(batch=1, capacity=len(prompt) + options.tokens)
    written: list[int] = []
    step = prompt
    for _ in range(options.tokens):
        hidden = decoder.hidden(np.array([step]), cache)  # (1, tokens of the step, d)
        logits = decoder.logits(hidden[:, -1])  # (1, vocabulary): only the last place says what comes next
        token = int(np.argmax(logits))
        if token in tokenizer.end_ids:
            break
        written.append(token)
        step = [token]  # all before it is in the cache
    print(tokenizer.decode(written))


if __name__ == "__main__":
    main()
