"""A program that uses the package as a library: nothing of ours on its standard streams unless it sets logging up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from scripted_server import SESSION, Peer, ScriptedServer

LIMIT_S = 60.0
# Everything that is logged as a warning: a mistyped variable, frames that are none, an error of the server, an answer
# that fails, a connection that is lost; peers of the local server that speak no HTTP or break off.
PROGRAM = """
import socket, sys
import realtime_client
from realtime_client.errors import RealtimeError

if sys.argv[2:]:
    import logging
    logging.basicConfig(level="INFO")
try:
    with realtime_client.connect(url=sys.argv[1], record=False) as client:
        client.ask("Hello.", timeout_s=10)
except RealtimeError as error:
    print(type(error).__name__)
with realtime_client.LocalServer() as server:
    place = server.url.split("/")[2].split(":")
    for garbage in (b"GET / HTTP/1.1\\r\\n\\r\\nnonsense", b"\\x16\\x03\\x01", b""):
        with socket.create_connection((place[0], int(place[1]))) as peer:
            peer.sendall(garbage)
    with realtime_client.connect(url=server.url, record=False) as client:
        print(client.ask("Hello.").status)
"""


def misbehave(peer: Peer) -> None:
    peer.greet()
    event = peer.receive("session.update")
    peer.send(type="session.updated", event_id="e", session=SESSION | event["session"])
    peer.receive("response.create")
    for frame in ("nonsense", b"\xff\xfe", "[]", '{"type": "response.output_text.delta", "delta": 5}'):
        peer.raw(frame)
    peer.send(type="error", event_id="e", error={"type": "server_error", "code": "odd", "message": "It is odd."})
    peer.send(type="response.created", event_id="e", response={"id": "resp_1", "status": "in_progress"})
    peer.drop()


@pytest.mark.parametrize("logging_is_set_up", [False, True])
def test_the_library_is_silent_unless_logging_was_set_up(tmp_path: Path, logging_is_set_up: bool) -> None:
    (tmp_path / ".env").write_text("REALTIME_SPED=1\n")
    with ScriptedServer(misbehave) as server:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, server.url, *(["log"] if logging_is_set_up else [])],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            cwd=tmp_path,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    lost, status = done.stdout.split()
    assert (lost.endswith("Error"), status) == (True, "completed")
    if not logging_is_set_up:
        assert done.stderr == ""
        return
    for said in ("realtime_client.settings", "did you mean REALTIME_SPEED?", "malformed", "connection_lost"):
        assert said in done.stderr
