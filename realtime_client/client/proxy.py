"""Reaching a server through a proxy: HTTP CONNECT (RFC 9110, section 9.3.6), or SOCKS through the library for it."""

from __future__ import annotations

import base64
import importlib
import re
import socket
import ssl
from collections.abc import Callable
from typing import Any

from websockets.exceptions import ProxyError
from websockets.uri import WebSocketURI

from realtime_client.deadline import Deadline

from .stream import Stream

try:
    _proxies: Any = importlib.import_module("websockets.proxy")
except ImportError:  # before websockets 16 this lived with the URLs
    _proxies = importlib.import_module("websockets.uri")
# `get_proxy` and `parse_proxy` of it are all that is used here and that the library's documentation does not mention.

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_LONGEST_HEAD = 2**16

Connect = Callable[[str, int, Deadline], Stream]


def proxy_for(uri: WebSocketURI) -> str | None:
    """The URL of the proxy that the environment names for this server."""
    return _proxies.get_proxy(uri)  # type: ignore[no-any-return]


def connect_through(url: str, uri: WebSocketURI, deadline: Deadline, connect: Connect, agent: str) -> Stream:
    """Open a connection to the server through the proxy at `url`.

    connect: opens a TCP connection. agent: what we say we are. Errors: ProxyError; OSError; InvalidProxy for an invalid
    URL; ImportError when the library for SOCKS is missing; ValueError for an impossible combination.
    """
    proxy = _proxies.parse_proxy(url)
    if proxy.scheme.startswith("socks"):
        return Stream(_socks(proxy, uri, deadline))
    if proxy.scheme == "https" and uri.secure:
        raise ValueError("a proxy with an https:// URL cannot carry wss://; give its http:// URL")
    stream = connect(proxy.host, proxy.port, deadline)
    if proxy.scheme == "https":
        stream.begin_tls(ssl.create_default_context(), proxy.host, deadline)
    host = f"[{uri.host}]" if ":" in uri.host else uri.host
    lines = [f"CONNECT {host}:{uri.port} HTTP/1.1", f"Host: {host}:{uri.port}", f"User-Agent: {agent}"]
    if proxy.username is not None:
        pair = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {pair}")
    stream.write_all("\r\n".join([*lines, "", ""]).encode(), deadline)
    _check_answer(stream, deadline)
    return stream


def _check_answer(stream: Stream, deadline: Deadline) -> None:
    """Read the proxy's answer. A server speaks only when spoken to, so nothing follows it."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = stream.read(4096, deadline)
        if data is None:
            raise TimeoutError
        head += data
        if not data or len(head) > _LONGEST_HEAD:
            raise ProxyError("it did not answer as a proxy for HTTP")
    status = _STATUS.match(head)
    if status is None:
        raise ProxyError("it did not answer as a proxy for HTTP")
    if not status[1].startswith(b"2"):
        raise ProxyError(f"it answered HTTP {status[1].decode()}")


def _socks(proxy: Any, uri: WebSocketURI, deadline: Deadline) -> socket.socket:
    """A socket that reaches the server through a SOCKS proxy; the names socks5h and socks4a leave the lookup to it."""
    try:
        socks: Any = importlib.import_module("python_socks")
        sync: Any = importlib.import_module("python_socks.sync")
    except ImportError:
        raise ImportError("the library for SOCKS is missing") from None
    kind = socks.ProxyType.SOCKS5 if proxy.scheme.startswith("socks5") else socks.ProxyType.SOCKS4
    by_proxy = proxy.scheme in {"socks5h", "socks4a"}
    way = sync.Proxy(kind, proxy.host, proxy.port, proxy.username, proxy.password, by_proxy)
    try:
        return way.connect(uri.host, uri.port, timeout=deadline.remaining_s())  # type: ignore[no-any-return]
    except OSError:  # TimeoutError is one
        raise
    except Exception as error:
        raise ProxyError(f"SOCKS: {error}") from error
