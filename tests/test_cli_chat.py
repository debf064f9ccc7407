"""``attnlib chat`` through a pipe and on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from models import decoders

from attnlib import models

pytest.importorskip("jinja2")

TEMPLATE = "{% for m in messages %}<{{ m['role'][0] }}>{{ m['content'] }}\n{% endfor %}<a>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = decoders.write_folder(
        tmp_path_factory.mktemp("chat") / "model", max_position_embeddings=100_000, eos_token_id=259
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def command(folder: Path, *arguments: object) -> list[str]:
    options = ["--model", str(folder), "--threads", "1", *map(str, arguments)]
    return [sys.executable, "-W", "error", "-m", "attnlib", "chat", *options]


def piped(folder: Path, *arguments: object, stdin: bytes) -> tuple[int, str, str]:
    done = subprocess.run(
        command(folder, *arguments),
        input=stdin,
        cwd=tempfile.gettempdir(),
        capture_output=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def answers(folder: Path, *texts: str, system: str | None = None, **options: Any) -> list[models.Generation]:
    model = models.load(folder)
    assert isinstance(model, models.LanguageModel)
    conversation = models.Conversation(model, system=system)
    results = []
    for text in texts:
        stream = conversation.answer(text, **options)
        assert "".join(stream)
        results.append(stream.result)
    return results


def test_each_line_of_a_pipe_is_a_message(folder: Path) -> None:
    code, out, err = piped(folder, "--max-new-tokens", 9, stdin="Hello\n\nWie weit?\r\nÄh".encode())
    assert (code, err) == (0, "")
    found = answers(folder, "Hello", "Wie weit?", "Äh", max_new_tokens=9)
    assert out == "".join(answer.text + "\n" for answer in found)


def test_as_json(folder: Path) -> None:
    arguments = ("--json", "--system", "Be brief.", "--max-new-tokens", 9, "--temperature", 1, "--seed", 4)
    code, out, err = piped(folder, *arguments, stdin=b"Hello\nWhy?\n")
    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    (first,) = answers(folder, "Hello", system="Be brief.", max_new_tokens=9, temperature=1.0, seed=4)
    assert rows[0] == {"text": first.text, "tokens": first.tokens, "finish_reason": "length"}
    assert len(rows) == 2


def test_reset_and_exit(folder: Path) -> None:
    code, out, err = piped(folder, "--json", stdin=b"Hello\n/reset\nHello\n/exit\nHello\n")
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        ([], b"Hello\nna\xefve\n", "standard input: line 2 is not valid UTF-8"),
        (["--temperature", "-1"], b"Hello\n", "temperature must be at least 0"),
        (["--system", "x" * (100_000)], b"Hello\n", "leaves no room in a context of 100000"),
    ],
)
def test_errors_of_the_user(arguments: list[str], stdin: bytes, message: str, folder: Path) -> None:
    code, _, err = piped(folder, "--max-new-tokens", 2, *arguments, stdin=stdin)
    assert code == 2
    assert err.startswith("attnlib: error: ")
    assert message in err


class Terminal:
    """A command that believes that it is on a terminal."""

    def __init__(self, *command: str) -> None:
        self._ours, theirs = os.openpty()

        def take_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGINT, signal.SIG_DFL)

        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=tempfile.gettempdir(),
            env={**os.environ, "TERM": "dumb"},
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(theirs)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read until `pattern` is shown, and leave what comes after it for the next time."""
        deadline = time.monotonic() + 60
        while not (found := re.search(pattern, self.shown, re.DOTALL)):
            assert select.select([self._ours], [], [], deadline - time.monotonic())[0], self.shown
            try:
                block = os.read(self._ours, 4096)
            except OSError:  # how Linux says that the other side has gone
                raise AssertionError(self.shown) from None
            self.shown += block.decode(errors="replace")
        self.shown = self.shown[found.end() :]
        return found

    def end(self) -> int:
        code = self.process.wait(timeout=60)
        os.close(self._ours)
        return code


def test_a_terminal(folder: Path) -> None:
    terminal = Terminal(*command(folder, "--max-new-tokens", "9"))
    terminal.wait_for("/exit or Ctrl-D ends.*> ")
    for text in ("Hello", "Why?"):
        terminal.type(text + "\n")
        rate = terminal.wait_for(r"\[(\d+) tokens of prompt in [\d.]+ s, then [78] tokens, [\d.]+ a second\]")
        assert int(rate[1]) > 0
        terminal.wait_for("> ")
    terminal.type("/reset\n")
    terminal.wait_for("> ")
    terminal.type("\x04")
    assert terminal.end() == 0


def test_an_interrupt_stops_the_answer_and_keeps_the_conversation(folder: Path) -> None:
    terminal = Terminal(*command(folder, "--max-new-tokens", "1000000"))
    terminal.wait_for("> ")
    for _ in range(2):
        terminal.type("Hello\n")
        # Some of the answer.
        terminal.wait_for("Hello\r?\n.{20}")
        terminal.type("\x03")
        terminal.wait_for("tokens of prompt.*> ")
    # At the prompt it ends nothing. Python's input() sleeps on when a signal comes right after its prompt.
    time.sleep(0.5)
    terminal.type("\x03")
    terminal.wait_for("/exit or Ctrl-D ends.*> ")
    terminal.type("/exit\n")
    assert terminal.end() == 0


def test_errors_do_not_end_a_conversation_on_a_terminal(folder: Path) -> None:
    terminal = Terminal(*command(folder, "--max-new-tokens", "9", "--temperature", "-1"))
    terminal.wait_for("> ")
    for _ in range(2):
        terminal.type("Hello\n")
        terminal.wait_for("attnlib: error: .*temperature must be at least 0.*> ")
    terminal.type("/exit\n")
    assert terminal.end() == 0


def test_an_interrupt_ends_a_pipe(folder: Path) -> None:
    process = subprocess.Popen(
        command(folder, "--max-new-tokens", "1000000"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tempfile.gettempdir(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"Hello\n")
    process.stdin.flush()
    assert process.stdout.read(20)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == b"attnlib: interrupted\n"
