"""Every script of examples/, run as a user runs it; bulk_embedding.py has a file of its own."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from models import decoders, folders

import attnlib.models

EXAMPLES = Path(__file__).parent.parent / "examples"
TESTED = {"semantic_search", "greedy_generation", "embedding_server", "dask_blocks", "bulk_embedding"}


def run(name: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-W", "error", EXAMPLES / f"{name}.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested_and_listed() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == TESTED
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"]({name}.py)" in readme for name in TESTED)


def test_semantic_search(tmp_path: Path) -> None:
    model = folders.make(tmp_path / "model").write()
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("the cat sat on\na mat .\n\ndogs bark .\n")
    (texts / "b.md").write_text("a mat on a mat\n")
    first, second = run("semantic_search", texts, "dogs bark .", "--model", model, "--top", "2").splitlines()
    assert first == f"1.000  {texts / 'a.txt'}: dogs bark ."
    assert float(second.split()[0]) < 1


def test_greedy_generation(tmp_path: Path) -> None:
    folder = decoders.write_folder(tmp_path / "model")
    model = attnlib.models.load(folder)
    assert isinstance(model, attnlib.models.LanguageModel)
    wanted = model.generate("the cat", max_new_tokens=12).text
    assert run("greedy_generation", "the cat", "--model", folder, "--tokens", "12") == wanted + "\n"


def test_dask_blocks() -> None:
    if importlib.util.find_spec("dask") is None:
        pytest.skip("needs dask: pip install 'attnlib[test]'")
    assert run("dask_blocks") == "softmax (1000, 513) equal\nattention (6, 8, 65, 32) equal\n"


def test_embedding_server(tmp_path: Path) -> None:
    folder = folders.make(tmp_path / "model").write()
    server = subprocess.Popen(
        [sys.executable, EXAMPLES / "embedding_server.py", "--port", "0"],
        env={**os.environ, "ATTNLIB_MODEL": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()

        def ask(body: bytes, address: str = url) -> tuple[int, dict[str, object]]:
            try:
                with urllib.request.urlopen(address, data=body, timeout=30) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, json.load(error)

        texts = ["the cat sat", "dogs bark"]
        status, answer = ask(json.dumps({"texts": texts}).encode())
        assert status == 200
        expected = attnlib.models.load_sentence_encoder(folder).encode(texts)
        assert np.array_equal(np.array(answer["embeddings"], np.float32), expected)
        assert ask(b"{")[0] == 400
        assert ask(b'{"texts": [1]}')[0] == 400
        assert ask(b'{"texts": ["\\ud800"]}')[0] == 400
        assert ask(b"{}", url + "s")[0] == 404
        # Refused by what the header says: the body is not waited for.
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=30)
        connection.putrequest("POST", "/embed")
        connection.putheader("Content-Length", str((1 << 20) + 1))
        connection.endheaders()
        assert connection.getresponse().status == 413
        connection.close()
    finally:
        server.terminate()
        server.wait(timeout=30)
        if server.stdout is not None:
            server.stdout.close()
