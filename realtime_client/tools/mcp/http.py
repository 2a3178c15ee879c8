"""A server over HTTP: the transport of the `mcp` package, with our headers and bounds, and what the server answered."""

from __future__ import annotations

import http.cookiejar
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import httpx2

from realtime_client.escape import shortened

from .spec import McpServerSpec
from .stdio import MOST_BYTES

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

CONNECT_S = 10.0
WRITE_S = 30.0
LEAVE_S = 1.0
_SESSION = "mcp-session-id"


@dataclass(frozen=True)
class Ways:
    """How servers are reached. proxy: a URL, True for the environment's, None for none. ca_file: trusted besides."""

    proxy: str | bool | None = True
    ca_file: str | None = None


class Answered:
    """What came of the last request. on_lost: called when the server does not know our session any longer."""

    def __init__(self, on_lost: Callable[[], object]) -> None:
        self.refused = 0
        self._reason = ""
        self._on_lost = on_lost

    @property
    def words(self) -> str:
        """The status that refused the last request, '' for none."""
        return f"HTTP {self.refused} {self._reason}".rstrip() if self.refused else ""

    async def take(self, response: httpx2.Response) -> None:
        """Look at a response before its body is read."""
        self.refused = response.status_code if response.status_code >= 400 else 0
        self._reason = shortened(response.reason_phrase)
        if self.refused == 404 and _SESSION in response.request.headers:
            self._on_lost()
        if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
            encoded = response.headers.get("content-encoding", "identity").lower() != "identity"
            stream: Any = response.stream
            response.stream = _Bounded(stream, 0 if encoded else MOST_BYTES)


class _Bounded(httpx2.AsyncByteStream):
    """A body of at most so many bytes; none at all for what would have to be unpacked, which we do not ask for."""

    def __init__(self, stream: httpx2.AsyncByteStream, limit: int) -> None:
        self._stream = stream
        self._left = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._left -= len(chunk)
            if self._left < 0:
                raise httpx2.StreamError(f"the answer is too long: at most {MOST_BYTES:,} bytes are read")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


@asynccontextmanager
async def http_streams(spec: McpServerSpec, ways: Ways, answered: Answered) -> AsyncIterator[TransportStreams]:
    """Give the messages of the server. It is asked when the first one is sent."""
    from mcp.client.streamable_http import streamable_http_client

    near = spec.near
    client = httpx2.AsyncClient(
        headers={"accept-encoding": "identity"} | {name: value.reveal() for name, value in spec.headers.items()},
        timeout=httpx2.Timeout(None, connect=CONNECT_S, write=WRITE_S),  # a call has a limit of its own
        verify=ssl.create_default_context(cafile=ways.ca_file),  # http: may be redirected to https:
        proxy=ways.proxy if isinstance(ways.proxy, str) and not near else None,
        trust_env=ways.proxy is True and not near,
        event_hooks={"response": [answered.take]},
    )
    client.cookies.jar.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=()))
    streams = streamable_http_client(spec.url, http_client=client, max_sse_event_size=MOST_BYTES)
    with anyio.CancelScope() as scope:
        async with client, streams as (read, write):
            try:
                yield read, write
            finally:
                scope.deadline = anyio.current_time() + LEAVE_S  # it tells the server that the session is over
