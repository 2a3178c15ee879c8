"""Ears that several servers share: processes that transcribe, one utterance each at a time.

An ear of pocketsphinx takes 180 MB and a core for as long as it listens, and holds its interpreter: one for each server
would be too many, and one in each server would stop all sessions of it.

    server   connects to a Unix socket, sends PCM16 (16 kHz) and ends its side; reads the answer to its end
    ear      accepts when it is free; so what waits, waits in the socket's backlog
    owner    starts the ears when the first client knocks, and again when all of them have died

Of the ears of all programs of a user only so many listen at a time as there are places (`ear_places`).
The answer is `=` and the text in UTF-8; nothing when the ear has died. The socket lies in a folder that only this user
can enter. Ears end with their owner, whose pipe is their standard input.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from realtime_client.errors import RealtimeError

from .ear import MAX_UTTERANCE_BYTES, PocketsphinxEar, default_ear
from .ear_places import ears_for

CAN_SHARE = os.name == "posix"
_PATIENCE_S = 120.0  # for those before it, and its own; a minute of speech takes 6 s
_BACKLOG = 64
_END_S = 5.0
_CODE = (
    "import json, sys; config = json.loads(sys.stdin.readline()); sys.path[:] = config['path'];"
    "from realtime_client.local.shared_ears import listen; listen(config['socket'])"
)


class SharedEar:
    """An `Ear` that has the owner's ears listen. path: where they are reached."""

    def __init__(self, path: str) -> None:
        self._path = path

    def transcribe(self, pcm16_16k: bytes) -> str:
        """Return the words. Errors: OSError; RealtimeError when the ear died of it."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(_PATIENCE_S)
            sock.connect(self._path)
            sock.sendall(pcm16_16k[:MAX_UTTERANCE_BYTES])
            sock.shutdown(socket.SHUT_WR)
            answer = _read_all(sock)
        if not answer:
            raise RealtimeError("the ear ended while it listened")
        return answer[1:].decode()

    def warm_up(self) -> None:
        """Have the ears started."""
        self.transcribe(b"")


def _read_all(sock: socket.socket) -> bytes:
    """Read what comes to its end, at most an utterance. Errors: OSError."""
    parts: list[bytes] = []
    left = MAX_UTTERANCE_BYTES
    while left > 0 and (part := sock.recv(min(left, 65_536))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


class SharedEars:
    """The owner of ears, a context manager. path: for `SharedEar`. count: how many ears there are at a time."""

    def __init__(self, count: int) -> None:
        self.path = ""
        self._count = count
        self._ears: list[subprocess.Popen[bytes]] = []
        self._closing = False
        self._thread = threading.Thread(target=self._tend, name="realtime-shared-ears", daemon=True)

    def __enter__(self) -> Self:
        """Listen. Errors: OSError."""
        self._folder = tempfile.mkdtemp(prefix="realtime-ears-")  # mode 0700
        self.path = str(Path(self._folder) / "ears")
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.bind(self.path)
            self._socket.listen(_BACKLOG)
        except OSError:
            self._give_back()
            raise
        self._awake, self._waker = socket.socketpair()
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._closing = True
        self._waker.close()
        self._thread.join()
        self._give_back()

    def pids(self) -> list[int]:
        """The processes of the ears that run; none before there was something to hear."""
        return [ear.pid for ear in list(self._ears)]

    def _give_back(self) -> None:
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _tend(self) -> None:
        """Start ears when somebody knocks and there are none; notice their deaths; end them."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._awake, selectors.EVENT_READ)
            selector.register(self._socket, selectors.EVENT_READ)
            while not self._closing:
                for key, _ in selector.select():
                    if key.fileobj is self._socket:
                        selector.unregister(self._socket)  # from now on the ears answer
                        self._start(selector)
                    elif key.data is not None:
                        selector.unregister(key.fileobj)
                        self._bury(key.data)
                        if not self._ears:
                            selector.register(self._socket, selectors.EVENT_READ)
        for ear in list(self._ears):
            ear.kill()  # whoever waits for it is about to end, too
            self._bury(ear)
        self._awake.close()

    def _start(self, selector: selectors.BaseSelector) -> None:
        config = json.dumps({"path": sys.path, "socket": self._socket.fileno()}) + "\n"
        for _ in range(self._count):
            ear = subprocess.Popen(  # noqa: S603 - our own interpreter and program
                [sys.executable, "-P", "-c", _CODE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[self._socket.fileno()],
            )
            self._ears.append(ear)
            selector.register(ear.stdout, selectors.EVENT_READ, ear)  # type: ignore[arg-type]  # its end is the ear's
            assert ear.stdin is not None
            with contextlib.suppress(OSError):
                ear.stdin.write(config.encode())
                ear.stdin.flush()

    def _bury(self, ear: subprocess.Popen[bytes]) -> None:
        self._ears.remove(ear)
        for pipe in (ear.stdin, ear.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        ear.kill()
        ear.wait(_END_S)


@contextmanager
def shared_ears(cores: int) -> Iterator[str]:
    """Hold ears for several servers and yield their path; '' where each server has to have its own.

    That is where the ear is too simple to be shared, or there are no Unix sockets that processes inherit (Windows).
    cores: that this program may use; there is an ear for each place that they have.
    """
    if not (CAN_SHARE and isinstance(default_ear(), PocketsphinxEar)):
        yield ""
        return
    ears = SharedEars(ears_for(cores))
    try:
        ears.__enter__()
    except OSError:  # the name of the folder for temporary files is too long, most likely
        yield ""
        return
    try:
        yield ears.path
    finally:
        ears.__exit__()


def listen(descriptor: int) -> None:
    """Be an ear until standard input ends; what runs in an ear's process. descriptor: of the listening socket."""
    for name in ("SIGINT", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)  # the owner decides
    threading.Thread(target=_end_with_owner, name="realtime-owner", daemon=True).start()
    ear = PocketsphinxEar()
    ear.warm_up()
    with socket.socket(fileno=descriptor) as listening:
        while True:
            client, _ = listening.accept()
            with client, contextlib.suppress(OSError):  # the client is gone
                client.settimeout(_PATIENCE_S)
                audio = _read_all(client)
                client.sendall(b"=" + (ear.transcribe(audio) if audio else "").encode())


def _end_with_owner() -> None:
    sys.stdin.read()
    os._exit(0)
