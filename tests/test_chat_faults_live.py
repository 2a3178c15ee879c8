"""Whatever a server of text models does wrong, over real sockets: what is said, of which kind it is, how often it is
asked, and that the session goes on afterwards.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import email.utils
import gzip
import json
import select
import ssl
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from text_server import Request, Script, TextServer, answers, delta, drops, ends, refuses, silent, sse, stream

import realtime_client
from realtime_client import updates as up
from realtime_client.chat.breaker import MemoryStore
from realtime_client.chat.limits import ChatLimits
from realtime_client.chat.place import Place
from realtime_client.chat.session import ChatSession
from realtime_client.chat.wires.openai_chat import OpenAIChat
from realtime_client.chat.wires.reader import MOST_ANSWER_BYTES
from realtime_client.errors import RealtimeError

WAIT_S = 20.0
LATER_S = 2 * WAIT_S  # a pause that no row can wait for
MIB = 2**20
NOW = answers("Now.")


@dataclasses.dataclass(frozen=True)
class Row:
    """What the server does with the first requests (after these it answers), and what comes of it.

    text: of the answer, None for none. says: stands in the failure, or in a notice where the answer was made all the
    same. kind: category and action of the (first) failure. asked: how many requests were made. limits: of the session.
    """

    scripts: tuple[Script, ...]
    text: str | None = None
    says: str = ""
    kind: str = ""
    asked: int = 1
    limits: dict[str, Any] = dataclasses.field(default_factory=dict)


def made(text: str, kind: str, *scripts: Script, says: str = "", **limits: Any) -> Row:
    """A row with an answer. kind: `CATEGORY ACTION`, '' where nothing failed."""
    return Row(scripts, text, says, kind, len(scripts), limits)


def fails(says: str, kind: str, *scripts: Script, **limits: Any) -> Row:
    """A row without an answer."""
    return Row(scripts, None, says, kind, len(scripts), limits)


def busy(body: dict[str, Any] | bytes = b"", status: int = 429, **headers: str) -> Script:
    return refuses(status, body or {"error": {"message": "slow down", "type": "rate_limit_error"}}, **headers)


def http_date(seconds: float) -> str:
    return email.utils.format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds), usegmt=True)


def bytes_of(head: str, *body: bytes) -> Script:
    """Write an answer as it is, and end the connection."""

    def script(request: Request) -> None:
        request.raw(head.replace("\n", "\r\n").encode())
        for part in body:
            request.raw(part)
        request.drop()

    return script


def error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


WHOLE = delta("Now.") + ends()
BROKEN = b'data: {"choices": [{"delta": {"content": "x}}]}\n\n'
OK = "HTTP/1.1 200 OK\nContent-Type: text/event-stream\n"
ASKED_SOON = {"retry_delay_s": LATER_S}  # so that a wait that was not read is never over

RETRY_AFTER = {
    "seconds": made("Now.", "application retry", busy(retry_after="0"), NOW, says="asking again at once", **ASKED_SOON),
    "a part of a second": made(
        "Now.", "application retry", busy(retry_after="0.06"), NOW, says="again in 0.06 s", **ASKED_SOON
    ),
    "milliseconds": made(
        "Now.", "application retry", busy(retry_after_ms="60"), NOW, says="again in 0.06 s", **ASKED_SOON
    ),
    "milliseconds before seconds": made(
        "Now.", "application retry", busy(retry_after_ms="60", retry_after="30"), NOW, **ASKED_SOON
    ),
    "a date": made(
        "Now.", "application retry", busy(retry_after=http_date(-5)), NOW, says="asking again at once", **ASKED_SOON
    ),
    "a date that is far": fails("left alone for 3", "application fallback", busy(retry_after=http_date(4000))),
    "Google's": made(
        "Now.",
        "application retry",
        busy(
            error(
                "slow down",
                code=429,
                status="RESOURCE_EXHAUSTED",
                details=[{"@type": "RetryInfo", "retryDelay": "0.06s"}],
            )
        ),
        NOW,
        says="again in 0.06 s",
        **ASKED_SOON,
    ),
    "none": made("Now.", "application retry", busy(), NOW, says="slow down; asking again at once"),
    "nonsense": made("Now.", "application retry", busy(retry_after="soon"), NOW, says="asking again at once"),
    "too long": fails("left alone for 121 s", "application fallback", busy(retry_after="121")),
    "should not": fails("slow down", "application fallback", busy(x_should_retry="false")),
    "should": made("Now.", "application retry", busy(status=400, x_should_retry="true"), NOW),
    "a quota": fails("billing", "application fallback", busy(error("used up", code="insufficient_quota"))),
    "with 503": made("Now.", "application retry", busy(status=503, retry_after="0"), NOW, **ASKED_SOON),
    "again and again": fails("slow down", "application retry", busy(), busy(), busy()),
}

DEATHS = {
    "before the head": made("Now.", "network retry", drops, NOW),
    "by a reset": made("Now.", "network retry", lambda request: request.drop(reset=True), NOW),
    "before the first piece": made("Now.", "network retry", stream(delta(""), drops), NOW, says="asking without a stream"),
    "in mid-stream": made("One, two.", "network retry", stream(delta("One, "), drops), answers("two.")),
    "in mid-stream by a reset": made("One, two.", "network retry", stream(delta("One, "), lambda request: request.drop(reset=True)), answers("two.")
    ),
    "in a character": made("One ñ.", "network retry", stream(delta("One "), b'data: {"choices": [{"delta": {"content": "\xc3', drops), answers("ñ.")),
    "at the end of a body that is whole": made("One, two.", "network retry", stream(delta("One, ")), answers("two.")),
    "short of its length": made("Now.", "network retry", bytes_of(f"{OK}Content-Length: 9999\n\n", delta("")), NOW),
    "again and again": fails("cut", "network retry", drops, drops, drops, drops),
    "after the finish": made("Now.", "", stream(delta("Now."), delta(finish="stop"), drops)),
    "before the head, for ever in silence": made("Now.", "network retry", silent, NOW, first_byte_s=0.2, says="said nothing within 0.2 s"),
    "in silence": made("One, two.", "network retry", stream(delta("One, "), lambda request: request.wait_gone()), answers("two."), silence_s=0.2
    ),
    "in silence, again and again": fails("said nothing within 0.1 s", "network retry", *[silent] * 3, first_byte_s=0.1),
}  # fmt: skip

NONSENSE = {
    "JSON before the first piece": made("Now.", "protocol restart", stream(BROKEN), NOW, says="makes no sense"),
    "JSON after the first piece": made("One, two.", "protocol retry", stream(delta("One, "), BROKEN), answers("two.")),
    "JSON again and again": fails("makes no sense", "protocol restart", stream(BROKEN), stream(BROKEN), stream(BROKEN)),
    "JSON of another shape": made("Now.", "protocol restart", stream(sse({"choices": {"a": 1}})), NOW, says="makes no sense"),
    "a page": fails("is the base URL right?", "protocol restart", *[refuses(200, b"<html>sign in</html>")] * 3),
    "an empty answer": made("Now.", "network retry", refuses(200, b""), NOW),
    "an answer without words": fails("is empty", "protocol restart", *[stream(ends())] * 3),
    "an error body": fails("no such model", "application fallback", refuses(200, error("no such model"))),
    "an error body that passes": made("Now.", "application retry", refuses(200, error("overloaded", type="overloaded_error")), NOW),
    "an error in the stream": fails("no such", "application fallback", stream(sse(error("no such thing")))),
    "an error after the first piece": made("One, two.", "application retry", stream(delta("One, "), sse(error("overloaded", type="server_error"))), answers("two.")
    ),
    "a redirect": fails("moved to https://e.test/v2", "network fatal", refuses(307, b"", location="https://e.test/v2")),
    "chunks that are none": made("Now.", "protocol restart", bytes_of(f"{OK}Transfer-Encoding: chunked\n\n", b"zz\r\nhm\r\n"), NOW, says="not keep to HTTP"),
    "chunks that are none, later": made("One, two.", "protocol retry", bytes_of(f"{OK}Transfer-Encoding: chunked\n\n", b"%x\r\n%b\r\nzz\r\n" % (len(delta("One, ")), delta("One, "))), answers("two.")
    ),
    "no HTTP": made("Now.", "network retry", bytes_of("SSH-2.0-OpenSSH_9.2\n"), NOW),
    "a megabyte of headers": fails("does not keep to HTTP", "protocol restart", *[bytes_of(f"{OK}X-Long: {'x' * MIB}\n\n", WHOLE)] * 3),
    "gzip that is none": made("Now.", "protocol restart", refuses(200, b"not gzip", content_encoding="gzip"), NOW, says="cannot be read"),
}  # fmt: skip

ODD = {
    "a BOM": made("Now.", "", stream(b"\xef\xbb\xbf" + WHOLE)),
    "no final blank line": made("Now.", "", stream(delta("Now."), delta(finish="stop").rstrip())),
    "no [DONE]": made("Now.", "", stream(delta("Now."), delta(finish="stop"))),
    "CRLF": made("Now.", "", stream(WHOLE.replace(b"\n", b"\r\n"))),
    "plain text": made("Now.", "", stream(WHOLE, content_type="text/plain")),
    "bytes": made("Now.", "", stream(WHOLE, content_type="application/octet-stream")),
    "JSON in name only": made("Now.", "", stream(WHOLE, content_type="application/json")),
    "another charset": made("Ñow.", "", stream(delta("Ñow."), ends(), content_type="text/event-stream; charset=latin-1")),
    "a byte at a time": made("Ñow.", "", stream(*[bytes([each]) for each in sse({"choices": [{"delta": {"content": "Ñow."}}]}) + ends()])),
    "separators of lines": made("a\u2028b\u2029c\x85d\x0be\x0cf.", "", stream(
        sse(json.dumps({"choices": [{"delta": {"content": "a\u2028b\u2029c\x85d\x0be\x0cf."}}]}, ensure_ascii=False)), ends())),
    "gzip": made("Now.", "", stream(gzip.compress(WHOLE), content_encoding="gzip")),
    "until the connection ends": made("Now.", "", bytes_of(f"{OK}\n", WHOLE)),
    "interim answers": made("Now.", "", bytes_of(f"HTTP/1.1 102 Processing\n\nHTTP/1.1 103 Early Hints\nLink: x\n\n{OK}\n", WHOLE)),
    "keep-alive comments": made("Now.", "", stream(b": ping\n\n", delta("Now."), b": ping\n\n", ends())),
    "a line of 8 MiB": made("x" * (8 * MIB), "", stream(delta("x" * (8 * MIB)), ends()), answer_characters=9 * MIB),
}  # fmt: skip

TABLE = {
    f"{name}: {row}": rows[row]
    for name, rows in (("Retry-After", RETRY_AFTER), ("death", DEATHS), ("nonsense", NONSENSE), ("odd", ODD))
    for row in rows
}


def session(server: TextServer, **limits: Any) -> ChatSession:
    place = Place(provider="openai", model="m", base_url=server.url, wire=OpenAIChat(), proxy=None)
    limits = {"retries": 2, "retry_delay_s": 0.001, **limits}
    return ChatSession([place], chat_limits=ChatLimits(**limits), breakers=MemoryStore())


def told(client: ChatSession, text: str) -> tuple[up.ResponseDone, list[up.Failure], str]:
    """Say something; returns how the answer ended, what failed on the way, and the notices."""
    notices: list[str] = []
    failures: list[up.Failure] = []
    with client.updates(timeout_s=WAIT_S) as updates:
        client.send_text(text)
        for update in updates:
            if isinstance(update, up.Notice):
                notices.append(update.message)
            elif isinstance(update, up.Failure):
                failures.append(update)
            elif isinstance(update, up.ResponseDone):
                return update, failures, "\n".join(notices)
    raise AssertionError("the answer never ended")


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_what_comes_of_a_fault(row: Row) -> None:
    with TextServer(*row.scripts, answers("Still here.")) as server, session(server, **row.limits) as client:
        done, failures, notices = told(client, "Hi?")
        assert len(server.requests) == row.asked
        assert (done.text, done.status) == (("", "failed") if row.text is None else (row.text, "completed"))
        assert row.says in (notices if row.text is not None else failures[-1].message)
        assert [each.benign for each in failures] == [True] * (row.asked - 1) + [False] * (row.text is None)
        assert row.kind == (f"{failures[0].error_type} {failures[0].action}" if failures else "")
        assert not any("\n" in each.message for each in failures)
        assert client.ask("And now?", timeout_s=WAIT_S).text == "Still here."
        assert len(server.requests) == row.asked + 1


# --- what is too much -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (b"x" * MIB, "a message of more than 16 MiB"),
        (b": " + b"x" * (MIB - 3) + b"\n", f"a message of more than {MOST_ANSWER_BYTES // MIB} MiB"),
    ],
    ids=["one line", "many"],
)
def test_an_answer_of_70_mib_is_refused_and_fills_no_memory(part: bytes, says: str) -> None:
    begin = delta("") if part.startswith(b":") else b"data: "
    scripts = [stream(begin, *[part] * 70, end=False)] * 3
    with TextServer(*scripts, answers("Still here.")) as server, session(server) as client:
        tracemalloc.start()
        try:
            done, failures, _ = told(client, "Hi?")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert done.status == "failed"
        assert says in failures[-1].message
        assert peak < 48 * MIB
        assert client.ask("And now?", timeout_s=WAIT_S).text == "Still here."


def test_more_words_than_anybody_reads_are_cut() -> None:
    """The server, which is far ahead and waits for room, sees the end of it at once: not always if it were told gently."""
    endless = stream(*[delta("word " * 1000)] * 5000)
    with TextServer(*[endless] * 10, answers("Still here.")) as server:
        with session(server, answer_characters=100_000) as client:
            for n in range(10):
                done, failures, _ = told(client, "Hi?")
                assert (done.status, done.reason, failures) == ("incomplete", "max_output_tokens", [])
                assert len(done.text) < 110_000
                assert server.request(n).gone.wait(WAIT_S)
            assert client.ask("And now?", timeout_s=WAIT_S).text == "Still here."


# --- TLS --------------------------------------------------------------------------------------------------------------


@contextmanager
def over_tls(*scripts: Script, ca: trustme.CA) -> Iterator[TextServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    server = TextServer(*scripts)
    server._http.socket = context.wrap_socket(server._http.socket, server_side=True)
    with server:
        yield server


@contextmanager
def secure(server: TextServer, trust: Path | None) -> Iterator[ChatSession]:
    url = server.url.replace("http:", "https:")
    with realtime_client.connect(model="openai/m", url=url, ca_file=trust, record=False, retries=0) as client:
        yield client  # type: ignore[misc]


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(ca: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(path)
    return path


def test_a_certificate_that_is_trusted(ca: trustme.CA, trusted: Path) -> None:
    with over_tls(answers("Safe."), ca=ca) as server, secure(server, trusted) as client:
        assert client.ask("Hi?", timeout_s=WAIT_S).text == "Safe."
        assert client.ask("And now?", timeout_s=WAIT_S).text == "Safe."
        assert server.connections == 1


def test_a_certificate_that_is_not_trusted(ca: trustme.CA) -> None:
    with over_tls(answers("Safe."), ca=ca) as server, secure(server, None) as client:
        for _ in range(2):
            _, (failure,), _ = told(client, "Hi?")
            assert "its certificate is not trusted" in failure.message
            assert (failure.error_type, failure.action) == ("network", "fatal")
        assert server.requests == []


def test_certificates_that_are_none(ca: trustme.CA, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate", encoding="utf-8")
    with over_tls(answers("Safe."), ca=ca) as server, secure(server, path) as client:
        _, (failure,), _ = told(client, "Hi?")
        assert f"{path}: these certificates cannot be used" in failure.message
        assert server.requests == []


def test_a_cancel_over_tls_is_seen_by_the_server_at_once(ca: trustme.CA, trusted: Path) -> None:
    seen: list[bool] = []

    def waits(request: Request) -> None:
        connection = request._handler.connection
        seen.append(bool(select.select([connection], [], [], WAIT_S)[0]))
        request.drop()

    with ExitStack() as stack:
        server = stack.enter_context(over_tls(stream(delta("One"), waits), waits, answers("Yes."), ca=ca))
        client = stack.enter_context(secure(server, trusted))
        for n in range(2):  # in mid-stream, and before the head came
            with client.updates(timeout_s=WAIT_S) as updates:
                client.send_text("Count.")
                if n == 0:
                    next(update for update in updates if isinstance(update, up.TextDelta))
                server.request(n)
                assert client.cancel()
                assert next(each for each in updates if isinstance(each, up.ResponseDone)).status == "cancelled"
        assert client.ask("Still there?", timeout_s=WAIT_S).text == "Yes."
    assert seen == [True, True]


# --- proxies ----------------------------------------------------------------------------------------------------------

DEAD = "http://127.0.0.1:9"


def test_this_machine_is_never_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, DEAD)
        monkeypatch.setenv(name.lower(), DEAD)
    for given in ({}, {"proxy": DEAD}):
        with TextServer(answers("Here.")) as server:
            with realtime_client.connect(model="openai/m", url=server.url, record=False, retries=0, **given) as client:
                assert client.ask("Hi?", timeout_s=WAIT_S).text == "Here."


@pytest.mark.parametrize("how", ["given", "HTTP_PROXY", "given before HTTP_PROXY"])
def test_another_machine_is_asked_through_the_proxy(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with TextServer(answers("There.")) as proxy:
        here = f"http://{proxy.host}"
        if "HTTP_PROXY" in how:
            monkeypatch.setenv("HTTP_PROXY", DEAD if "given" in how else here)
        given = {"proxy": here} if "given" in how else {}
        url = "http://models.test/v1"
        with realtime_client.connect(model="openai/m", url=url, record=False, retries=0, **given) as client:
            assert client.ask("Hi?", timeout_s=WAIT_S).text == "There."
            assert client.where == "models.test"
        assert proxy.requests[0].path == "http://models.test/v1/chat/completions"


@pytest.mark.parametrize(
    ("url", "says"),
    [("http://models.test/v1", "sign in at the proxy"), ("https://models.test/v1", "the proxy refuses: 407")],
)
def test_a_proxy_that_refuses(url: str, says: str) -> None:
    def proxy(request: Request) -> None:
        request.answer(b"sign in at the proxy", 407, "text/plain", connection="close")
        request.drop()

    with TextServer(proxy) as server, ExitStack() as stack:
        server._http.RequestHandlerClass.do_CONNECT = server._http.RequestHandlerClass.answer  # type: ignore[attr-defined]
        where = f"http://{server.host}"
        opened = realtime_client.connect(model="openai/m", url=url, proxy=where, record=False, retries=0)
        client = stack.enter_context(opened)
        with pytest.raises(RealtimeError, match=says):
            client.ask("Hi?", timeout_s=WAIT_S)
