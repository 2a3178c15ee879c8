"""What went wrong with an MCP server, in one line."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import httpx2

from realtime_client.errors import AuthenticationError, ConnectError, HostUnreachableError, RealtimeError, TLSError
from realtime_client.escape import shortened

from .spec import McpServerSpec

if TYPE_CHECKING:
    from .link import Link

_SHOWN = 300


def start_error(spec: McpServerSpec, link: Link, error: BaseException | None) -> RealtimeError:
    """Return the error of a server that could not be used. error: None if it did not answer in time."""
    cause = None if error is None else leaf(error)
    if isinstance(cause, RealtimeError):
        return cause
    who = f"MCP server {spec.name} ({spec.shown})"
    said = f"; it printed: {link.said.last}" if link.said.last else ""
    if cause is None:
        return HostUnreachableError(f"{who} did not answer within {spec.start_timeout_s:g} s{said}")
    if spec.command:
        return ConnectError(f"{who} {_of_program(link, cause)}{said}")
    return _of_http(who, link, cause)


def end_words(link: Link, error: BaseException | None) -> str:
    """Say how a connection that could be used came to its end."""
    said = f"; it printed: {link.said.last}" if link.said.last else ""
    if link.session_unknown:
        return "the server does not know the session any longer"
    if error is not None:
        return f"{words(leaf(error))}{said}"
    if link.said.exit_code is not None:
        return f"it ended with exit code {link.said.exit_code}{said}"
    return f"the connection was lost{said}"


def _of_program(link: Link, cause: BaseException) -> str:
    if link.said.exit_code is not None and link.lost.is_set():
        return f"ended with exit code {link.said.exit_code} before it could be used"
    return f"cannot be used: {words(cause)}"


def _of_http(who: str, link: Link, cause: BaseException) -> RealtimeError:
    answered = link.answered.words
    if link.answered.refused in (401, 403):
        return AuthenticationError(f"{who}: {answered}; a key is given in headers of its section in the config file")
    if answered:
        return ConnectError(f"{who}: {answered}; is this the URL of an MCP server?")
    behind: BaseException | None = cause
    while behind is not None and not isinstance(behind, ssl.SSLError):
        behind = behind.__cause__ or behind.__context__
    if behind is not None:
        return TLSError(f"{who}: TLS failed: {words(behind)}")
    if isinstance(cause, httpx2.TransportError):
        return HostUnreachableError(f"{who}: cannot be reached: {words(cause)}")
    return ConnectError(f"{who} cannot be used: {words(cause)}")


def leaf(error: BaseException) -> BaseException:
    """Return the first real error in a group of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def words(error: BaseException) -> str:
    """Return what an error says, on one line; of what is not as the protocol has it, the first place."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        return shortened(f"its answer is not as the protocol has it: {where}: {first['msg']}", _SHOWN)
    return shortened(str(error), _SHOWN) or type(error).__name__
