"""What went wrong with a connection, as one clear error."""

from __future__ import annotations

import json
import socket
import ssl

from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
    WebSocketException,
)

from realtime_client import errors
from realtime_client import updates as up

from .endpoint import Endpoint
from .limits import Limits

_REFUSED_KEY = {"invalid_api_key", "authentication_error", "unauthorized"}
_REFUSED_RATE = {"rate_limit_exceeded", "insufficient_quota"}


_REDIRECTS = "redirects to another address: give that one as the URL"


class RedirectedError(Exception):
    """The server sent us elsewhere."""


def describe_close(code: int, reason: str) -> str:
    """One line for people about how a connection ended."""
    meaning = {
        1000: "the server ended the session",
        1001: "the server goes away",
        1002: "the server broke the WebSocket protocol",
        1006: "the connection dropped",
        1008: "the server refused a message",
        1009: "a message was too long",
        1011: "the server failed",
        1012: "the server restarts",
        1013: "the server is overloaded",
    }.get(code, "the server closed the connection")
    return f"{meaning} (close code {code}{': ' + _one_line(reason) if reason else ''})"


def _one_line(text: str) -> str:
    """What a server says, fit for one line of a message."""
    return "".join(c if c.isprintable() else " " for c in text[:300]).strip()


def lost(error: BaseException) -> errors.ConnectionLostError:
    """Turn what a send raised into the error of a lost connection."""
    if isinstance(error, ConnectionClosed):
        frame = error.rcvd or error.sent
        if frame is not None:
            return errors.ConnectionLostError(describe_close(frame.code, frame.reason), close_code=frame.code)
    return errors.ConnectionLostError(describe_close(1006, ""))


def refusal(failure: up.Failure, where: str) -> errors.ConnectError:
    """What an error means that the server sends instead of a session."""
    says = f"{where}: {_one_line(failure.message or failure.code or 'the session was refused')}"
    if failure.code in _REFUSED_KEY:
        return errors.AuthenticationError(says)
    if failure.code in _REFUSED_RATE:
        return errors.RateLimitedError(says)
    return errors.SessionRefusedError(says, code=failure.code)


def explain(error: Exception, endpoint: Endpoint, limits: Limits) -> errors.RealtimeError:
    """Turn what a connection attempt raised into one clear error."""
    where = endpoint.label
    status = next((e for e in (error, error.__cause__, error.__context__) if isinstance(e, InvalidStatus)), None)
    if status is not None:
        return _explain_status(status, where)
    if isinstance(error, RedirectedError):
        return errors.NotRealtimeError(f"{where} {_REDIRECTS}")
    if isinstance(error, InvalidURI):
        return errors.UsageError(
            f"not a WebSocket URL: {endpoint.url.partition('?')[0]} (it begins with ws:// or wss://)"
        )
    if isinstance(error, ProxyError | InvalidProxy):
        return errors.HostUnreachableError(f"{where}: the proxy refused or failed: {error}")
    if isinstance(error, InvalidHandshake | WebSocketException | EOFError):
        return errors.NotRealtimeError(f"{where} does not answer as a WebSocket server: check the URL")
    if isinstance(error, ssl.SSLCertVerificationError):
        return errors.TLSError(f"{where}: its certificate is not trusted: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        return errors.TLSError(f"{where}: TLS failed: {error.reason or error} (is it a plain ws:// server?)")
    if isinstance(error, socket.gaierror):
        return errors.HostUnreachableError(f"{where}: no such host")
    if isinstance(error, TimeoutError):
        return errors.HostUnreachableError(f"{where} did not answer within {limits.open_timeout_s:g} s")
    if isinstance(error, ConnectionRefusedError):
        return errors.HostUnreachableError(f"{where}: connection refused: nothing listens there")
    if isinstance(error, OSError):
        return errors.HostUnreachableError(f"{where}: {error.strerror or error}")
    return errors.UsageError(f"{where}: {error}")


def _explain_status(error: InvalidStatus, where: str) -> errors.ConnectError:
    """HTTP answered the handshake with something other than 101."""
    status = error.response.status_code
    code, message = _body_error(error.response.body)
    says = f": {message}" if message else ""
    if 300 <= status < 400:
        return errors.NotRealtimeError(f"{where} {_REDIRECTS}")
    if status in {401, 403}:
        return errors.AuthenticationError(f"{where} refused the key (HTTP {status}){says}")
    if status == 429:
        return errors.RateLimitedError(
            f"{where}: too many requests, or the quota is used up (HTTP 429){says}",
            retry_after_s=_seconds(error.response.headers.get("Retry-After")),
        )
    # A 404 that speaks of the model is an answer of the right place; any other names the wrong one.
    wrong_place = status in {404, 405} and not any(word in (code or "").lower() for word in ("model", "deployment"))
    if code is not None and status < 500 and not wrong_place:
        return errors.SessionRefusedError(f"{where} refused the session (HTTP {status}){says}", code=code)
    if status >= 500:
        return errors.HostUnreachableError(f"{where} is out of order (HTTP {status}){says}")
    return errors.NotRealtimeError(f"{where} is not a Realtime endpoint (HTTP {status}){says}: check the URL")


def _seconds(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _body_error(body: bytes | bytearray | memoryview | None) -> tuple[str | None, str | None]:
    """(code, message) of an error in OpenAI's JSON shape; Nones when it is none."""
    try:
        error = json.loads(bytes(body or b"")[:65536]).get("error")
        message = _one_line(str(error.get("message") or ""))
        return str(error.get("code") or error.get("type")), message or None
    except (ValueError, AttributeError):
        return None, None
