"""HTTP as far as a WebSocket server needs it (RFC 9112): one request, with a small body at most, and one answer."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

if TYPE_CHECKING:
    from realtime_client.client.stream import Stream
    from realtime_client.deadline import Deadline

MAX_HEAD_BYTES = 2**16
MAX_BODY_BYTES = 2**18
_TCHAR = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"  # RFC 9110, section 5.6.2
_BEGINNING = re.compile(_TCHAR.encode() + rb"{1,20}(?: [!-~]*(?: [!-~]*\r?)?)?(?:\n|\Z)")
_REQUEST_LINE = re.compile(rf"({_TCHAR}+) ([!-~]+) HTTP/1\.[01]")
_HEADER = re.compile(rf"({_TCHAR}+):[ \t]*([^\x00\r\n]*?)[ \t]*")

Headers = tuple[tuple[str, str], ...]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer with a JSON body."""

    status: int
    body: bytes
    headers: Headers = ()

    def encode(self, method: str = "") -> bytes:
        """Return its bytes; the answer to HEAD has no body."""
        fixed = (
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(self.body))),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
        )
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in (*fixed, *self.headers)]
        return "\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else self.body)


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request is not carried out, as the API tells errors."""

    status: int
    code: str | None
    message: str
    param: str | None = None
    headers: Headers = ()

    def answer(self) -> Answer:
        """Return the answer that says so."""
        error = {"message": self.message, "type": "invalid_request_error", "param": self.param, "code": self.code}
        return Answer(status=self.status, body=msgspec.json.encode({"error": error}), headers=self.headers)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request up to its body. target: path and query, as the client wrote them. raw: all that was read of it."""

    method: str
    target: str
    headers: Headers = ()
    raw: bytes = b""

    def all(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for known, value in self.headers if known.lower() == name.lower()]


def _bad(message: str) -> Refused:
    return Refused(status=400, code="bad_request", message=message)


_SLOW = Refused(status=408, code="request_timeout", message="The request took too long.")


def read_request(stream: Stream, deadline: Deadline) -> Request | Refused | None:
    """Read up to the empty line, and perhaps more; None for a client that says nothing. Errors: OSError."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = stream.read(8192, deadline)
        if not more:
            return (_SLOW if more is None else _bad("The request is not complete.")) if data else None
        data += more
        if not _BEGINNING.match(data):
            return _bad("This is no HTTP request.")
        if len(data) > MAX_HEAD_BYTES:
            return Refused(status=431, code="headers_too_large", message="The request's headers are too large.")
    return _parse(data)


def _parse(data: bytes) -> Request | Refused:
    first, *lines = data[: data.index(b"\r\n\r\n")].decode("latin-1").split("\r\n")
    request, headers = _REQUEST_LINE.fullmatch(first), [_HEADER.fullmatch(line) for line in lines]
    if request is None:
        return _bad("This is no request line of HTTP/1.1.")
    if None in headers:
        return _bad("A header of the request cannot be read.")
    target = _without_host(request[2])
    if target is None:
        return _bad("The URL of the request cannot be read.")
    pairs = tuple((found[1], found[2]) for found in headers if found is not None)
    return Request(method=request[1], target=target, headers=pairs, raw=data)


def _without_host(target: str) -> str | None:
    """Path and query of a target, which may be a whole URL (RFC 9112, section 3.2.2); None for a URL that is none."""
    if not target.lower().startswith(("http://", "https://")):
        return target
    try:
        url = urlsplit(target)
    except ValueError:
        return None
    return (url.path or "/") + (f"?{url.query}" if url.query else "") if url.netloc else None


def read_body(stream: Stream, request: Request, deadline: Deadline) -> bytes | Refused:
    """Read a request's body. Errors: OSError."""
    lengths = set(request.all("Content-Length"))
    if request.all("Transfer-Encoding") or not lengths:
        return Refused(status=411, code="length_required", message="The request needs a Content-Length.")
    length = lengths.pop()
    if lengths or not length.isascii() or not length.isdecimal():
        return _bad("The request's Content-Length cannot be read.")
    if len(length) > 18 or int(length) > MAX_BODY_BYTES:
        message = f"The request's body may have {MAX_BODY_BYTES} bytes."
        return Refused(status=413, code="request_too_large", message=message)
    if any(value.lower() == "100-continue" for value in request.all("Expect")):
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n", deadline)
    body = bytearray(request.raw.partition(b"\r\n\r\n")[2])
    while len(body) < int(length):
        more = stream.read(int(length) - len(body), deadline)
        if not more:
            return _SLOW if more is None else _bad("The request's body is not complete.")
        body += more
    return bytes(body[: int(length)])
