"""What went wrong with a connection attempt, as one clear error; how an open one ends is in `endings`."""

from __future__ import annotations

import json
import math
import socket
import ssl
from email.utils import parsedate_to_datetime

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
from realtime_client.deadline import SYSTEM_CLOCK
from realtime_client.escape import one_line
from realtime_client.protocol.lenient import error_object
from realtime_client.secret import shown_url
from realtime_client.session.limits import Limits

from .endings import Ending
from .endpoint import Endpoint

_LONGEST_WAIT_S = 7 * 86_400.0


def lost(error: BaseException) -> errors.ConnectionLostError:
    """Turn what a send raised into the error of a lost connection."""
    frame = (error.rcvd or error.sent) if isinstance(error, ConnectionClosed) else None
    ending = Ending(code=1006) if frame is None else Ending(code=frame.code, reason=frame.reason)
    return errors.ConnectionLostError(ending.words, close_code=ending.code)


def explain(error: Exception, endpoint: Endpoint, limits: Limits, proxy: str | None = None) -> errors.RealtimeError:
    """Turn what a connection attempt raised into one clear error.

    The exception can then be that error's cause: secrets are taken out of it. proxy: the one that was used.
    """
    _mask(error)
    where = endpoint.label
    first = f"{where}: the proxy {shown_url(proxy)}" if proxy else where  # who has to be reached first
    status = next((e for e in (error, error.__cause__, error.__context__) if isinstance(e, InvalidStatus)), None)
    if status is not None:
        return _explain_status(status, where)
    if isinstance(error, InvalidURI):
        return errors.UsageError(f"not a WebSocket URL: {shown_url(endpoint.url)} (it begins with ws:// or wss://)")
    if isinstance(error, ProxyError | InvalidProxy):
        return errors.HostUnreachableError(f"{where}: the proxy refused or failed: {error}")
    if isinstance(error, ImportError):  # of the library for SOCKS, which the proxy asks for
        return errors.UsageError(f"{where}: the proxy cannot be used: {error} (pip install python-socks)")
    if isinstance(error, InvalidHandshake | WebSocketException | EOFError):
        return errors.NotRealtimeError(f"{where} does not answer as a WebSocket server: check the URL")
    if isinstance(error, ssl.SSLCertVerificationError):
        return errors.TLSError(f"{where}: its certificate is not trusted: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        return errors.TLSError(f"{where}: TLS failed: {error.reason or error} (is it a plain ws:// server?)")
    if isinstance(error, socket.gaierror):
        return errors.HostUnreachableError(f"{first}: no such host")
    if isinstance(error, TimeoutError):
        return errors.HostUnreachableError(f"{where} did not answer within {limits.open_timeout_s:g} s")
    if isinstance(error, ConnectionRefusedError):
        return errors.HostUnreachableError(f"{first}: connection refused: nothing listens there")
    if isinstance(error, OSError):
        return errors.HostUnreachableError(f"{where}: {error.strerror or error}")
    return errors.UsageError(f"{where}: {error}")


def _mask(error: Exception) -> None:
    """Take out of a library's error what a URL may hold: tracebacks show it as the cause of ours."""
    if isinstance(error, InvalidURI):
        error.uri = shown_url(error.uri)
    elif isinstance(error, InvalidProxy):
        error.proxy = shown_url(error.proxy)
    elif isinstance(error, ValueError) and str(error).startswith("Port could not"):
        error.args = ("Port of the URL, or of the proxy's, is no number",)  # a password with a slash is taken for one


def _explain_status(error: InvalidStatus, where: str) -> errors.ConnectError:
    """HTTP answered the handshake with something other than 101."""
    status, headers = error.response.status_code, error.response.headers
    code, message = _body_error(error.response.body, headers.get("Content-Type", ""))
    says = f": {message}" if message else ""
    if 300 <= status < 400:
        to = one_line(headers.get("Location", ""), 300)
        target = f" ({shown_url(to)})" if to else ""  # the key belongs to the host that it was given for
        return errors.NotRealtimeError(f"{where} redirects to another address: give that one as the URL{target}")
    if status == 401:
        return errors.AuthenticationError(f"{where} refused the key (HTTP 401){says}")
    if status == 403:
        causes = "" if message else ": the key may not use this, or nothing answers at this path"
        return errors.AuthenticationError(f"{where} refused the key (HTTP 403){says}{causes}")
    wait_s = retry_after_s(headers.get("Retry-After"), headers.get("Date"))
    if status == 429:
        return errors.RateLimitedError(
            f"{where}: too many requests, or the quota is used up (HTTP 429){says}", retry_after_s=wait_s, code=code
        )
    # A 404 about the model comes from the right place; any other means the wrong one.
    wrong_place = status in {404, 405} and not any(word in (code or "").lower() for word in ("model", "deployment"))
    if code is not None and status < 500 and not wrong_place:
        return errors.SessionRefusedError(f"{where} refused the session (HTTP {status}){says}", code=code)
    if status >= 500:
        return errors.HostUnreachableError(f"{where} is out of order (HTTP {status}){says}", retry_after_s=wait_s)
    return errors.NotRealtimeError(f"{where} is not a Realtime endpoint (HTTP {status}){says}: check the URL")


def retry_after_s(value: str | None, now: str | None = None) -> float | None:
    """Read a Retry-After header (RFC 9110, section 10.2.3): seconds or a date; None when it makes no sense.

    now: the Date header of the same answer, what a date is measured against; default: this machine's clock.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        until = _date_s(value)
        if until is None:
            return None
        said = _date_s(now) if now else None
        seconds = until - (SYSTEM_CLOCK.wall() if said is None else said)
    return max(0.0, seconds) if math.isfinite(seconds) and seconds < _LONGEST_WAIT_S else None


def _date_s(text: str) -> float | None:
    """An HTTP date in seconds since the epoch."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _body_error(body: bytes | bytearray | memoryview | None, kind: str) -> tuple[str | None, str | None]:
    """(code, message) of an error in any of the shapes that servers use; None for what is not there.

    code: '' for an API that gives none.
    """
    raw = bytes(body or b"")[:65536]
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError):
        text = raw.decode("utf-8", "replace").strip()
        plain = kind.partition(";")[0].strip().lower() in {"text/plain", ""} and not text.startswith("<")
        return None, one_line(text, 300) if plain and text else None
    if isinstance(told, dict) and "error" in told and isinstance(told["error"], dict):
        told = told["error"]
    error = error_object(told)
    message = one_line(str(error.get("message") or ""), 300)
    code = error.get("code") or error.get("type") or ("" if message else None)
    return code, message or None
