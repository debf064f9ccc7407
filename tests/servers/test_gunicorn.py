"""A real gunicorn: workers forked before or after the first use, with threads; killed ones come again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("gunicorn", reason="gunicorn is not installed (extra: test)")

APP = Path(__file__).with_name("wsgi_app.py")


class Server:
    """gunicorn on a port that the system has chosen."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self.log = log
        self.address = ""

    def wait(self) -> None:
        """Wait until it listens and has answered once."""
        end = time.monotonic() + 60
        while "Listening at: " not in (text := self.log.read_text(encoding="utf-8")):
            assert self.process.poll() is None, text
            assert time.monotonic() < end, text
            time.sleep(0.05)
        self.address = text.partition("Listening at: ")[2].split()[0]
        self.get(0)

    def get(self, number: int) -> tuple[int, int, str]:
        """Ask; once more if the worker was killed meanwhile."""
        for _ in range(100):
            try:
                with urllib.request.urlopen(f"{self.address}/{number}", timeout=30) as answer:
                    worker, threads, digest = answer.read().decode().split()
                    return int(worker), int(threads), digest
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        raise AssertionError(self.log.read_text(encoding="utf-8"))


@pytest.fixture(params=[["--preload"], [], ["--preload", "--threads", "3"]], ids=" ".join)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--bind", "127.0.0.1:0", "--timeout", "20"]
    command += ["--chdir", str(APP.parent), *request.param, f"{APP.stem}:application"]
    if os.access("/dev/shm", os.W_OK):
        command[3:3] = ["--worker-tmp-dir", "/dev/shm"]
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=output, text=True)
        server = Server(process, log)
        try:
            server.wait()
            yield server
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def test_requests(server: Server) -> None:
    expected = {number: server.get(number)[2] for number in range(4)}
    assert len(set(expected.values())) == 4
    numbers = [n % 4 for n in range(24)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(server.get, numbers))
        assert [digest for _, _, digest in answers] == [expected[n] for n in numbers]
        assert {threads for _, threads, _ in answers} == {2}  # each worker computes in parallel
        killed = answers[0][0]
        os.kill(killed, signal.SIGKILL)
        answers = list(pool.map(server.get, numbers))
    assert [digest for _, _, digest in answers] == [expected[n] for n in numbers]
    assert killed not in {worker for worker, _, _ in answers}
    assert "WORKER TIMEOUT" not in server.log.read_text(encoding="utf-8")
