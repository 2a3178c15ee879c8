"""What an ending means: every close code, idle, before an answer and in an answer, in words, errors and exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from scripted_server import Peer, ScriptedServer

from realtime_client import errors
from realtime_client import updates as up
from realtime_client.cli import exit_code, main
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endings import Ending, Moment
from realtime_client.client.endpoint import Endpoint
from realtime_client.protocol.session import RealtimeConfig
from realtime_client.session.limits import Limits

LIMITS = Limits(open_timeout_s=5, close_timeout_s=2, ping_interval_s=0)
MOMENTS = ("idle", "before", "in")
LOST, FINAL, EXPIRED = errors.ConnectionLostError, errors.SessionEndedError, errors.SessionExpiredError

# close code, error sent before it (code, message), kind of error (None: no error when idle), words
TABLE = [
    (1000, None, None, "the server ended the session (close code 1000: bye)"),
    (1001, None, LOST, "the server is going away (close code 1001: bye)"),
    (1002, None, FINAL, "the server says that a message broke the WebSocket protocol (close code 1002: bye)"),
    (1006, None, LOST, "the connection dropped (close code 1006)"),
    (1008, None, FINAL, "the server refused a message (close code 1008: bye)"),
    (1009, None, FINAL, "a message was too long for the server (close code 1009: bye)"),
    (1011, None, LOST, "the server failed (close code 1011: bye)"),
    (1012, None, LOST, "the server is restarting (close code 1012: bye)"),
    (1013, None, LOST, "the server is overloaded (close code 1013: bye)"),
    (3000, None, FINAL, "the server refused the key (close code 3000: bye)"),
    (4000, None, FINAL, "the server refused the session (close code 4000: bye)"),
    (4999, None, LOST, "the server closed the connection (close code 4999: bye)"),
    (1001, ("session_expired", "60 minutes are over"), EXPIRED, "60 minutes are over (the server is going away"),
    (1000, ("insufficient_quota", "pay first"), FINAL, "pay first (the server ended the session"),
    (1000, ("server_error", "a bug of ours"), LOST, "a bug of ours (the server ended the session"),
]
ROWS = [pytest.param(*row, id=f"{row[0]}{'-' + row[1][0] if row[1] else ''}") for row in TABLE]


def ends(code: int, error: tuple[str, str] | None, moment: str) -> Callable[[Peer], None]:
    """A server whose session ends so, at that moment."""

    def script(peer: Peer) -> None:
        peer.greet()
        if peer.receive()["type"] == "session.update":  # from the command line
            peer.send(type="session.updated", event_id="e", session={"type": "realtime"})
        if moment != "idle":
            peer.receive("response.create")
        if moment == "in":
            peer.send(type="response.created", event_id="e", response={"id": "resp_1", "status": "in_progress"})
            where = {"response_id": "resp_1", "item_id": "i", "output_index": 0, "content_index": 0}
            peer.send(type="response.output_text.delta", event_id="e", delta="Half an ans", **where)
        if error is not None:
            peer.send(type="error", event_id="e", error={"type": "x", "code": error[0], "message": error[1]})
        if code == 1006:
            peer.drop()
        else:
            peer.websocket.close(code, "bye")

    return script


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(("code", "error", "kind", "words"), ROWS)
def test_the_table(
    code: int, error: tuple[str, str] | None, kind: type[errors.RealtimeError] | None, words: str, moment: str
) -> None:
    with ScriptedServer(ends(code, error, moment)) as server:
        client = RealtimeClient(Endpoint(url=server.url, proxy=None), limits=LIMITS)
        seen: list[up.Update] = []
        with client:
            client.observe(lambda update, _at: seen.append(update))
            client.send_text("hello", respond=moment != "idle")
            assert client.stop.wait(5)
            reader = client.updates(timeout_s=5)
        if kind is None and moment == "idle":
            assert client.error is None
            list(reader)  # ends, and raises nothing
        else:
            with pytest.raises(errors.ConnectionLostError) as caught:
                list(reader)
            assert type(caught.value) is (kind or LOST)
            assert caught.value.close_code == code
            assert words in str(caught.value)
            assert exit_code(caught.value) == 4
            where = {"idle": "", "before": ", before the answer began", "in": ", in the middle of an answer"}[moment]
            assert str(caught.value).endswith(where)
    assert client.ending is not None
    assert words in client.ending.words
    last = seen[-1]
    assert isinstance(last, up.SessionEnded)
    assert words in last.reason
    assert [u.code for u in seen if isinstance(u, up.ConnectionLost)] == ([] if client.error is None else [code])
    if error is not None:
        assert [u.message for u in seen if isinstance(u, up.Failure)] == [error[1]]


@pytest.mark.parametrize("moment", ["before", "in"])
@pytest.mark.parametrize(("code", "error", "words"), [(*row[:2], row[3]) for row in TABLE])
def test_say_tells_it_and_ends_with_4(
    code: int, error: tuple[str, str] | None, words: str, moment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with ScriptedServer(ends(code, error, moment)) as server:
        assert main(["say", "hello", "--url", server.url, "--no-record", "--reconnect", "0"]) == 4
    out, err = capsys.readouterr()
    assert words in err.splitlines()[-1]
    assert out == ("Half an ans\n" if moment == "in" else "")


@pytest.mark.parametrize(("code", "exits"), [(1000, 4), (1011, 4), (4000, 4)])
def test_run_ends_with_4(code: int, exits: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.yaml").write_text("name: one\nturns:\n  - text: hello\n    expect: {status: completed}\n")
    with ScriptedServer(ends(code, None, "in")) as server:
        run = ["run", str(tmp_path / "one.yaml"), "--url", server.url, "--out", str(tmp_path / "out"), "--retries", "0"]
        assert main([*run, "--no-record"]) == exits
    assert f"close code {code}: bye" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "error", "kind"),
    [
        (1000, None, errors.SessionRefusedError),
        (1001, None, errors.SessionRefusedError),
        (1006, None, errors.SessionRefusedError),
        (3000, None, errors.AuthenticationError),
        (4000, None, errors.SessionRefusedError),
        (4000, ("invalid_api_key", "wrong"), errors.AuthenticationError),
        (1000, ("insufficient_quota", "pay first"), errors.RateLimitedError),
        (1008, ("invalid_model", "no such model"), errors.SessionRefusedError),
    ],
)
def test_a_session_that_never_opened_was_refused(
    code: int, error: tuple[str, str] | None, kind: type[errors.ConnectError]
) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("session.update")
        if error is not None:
            peer.send(type="error", event_id="e", error={"type": "x", "code": error[0], "message": error[1]})
        if code == 1006:
            peer.drop()
        else:
            peer.websocket.close(code, "bye")

    with ScriptedServer(script) as server:
        endpoint = Endpoint(url=server.url, proxy=None, name="this place")
        client = RealtimeClient(endpoint, limits=LIMITS, session=RealtimeConfig())
        with pytest.raises(errors.ConnectError) as caught:
            client.open()
        assert type(caught.value) is kind
        assert "this place" in str(caught.value)
        assert (error[1] if error else f"close code {code}") in str(caught.value)


def test_whose_fault_it_was() -> None:
    assert "the server says that a message broke" in Ending(code=1002).words
    assert "the server broke the WebSocket protocol" in Ending(code=1002, by_us=True).words
    assert "the server's message was too long" in Ending(code=1009, by_us=True).words


def test_only_a_normal_end_while_nothing_is_awaited_is_no_error() -> None:
    ending = Ending(code=1000)
    assert ending.kind is None
    assert ending.error(Moment.IDLE) is None
    assert isinstance(ending.error(Moment.ASKED), errors.ConnectionLostError)
    assert isinstance(ending.error(Moment.OPENING), errors.SessionRefusedError)


def test_a_known_race_is_no_reason() -> None:
    """An error that means nothing, then a normal close."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("conversation.item.create")
        error = {"type": "x", "code": "response_cancel_not_active", "message": "nothing to cancel"}
        peer.send(type="error", event_id="e", error=error)
        peer.websocket.close(1000, "bye")

    with (
        ScriptedServer(script) as server,
        RealtimeClient(Endpoint(url=server.url, proxy=None), limits=LIMITS) as client,
    ):
        client.send_text("hello", respond=False)
        assert client.stop.wait(5)
        assert client.error is None
        with pytest.raises(errors.ClosedError, match="the session is over: the server ended the session"):
            client.send_text("more")


@pytest.mark.parametrize("code", [1000, 1006, 1011])
def test_a_session_that_ends_as_soon_as_it_is_open_was_open(code: int) -> None:
    """What it was is decided by the order of the messages, not by who is quicker."""

    def script(peer: Peer) -> None:
        peer.greet()
        if code == 1006:
            peer.drop()
        else:
            peer.websocket.close(code, "bye")

    with ScriptedServer(script) as server:
        for _ in range(30):
            with RealtimeClient(Endpoint(url=server.url, proxy=None), limits=LIMITS) as client:
                assert client.stop.wait(5)
            assert (client.error is None) if code == 1000 else type(client.error) is LOST


def test_an_error_that_the_session_outlived_is_not_its_end() -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.send(type="error", event_id="e", error={"type": "x", "code": "invalid_model", "message": "old"})
        peer.receive("response.create")
        peer.answer()
        peer.receive("conversation.item.create")
        peer.websocket.close(1000, "bye")

    with (
        ScriptedServer(script) as server,
        RealtimeClient(Endpoint(url=server.url, proxy=None), limits=LIMITS) as client,
    ):
        assert client.next_answer(after=client.respond, timeout_s=5).text == "Hello."
        client.send_text("hello", respond=False)
        assert client.stop.wait(5)
        assert client.error is None


@pytest.mark.parametrize("kind", [up.ConnectionLost, up.ResponseDone])
def test_a_direct_observer_that_fails_is_not_the_networks_fault(kind: type[up.Update]) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.receive("response.create")
        peer.answer()
        peer.drop()

    def observe(update: up.Update, _at_s: float) -> None:
        if isinstance(update, kind):
            raise ZeroDivisionError

    with ScriptedServer(script) as server:
        client = RealtimeClient(Endpoint(url=server.url, proxy=None), limits=LIMITS)
        client.open()
        client.observe(observe, direct=True)
        reader = client.updates(timeout_s=5)
        client.respond()
        with pytest.raises(errors.RealtimeError) as caught:
            list(reader)  # it ends
        if kind is up.ResponseDone:
            assert "ZeroDivisionError" in str(caught.value)
            assert isinstance(caught.value.__cause__, ZeroDivisionError)
        with pytest.raises(ZeroDivisionError):
            client.close()
