"""Running the command as users do: as a process, with pipes or in a real terminal."""

from __future__ import annotations

import fcntl
import http.server
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import pyte

LIMIT_S = 30.0
COMMAND = [sys.executable, "-m", "realtime_client"]
# Makes standard input the controlling terminal, so that Ctrl-C and hang-up come as signals, and becomes the command.
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


def realtime(*args: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end. A traceback on stderr fails the test at once."""
    done = subprocess.run(
        [*COMMAND, *args],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=os.environ | environ,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@contextmanager
def started(*args: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start the command with pipes; it is killed at the end of the block if it still runs."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    with subprocess.Popen([*COMMAND, *args], text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def http_answer(status: int, body: bytes = b"no", **headers: str) -> Iterator[str]:
    """Serve one answer to every request, as a server that is not a Realtime one; gives its ws:// URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.server_address[1]}/v1/realtime"
        finally:
            server.shutdown()
            thread.join()


class Terminal:
    """The command in a terminal of its own, whose screen can be read and typed at."""

    def __init__(self, *args: str, columns: int = 80, lines: int = 40, redirect: str = "", **environ: str) -> None:
        """redirect: what a shell does with the command's streams before it begins."""
        self._master, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""
        program = ["/bin/sh", "-c", f'exec "$0" "$@" {redirect}', *COMMAND] if redirect else COMMAND
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *program, *args],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env=os.environ | {"TERM": "xterm-256color"} | environ,
            start_new_session=True,
        )
        os.close(follower)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.hang_up()

    @property
    def text(self) -> str:
        """What the screen shows, without trailing blanks."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    def hang_up(self) -> None:
        """Close the terminal."""
        master, self._master = self._master, -1
        if master >= 0:
            os.close(master)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, text: str, *, at_end: bool = False) -> str:
        """Read until the screen shows `text` (as the last thing on it), and return the screen."""
        ends = time.monotonic() + LIMIT_S
        while not (self.text.endswith(text) if at_end else text in self.text):
            if not self._read(ends):
                raise AssertionError(f"{text!r} never came; the screen is\n{self.text}")
        return self.text

    def wait_end(self) -> int:
        """Read until the command ends, and return its exit code."""
        ends = time.monotonic() + LIMIT_S
        while self._read(ends):
            pass
        code = self.process.wait(timeout=max(0.1, ends - time.monotonic()))
        assert "Traceback" not in self.text, self.text
        return code

    def _read(self, ends: float) -> bool:
        """Read some output; False at the end of the command, or of the time."""
        ready, _, _ = select.select([self._master], [], [], max(0.0, ends - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # how Linux says that the other end is closed
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def signal(self, which: signal.Signals) -> None:
        self.process.send_signal(which)
